"""What all workers have counted, by generation and slot, over deaths and reloads. No figure here goes back.

Who runs this: the master's loop, when somebody asks for the metrics and when a worker is gone. Pure but for
the scoreboard rows it reads. A worker's row is zeroed when it is gone, and is another's then; so what has
grown is added to an account, at the worker's end for the last time.

There are at most KEPT generations with at most SLOTS slots each, however long the server runs. Workers in
higher slots share one account of their generation. A generation that is no longer kept apart gives all of its
accounts to a common one, where its workers count from then on. Whenever that happens the common one gets
another name, which says how many generations it holds: under the old one it would leap by all that the
generation had, and who watches its rate would see requests that nobody sent. So an account may go, but one
that stays grows by what is counted meanwhile and by nothing else, and the sum over all never shrinks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from wsgitop.master.gauge import WorkerGauge
from wsgitop.master.roster import Roster
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.histogram import bounds_us

KEPT: Final = 4
"""Generations apart: the one that serves, one that comes, the one to go back to, and one before."""
SLOTS: Final = 64
LIMIT: Final = 1 << 60
"""No counter gets so far; a row that was overwritten must not make figures that nobody can read."""

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latencies that are counted apart; behind the last comes all that took longer."""


def _cuts() -> tuple[int, ...]:
    """Where the scoreboard's finer histogram is cut for BOUNDS_S: each time at the nearest bound of its
    buckets, at most 6 % away.
    """
    edges_us = [bounds_us(index)[0] for index in range(at.BUCKETS)]
    nearest = (
        min(range(at.BUCKETS), key=lambda index: abs(edges_us[index] - bound_s * 1e6)) for bound_s in BOUNDS_S
    )
    return (0, *nearest, at.BUCKETS)


_RANGES: Final = tuple(pairwise(at.HISTOGRAM + cut for cut in _cuts()))
# The words of a thread that are counters and lie side by side; what is no counter among them is left out.
_FIRST: Final = at.REQUESTS
_LAST: Final = at.LATENCY_SUM_NS
_PROCESS: Final = (at.ACCEPTED, at.REJECTED, at.HANDOVERS, at.MIGRATED_OUT, at.MIGRATED_IN)


class Counters(NamedTuple):
    """``responses`` are those with 1xx to 5xx. ``latencies`` counts for each of BOUNDS_S what did not take
    longer, and last all.
    """

    requests: int
    errors: int
    responses: tuple[int, ...]
    received_bytes: int
    sent_bytes: int
    latency_sum_ns: int
    accepted: int
    rejected: int
    handovers: int
    migrated_out: int
    migrated_in: int
    cpu_us: int
    latencies: tuple[int, ...]


OTHER: Final = -1


class Place(NamedTuple):
    """Where something is counted. ``slot`` is OTHER for those that are not told apart; a negative
    ``generation`` stands for as many of them together.
    """

    generation: int
    slot: int

    def labels(self) -> tuple[str, str]:
        """As words: the generation and the slot."""
        return (
            f"older-{-self.generation}" if self.generation < 0 else str(self.generation),
            "other" if self.slot == OTHER else str(self.slot),
        )


class Accounts:
    """The accounts of the workers in ``roster``. ``cpu_s`` tells a worker's CPU time so far."""

    def __init__(self, roster: Roster, cpu_s: Callable[[int], float]) -> None:
        self._roster = roster
        self._cpu_s = cpu_s
        self._seen: dict[int, list[int]] = {}
        self._totals: dict[Place, list[int]] = {}
        self._given_up: set[int] = set()

    def read(self, gauges: Mapping[int, WorkerGauge]) -> None:
        """Take what has come since the last time."""
        for worker, gauge in gauges.items():
            self._take(worker, gauge)
        self._thin()

    def forget(self, worker: int, gauge: WorkerGauge) -> None:
        """A worker is gone; its row is as it left it. To be called while it is in the roster."""
        self._take(worker, gauge)
        del self._seen[worker]
        self._thin()

    def place(self, generation: int, slot: int) -> Place:
        """Where a worker is counted."""
        if generation in self._given_up:
            return self._older()
        return Place(generation, slot if 0 <= slot <= SLOTS else OTHER)

    def counters(self) -> dict[Place, Counters]:
        """The accounts as they were last read, in order."""
        return {place: _as_counters(self._totals[place]) for place in sorted(self._totals)}

    def _older(self) -> Place:
        return Place(-len(self._given_up), OTHER)

    def _take(self, worker: int, gauge: WorkerGauge) -> None:
        record = self._roster.workers[worker]
        now = [*_read(gauge), int(self._cpu_s(worker) * 1e6)]
        before = self._seen.get(worker)
        self._seen[worker] = now
        # A row may be corrupt: no figure goes back by that.
        new = now if before is None else [max(0, value) for value in map(operator.sub, now, before)]
        place = self.place(record.generation, record.slot)
        self._add(place, new)

    def _add(self, place: Place, new: list[int]) -> None:
        total = self._totals.get(place)
        self._totals[place] = new if total is None else list(map(operator.add, total, new))

    def _thin(self) -> None:
        numbers = {place.generation for place in self._totals if place.generation >= 0}
        if len(numbers) <= KEPT:
            return
        roster = self._roster
        alive = {record.generation for record in roster.workers.values()}
        # One whose code does not boot is newer than the one that serves, and matters less.
        by_worth = sorted(numbers, key=lambda g: (g in (roster.target, roster.good), g in alive, g))
        going = by_worth[:-KEPT]
        self._given_up.update(going)
        for place in [place for place in self._totals if place.generation in going or place.generation < 0]:
            self._add(self._older(), self._totals.pop(place))


def _read(gauge: WorkerGauge) -> list[int]:
    """The counters of a row: those of its threads, added up, those of the process, then the latencies."""
    row, threads = gauge.words
    total = [0] * (_LAST - _FIRST + 1)
    latencies = [0] * len(_RANGES)
    for block in threads:
        if not block[at.REQUESTS]:
            continue
        total = [sum_ + min(word, LIMIT) for sum_, word in zip(total, block[_FIRST : _LAST + 1], strict=True)]
        latencies = [
            sum_ + min(sum(block[first:end]), LIMIT)
            for sum_, (first, end) in zip(latencies, _RANGES, strict=True)
        ]
    return [*total, *latencies, *(min(row[word], LIMIT) for word in _PROCESS)]


def _as_counters(values: list[int]) -> Counters:
    latencies = _LAST - _FIRST + 1
    process = latencies + len(_RANGES)
    return Counters(
        requests=values[at.REQUESTS - _FIRST],
        errors=values[at.ERRORS - _FIRST],
        responses=tuple(values[at.STATUS_1XX - _FIRST : at.STATUS_1XX - _FIRST + at.CLASSES]),
        received_bytes=values[at.BYTES_RECEIVED - _FIRST],
        sent_bytes=values[at.BYTES_SENT - _FIRST],
        latency_sum_ns=values[at.LATENCY_SUM_NS - _FIRST],
        accepted=values[process],
        rejected=values[process + 1],
        handovers=values[process + 2],
        migrated_out=values[process + 3],
        migrated_in=values[process + 4],
        cpu_us=values[process + 5],
        latencies=tuple(accumulate(values[latencies:process])),
    )
