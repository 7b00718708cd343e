"""What took longest lately, over all workers, those that are gone included. Pure; the clock is the caller's.

By the minute, because what is among the longest of a quarter of an hour is among those of its minute: so the
list is right although the longest of all go out of it one day.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from wsgitop.channel import messages as m
from wsgitop.control.messages import SlowRequest
from wsgitop.master.roster import WorkerRecord
from wsgitop.snapshot import printable

KEPT = 100
WINDOW_S = 900.0
MINUTE_S = 60.0
METHOD_LIMIT, PATH_LIMIT, CLIENT_LIMIT = 16, 200, 64


class Slowest:
    """The KEPT longest requests of the last WINDOW_S seconds."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, list[SlowRequest]]] = deque()

    def add(self, requests: Iterable[SlowRequest], now: float) -> None:
        """Take some that are over; ``now`` in seconds since the epoch, as their ``at``."""
        minute = int(now // MINUTE_S)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, []))
        kept = self._minutes[-1][1]
        kept.extend(requests)
        kept[:] = heapq.nlargest(KEPT, kept, key=_elapsed)
        while (minute - self._minutes[0][0]) * MINUTE_S > WINDOW_S + MINUTE_S:
            self._minutes.popleft()

    def longest(self, limit: int, now: float) -> tuple[SlowRequest, ...]:
        """At most ``limit``, the longest first."""
        found = (one for _, kept in self._minutes for one in kept if now - WINDOW_S <= one.at)
        return tuple(heapq.nlargest(min(limit, KEPT), found, key=_elapsed))


def slow_request(record: WorkerRecord, finished: m.Finished) -> SlowRequest:
    """What a worker has told, as clients see it; made fit to be shown once more."""
    return SlowRequest(
        at=finished.at_ms / 1000,
        slot=record.slot,
        pid=record.pid or 0,
        generation=record.generation,
        method=printable(finished.method, METHOD_LIMIT),
        path=printable(finished.path, PATH_LIMIT),
        client=printable(finished.client, CLIENT_LIMIT),
        status=finished.status,
        elapsed_s=round(finished.elapsed_ns / 1e9, 3),
        cut=finished.cut,
    )


def _elapsed(request: SlowRequest) -> float:
    return request.elapsed_s
