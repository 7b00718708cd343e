"""What the screens show, and how the user arranged it. No Textual here: everything is tested with a clock of
the test's own.

The model is fed with what the server sends and with what the user does; :meth:`Model.view` gives the picture
to draw, immutable and complete. Workers are known by their identity (pid, start time), never by their place:
the order changes under the cursor, and a pid alone may meanwhile belong to somebody else.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wsgitop.control.messages import Hello, Role
from wsgitop.snapshot import Event, Second, Severity, Snapshot, WorkerSnapshot
from wsgitop.tui import actions, arrange
from wsgitop.tui.alarms import Alarm, alarms
from wsgitop.tui.arrange import Identity, identity

INTERVALS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The refresh rates that ``[`` and ``]`` step through."""

WINDOW_S = 60
"""How much of the past the graphs show."""

REST_S = 1.0
"""How long the order of the rows stays as it is after a key press, so that nothing moves under the user's
hand."""

EVENTS_KEPT = 500
SAY_S = 8.0
"""How long the answer to an action stays on the screen; a failure stays twice as long."""


class Trail(NamedTuple):
    """One past sample of one worker, for the graphs beside it."""

    at: float
    rps: float | None
    p95_ms: float | None
    cpu_percent: float | None
    rss_bytes: int | None
    p50_ms: float | None = None
    p99_ms: float | None = None


