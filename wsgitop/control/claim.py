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
from collections.abc import Mapping
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


class Claim:
    """A master's hold on its control socket and its entry for discovery. From :func:`claim`.

    ``sock`` listens at ``path``. :meth:`close` removes what was made, and nothing that has taken its place.
    """

    def __init__(
        self, path: Path, sock: socket.socket, entry_fd: int | None, stack: contextlib.ExitStack
    ) -> None:
        self.path = str(path)
        self.sock = sock
        self._entry_fd = entry_fd
        self._stack = stack

    def announce(self, record: Found) -> None:
        """Let this master be found.

        Without a usable runtime directory it is not, and only its path leads to it.
        """
        if self._entry_fd is None:
            return
        new_name = RECORD_NAME + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new_name, flags, 0o600, dir_fd=self._entry_fd), "wb") as file:
            file.write(msgspec.json.encode(record))
        os.rename(new_name, RECORD_NAME, src_dir_fd=self._entry_fd, dst_dir_fd=self._entry_fd)

    def close(self) -> None:
        """Close and remove the socket, the entry and the locks. May be called again."""
        self._stack.close()


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
        try:
            entry_fd = _enter(stack, base, entry)
        except ControlSocketError:
            if not control_socket:
                raise
            # A socket at a place of its owner's choosing does not need the runtime directory, only discovery
            # does.
            entry_fd = None
        path = Path.cwd() / (Path(control_socket) if control_socket else entry / SOCKET_NAME)
        directory_fd = _open_parent(stack, path) if control_socket or entry_fd is None else entry_fd
        _lock_socket(stack, directory_fd, path, pid)
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _bind(stack, sock, directory_fd, path)
        return Claim(path, sock, entry_fd, stack.pop_all())


def file_name(text: str) -> str:
    """``text`` as part of a file name: without separators, not too long."""
    return re.sub(r"[^\w.@-]+", "_", text, flags=re.ASCII).strip("._-")[:48] or "wsgitop"


def _enter(stack: contextlib.ExitStack, base: Path, entry: Path) -> int:
    """Make this master's directory and lock it."""
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
    return entry_fd


def _open_parent(stack: contextlib.ExitStack, path: Path) -> int:
    """The directory of a socket whose path was given. Others must not be able to replace the socket in it."""
    parent = path.parent
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ControlSocketError(
            f"control socket {path}: {parent}: {error.strerror}", "Choose another path."
        ) from None
    stack.callback(os.close, fd)
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
    return fd


def _lock_socket(stack: contextlib.ExitStack, directory_fd: int, path: Path, pid: int) -> None:
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
    os.ftruncate(lock_fd, 0)
    os.write(lock_fd, f"{pid}\n".encode())


def _bind(stack: contextlib.ExitStack, sock: socket.socket, directory_fd: int, path: Path) -> None:
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
    stack.callback(_unlink_own, directory_fd, path.name, bound)
    if not stat.S_ISSOCK(bound.st_mode) or bound.st_mode & 0o177 or bound.st_uid != os.geteuid():
        raise ControlSocketError(
            f"control socket {path} cannot be made private", "Choose a path on another file system."
        )
    sock.setblocking(False)
    sock.listen(BACKLOG)


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
    _unlink_own(directory_fd, path.name, status)


def _unlink_own(directory_fd: int, name: str, own: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(name, dir_fd=directory_fd, follow_symlinks=False), own):
            os.unlink(name, dir_fd=directory_fd)
