"""The file of a unix socket that is bound safely: its directory checked, its lock taken, nothing foreign
removed.

For the control socket (``claim.py``) and the one for other users (``shared_socket.py``). Files are looked at,
locked and removed relative to a descriptor of the directory that was checked. The socket alone is bound by
its path, so that ss(8) shows it; that it is in that directory then, and of this user, is checked behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from wsgitop.control.runtime_dir import LOCK_SUFFIX, read_small, take_lock, unlink
from wsgitop.errors import ControlSocketError

BACKLOG = 512
PATIENCE_S = 0.2
"""For a lock that somebody holds who only looks whether its master lives."""
ADDRESS_LIMIT_BYTES = 108
"""Size of sun_path, with its closing zero byte."""


def open_parent(path: Path) -> int:
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


def lock_path(
    stack: contextlib.ExitStack,
    directory_fd: int,
    path: Path,
    pid: int,
    *,
    flag: str = "--control-socket",
    patience_s: float = PATIENCE_S,
) -> int:
    """Take the lock beside the socket; its descriptor. ``stack`` gives it back. ``flag`` is the option that
    names the path. Waits for ``patience_s`` at most, as in :func:`take_lock`. Raises ControlSocketError.
    """
    lock_name = path.name + LOCK_SUFFIX
    try:
        lock_fd = take_lock(directory_fd, lock_name, patience_s=patience_s)
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
            f"Stop that one, or give this one another {flag}.",
        )
    stack.callback(os.close, lock_fd)
    stack.callback(unlink, directory_fd, lock_name)
    write_pid(lock_fd, pid)
    return lock_fd


def write_pid(lock_fd: int, pid: int) -> None:
    """Say in the lock file who holds it, for people."""
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, b"%d\n" % pid, 0)


def bind_private(
    stack: contextlib.ExitStack, sock: socket.socket, directory_fd: int, path: Path
) -> tuple[int, int]:
    """Bind ``sock``, 0600, and let nobody connect yet; device and inode of its file. Raises
    ControlSocketError.
    """
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
    stack.callback(unlink_own, directory_fd, path.name, own)
    if not stat.S_ISSOCK(bound.st_mode) or bound.st_mode & 0o177 or bound.st_uid != os.geteuid():
        raise ControlSocketError(
            f"control socket {path} cannot be made private", "Choose a path on another file system."
        )
    sock.setblocking(False)
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
    unlink_own(directory_fd, path.name, (status.st_dev, status.st_ino))


def unlink_own(directory_fd: int, name: str, own: tuple[int, int]) -> None:
    """Remove the socket's file if it still is the one that was bound."""
    with contextlib.suppress(OSError):
        found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        if (found.st_dev, found.st_ino) == own:
            os.unlink(name, dir_fd=directory_fd)