class Saying(NamedTuple):
    """What the interface itself has to say: how an action ended or, ``running``, that it is under way."""

    severity: Severity
    text: str
    running: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """One picture to draw.

    ``rows`` are the workers that pass the filter, in order; ``cursor`` is the row of ``selected`` (or -1).
    ``seconds`` are at most the last minute, oldest first; ``events`` newest first, without the orders that
    went well, whose effects are events themselves; ``audit`` has those as well. ``paused_s`` and ``stale_s``
    are None unless the picture is frozen, or the server does not answer; ``ended``: it never
    will. Two views are never equal: a new one means "draw".
    """

    snapshot: Snapshot | None = None
    rows: tuple[WorkerSnapshot, ...] = ()
    cursor: int = -1
    selected: WorkerSnapshot | None = None
    sort: str = "slot"
    descending: bool = False
    filter: str = ""
    paused_s: float | None = None
    stale_s: float | None = None
    stale_reason: str = ""
    ended: bool = False
    role: Role | None = None
    interval_s: float = 1.0
    seconds: tuple[Second, ...] = ()
    trail: tuple[Trail, ...] = ()
    events: tuple[Event, ...] = ()
    audit: tuple[Event, ...] = ()
    sayings: tuple[Saying, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    marked: frozenset[Identity] = frozenset()

    @property
    def targets(self) -> tuple[WorkerSnapshot, ...]:
        """Whom an order for workers is for: those that are marked and seen, by slot; else the selected
        one."""
        marked = [worker for worker in self.rows if identity(worker) in self.marked]
        return tuple(sorted(marked, key=lambda worker: worker.slot)) or (
            (self.selected,) if self.selected is not None else ()
        )


@dataclass(frozen=True)
class _Frozen:
    """What ``p`` froze: the picture keeps its figures while the feed goes on."""

    since: float
    snapshot: Snapshot | None
    seconds: tuple[Second, ...]
    events: tuple[Event, ...]
    audit: tuple[Event, ...]
    trails: dict[Identity, tuple[Trail, ...]]


class Model:
    """The state of the interface. ``clock`` is monotonic seconds, ``wall`` seconds since the epoch; tests
    pass their own."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._snapshot: Snapshot | None = None
        self._seconds: dict[int, Second] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._newest_first: tuple[Event, ...] | None = ()
        self._audit: tuple[Event, ...] = ()
        self._window: tuple[Second, ...] | None = None
        self._last_sequence = 0
        self._trails: dict[Identity, deque[Trail]] = {}
        self._master_pid: int | None = None
        self._lost_at: float | None = None
        self._lost_reason = ""
        self._ended = False
        self._frozen: _Frozen | None = None
        self._order: tuple[Identity, ...] = ()
        self._rest_until = -math.inf
        self._selected: Identity | None = None
        self._cursor = 0
        self._said: tuple[Saying, float] | None = None
        self._running: dict[int, tuple[str, float]] = {}
        self._tokens = 0
        self.sort = "slot"
        self.descending = False
        self.filter = ""
        self.interval_s = 1.0
        self.role: Role | None = None
        self.marked: frozenset[Identity] = frozenset()
        """Workers that the next order is for, all of them."""
        self.methods: frozenset[str] = frozenset()
        """What the server offers to this client; nothing before it was connected."""
        self.capabilities: frozenset[str] = frozenset()

    # -- what the server sends -------------------------------------------------------------------------------

    def connected(self, hello: Hello) -> None:
        """The link is up. Another pid than before is another server: its events count from 1 again."""
        if self._master_pid is not None and hello.pid != self._master_pid:
            self._last_sequence = 0
            self.happened("warning", f"the server came back as pid {hello.pid} (was {self._master_pid})")
        elif self._lost_at is not None and self._master_pid is not None:
            self.happened("good", f"connected again after {self._clock() - self._lost_at:.0f} s")
        self._master_pid = hello.pid
        self.role = hello.role
        self.methods = frozenset(hello.methods)
        self.capabilities = frozenset(hello.capabilities)
        self._lost_at = None
        self._lost_reason = ""

    def lost(self, reason: str, *, ended: bool = False) -> bool:
        """The link is down. The last picture stays, marked as stale; only the first loss starts its clock.

        ``ended``: the server is known to have ended for good. Returns whether that is news: an attempt that
        fails as the last one did changes nothing.
        """
        news = self._lost_at is None or (reason, ended) != (self._lost_reason, self._ended)
        if self._lost_at is None:
            self._lost_at = self._clock()
            if self._master_pid is not None:
                self.happened("warning", f"lost the server: {reason}")
        self._lost_reason = reason
        self._ended = ended
        return news

    @property
    def is_connected(self) -> bool:
        return self._master_pid is not None and self._lost_at is None

    def hindrance(self, method: str) -> str:
        """Why a method cannot be called here, '' if it can."""
        return actions.hindrance(method, self.role, self.methods)

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """The newest sample. An older one than the last (it was overtaken on the way) changes nothing."""
        last = self._snapshot
        if last is not None and last.master.pid == snapshot.master.pid and snapshot.sequence < last.sequence:
            return
        self._snapshot = snapshot
        self._window = None
        totals = snapshot.totals
        if totals.rps is not None:
            # One sample a second, whatever the refresh rate: the last one wins.
            self._keep_second(
                Second(
                    at=snapshot.at,
                    rps=totals.rps,
                    p50_ms=totals.p50_ms,
                    p95_ms=totals.p95_ms,
                    p99_ms=totals.p99_ms,
                    threads=totals.threads,
                    threads_busy=totals.threads_busy,
                    queue=totals.queue,
                    cpu_percent=totals.cpu_percent,
                    rss_bytes=totals.rss_bytes,
                    pss_bytes=totals.pss_bytes,
                    errors_per_s=totals.errors_per_s or 0.0,
                )
            )
        trails: dict[Identity, deque[Trail]] = {}
        for worker in snapshot.workers:
            key = identity(worker)
            trail = self._trails.get(key)
            if trail is None:
                trail = self._trails_from(worker, snapshot.at)
            trail.append(
                Trail(
                    snapshot.at, worker.rps, worker.p95_ms, worker.cpu_percent, worker.rss_bytes,
                    worker.p50_ms, worker.p99_ms,
                )
            )  # fmt: skip
            trails[key] = trail
        self._trails = trails
        self.marked = frozenset(self.marked & trails.keys())

    @staticmethod
    def _trails_from(worker: WorkerSnapshot, at: float) -> deque[Trail]:
        """A new trail begins with what the worker itself remembers: its rate in each of the last seconds."""
        history = worker.rps_history
        past = (Trail(at - len(history) + index, rps, None, None, None) for index, rps in enumerate(history))
        return deque(past, maxlen=WINDOW_S * 4)

    def take_history(self, seconds: Iterable[Second]) -> None:
        """The server's own record of the last seconds; it is exact, so it replaces what was kept here."""
        for second in seconds:
            self._keep_second(second)

    def take_events(self, events: Iterable[Event]) -> None:
        """Events, possibly some that are known already (asked for once, pushed once)."""
        for event in sorted(events, key=lambda event: event.sequence):
            if event.sequence > self._last_sequence:
                self._last_sequence = event.sequence
                self._add_event(event)

    @property
    def last_sequence(self) -> int:
        """The newest event known of this server, so that a reconnect asks only for what came after it."""
        return self._last_sequence

    def _keep_second(self, second: Second) -> None:
        self._seconds[int(second.at)] = second
        self._window = None
        if len(self._seconds) > 4 * WINDOW_S:
            newest = max(self._seconds)
            self._seconds = {at: kept for at, kept in self._seconds.items() if at > newest - 2 * WINDOW_S}

    def _add_event(self, event: Event) -> None:
        self._events.append(event)
        self._newest_first = None

    # -- what the interface says -----------------------------------------------------------------------------

    def happened(self, severity: Severity, text: str) -> None:
        """Add to the events something that only this side knows. Such events have no number."""
        self._add_event(Event(sequence=0, at=self._wall(), severity=severity, kind="interface", text=text))

    def say(self, severity: Severity, text: str) -> None:
        """Answer the user. The newest answer is shown, for a while."""
        hold_s = SAY_S if severity in ("info", "good") else 2 * SAY_S
        self._said = (Saying(severity, text), self._clock() + hold_s)

    def begin(self, text: str) -> int:
        """Something that takes time is under way; returns the token that ends it."""
        self._tokens += 1
        self._running[self._tokens] = (text, self._clock())
        return self._tokens

    def end(self, token: int) -> None:
        self._running.pop(token, None)

    # -- what the user does ----------------------------------------------------------------------------------

    def touch(self) -> None:
        """A key was pressed: the rows stay where they are for a moment."""
        self._rest_until = self._clock() + REST_S

    def now(self) -> float:
        """Monotonic seconds, for ages that go on between two pictures."""
        return self._clock()

    @property
    def is_paused(self) -> bool:
        return self._frozen is not None

    def toggle_pause(self) -> bool:
        """Freeze the picture, or let it go on; True when it is frozen now. The feed is not touched:
        nothing is lost."""
        if self._frozen is not None:
            self._frozen = None
            return False
        self._frozen = _Frozen(
            since=self._clock(),
            snapshot=self._snapshot,
            seconds=self._last_seconds(),
            events=self._events_newest_first(),
            audit=self._all_newest_first(),
            trails={key: tuple(trail) for key, trail in self._trails.items()},
        )
        return True

    def step_interval(self, step: int) -> float:
        """The next refresh interval, slower (+1) or faster (-1); it stays within :data:`INTERVALS_S`."""
        index = INTERVALS_S.index(self.interval_s) + step
        self.interval_s = INTERVALS_S[max(0, min(index, len(INTERVALS_S) - 1))]
        return self.interval_s

    def sort_by(self, column: str) -> None:
        """Sort by a column; by the same one again: the other way round. Resting ends, because this was
        asked for."""
        if column == self.sort:
            self.descending = not self.descending
        else:
            self.sort = column
            self.descending = arrange.COLUMNS[column].largest_first
        self._rest_until = -math.inf

    def step_sort(self, step: int) -> None:
        """Sort by the next (+1) or previous (-1) column."""
        names = list(arrange.COLUMNS)
        self.sort_by(names[(names.index(self.sort) + step) % len(names)])

    def invert_sort(self) -> None:
        self.sort_by(self.sort)

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._rest_until = -math.inf

    def move(self, rows: int) -> None:
        """Move the cursor, stopping at the first and the last row."""
        shown = self._rows()
        self._select_row(shown, self._cursor_in(shown) + rows)

    def move_to(self, row: int) -> None:
        self._select_row(self._rows(), row)

    def move_to_end(self) -> None:
        shown = self._rows()
        self._select_row(shown, len(shown) - 1)

    def select(self, key: Identity) -> bool:
        """Put the cursor on this worker, filter or not; False: there is none such now."""
        snapshot = self._frozen.snapshot if self._frozen else self._snapshot
        present = snapshot.workers if snapshot is not None else ()
        if key not in {identity(worker) for worker in present}:
            return False
        if key not in {identity(worker) for worker in self._rows()}:
            self.set_filter("")
        self._selected = key
        return True

    def toggle_mark(self) -> None:
        """Mark the selected worker, or take its mark away, and go on to the next."""
        shown = self._rows()
        if shown:
            row = self._cursor_in(shown)
            self.marked ^= {identity(shown[row])}
            self._select_row(shown, row + 1)

    def clear_marks(self) -> None:
        self.marked = frozenset()

    def _select_row(self, shown: tuple[WorkerSnapshot, ...], row: int) -> None:
        if shown:
            self._cursor = max(0, min(row, len(shown) - 1))
            self._selected = identity(shown[self._cursor])

    # -- what is shown ---------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest sample, also while the picture is frozen: actions are decided by what is true now."""
        return self._snapshot

    def view(self) -> View:
        """The picture to draw now."""
        now = self._clock()
        frozen = self._frozen
        snapshot = frozen.snapshot if frozen else self._snapshot
        rows = self._rows()
        cursor = self._cursor_in(rows)
        selected = rows[cursor] if rows else None
        self._cursor = cursor
        self._selected = identity(selected) if selected is not None else self._selected
        trail: tuple[Trail, ...] = ()
        if selected is not None:
            trail = self.trail_of(identity(selected))
        seconds = frozen.seconds if frozen else self._last_seconds()
        return View(
            snapshot=snapshot,
            rows=rows,
            cursor=cursor if rows else -1,
            selected=selected,
            sort=self.sort,
            descending=self.descending,
            filter=self.filter,
            paused_s=now - frozen.since if frozen else None,
            stale_s=now - self._lost_at if self._lost_at is not None else None,
            stale_reason=self._lost_reason,
            ended=self._ended,
            role=self.role,
            interval_s=self.interval_s,
            seconds=seconds,
            trail=trail,
            events=frozen.events if frozen else self._events_newest_first(),
            audit=frozen.audit if frozen else self._all_newest_first(),
            sayings=self._sayings(now),
            alarms=alarms(snapshot, seconds),
            marked=self.marked,
        )

    def trail_of(self, worker: Identity) -> tuple[Trail, ...]:
        """The past samples of a worker that is in the picture, oldest first."""
        frozen = self._frozen
        return frozen.trails.get(worker, ()) if frozen else tuple(self._trails.get(worker, ()))

    def _sayings(self, now: float) -> tuple[Saying, ...]:
        sayings = []
        if self._said is not None and now < self._said[1]:
            sayings.append(self._said[0])
        for text, since in self._running.values():
            sayings.append(Saying("info", f"{text}… {now - since:.0f} s", running=True))
        return tuple(sayings)

    # Those below keep their tuple until something is added: widgets compare by identity what they draw.

    def _events_newest_first(self) -> tuple[Event, ...]:
        if self._newest_first is None:
            self._audit = tuple(reversed(self._events))
            # What came of an order that went well is told by the events of what it did.
            self._newest_first = tuple(
                event for event in self._audit if (event.kind, event.severity) != ("order", "info")
            )
        return self._newest_first

    def _all_newest_first(self) -> tuple[Event, ...]:
        self._events_newest_first()
        return self._audit

    def _last_seconds(self) -> tuple[Second, ...]:
        if self._window is None:
            newest = max(self._seconds, default=0) if self._snapshot is None else int(self._snapshot.at)
            window = range(newest - WINDOW_S - 1, newest + 1)
            self._window = tuple(self._seconds[at] for at in window if at in self._seconds)
        return self._window

    def _rows(self) -> tuple[WorkerSnapshot, ...]:
        snapshot = self._frozen.snapshot if self._frozen else self._snapshot
        if snapshot is None:
            return ()
        kept = arrange.filtered(snapshot.workers, self.filter)
        if self._clock() < self._rest_until:
            rows = arrange.kept_in_place(kept, self._order, self.sort, self.descending)
        else:
            rows = arrange.ordered(kept, self.sort, self.descending)
        self._order = tuple(identity(worker) for worker in rows)
        return rows

    def _cursor_in(self, rows: tuple[WorkerSnapshot, ...]) -> int:
        """Where the selected worker is now; when it is gone, the cursor stays at its row."""
        for row, worker in enumerate(rows):
            if identity(worker) == self._selected:
                return row
        return max(0, min(self._cursor, len(rows) - 1))
