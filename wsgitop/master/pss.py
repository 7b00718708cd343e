"""Proportional memory of the server's processes: pages that several share are counted once between them.

Asking costs the kernel about a millisecond a process, so it is done in turn: one process a second, some more
at a time only until all have been asked once. Source: proc_pid_smaps(5), ``smaps_rollup``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil

CATCH_UP = 4
"""Processes asked at a time while some have not been asked yet."""


class ProportionalMemory:
    """PSS by pid, as of the last time each was asked."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}
        self._turn = 0

    def ask(self, processes: Iterable[psutil.Process]) -> None:
        """Once a second, while somebody watches: ask the next of ``processes``, all that there are."""
        present = {process.pid: process for process in processes}
        for gone in self._bytes.keys() - present.keys():
            del self._bytes[gone]
        unknown = [pid for pid in present if pid not in self._bytes][:CATCH_UP]
        if not unknown and present:
            pids = list(present)
            unknown = [pids[self._turn % len(pids)]]
            self._turn += 1
        for pid in unknown:
            with contextlib.suppress(psutil.Error, OSError):
                self._bytes[pid] = present[pid].memory_full_info().pss

    def of(self, pid: int) -> int | None:
        """The PSS of one process in bytes; None: not known yet."""
        return self._bytes.get(pid)

    def total(self, pids: Iterable[int]) -> int | None:
        """The PSS of these together; None while one is not known."""
        found = [self._bytes.get(pid) for pid in pids]
        known = [value for value in found if value is not None]
        return sum(known) if known and len(known) == len(found) else None
