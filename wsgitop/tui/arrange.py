"""The order and the choice of the rows: pure functions over workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from wsgitop.snapshot import WorkerSnapshot
from wsgitop.tui.filtering import Filter

Identity = tuple[int, float]
"""(pid, started_at): names one process for all time, where a pid alone may be given away again."""

STATE_ORDER = ("stuck", "quarantined", "booting", "retiring", "busy", "idle")
"""Sorting by state puts first what needs a look."""


class Column(NamedTuple):
    """What a column sorts by. ``value`` gives None for "not known", which comes last in either direction."""

    value: Callable[[WorkerSnapshot], float | None]
    largest_first: bool = True


COLUMNS: dict[str, Column] = {
    "slot": Column(lambda worker: worker.slot, largest_first=False),
    "pid": Column(lambda worker: worker.pid, largest_first=False),
    "generation": Column(lambda worker: worker.generation),
    "state": Column(lambda worker: _state_rank(worker.state), largest_first=False),
    "requests": Column(lambda worker: worker.requests),
    "rps": Column(lambda worker: worker.rps),
    "p50": Column(lambda worker: worker.p50_ms),
    "p95": Column(lambda worker: worker.p95_ms),
    "errors": Column(lambda worker: worker.errors),
    "cpu": Column(lambda worker: worker.cpu_percent),
    "rss": Column(lambda worker: worker.rss_bytes),
    "age": Column(lambda worker: worker.age_s),
    "beat": Column(lambda worker: worker.heartbeat_age_s),
    "in_flight": Column(
        lambda worker: max((request.elapsed_s for request in worker.in_flight), default=None)
    ),
}
"""Every column one can sort by, in the order of the table."""


def identity(worker: WorkerSnapshot) -> Identity:
    return (worker.pid, worker.started_at)


def ordered(workers: Iterable[WorkerSnapshot], sort: str, descending: bool) -> tuple[WorkerSnapshot, ...]:
    """Sorted by the column, equals by slot, then age: the order is total, so rows never swap without a
    reason."""
    value = COLUMNS[sort].value

    def key(worker: WorkerSnapshot) -> tuple[bool, float, int, float, int]:
        figure = value(worker)
        known = figure is not None
        signed = 0.0 if figure is None else (-figure if descending else figure)
        return (not known, signed, worker.slot, worker.started_at, worker.pid)

    return tuple(sorted(workers, key=key))


def kept_in_place(
    workers: Iterable[WorkerSnapshot], order: Iterable[Identity], sort: str, descending: bool
) -> tuple[WorkerSnapshot, ...]:
    """Those already on the screen in the given order, newcomers behind them."""
    newcomers = {identity(worker): worker for worker in workers}
    placed = [newcomers.pop(key) for key in order if key in newcomers]
    return (*placed, *ordered(newcomers.values(), sort, descending))


def filtered(workers: Iterable[WorkerSnapshot], text: str) -> tuple[WorkerSnapshot, ...]:
    """Those in which every word of ``text`` occurs, whatever its case; with a leading ``!``, all the
    others."""
    chosen = Filter.parse(text)
    if not chosen.words:
        return tuple(workers)
    return tuple(worker for worker in workers if chosen.passes(_described(worker)))


def _described(worker: WorkerSnapshot) -> str:
    requests = " ".join(f"{request.method} {request.path} {request.client}" for request in worker.in_flight)
    return f"#{worker.slot} {worker.pid} gen{worker.generation} {worker.state} {requests}"


def _state_rank(state: str) -> int:
    return STATE_ORDER.index(state) if state in STATE_ORDER else len(STATE_ORDER)
