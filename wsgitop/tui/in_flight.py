"""Requests in flight on the whole server, with an age that goes on between two answers. No Textual.

The server says how long each has been running; from that comes when it began, by the clock of this side. The
earliest such moment is kept, because what delays an answer makes a request look younger, never older: so no
age on the screen ever goes back.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

from wsgitop.control.messages import RequestInFlight, RequestsResult, SlowRequest
from wsgitop.snapshot import Severity, WorkerSnapshot
from wsgitop.tui import figures
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.lists import Order

SLOW_S, VERY_SLOW_S = 1.0, 5.0


@dataclass(frozen=True)
class Flight:
    """One request in flight, and for how long by now. ``began`` is monotonic seconds of this side."""

    told: RequestInFlight
    elapsed_s: float
    began: float

    @property
    def key(self) -> Hashable:
        """What tells it from all others, later ones of its thread included."""
        return (*self.worker, self.told.request.thread, self.told.request.request)

    @property
    def worker(self) -> Identity:
        """The process that serves it."""
        return (self.told.pid, self.told.started_at)

    @property
    def line(self) -> str:
        """Method and path."""
        return f"{self.told.request.method} {self.told.request.path}"


class Flights:
    """All that are in flight, as last told. ``now`` is monotonic seconds, as the caller counts them."""

    def __init__(self) -> None:
        self.total = 0
        """How many there are; more than are listed when only the oldest were asked for."""
        self._rows: dict[Hashable, Flight] = {}

    def take(self, answer: RequestsResult, now: float) -> None:
        """What the server has answered."""
        rows = {}
        for told in answer.in_flight:
            flight = Flight(told, told.request.elapsed_s, now - told.request.elapsed_s)
            # Without a number the next request on the thread cannot be told from this one.
            known = self._rows.get(flight.key) if told.request.request else None
            if known is not None:
                flight = known if known.began <= flight.began else replace(known, began=flight.began)
            rows[flight.key] = flight
        self._rows = rows
        self.total = max(answer.total, len(rows))

    def rows(self, now: float) -> tuple[Flight, ...]:
        """They, as old as they are now, the oldest first. One that reads as before is the same object, so
        that it is not drawn again."""
        for key, flight in self._rows.items():
            elapsed_s = max(0.0, now - flight.began)
            if figures.elapsed(elapsed_s) != figures.elapsed(flight.elapsed_s):
                self._rows[key] = replace(flight, elapsed_s=elapsed_s)
        return tuple(sorted(self._rows.values(), key=lambda flight: flight.began))

    def note(self, rows: Iterable[Flight]) -> str:
        """What the title says behind the number of those listed."""
        listed = tuple(rows)
        if not listed:
            return ""
        oldest = f"oldest {figures.elapsed(max(flight.elapsed_s for flight in listed))}"
        return oldest if self.total <= len(listed) else f"{oldest}, the oldest of {self.total}"


def severity_of(elapsed_s: float) -> Severity:
    """How alarming an age is."""
    if elapsed_s >= VERY_SLOW_S:
        return "error"
    return "warning" if elapsed_s >= SLOW_S else "info"


def words(flight: Flight) -> str:
    """What a filter looks in."""
    told = flight.told
    return f"{flight.line} {told.request.client} #{told.slot} {told.pid} gen{told.generation}"


def slow_words(slow: SlowRequest) -> str:
    """The same for one that has finished."""
    end = " cut" if slow.cut else ""
    return (
        f"{slow.method} {slow.path} {slow.client} #{slow.slot} {slow.pid} gen{slow.generation} "
        f"{slow.status}{end}"
    )


ORDERS: tuple[Order[Flight], ...] = (
    Order("elapsed", lambda flight: -flight.began),
    Order("method", lambda flight: flight.told.request.method, largest_first=False),
    Order("path", lambda flight: flight.told.request.path, largest_first=False),
    Order("client", lambda flight: flight.told.request.client, largest_first=False),
    Order("slot", lambda flight: flight.told.slot, largest_first=False),
    Order("pid", lambda flight: flight.told.pid, largest_first=False),
    Order("thread", lambda flight: flight.told.request.thread, largest_first=False),
    Order("generation", lambda flight: flight.told.generation),
)
SLOW_ORDERS: tuple[Order[SlowRequest], ...] = (
    Order("elapsed", lambda slow: slow.elapsed_s),
    Order("at", lambda slow: slow.at),
    Order("status", lambda slow: slow.status),
    Order("method", lambda slow: slow.method, largest_first=False),
    Order("path", lambda slow: slow.path, largest_first=False),
    Order("client", lambda slow: slow.client, largest_first=False),
    Order("slot", lambda slow: slow.slot, largest_first=False),
)


def worker_of(slow: SlowRequest, workers: Iterable[WorkerSnapshot]) -> Identity | None:
    """The worker that served it, if it is still there. Its start is not told, so it must be the same slot and
    generation, and must have lived when the request began."""
    for worker in workers:
        same = (worker.slot, worker.pid, worker.generation) == (slow.slot, slow.pid, slow.generation)
        if same and worker.started_at <= slow.at - slow.elapsed_s:
            return identity(worker)
    return None
