"""What the worker page knows: one process, pinned by its identity, and what is told of it. No Textual.

The page is about that process and no other: when it ends, its last picture stays, and the user may go on to
who took its slot. Everything that comes in is kept here as it came; the rows and texts to draw are made from
it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from wsgitop.control.messages import Frame, HistogramResult, StackResult, ThreadStack
from wsgitop.snapshot import Death, Event, InFlight, Severity, Snapshot, WorkerSnapshot
from wsgitop.tui import figures
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.model import Trail, View

ALL = -1
"""Instead of the number of a thread: all of them, those that the application started too."""
SLOW_S = 5.0
"""A request that runs for longer is shown as slow."""
SAME_START_S = 5.0
"""How far two reckonings of when a process began may lie apart."""
DEATHS_KEPT = 500
SILENT_S = 1.5
"""A watchdog that has been silent for longer does not answer."""
EXPECTED = frozenset({"retired", "recycled", "scaled down", "replaced", "stopped"})
"""Causes of death that are somebody's decision."""
TOLD_BY_DEATHS = frozenset({"retired", "died"})
"""Events that only repeat what the death ledger tells better."""
_LIBRARY = re.compile(r"^.*/(?:(?:site|dist)-packages|lib(?:64)?/python3[^/]*)/")

Piece = tuple[str, str, bool]
"""Text, a colour of the palette, bold."""
Pieces = tuple[Piece, ...]


class ThreadRow(NamedTuple):
    """A thread of the worker and the request that it has in hand. ``chosen``: its stack is shown."""

    thread: int
    request: InFlight | None
    chosen: bool

    @property
    def state(self) -> str:
        """One word."""
        if self.request is None:
            return "idle"
        return "slow" if self.request.elapsed_s >= SLOW_S else "busy"


class Life(NamedTuple):
    """One line about the slot: a process that is there (``current``), one that has ended (``death``), or an
    event (``what`` is its kind).
    """

    key: tuple[str, float]
    at: float
    what: str
    severity: Severity
    text: str
    pid: int | None = None
    generation: int | None = None
    lived_s: float | None = None
    requests: int | None = None
    peak_bytes: int | None = None
    death: Death | None = None
    current: bool = False


@dataclass(frozen=True)
class Picture:
    """The worker as it was last seen, at ``at``. ``ended``: it is not there any more; ``death`` is how,
    once that is known, and ``successor`` who has its slot now.
    """

    worker: WorkerSnapshot
    at: float
    trail: tuple[Trail, ...] = ()
    ended: bool = False
    death: Death | None = None
    successor: WorkerSnapshot | None = None
    histogram: HistogramResult | None = None
    histogram_fault: str = ""


