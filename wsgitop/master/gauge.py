"""One worker's figures over time: turns the scoreboard's growing counters into rates and percentiles.

Pure but for the scoreboard row it reads; clocks are given by the caller.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Sequence
from itertools import repeat

from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board, read_text
from wsgitop.scoreboard.histogram import percentile_ms
from wsgitop.snapshot import InFlight, printable

RATE_WINDOW_S = 1.9
"""Rates are over about two seconds: at four samples a second one request more or less would make them jump.
"""
PERCENTILE_SECONDS = 10
HISTORY_SECONDS = 30
PATH_LIMIT = 200
COUNTER_LIMIT = 1 << 48
"""No thread gets so far. A row that was overwritten must not make a sum that no message can carry."""


LARGEST = (1 << 63) - 1
"""What a message can carry; a row that was overwritten may hold more."""


class Rate:
    """The growth per second of a counter, over RATE_WINDOW_S; None until there are two samples."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> float | None:
        """Take a sample; the rate up to it."""
        samples = self._samples
        samples.append((now, value))
        while len(samples) > 2 and now - samples[1][0] >= RATE_WINDOW_S:
            samples.popleft()
        first_at, first = samples[0]
        elapsed = now - first_at
        return max(0.0, (value - first) / elapsed) if elapsed > 0 else None


class Percentiles:
    """Latency histograms of the last PERCENTILE_SECONDS seconds, as differences of a growing histogram."""

    def __init__(self) -> None:
        self._past: deque[list[int]] = deque([[0] * at.BUCKETS], maxlen=PERCENTILE_SECONDS + 1)
        self.recent: list[int] = [0] * at.BUCKETS

    def second(self, total: list[int]) -> None:
        """Once a second: the whole histogram so far."""
        if total is self._past[-1] and len(self._past) == self._past.maxlen and total is self._past[0]:
            return  # nothing has come for the whole window
        self._past.append(total)
        oldest = self._past[0]
        # A reader may catch a row in mid-change; a bucket never goes below zero by that.
        self.recent = (
            [0] * at.BUCKETS
            if total is oldest
            else list(map(max, map(operator.sub, total, oldest), repeat(0)))
        )

    def values(self) -> tuple[float | None, float | None, float | None]:
        """p50, p95, p99 in milliseconds."""
        return (
            percentile_ms(self.recent, 0.5),
            percentile_ms(self.recent, 0.95),
            percentile_ms(self.recent, 0.99),
        )


