"""How many rounds of pure Python take so many seconds here."""

from __future__ import annotations

import time

from tests.benchmarks.apps.work import spin


def rounds_of(seconds: float, attempts: int = 20) -> int:
    """Measured once, so that every server gets the same work. CPU time of the quickest attempt counts: what
    else the machine does must not make the work smaller.
    """
    sample = 20_000
    spin(sample)  # the interpreter specialises the loop
    fastest_s = min(_time_s(sample) for _ in range(attempts))
    return max(1, round(seconds / fastest_s * sample))


def _time_s(rounds: int) -> float:
    started = time.thread_time()
    spin(rounds)
    return time.thread_time() - started
