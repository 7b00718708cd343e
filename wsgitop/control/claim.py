"""A master's hold on its control socket: the directory made safe, the locks taken, the socket bound and 0600.

A second master on the same path is refused and the first stays whole; a socket that a dead master left is
replaced; at the end only what is still ours is removed. A socket path may be longer than the 108 bytes of
sockaddr_un (unix(7)): it is bound through a descriptor of its directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from wsgitop.control.runtime_dir import (
    ELSEWHERE,
    LOCK_NAME,
    LOCK_SUFFIX,
    RECORD_NAME,
    SOCKET_NAME,
    Found,
    base_directory,
    make_private,
    read_small,
    remove_directory,
    take_lock,
    unlink,
)
from wsgitop.errors import ControlSocketError

BACKLOG = 128
ADDRESS_LIMIT_BYTES = 108
"""Size of sun_path, with its closing zero byte."""


class Deed(msgspec.Struct, frozen=True):
    """A claim in words, for the process that is to have it: beside it go the descriptors of
    :meth:`Claim.descriptors`. ``bound`` is device and inode of the socket's file; ``entry`` the directory for
    discovery, '' for none.
    """

    path: str
    bound: tuple[int, int]
    entry: str


class Claim:
    """A master's hold on its control socket and its entry for discovery. From :func:`claim`, or made of deed
    and descriptors if it was another master's before.

    ``sock`` listens at ``path``. :meth:`close` removes what was made, and nothing that has taken its place.
    """

    def __init__(self, deed: Deed, descriptors: Sequence[int]) -> None:
        self.deed = deed
        self.path = deed.path
        sock_fd, self._directory_fd, self._lock_fd, *entry = descriptors
        self.sock = socket.socket(fileno=sock_fd)
        self._entry_fds = tuple(entry)  # the base, the entry, its lock; or nothing

    def announce(self, record: Found) -> None:
        """Let this master be found.

        Without a usable runtime directory it is not, and only its path leads to it.
        """
        _write_pid(self._lock_fd, record.pid)
        if not self._entry_fds:
            return
        _, entry_fd, _ = self._entry_fds
        new_name = RECORD_NAME + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new_name, flags, 0o600, dir_fd=entry_fd), "wb") as file:
            file.write(msgspec.json.encode(record))
        os.rename(new_name, RECORD_NAME, src_dir_fd=entry_fd, dst_dir_fd=entry_fd)

    def stands(self) -> bool:
        """Whether clients still get to the socket: somebody may have cleared its directory away."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.deed.bound and (
            not self.deed.entry or Path(self.deed.entry).is_dir()
        )

    def descriptors(self) -> tuple[int, ...]:
        """What another process needs to have this claim as well. A lock belongs to the open file, so it is
        kept for as long as one of them has it.
        """
        return (self.sock.fileno(), self._directory_fd, self._lock_fd, *self._entry_fds)

    def close(self) -> None:
        """Close and remove the socket, the entry and the locks. May be called again."""
        if self._directory_fd < 0:
            return
        path = Path(self.path)
        _unlink_own(self._directory_fd, path.name, self.deed.bound)
        self.sock.close()
        unlink(self._directory_fd, path.name + LOCK_SUFFIX)
        if self._entry_fds:
            base_fd, entry_fd, _ = self._entry_fds
            unlink(entry_fd, RECORD_NAME)
            unlink(entry_fd, LOCK_NAME)
            remove_directory(base_fd, Path(self.deed.entry).name)
        self.let_go()

    def let_go(self) -> None:
        """Close this process's copies and leave everything to the process that has inherited it. May be
        called again.
        """
        if self._directory_fd < 0:
            return
        self.sock.close()
        for fd in (self._directory_fd, self._lock_fd, *self._entry_fds):
            os.close(fd)
        self._directory_fd = self._lock_fd = -1
        self._entry_fds = ()


def claim(
    control_socket: str, *, name: str, environ: Mapping[str, str] | None = None, pid: int | None = None
) -> Claim:
    """Open the control socket of this master, at ``control_socket`` or, if that is '', in the runtime
    directory.

    ``name`` is what the server is called. The socket is 0600 from its first moment. Raises
    ControlSocketError: another master holds the path, something else is there, or a directory is not safe.
    """
    pid = os.getpid() if pid is None else pid
    with contextlib.ExitStack() as stack:
        base = base_directory(environ)
        entry = base / f"{file_name(name)}-{pid}"
        entry_fds: tuple[int, ...] = ()
        # A socket at a place of its owner's choosing does not need the runtime directory, only discovery
        # does.
        optional = contextlib.suppress(ControlSocketError) if control_socket else contextlib.nullcontext()
        with optional, contextlib.ExitStack() as entering:
            entry_fds = _enter(entering, base, entry)
            stack.push(entering.pop_all())
        path = Path.cwd() / (Path(control_socket) if control_socket else entry / SOCKET_NAME)
        directory_fd = _open_parent(path) if control_socket or not entry_fds else os.dup(entry_fds[1])
        stack.callback(os.close, directory_fd)
        lock_fd = _lock_socket(stack, directory_fd, path, pid)
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        bound = _bind(stack, sock, directory_fd, path)
        stack.pop_all()
        deed = Deed(str(path), bound, str(entry) if entry_fds else "")
        return Claim(deed, (sock.detach(), directory_fd, lock_fd, *entry_fds))


def file_name(text: str) -> str:
    """``text`` as part of a file name: without separators, not too long."""
    return re.sub(r"[^\w.@-]+", "_", text, flags=re.ASCII).strip("._-")[:48] or "wsgitop"


