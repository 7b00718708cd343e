"""What took longest here lately, for the master, which shows it.

Who runs what: :meth:`SlowRequests.note` is called by the threads that serve requests, for one that took
LONG_NS or more, so that a quick one costs nothing; the watchdog, and who ends the process, take what is new.
The lock is held for some microseconds. Text is made fit to be shown when it is taken, by the watchdog.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from wsgitop.channel.messages import Finished, SlowestFinished
from wsgitop.http.head import RequestLine
from wsgitop.snapshot import printable
from wsgitop.worker.connection import NEVER

LONG_NS: Final = 100_000_000
KEPT: Final = 20
"""So many of each PERIOD_S are told; where every request takes long, the others are not worth a message."""
PERIOD_S: Final = 60.0
PAUSE_S: Final = 1.0
"""Between two messages."""
METHOD_LIMIT: Final = 16
PATH_LIMIT: Final = 200
CLIENT_LIMIT: Final = 64


class _Note(NamedTuple):
    """The first two decide the order; no two numbers are the same."""

    elapsed_ns: int
    number: int
    at_s: float
    line: RequestLine
    client: bytes
    status: int
    cut: bool


def shown_path(target: str, show_query: bool) -> str:
    """A request target as screens and scripts get to see it: a query may hold secrets, so it is left out
    unless the server is told otherwise (--show-query).
    """
    return target if show_query else target.partition("?")[0]


class SlowRequests:
    """``due_s`` (monotonic) is when the master may be told of what is new; NEVER: nothing is."""

    def __init__(self, *, show_query: bool = False) -> None:
        self.due_s = NEVER
        self.show_query = show_query
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._numbers = itertools.count()
        self._longest: list[int] = []  # a heap, of this period
        self._period_ends_s = 0.0
        self._fresh: list[_Note] = []  # a heap
        self._next_s = 0.0

    def note(self, line: RequestLine, client: bytes, status: int, elapsed_ns: int, cut: bool = False) -> None:
        """A request that took long is over, or was cut. ``status`` 0: nothing was answered."""
        now_s = time.monotonic()
        with self._lock:
            if now_s >= self._period_ends_s:
                self._period_ends_s = now_s + PERIOD_S
                self._longest.clear()
            if len(self._longest) < KEPT:
                heapq.heappush(self._longest, elapsed_ns)
            elif elapsed_ns <= self._longest[0]:
                return
            else:
                heapq.heapreplace(self._longest, elapsed_ns)
            note = _Note(elapsed_ns, next(self._numbers), time.time(), line, client, status, cut)
            if len(self._fresh) < KEPT:
                heapq.heappush(self._fresh, note)
            else:
                heapq.heappushpop(self._fresh, note)
            if self.due_s == NEVER:
                self.due_s = max(now_s, self._next_s)

    def tell(self, send: Callable[[SlowestFinished], None]) -> None:
        """Send what is new, each request once. Who ends the process waits for who is at it."""
        with self._telling:
            found = self.take()
            if found:
                send(SlowestFinished(found))

    def take(self) -> tuple[Finished, ...]:
        """What is new, the longest first, each once."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
            self.due_s = NEVER
            self._next_s = time.monotonic() + PAUSE_S
        return tuple(_shown(note, self.show_query) for note in sorted(fresh, reverse=True))


def _shown(note: _Note, show_query: bool) -> Finished:
    return Finished(
        int(note.at_s * 1000),
        printable(note.line.method, METHOD_LIMIT),
        printable(shown_path(note.line.target, show_query), PATH_LIMIT),
        printable(note.client.decode("utf-8", "backslashreplace"), CLIENT_LIMIT),
        note.status,
        note.elapsed_ns,
        note.cut,
    )
