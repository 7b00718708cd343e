"""The second control socket, for other users of this machine: open to connect to for all, judged by who they
are.

There only if --control-allow names somebody. Its directory lets others through and not in (0711), so that
nobody can list it, remove the socket or put another in its place; who connects is told from the rest by the
kernel (SO_PEERCRED) and by the allow list, not by the file's mode, which is 0666. Until that mode is set,
nobody can connect: the file is made 0600, and the socket listens only after that.

Without --control-allow-socket it is ``/run/wsgitop/NAME-PID.sock`` for root and
``/tmp/wsgitop-shared-UID/NAME-PID.sock`` for other users. Not below $XDG_RUNTIME_DIR, which nobody else can
enter, nor $TMPDIR, which may be private too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from wsgitop.control.runtime_dir import LOCK_SUFFIX, take_lock, unlink
from wsgitop.control.socket_file import BACKLOG, PATIENCE_S, bind_private, lock_path, unlink_own
from wsgitop.errors import ControlSocketError

FLAG = "--control-allow-socket"
ELSEWHERE = f"Name another place with {FLAG} PATH."
MOST_SWEPT = 256
"""Files that one look for leftovers of dead masters goes through."""


class SharedSocket:
    """A master's hold on the socket for others. ``sock`` listens at ``path``. From :func:`open_shared`.

    :meth:`close` removes what was made, and nothing that has taken its place.
    """

    def __init__(
        self, path: Path, sock: socket.socket, directory_fd: int, lock_fd: int, bound: tuple[int, int]
    ) -> None:
        self.path = str(path)
        self.sock = sock
        self._name = path.name
        self._directory_fd = directory_fd
        self._lock_fd = lock_fd
        self._bound = bound

    def close(self) -> None:
        """Close and remove the socket and its lock. May be called again."""
        if self._directory_fd < 0:
            return
        unlink_own(self._directory_fd, self._name, self._bound)
        self.sock.close()
        unlink(self._directory_fd, self._name + LOCK_SUFFIX)
        os.close(self._lock_fd)
        os.close(self._directory_fd)
        self._directory_fd = self._lock_fd = -1


def default_directory() -> Path:
    """Where the socket is if no path is given."""
    uid = os.geteuid()
    return Path("/run/wsgitop") if uid == 0 else Path(f"/tmp/wsgitop-shared-{uid}")


def open_shared(
    asked: str, *, name: str, pid: int, directory: Path | None = None, patience_s: float = PATIENCE_S
) -> SharedSocket:
    """Open the socket at the path ``asked`` for, or at the default one of a server called ``name``, below
    ``directory`` if that is given. Waits for ``patience_s`` at most.

    Raises ControlSocketError: another master holds the path, something else is there, or the directory is not
    safe.
    """
    path = Path.cwd() / asked if asked else (directory or default_directory()) / f"{name}-{pid}.sock"
    with contextlib.ExitStack() as stack:
        directory_fd = _open_directory(path, own=not asked)
        stack.callback(os.close, directory_fd)
        if not asked:
            _sweep(directory_fd)
        lock_fd = lock_path(stack, directory_fd, path, pid, flag=FLAG, patience_s=patience_s)
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        bound = bind_private(stack, sock, directory_fd, path)
        _let_others_in(directory_fd, path, bound)
        sock.listen(BACKLOG)
        stack.pop_all()
        return SharedSocket(path, sock, directory_fd, lock_fd, bound)


def _open_directory(path: Path, *, own: bool) -> int:
    """A descriptor of the socket's directory, made if need be, and checked. ``own``: it must be this user's
    and not, for example, root's.
    """
    directory = path.parent
    made = False
    try:
        # 0700 until it is known to be ours; others could not do anything in it either way.
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            made = True
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        is_link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        what = "it is a link or no directory" if is_link else error.strerror
        raise ControlSocketError(f"control socket {path}: {directory}: {what}", ELSEWHERE) from None
    try:
        _check_directory(fd, path, own=own)
        if made:
            os.fchmod(fd, 0o711)
        elif not os.fstat(fd).st_mode & 0o011:
            raise ControlSocketError(
                f"control socket {path}: nobody else gets into {directory}",
                f"Let them through: chmod 711 {directory}. Or name another place with {FLAG}.",
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_directory(fd: int, path: Path, *, own: bool) -> None:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() and (own or status.st_uid != 0):
        raise ControlSocketError(
            f"control socket {path}: {path.parent} belongs to user id {status.st_uid}", ELSEWHERE
        )
    if status.st_mode & 0o022:
        raise ControlSocketError(
            f"control socket {path}: others may write to {path.parent} "
            f"(mode {stat.S_IMODE(status.st_mode):04o})",
            "Name a path in a directory that only this user can write to.",
        )


def _let_others_in(directory_fd: int, path: Path, bound: tuple[int, int]) -> None:
    """Give the socket's file, and no other, the mode 0666."""
    # By way of a descriptor that was compared, because chmod(2) would follow a link.
    fd = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == bound:
            os.chmod(f"/proc/self/fd/{fd}", 0o666)  # noqa: PTH101 - the same
            found = os.fstat(fd)
        if (found.st_dev, found.st_ino, stat.S_IMODE(found.st_mode)) != (*bound, 0o666):
            raise ControlSocketError(
                f"control socket {path} cannot be opened to others", "Choose a path on another file system."
            )
    finally:
        os.close(fd)


def _sweep(directory_fd: int) -> None:
    """Remove what masters that were killed have left in the directory; nobody else finds it there."""
    for entry in sorted(os.listdir(directory_fd))[:MOST_SWEPT]:
        name = entry.removesuffix(LOCK_SUFFIX)
        if not name.endswith(".sock"):
            continue
        with contextlib.suppress(OSError):
            lock_fd = take_lock(directory_fd, name + LOCK_SUFFIX, patience_s=0)
            if lock_fd is None:
                continue
            try:
                found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
                if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid():
                    unlink(directory_fd, name)
            except FileNotFoundError:
                pass
            finally:
                unlink(directory_fd, name + LOCK_SUFFIX)
                os.close(lock_fd)
