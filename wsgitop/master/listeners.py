"""The listening sockets: opened by the master before anything else, closed by it last."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from wsgitop.errors import BindError
from wsgitop.settings.addresses import Address, parse_address
from wsgitop.settings.identity import wanted_identity
from wsgitop.settings.table import Settings
from wsgitop.snapshot import printable

Found = Mapping[Address, Any]
"""What host names lead to, as bind() takes it."""


class _Connection(Protocol):
    """What the connections of psutil have in common, of the system and of one process."""

    @property
    def status(self) -> str: ...

    @property
    def laddr(self) -> tuple[Any, ...]: ...


@dataclass(slots=True)
class Listener:
    """One listening socket. ``address`` is what it is bound to (with the real port where 0 was asked for),
    ``given`` what it was asked for as.
    """

    address: Address
    socket: socket.socket
    backlog: int
    inode: tuple[int, int] | None = None  # of a unix socket's file: only our own is unlinked
    given: str = ""
    v6_only: bool = False
    adopted_fd: int = -1
    """The descriptor of this process that it was adopted from, and is a copy of. That ``given`` names one
    says nothing here if the socket was inherited from another master.
    """
    lent: bool = False
    """A new master has a copy, and may be about to take over: a unix socket's file is left to it."""
    _file_fd: int = -1
    """Holds on to that file while the socket is closed here and lent: the number of an inode that nobody has
    any more may be given to a file that another server puts in its place.
    """

    def reachable(self) -> bool:
        """Whether clients can still get to it: the file of a unix socket may have been removed."""
        return self.address.kind != "unix" or self.inode is None or is_file(self.address.path, self.inode)

    def close(self) -> None:
        """Close it and remove a unix socket's file, if it is still the one that we made. May be called
        again.
        """
        if self.lent and self.inode is not None and self._file_fd < 0:
            self._file_fd = self._open_file()
            if self._file_fd < 0:
                self.inode = None
        self.socket.close()
        if self.lent:
            return
        # Once only: the number of an inode that is gone may be given to the socket of a successor.
        inode, self.inode = self.inode, None
        if self.address.kind == "unix" and inode is not None:
            with contextlib.suppress(OSError):
                if is_file(self.address.path, inode):
                    Path(self.address.path).unlink()
        self._let_go()

    def take_back(self) -> None:
        """The new master that it was lent to is gone or does not want it. If it has been closed here
        meanwhile, a unix socket's file is nobody's any more, and removed.
        """
        self.lent = False
        if self.socket.fileno() < 0:
            self.close()

    def give_away(self) -> None:
        """The new master that it was lent to has taken over, and a unix socket's file is that one's to remove
        now.
        """
        self.lent, self.inode = False, None
        self._let_go()

    def _let_go(self) -> None:
        fd, self._file_fd = self._file_fd, -1
        if fd >= 0:
            os.close(fd)

    def chmod(self, mode: int) -> None:
        """Give a unix socket's file this mode, if it is still the one that we made: in a directory of another
        user that name may lead anywhere by now, so no name is trusted after the look.
        """
        fd = self._open_file()
        if fd >= 0:
            with contextlib.suppress(OSError):  # not ours to change: then it stays as it is
                Path(f"/proc/self/fd/{fd}").chmod(mode)
            os.close(fd)

    def _open_file(self) -> int:
        """A descriptor that names a unix socket's file; -1 if that is gone or another's, or there is none."""
        if self.address.kind != "unix" or self.inode is None:
            return -1
        try:
            fd = os.open(self.address.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return -1
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == self.inode:
            return fd
        os.close(fd)
        return -1


def is_file(path: str, inode: tuple[int, int]) -> bool:
    """Whether ``path`` still leads to this file, given by its device and inode."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == inode


def open_listeners(settings: Settings) -> list[Listener]:
    """Open every address of ``settings.bind``, all or none. Raises BindError, ConfigError."""
    opened: list[Listener] = []
    try:
        for address, v6_only in wanted_addresses(settings):
            opened.append(open_listener(address, settings, v6_only=v6_only))
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def close_listeners(listeners: list[Listener]) -> None:
    """Close those that are in the list by now."""
    for listener in listeners:
        listener.close()


def wanted_addresses(settings: Settings) -> list[tuple[Address, bool]]:
    """The addresses of ``settings.bind``, and whether one must be for IPv6 only, because there is one for
    IPv4 with the same port. Raises ConfigError.
    """
    addresses = [parse_address(text) for text in settings.bind]
    wildcards = {a.port for a in addresses if a.kind == "tcp" and a.host == "0.0.0.0"}
    return [(a, a.kind == "tcp6" and a.port in wildcards) for a in addresses]


def is_name(address: Address) -> bool:
    """Whether a name service has to be asked where this is; known without asking one."""
    if address.kind not in ("tcp", "tcp6"):
        return False
    try:
        resolve(address, socket.AI_NUMERICHOST)
    except BindError:
        return True
    return False


def resolve(address: Address, flags: int = 0) -> Any:
    """What bind() takes for an address. May wait for the system's resolver. Raises BindError."""
    family = _family(address)
    flags |= socket.AI_PASSIVE
    try:
        return socket.getaddrinfo(address.host, address.port, family, socket.SOCK_STREAM, 0, flags)[0][4]
    except (OSError, UnicodeError) as error:  # UnicodeError: no name that DNS could hold
        raise BindError(
            f"cannot listen on {address}: {getattr(error, 'strerror', None) or 'no valid host name'}",
            "Check the host name given with --bind.",
        ) from None


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if address.kind == "tcp6" else socket.AF_INET


def open_listener(
    address: Address,
    settings: Settings,
    *,
    v6_only: bool,
    reuse_port: bool = False,
    found: Found | None = None,
) -> Listener:
    """Listen at one address. ``reuse_port`` as the setting; ``found``: what has been looked up already, else
    this waits for the system's resolver. Raises BindError.
    """
    match address.kind:
        case "unix":
            listener = _open_unix(address, settings)
        case "fd":
            listener = _adopt(address, settings)
        case _:
            where = None if found is None else found.get(address)
            listener = _open_tcp(
                address,
                settings,
                resolve(address) if where is None else where,
                v6_only=v6_only,
                reuse_port=reuse_port or settings.reuse_port,
            )
    listener.given, listener.v6_only = str(address), v6_only
    return listener


def _open_tcp(
    address: Address, settings: Settings, where: Any, *, v6_only: bool, reuse_port: bool
) -> Listener:
    try:
        sock = socket.socket(_family(address), socket.SOCK_STREAM)
    except OSError as error:
        raise _explain(address, error) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if v6_only:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(where)
        sock.listen(settings.backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _explain(address, error) from None
    port = sock.getsockname()[1]
    return Listener(Address(address.kind, host=address.host, port=port), sock, settings.backlog)


def _open_unix(address: Address, settings: Settings) -> Listener:
    path = address.path
    owner = wanted_identity(settings)
    try:
        _make_way(address)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _explain(address, error) from None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(settings.umask)
    try:
        sock.bind(path)
        found = os.lstat(path)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)  # who serves on it, as in gunicorn
        sock.listen(settings.backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _explain(address, error) from None
    finally:
        os.umask(old_mask)
    return Listener(address, sock, settings.backlog, (found.st_dev, found.st_ino))


def _make_way(address: Address) -> None:
    """Remove the socket that an ended process has left there. Raises OSError, BindError."""
    if not stat.S_ISSOCK(os.lstat(address.path).st_mode):
        raise BindError(
            f"cannot listen on {address}: {address.path} exists and is not a socket",
            "Remove it or choose another path.",
        )
    if _somebody_listens(address.path):
        raise BindError(
            f"cannot listen on {address}: another process listens there", "Stop it, or choose another path."
        )
    Path(address.path).unlink()


def _adopt(address: Address, settings: Settings) -> Listener:
    try:
        sock = socket.socket(fileno=os.dup(address.fd))
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise BindError(
            f"cannot listen on {address}: {error.strerror}", "Descriptor N must be an open listening socket."
        ) from None
    if not listens:
        sock.close()
        raise BindError(
            f"cannot listen on {address}: it is no listening socket", "Call listen() before handing it over."
        )
    sock.setblocking(False)
    # Who handed it over made it inheritable; a zygote that inherited it, besides the copy that it is sent,
    # would hand it on to everything that the application starts.
    os.set_inheritable(address.fd, False)
    name = sock.getsockname()
    match sock.family:
        case socket.AF_UNIX:
            bound = Address("unix", path=str(name))
        case socket.AF_INET6:
            bound = Address("tcp6", host=name[0], port=name[1])
        case _:
            bound = Address("tcp", host=name[0], port=name[1])
    return Listener(bound, sock, settings.backlog, adopted_fd=address.fd)


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full queue or a refusal by permission: somebody is there
    return True


def _explain(address: Address, error: OSError) -> BindError:
    cause = f"cannot listen on {address}: {error.strerror or error}"
    match error.errno:
        case errno.EADDRINUSE if address.kind != "unix":
            holder = _holder(address)
            return BindError(
                f"cannot listen on {address}: the port is in use by {holder}",
                "Stop that process, or choose another port with --bind HOST:PORT.",
            )
        case errno.EACCES:
            remedy = (
                "Ports below 1024 need root or CAP_NET_BIND_SERVICE."
                if address.kind != "unix"
                else "Check the directory's permissions."
            )
            return BindError(cause, remedy)
        case errno.EADDRNOTAVAIL:
            return BindError(cause, "This machine does not have that address; 0:PORT listens on all it has.")
        case errno.ENAMETOOLONG | errno.ENOENT if address.kind == "unix":
            return BindError(cause, f"Create {Path(address.path).parent} first.")
    if "too long" in str(error):
        return BindError(
            f"cannot listen on {address}: the path is longer than 107 bytes", "Choose a shorter path."
        )
    return BindError(cause, "Check the address given with --bind.")


def _holder(address: Address) -> str:
    """The process that listens there, where this user may see it; of a server with workers, their master."""
    try:
        pids = (found.pid for found in psutil.net_connections("tcp") if _listens(found, address))
        pid = next((pid for pid in pids if pid), None)
        if pid is not None:
            # One of those that share the socket, whichever it was found at first: go up to their master.
            process = psutil.Process(pid)
            parent = process.parent()
            while parent is not None and _holds(parent, address):
                process, parent = parent, parent.parent()
            # A title that is shorter than the command line was is filled up with blanks.
            command = printable(" ".join(process.cmdline()).strip(), 80)
            # A title set by the process itself says more than the interpreter's name.
            name = command if command.startswith(("wsgitop: ", "gunicorn: ")) else process.name()
            return f"{name} (pid {process.pid})"
    except psutil.Error:
        pass  # not ours to see, or gone meanwhile: the message says less, the fault is the same
    return "another process"


def _holds(process: psutil.Process, address: Address) -> bool:
    try:
        return any(_listens(connection, address) for connection in process.net_connections("tcp"))
    except psutil.Error:
        return False  # another user's, such as init


def _listens(connection: _Connection, address: Address) -> bool:
    return (
        connection.status == psutil.CONN_LISTEN
        and bool(connection.laddr)
        and connection.laddr[1] == address.port
    )
