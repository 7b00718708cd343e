"""A master's hold on its control socket: the directory made safe, the locks taken, the socket bound and 0600.

A second master on the same path is refused and the first stays whole; a socket that a dead master left is
replaced; at the end only what is still ours is removed. A socket path may be longer than the 108 bytes of
sockaddr_un (unix(7)): it is bound through a descriptor of its directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
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
    remove_directory,
    take_lock,
    unlink,
)
from wsgitop.control.socket_file import BACKLOG, bind_private, lock_path, open_parent, unlink_own, write_pid
from wsgitop.errors import ControlSocketError


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
        write_pid(self._lock_fd, record.pid)
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
        unlink_own(self._directory_fd, path.name, self.deed.bound)
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
        directory_fd = open_parent(path) if control_socket or not entry_fds else os.dup(entry_fds[1])
        stack.callback(os.close, directory_fd)
        lock_fd = lock_path(stack, directory_fd, path, pid)
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        bound = bind_private(stack, sock, directory_fd, path)
        sock.listen(BACKLOG)
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
