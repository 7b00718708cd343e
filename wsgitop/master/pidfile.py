"""The pid file: written once the listeners are open, removed at the end if it still is ours."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from wsgitop.errors import PidfileError

PID_LIMIT = 1 << 22
"""PID_MAX_LIMIT of the kernel."""


class Pidfile:
    """``path`` holding this process's pid."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()

    def create(self) -> None:
        """Write it. A file that names a process that is gone, or that is no number, is stale and replaced.

        Raises PidfileError.
        """
        holder = self._read()
        if holder is not None and holder != os.getpid() and psutil.pid_exists(holder):
            raise PidfileError(
                f"pid file {self.path} belongs to process {holder}, which runs",
                "Stop it, or choose another file with --pid.",
            )
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            temporary.write_text(f"{os.getpid()}\n")
            temporary.replace(self.path)  # a reader never sees half of it
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise PidfileError(
                f"pid file {self.path} cannot be written: {error.strerror}",
                "Check the path given with --pid.",
            ) from None

    def remove(self) -> None:
        """Remove it, unless another process has taken it over."""
        if self._read() == os.getpid():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _read(self) -> int | None:
        try:
            pid = int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None
        return pid if 0 < pid <= PID_LIMIT else None