class Watched:
    """One worker. ``target`` is who is meant, None if nobody is."""

    def __init__(self, target: Identity | None) -> None:
        self.target = target
        self._deaths: dict[int, Death] = {}
        self._master_pid: int | None = None
        self._events: tuple[Event, ...] = ()
        self._snapshot: Snapshot | None = None
        self._seen: Identity | None = None
        self._slot_mates: tuple[WorkerSnapshot, ...] = ()
        self._picture: Picture | None = None
        self._forget_process(None)

    def _forget_process(self, thread: int | None) -> None:
        self.worker: WorkerSnapshot | None = None
        self.ended = False
        self.stack: StackResult | None = None
        self.stack_fault = ""
        self.histogram: HistogramResult | None = None
        self.histogram_fault = ""
        self._at = 0.0
        self._trail: tuple[Trail, ...] = ()
        self._thread = thread
        self._picture = None

    def follow(self, target: Identity, thread: int | None = None) -> None:
        """Go over to another process, and to one of its threads."""
        if target != self.target:
            self.target = target
            self._forget_process(thread)
        elif thread is not None:
            self.choose(thread)

    # -- what comes in ---------------------------------------------------------------------------------------

    def take_view(self, view: View, trail: tuple[Trail, ...]) -> None:
        """The newest picture of the server, and the samples of this worker that the model has."""
        self._events = view.events
        if view.snapshot is self._snapshot and self.target == self._seen:
            return
        self._snapshot, self._seen = view.snapshot, self.target
        self._picture = None
        snapshot = view.snapshot
        if snapshot is None or self.target is None:
            return
        if snapshot.master.pid != self._master_pid:
            # Another master may keep another ledger: it is asked for from its beginning.
            self._master_pid = snapshot.master.pid
            self._deaths.clear()
        found = next((worker for worker in snapshot.workers if identity(worker) == self.target), None)
        self.ended = found is None
        if found is not None:
            self.worker, self._at, self._trail = found, snapshot.at, trail
            if self._thread is None and found.in_flight:
                self._thread = oldest(found).thread
        if self.worker is not None:
            slot = self.worker.slot
            self._slot_mates = tuple(worker for worker in snapshot.workers if worker.slot == slot)

    @property
    def last_death(self) -> int:
        """The newest death that is known, so that only newer ones are asked for."""
        return max(self._deaths, default=0)

    def take_deaths(self, deaths: Sequence[Death]) -> None:
        """Deaths of the whole server; known ones may be among them."""
        self._picture = None
        self._deaths.update((death.sequence, death) for death in deaths)
        for sequence in sorted(self._deaths)[:-DEATHS_KEPT]:
            del self._deaths[sequence]

    def take_stack(self, thread: int, result: StackResult | None, fault: str = "") -> None:
        """The stack of a thread, or why there is none. What was asked for a thread that is not looked at any
        more is dropped.
        """
        if thread == self.thread:
            self.stack, self.stack_fault = (result or self.stack), fault

    def take_histogram(self, result: HistogramResult | None, fault: str = "") -> None:
        """How long its requests took, or why that is not known."""
        self._picture = None
        self.histogram, self.histogram_fault = (result or self.histogram), fault

    # -- what the user does ----------------------------------------------------------------------------------

    @property
    def thread(self) -> int:
        """The thread looked at: at first the one with the oldest request, then that one for as long as the
        user does not choose another. While nothing has been in flight yet it is the first.
        """
        return self._thread if self._thread is not None else 0

    def choose(self, thread: int) -> None:
        """Look at another thread, :data:`ALL` of them."""
        if thread != self._thread:
            if thread != self.thread:
                self.stack, self.stack_fault = None, ""
            self._thread = thread

    # -- what is shown ---------------------------------------------------------------------------------------

    @property
    def successor(self) -> WorkerSnapshot | None:
        """Who has the slot, if it is another process: the youngest one."""
        others = [worker for worker in self._slot_mates if identity(worker) != self.target]
        return max(others, key=lambda worker: worker.started_at, default=None)

    def picture(self) -> Picture | None:
        """What is known of the worker; None if it was never seen. The same one while nothing has come."""
        if self.worker is None or self._picture is not None:
            return self._picture
        death = None
        if self.ended:
            own = (death for death in self._deaths.values() if self._is_of_this(death))
            death = max(own, key=lambda death: death.sequence, default=None)
        self._picture = Picture(
            self.worker, self._at, self._trail, self.ended, death, self.successor, self.histogram,
            self.histogram_fault,
        )  # fmt: skip
        return self._picture

    def _is_of_this(self, death: Death) -> bool:
        """Whether it is the end of this process: the same pid, and a life that began when this one's did."""
        assert self.target is not None
        pid, started_at = self.target
        return death.pid == pid and abs(death.at - death.uptime_s - started_at) < SAME_START_S

    def thread_rows(self) -> tuple[ThreadRow, ...]:
        """The threads that serve requests, in order."""
        if self.worker is None:
            return ()
        serving = {request.thread: request for request in self.worker.in_flight}
        # A row of the scoreboard that was overwritten may name any thread; it is shown all the same.
        threads = sorted({*range(self.worker.threads), *serving})
        return tuple(ThreadRow(thread, serving.get(thread), thread == self.thread) for thread in threads)

    @property
    def is_deaf(self) -> bool:
        """Whether faulthandler had to show its stack, and its watchdog is still silent. To ask again would
        put another dump into the log."""
        if self.stack is None or self.stack.taken_by != "faulthandler" or self.worker is None:
            return False
        beat = self.worker.heartbeat_age_s
        return beat is not None and beat > SILENT_S

    def request_of(self, thread: int) -> InFlight | None:
        """What a thread has in hand."""
        return next((row.request for row in self.thread_rows() if row.thread == thread), None)

    def lives(self) -> tuple[Life, ...]:
        """All that is known of the slot: who is there, then ends and events, the newest first."""
        if self.worker is None:
            return ()
        slot = self.worker.slot
        present = [
            _present(worker, self.target)
            for worker in sorted(self._slot_mates, key=lambda worker: -worker.started_at)
        ]
        past = [_ended(death) for death in self._deaths.values() if death.slot == slot]
        named = re.compile(rf"\bworker {slot}\b")
        past += [
            Life(
                ("event", event.sequence), event.at, event.kind, event.severity,
                event.text + (f" by {event.actor}" if event.actor else ""),
            )
            for event in self._events
            if event.kind not in TOLD_BY_DEATHS and named.search(event.text)
        ]  # fmt: skip
        past.sort(key=lambda life: -life.at)
        return (*present, *past)


