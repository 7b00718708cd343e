"""Where control sockets live, made safe before anybody can connect, and how running masters are found.

Each master has a directory of its own below a private one of its user:

    <base>/<name>-<pid>/lock           flock(2) held as long as the master lives: who gets it knows that the
    master is gone <base>/<name>-<pid>/master.json    who it is and where its control socket is, which may be
    elsewhere <base>/<name>-<pid>/control.sock   the socket, unless --control-socket names another place <path
    of the socket>.lock          flock held while a master uses that socket

``<base>`` is ``$XDG_RUNTIME_DIR/wsgitop``, without that ``/run/user/UID/wsgitop``, else
``<tmp>/wsgitop-UID``; 0700 and ours, or it is not used. The lock, not the pid, tells life from death: pids
are given out again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from wsgitop.errors import ControlSocketError

SOCKET_NAME = "control.sock"
LOCK_NAME = "lock"
RECORD_NAME = "master.json"
LOCK_SUFFIX = ".lock"
HALF_MADE_S = 60.0
"""A directory without a record is being made; after this time its maker must have died over it."""
_ENTRY = re.compile(r"(?P<name>.+)-(?P<pid>[0-9]{1,10})")
_RECORD_LIMIT_BYTES = 64 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Found(msgspec.Struct, frozen=True):
    """A running master of this user. ``control`` is the path of its control socket."""

    pid: int
    started_at: float
    app: str
    name: str
    bind: tuple[str, ...]
    control: str


# -- the base directory --------------------------------------------------------------------------------------


def base_directory(environ: Mapping[str, str] | None = None) -> Path:
    """The directory that holds those of this user's masters. It may not exist yet."""
    environ = os.environ if environ is None else environ
    uid = os.geteuid()
    for candidate in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        # After su or sudo the variable may still name the directory of another user.
        if candidate.startswith("/") and _is_own_directory(Path(candidate)):
            return Path(candidate) / "wsgitop"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"wsgitop-{uid}"


def _is_own_directory(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def open_private(path: Path) -> int:
    """A descriptor of the directory ``path``, which is ours, 0700 and no link.

    Raises ControlSocketError, FileNotFoundError.
    """
    try:
        fd = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "is a link or no directory" if error.errno in (errno.ELOOP, errno.ENOTDIR) else _reason(error)
        raise ControlSocketError(
            f"the runtime directory {path} cannot be used: it {what}", ELSEWHERE
        ) from None
    status = os.fstat(fd)
    problem = ""
    if status.st_uid != os.geteuid():
        problem = f"belongs to user id {status.st_uid}"
    elif status.st_mode & 0o077:
        problem = f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})"
    if problem:
        os.close(fd)
        remedy = f"If nothing foreign is in it: chmod 700 {path}." if "open" in problem else ELSEWHERE
        raise ControlSocketError(f"the runtime directory {path} cannot be used: it {problem}", remedy)
    return fd


ELSEWHERE = "Give --control-socket PATH or --no-control-socket, or set XDG_RUNTIME_DIR."


def _reason(error: OSError) -> str:
    return f"gives {error.strerror.lower() if error.strerror else error}"


def make_private(path: Path) -> int:
    """Make the directory if need be, and open it. Raises ControlSocketError."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise ControlSocketError(
            f"the runtime directory {path} cannot be made: {error.strerror}", ELSEWHERE
        ) from None
    return open_private(path)


# -- locks ---------------------------------------------------------------------------------------------------


def take_lock(directory_fd: int, name: str, *, patience_s: float = 0.2) -> int | None:
    """Create and lock the file ``name``; its descriptor, or None if somebody holds it.

    Patience, because who looks for dead masters holds a lock for a moment. Who unlinks a lock file holds its
    lock; therefore a lock counts only if the name still leads to the file that was locked.
    """
    deadline = time.monotonic() + patience_s
    while True:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
        try:
            if os.fstat(fd).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "the lock file belongs to somebody else")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(fd, directory_fd, name):
                return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(0.01)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _same_file(fd: int, directory_fd: int, name: str) -> bool:
    try:
        named = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), named)


def read_small(directory_fd: int, name: str) -> bytes:
    """The beginning of a small file. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory_fd)
    with os.fdopen(fd, "rb") as file:
        return file.read(_RECORD_LIMIT_BYTES)


def unlink(directory_fd: int, name: str) -> None:
    """Remove a file if it can be removed."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory_fd)


def remove_directory(base_fd: int, name: str) -> None:
    """Remove a directory if it is empty."""
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=base_fd)


# -- discovery -----------------------------------------------------------------------------------------------


def discover(environ: Mapping[str, str] | None = None) -> list[Found]:
    """The running masters of this user, in order of their start. Entries of dead ones are removed on the way.

    Raises ControlSocketError if the runtime directory is not safe to believe.
    """
    base = base_directory(environ)
    try:
        base_fd = open_private(base)
    except FileNotFoundError:
        return []
    try:
        found = list(_living(base_fd))
    finally:
        os.close(base_fd)
    return sorted(found, key=lambda master: master.started_at)


def _living(base_fd: int) -> Iterator[Found]:
    for name in sorted(os.listdir(base_fd)):
        if not _ENTRY.fullmatch(name):
            continue
        try:
            entry_fd = os.open(name, _DIRECTORY, dir_fd=base_fd)
        except OSError:
            continue
        try:
            master = _look_at(entry_fd)
            if master is None:
                remove_directory(base_fd, name)
            elif isinstance(master, Found):
                yield master
        except OSError:
            continue  # it is going away, or being made, at this very moment
        finally:
            os.close(entry_fd)


def _look_at(entry_fd: int) -> Found | str | None:
    """The master of an entry; None if it was dead and its files are removed; a word if there is nothing to
    tell."""
    try:
        record = read_small(entry_fd, RECORD_NAME)
    except FileNotFoundError:
        if time.time() - os.fstat(entry_fd).st_mtime < HALF_MADE_S:
            return "being made"
        record = b""
    try:
        lock_fd = os.open(LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry_fd)
    except FileNotFoundError:
        lock_fd = None
    if lock_fd is not None and not _is_free(lock_fd):
        os.close(lock_fd)
        return _decode(record)
    try:
        for leftover in (
            SOCKET_NAME,
            SOCKET_NAME + LOCK_SUFFIX,
            RECORD_NAME + ".new",
            RECORD_NAME,
            LOCK_NAME,
        ):
            unlink(entry_fd, leftover)
    finally:
        if lock_fd is not None:
            os.close(lock_fd)
    return None


def _is_free(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _decode(record: bytes) -> Found | str:
    try:
        return msgspec.json.decode(record, type=Found)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "unreadable"