class WorkerGauge:
    """Reads one worker's row. ``requests``, ``errors``, ``busy``, … are as of the last :meth:`read`."""

    def __init__(self, board: Board, row: int) -> None:
        self._row = board.row(row)
        self._threads = [board.thread(row, index) for index in range(board.threads)]
        self.threads = board.threads
        self._requests = Rate()
        self._cpu = Rate()
        self._counted = -1
        self._histogram = [0] * at.BUCKETS
        self._counters: list[int] = []
        self._seen: list[int] = []
        self._settled = False
        self._percentiles = Percentiles()
        self.history: deque[float] = deque(maxlen=HISTORY_SECONDS)
        self.requests = 0
        self.errors = 0
        self.busy = 0
        self.rps: float | None = None
        self.cpu_percent: float | None = None
        self.rss_bytes: int | None = None
        self.percentiles: tuple[float | None, float | None, float | None] = (None, None, None)
        self._oldest_started_ns = 0

    @property
    def words(self) -> tuple[memoryview, list[memoryview]]:
        """The words of the process and those of its threads, for who counts what is not counted here."""
        return self._row, self._threads

    @property
    def recent(self) -> Sequence[int]:
        """The histogram of the last PERCENTILE_SECONDS seconds, as of the last :meth:`second`."""
        return self._percentiles.recent

    def read(self, now: float) -> None:
        """Read the counters."""
        requests = errors = busy = oldest = 0
        for block in self._threads:
            requests += min(block[at.REQUESTS], COUNTER_LIMIT)
            errors += min(block[at.ERRORS], COUNTER_LIMIT)
            if block[at.THREAD_STATE] >= at.THREAD_BUSY:
                busy += 1
                started = block[at.STARTED_NS]
                if started and (not oldest or started < oldest):
                    oldest = started
        self.requests, self.errors, self.busy, self._oldest_started_ns = requests, errors, busy, oldest
        self.rps = self._requests.add(now, requests)

    def counters(self) -> list[int]:
        """Requests, answers by class, and the whole histogram, read now, in one list; the same list as before
        while nothing comes.
        """
        requests = [block[at.REQUESTS] for block in self._threads]
        same = requests == self._seen
        if same and self._settled:
            return self._counters
        # Once more than requests come: a row may be caught between two words of the same request.
        self._seen, self._settled = requests, same
        total = [0] * (1 + at.CLASSES + at.BUCKETS)
        for block in self._threads:
            if block[at.REQUESTS]:
                classes = block[at.STATUS_1XX : at.STATUS_1XX + at.CLASSES]
                words = (block[at.REQUESTS], *classes, *block[at.HISTOGRAM : at.HISTOGRAM + at.BUCKETS])
                total = [sum_ + min(word, COUNTER_LIMIT) for sum_, word in zip(total, words, strict=True)]
        self._counters = total
        return total

    def second(self) -> list[int]:
        """Once a second, after :meth:`read`: bring histogram and history up to date; the recent histogram."""
        if self.requests != self._counted:
            self._counted = self.requests
            total = list(self._threads[0][at.HISTOGRAM : at.HISTOGRAM + at.BUCKETS])
            for block in self._threads[1:]:
                if block[at.REQUESTS]:
                    total = list(map(operator.add, total, block[at.HISTOGRAM : at.HISTOGRAM + at.BUCKETS]))
            self._histogram = total
        self._percentiles.second(self._histogram)
        self.percentiles = self._percentiles.values()
        if self.rps is not None:
            self.history.append(round(self.rps, 1))
        return self._percentiles.recent

    def cpu(self, now: float, cpu_s: float) -> None:
        """Take the process's CPU time so far, user and system."""
        rate = self._cpu.add(now, cpu_s)
        self.cpu_percent = None if rate is None else rate * 100

    @property
    def connections(self) -> int:
        """Client connections open now."""
        return min(self._row[at.CONNECTIONS], 1 << 31)

    def heartbeat_age_s(self, now_ns: int, floor_ns: int = 0) -> float | None:
        """How long the watchdog has been silent; None while no request runs. ``floor_ns``: do not look
        further back.
        """
        if not self.busy:
            return None
        return max(0, now_ns - max(self._row[at.HEARTBEAT_NS], self._oldest_started_ns, floor_ns)) / 1e9

    def longest_s(self, now_ns: int) -> float:
        """How long the oldest request in flight has been running; 0.0 for none."""
        return max(0, now_ns - self._oldest_started_ns) / 1e9 if self._oldest_started_ns else 0.0

    def in_flight(self, now_ns: int) -> tuple[InFlight, ...]:
        """The requests that the threads are working on, oldest first."""
        found = []
        for index, block in enumerate(self._threads):
            started = block[at.STARTED_NS]
            if block[at.THREAD_STATE] < at.THREAD_BUSY or not started:
                continue
            text = read_text(block)
            if text is None or block[at.STARTED_NS] != started:
                continue  # it has finished meanwhile
            found.append(
                InFlight(
                    thread=index,
                    method=printable(text.method.decode("latin-1")),
                    path=printable(text.path.decode("utf-8", "backslashreplace"), PATH_LIMIT),
                    client=printable(text.client.decode("latin-1")),
                    elapsed_s=round(max(0, now_ns - started) / 1e9, 3),
                    request=min(started, LARGEST),
                )
            )
        found.sort(key=lambda request: -request.elapsed_s)
        return tuple(found)
