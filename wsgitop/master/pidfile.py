"""The pid file: written once the listeners are open, removed at the end if it still is ours.

What a pid file names may be dead, or its number another program's by now. A process that began after the file
was written did not write it; only of a process that calls itself wsgitop this is not believed, because a
clock that was set meanwhile would make a living server look like that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from wsgitop.errors import PidfileError

PID_LIMIT = 1 << 22
"""PID_MAX_LIMIT of the kernel."""
SUCCESSOR_SUFFIX = ".2"
"""gunicorn's, for the file of a new master while the old one still has its own."""
START_SLACK_S = 2.0
"""The kernel's start times and the file system's may differ by that much."""
PATIENCE_S = 1.0
"""For another server that writes a pid file in the same directory at the same moment."""
TITLE = "wsgitop: "


class Pidfile:
    """``path`` holding this process's pid."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()

    def create(self) -> None:
        """Write it. A file that names a process that is gone, or that is no number, is stale and replaced.

        Raises PidfileError.
        """
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with _locked(self.path.parent):
                self._refuse_if_held()
                _write(temporary)
                # A reader never sees half of it; a link is replaced, not followed.
                temporary.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise PidfileError(
                f"pid file {self.path} cannot be written: {error.strerror}",
                "Check the path given with --pid.",
            ) from None

    def succeed(self, path: str) -> None:
        """Rename it to ``path``: the master that it is the successor's of has ended. Raises OSError."""
        self.path = self.path.replace(Path(path).absolute())

    def remove(self) -> None:
        """Remove it, unless another process has taken it over."""
        if self._read() == os.getpid():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _refuse_if_held(self) -> None:
        holder = self._read()
        if holder is not None and holder != os.getpid() and self._is_held_by(holder):
            raise PidfileError(
                f"pid file {self.path} belongs to process {holder}, which runs",
                "Stop it, or choose another file with --pid.",
            )

    def _is_held_by(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            began_later = process.create_time() > self.path.stat().st_mtime + START_SLACK_S
            return not began_later or " ".join(process.cmdline()).startswith(TITLE)
        except psutil.NoSuchProcess:
            return False
        except (psutil.Error, OSError):
            return True  # not ours to look at, and so somebody's

    def _read(self) -> int | None:
        try:
            pid = int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None
        return pid if 0 < pid <= PID_LIMIT else None


def _write(path: Path) -> None:
    """Never through a link that somebody has put there, in a directory that is open to all."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask: others are to read it
        os.write(fd, b"%d\n" % os.getpid())
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other servers from looking and writing in between. Raises OSError.

    A file system without locks, or somebody who holds this one for other reasons, is no reason not to start.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        os.close(fd)