def _enter(stack: contextlib.ExitStack, base: Path, entry: Path) -> tuple[int, int, int]:
    """Make this master's directory and lock it: descriptors of the base, of the directory and of its lock."""
    base_fd = make_private(base)
    stack.callback(os.close, base_fd)
    for _ in range(10):
        entry_fd = make_private(entry)
        try:
            lock_fd = take_lock(entry_fd, LOCK_NAME)
        except FileNotFoundError:
            # Whoever clears away dead entries was quicker than the lock: once more.
            os.close(entry_fd)
            continue
        except OSError as error:
            os.close(entry_fd)
            raise ControlSocketError(
                f"{entry / LOCK_NAME} cannot be locked: {error.strerror}", ELSEWHERE
            ) from None
        if lock_fd is not None:
            break
        os.close(entry_fd)
    else:
        raise ControlSocketError(f"{entry} is held by another process", ELSEWHERE)
    stack.callback(remove_directory, base_fd, entry.name)
    stack.callback(os.close, entry_fd)
    stack.callback(os.close, lock_fd)
    stack.callback(unlink, entry_fd, LOCK_NAME)
    stack.callback(unlink, entry_fd, RECORD_NAME)
    return base_fd, entry_fd, lock_fd


def _open_parent(path: Path) -> int:
    """The directory of a socket whose path was given. Others must not be able to replace the socket in it."""
    parent = path.parent
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ControlSocketError(
            f"control socket {path}: {parent}: {error.strerror}", "Choose another path."
        ) from None
    try:
        _check_parent(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_parent(fd: int, path: Path) -> None:
    parent = path.parent
    status = os.fstat(fd)
    if status.st_uid not in (os.geteuid(), 0):
        raise ControlSocketError(
            f"control socket {path}: {parent} belongs to user id {status.st_uid}",
            "Choose a directory of your own.",
        )
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise ControlSocketError(
            f"control socket {path}: others may write to {parent} and could replace the socket",
            f"Choose a directory of your own, or chmod go-w {parent}.",
        )


def _lock_socket(stack: contextlib.ExitStack, directory_fd: int, path: Path, pid: int) -> int:
    lock_name = path.name + LOCK_SUFFIX
    try:
        lock_fd = take_lock(directory_fd, lock_name)
    except OSError as error:
        raise ControlSocketError(
            f"control socket {path}: its lock {lock_name} cannot be had: {error.strerror}",
            "Choose another path.",
        ) from None
    if lock_fd is None:
        holder = ""
        with contextlib.suppress(OSError):
            holder = read_small(directory_fd, lock_name)[:10].decode("ascii", "ignore").strip()
        who = f"another master (pid {holder})" if holder.isdecimal() else "another master"
        raise ControlSocketError(
            f"control socket {path} is in use by {who}",
            "Stop that one, or give this one another --control-socket.",
        )
    stack.callback(os.close, lock_fd)
    stack.callback(unlink, directory_fd, lock_name)
    _write_pid(lock_fd, pid)
    return lock_fd


def _write_pid(lock_fd: int, pid: int) -> None:
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, b"%d\n" % pid, 0)


def _bind(stack: contextlib.ExitStack, sock: socket.socket, directory_fd: int, path: Path) -> tuple[int, int]:
    """Listen; device and inode of the socket's file."""
    _clear_stale(directory_fd, path)
    # Linux gives the new name the mode of the unbound socket's inode: there is no moment in which it is open
    # to others.
    os.fchmod(sock.fileno(), 0o600)
    try:
        sock.bind(_address(directory_fd, path))
    except OSError as error:
        raise ControlSocketError(
            f"control socket {path} cannot be opened: {error.strerror}", "Choose another path."
        ) from None
    bound = os.stat(path.name, dir_fd=directory_fd, follow_symlinks=False)
    own = bound.st_dev, bound.st_ino
    stack.callback(_unlink_own, directory_fd, path.name, own)
    if not stat.S_ISSOCK(bound.st_mode) or bound.st_mode & 0o177 or bound.st_uid != os.geteuid():
        raise ControlSocketError(
            f"control socket {path} cannot be made private", "Choose a path on another file system."
        )
    sock.setblocking(False)
    sock.listen(BACKLOG)
    return own


def _address(directory_fd: int, path: Path) -> str:
    """What bind(2) is given: the path itself, as ss(8) will show it, or a short way round if it is too
    long."""
    whole = str(path)
    return (
        whole
        if len(os.fsencode(whole)) < ADDRESS_LIMIT_BYTES
        else f"/proc/self/fd/{directory_fd}/{path.name}"
    )


def _clear_stale(directory_fd: int, path: Path) -> None:
    """Remove a socket that a dead master of ours left behind; refuse to touch anything else."""
    try:
        status = os.stat(path.name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ControlSocketError(
            f"control socket {path}: there is something else of that name", "Choose another path."
        )
    if status.st_uid != os.geteuid():
        raise ControlSocketError(
            f"control socket {path} belongs to user id {status.st_uid}",
            "Choose another path, or have it removed.",
        )
    # The lock says that no master of ours uses it, but it may be the socket of another program.
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(_address(directory_fd, path))
    if answer != errno.ECONNREFUSED:
        raise ControlSocketError(
            f"control socket {path} is in use by another program", "Choose another path."
        )
    _unlink_own(directory_fd, path.name, (status.st_dev, status.st_ino))


def _unlink_own(directory_fd: int, name: str, own: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        if (found.st_dev, found.st_ino) == own:
            os.unlink(name, dir_fd=directory_fd)
