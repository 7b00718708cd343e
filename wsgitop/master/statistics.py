"""What has grown since somebody last looked: requests, answers by class, latencies, over all workers that
live or lived.

Pure but for the scoreboard rows it reads. A worker's row is zeroed when it is gone, and is another's then. So
its growth is taken once more at its end, and what is handed out never shrinks.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field

from wsgitop.master.gauge import WorkerGauge
from wsgitop.scoreboard import layout as at


@dataclass(slots=True)
class Growth:
    """``classes`` are answers with 1xx to 5xx; ``buckets`` is a histogram (scoreboard.histogram)."""

    requests: int = 0
    classes: list[int] = field(default_factory=lambda: [0] * at.CLASSES)
    buckets: list[int] = field(default_factory=lambda: [0] * at.BUCKETS)


class Statistics:
    """Adds up the growth of all workers' counters."""

    def __init__(self) -> None:
        self._last: dict[int, list[int]] = {}
        self._growth = Growth()

    def read(self, gauges: Mapping[int, WorkerGauge]) -> None:
        """Take what has come since the last time."""
        for worker, gauge in gauges.items():
            self._take(worker, gauge)

    def forget(self, worker: int, gauge: WorkerGauge) -> None:
        """A worker is gone; its row is as it left it."""
        self._take(worker, gauge)
        self._last.pop(worker, None)

    def take(self) -> Growth:
        """The growth since this was last called."""
        growth, self._growth = self._growth, Growth()
        return growth

    def _take(self, worker: int, gauge: WorkerGauge) -> None:
        now = gauge.counters()
        before = self._last.get(worker)
        if now is before:
            return
        self._last[worker] = now
        # A row may be caught in mid-change or be corrupt: no figure goes back by that.
        new = now if before is None else [max(0, value) for value in map(operator.sub, now, before)]
        growth = self._growth
        growth.requests += new[0]
        growth.classes = list(map(operator.add, growth.classes, new[1 : 1 + at.CLASSES]))
        growth.buckets = list(map(operator.add, growth.buckets, new[1 + at.CLASSES :]))
