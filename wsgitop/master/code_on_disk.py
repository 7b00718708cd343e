"""Whether the application's code is on disk as it was loaded: "stale code" is a deploy that nobody reloaded.

The worker in slot 1 of a generation tells its source files with their times and sizes when it is ready
(worker/module_files.py; not with --reload, which sees to it by itself). While somebody watches, and every
INTERVAL_S at most, a daemon thread compares: a directory on a network that hangs must not stop the master,
nor be asked twice. What is imported later, and installed packages, are not looked at.

Who runs this: :class:`CodeOnDisk` belongs to the loop; a look gets a copy of its own and hands its result
back by ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterable

from wsgitop.channel import messages as m
from wsgitop.master.watching import describe

INTERVAL_S = 10.0

Stamp = tuple[int, int]
"""Modification time in ns, size in bytes."""


class CodeOnDisk:
    """``stale`` is, by generation, what has changed in words; generations not in it are as they were loaded,
    as far as is known.
    """

    def __init__(self) -> None:
        self._files: dict[int, dict[str, Stamp]] = {}
        self._looked_at = float("-inf")
        self._looking: threading.Thread | None = None
        self.stale: dict[int, str] = {}

    def add(self, generation: int, files: Iterable[m.SourceFile]) -> None:
        """Code of ``generation`` comes from these. Whoever tells of a file first loaded the oldest code."""
        known = self._files.setdefault(generation, {})
        for file in files:
            known.setdefault(file.name, (file.mtime_ns, file.size))

    def keep(self, generations: Iterable[int]) -> None:
        """Forget all others."""
        for number in self._files.keys() - set(generations):
            del self._files[number]
            self.stale.pop(number, None)

    def look(self, generation: int, now: float, *, home: str) -> None:
        """Compare the files of ``generation``, unless that was done lately or is going on. ``now`` is
        monotonic, ``home`` the application's directory. To be called in the loop.
        """
        files = self._files.get(generation)
        if not files or now - self._looked_at < INTERVAL_S:
            return
        if self._looking is not None and self._looking.is_alive():
            return
        self._looked_at = now
        loop = asyncio.get_running_loop()
        copy = dict(files)

        def compare() -> None:
            found = changed(copy)
            with contextlib.suppress(RuntimeError):  # the loop has been closed: the master is ending
                loop.call_soon_threadsafe(self._take, generation, found, home)

        self._looking = threading.Thread(target=compare, name="wsgitop-code", daemon=True)
        self._looking.start()

    def _take(self, generation: int, found: list[str], home: str) -> None:
        if found and generation in self._files:
            self.stale[generation] = describe(found, home)
        else:
            self.stale.pop(generation, None)


def changed(files: dict[str, Stamp]) -> list[str]:
    """Those that are not on disk any more as they were, in order."""
    return sorted(name for name, stamp in files.items() if _stamp(name) != stamp)


def _stamp(name: str) -> Stamp | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - hundreds at a time
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