def oldest(worker: WorkerSnapshot) -> InFlight:
    """The request that has run longest; there must be one."""
    return max(worker.in_flight, key=lambda request: request.elapsed_s)


def _present(worker: WorkerSnapshot, target: Identity | None) -> Life:
    this = identity(worker) == target
    return Life(
        ("pid", worker.started_at), worker.started_at, worker.state, "info" if this else "good",
        "this worker" if this else "took over its slot; n goes there", worker.pid, worker.generation,
        worker.age_s, worker.requests, current=True,
    )  # fmt: skip


def _ended(death: Death) -> Life:
    severity: Severity = "error"
    if death.cause in EXPECTED:
        severity = "info"
    elif death.cause in ("quarantined", "killed"):
        severity = "warning"
    text = death.text
    if death.serving:
        first = death.serving[0]
        text = f"{first.method} {first.path} {figures.elapsed(first.elapsed_s)}: {text}"
    return Life(
        ("death", death.sequence), death.at, death.cause, severity, text, death.pid, death.generation,
        death.uptime_s, death.requests, death.peak_rss_bytes, death,
    )  # fmt: skip


# -- stacks --------------------------------------------------------------------------------------------------


def stack_lines(result: StackResult, *, libraries: bool) -> tuple[Pieces, ...]:
    """A stack to be read from the top, the outermost call first. Calls of the application are marked; without
    ``libraries`` the others are counted instead of shown, but for the innermost one.
    """
    if result.taken_by == "faulthandler":
        lines: list[Pieces] = [
            (("taken by faulthandler, the innermost call first: no Python code could run there", "warning",
              True),),
            (("It is in the log too. Enter takes another; the next comes when the worker answers.",
              "muted", False),),
            (("", "text", False),),
        ]  # fmt: skip
        return (*lines, *(((text, "text", False),) for text in result.text.rstrip().split("\n")))
    lines = []
    for index, thread in enumerate(result.threads):
        if len(result.threads) > 1:
            if index:
                lines.append((("", "text", False),))
            lines.append(_thread_heading(thread))
        lines += _frames(thread.frames, libraries=libraries)
    if result.dropped:
        lines.append(((f"  {figures.plural(result.dropped, 'call')} left out: too many", "warning", False),))
    if not lines:
        lines.append((("  this thread runs no Python code", "muted", False),))
    return tuple(lines)


def _thread_heading(thread: ThreadStack) -> Pieces:
    who = "of the application" if thread.thread is None else f"thread {thread.thread}"
    doing = ""
    if thread.request is not None:
        request = thread.request
        doing = f"  {request.method} {request.path} {figures.elapsed(request.elapsed_s)}"
    return ((thread.name, "accent", True), (f"  {who}", "muted", False), (doing, "warning", False))


def _frames(frames: Sequence[Frame], *, libraries: bool) -> list[Pieces]:
    lines: list[Pieces] = []
    hidden = 0
    for index, frame in enumerate(frames):
        if not (frame.application or libraries or index == len(frames) - 1):
            hidden += 1
            continue
        if hidden:
            lines.append(_hidden(hidden))
            hidden = 0
        lines += _frame(frame)
    return lines


def _hidden(count: int) -> Pieces:
    return ((f"  … {figures.plural(count, 'call')} in libraries", "faint", False),)


def _frame(frame: Frame) -> list[Pieces]:
    where = f"{frame.file if frame.application else short_path(frame.file)}:{frame.line}"
    if frame.application:
        lines: list[Pieces] = [
            (("▶ ", "accent", True), (frame.function, "accent", True), (f"  {where}", "text", False))
        ]
        code = "text"
    else:
        lines = [((f"  {frame.function}", "muted", False), (f"  {where}", "muted", False))]
        code = "muted"
    if frame.code:
        lines.append(((f"      {frame.code}", code, frame.application),))
    return lines


def short_path(path: str) -> str:
    """The path of a library's file from the library on."""
    return _LIBRARY.sub("", path)


def stack_text(result: StackResult) -> str:
    """A stack as Python writes tracebacks, whole paths and all calls, to be pasted somewhere."""
    if result.taken_by == "faulthandler":
        return result.text
    parts = []
    for thread in result.threads:
        name = thread.name if thread.thread is None else f"{thread.name}, thread {thread.thread}"
        request = thread.request
        serving = (
            f", {request.method} {request.path} for {figures.elapsed(request.elapsed_s)}" if request else ""
        )
        lines = [f"worker {result.slot} (pid {result.pid}), {name}{serving} (most recent call last):"]
        for frame in thread.frames:
            lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
            if frame.code:
                lines.append(f"    {frame.code}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


# -- latencies -----------------------------------------------------------------------------------------------


class Bin(NamedTuple):
    """Requests that took from ``low_ms`` up to ``high_ms``."""

    low_ms: float
    high_ms: float
    number: int


_SERIES = ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
"""Where a power of ten is cut: from fine to coarse."""


def bins(buckets: Sequence[tuple[float, int]], rows: int) -> tuple[Bin, ...]:
    """At most ``rows`` bins with round bounds over all that was counted, the shortest first; () for nothing.
    The bounds of ``buckets`` are not round: a bucket goes where its middle is.
    """
    known = [(bound_ms * 0.94, count) for bound_ms, count in buckets if count > 0 and bound_ms > 0]
    if not known or rows < 1:
        return ()
    shortest, longest = min(known)[0], max(known)[0]
    for steps in _SERIES:
        edges = _edges(steps, shortest, longest)
        if len(edges) <= rows + 1:
            break
    else:
        # Too wide even for powers of ten: the last bin takes the rest.
        edges = [*edges[:rows], edges[-1]]
    return tuple(
        Bin(low, high, sum(count for middle, count in known if low <= middle < high))
        for low, high in pairwise(edges)
    )


def _edges(steps: Sequence[float], shortest: float, longest: float) -> list[float]:
    """Neighbouring round numbers, the first not above ``shortest``, the last above ``longest``."""
    power = math.floor(math.log10(shortest))
    edges = [steps[0] * 10.0**power]
    position = 0
    while edges[-1] <= longest:
        position += 1
        edges.append(steps[position % len(steps)] * 10.0 ** (power + position // len(steps)))
    while len(edges) > 2 and edges[1] <= shortest:
        edges.pop(0)
    return edges


def bin_of(value_ms: float | None, found: Sequence[Bin]) -> int | None:
    """In which of the bins a latency lies."""
    if value_ms is None:
        return None
    return next((index for index, one in enumerate(found) if one.low_ms <= value_ms < one.high_ms), None)
