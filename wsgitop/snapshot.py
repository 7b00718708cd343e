"""The immutable picture of a server: what the master samples, the control socket carries and the screens
draw.

Everything is plain data. Times called ``*_at`` are seconds since the epoch, ``*_s`` and ``*_ms`` are
durations, ``*_bytes`` are bytes. ``None`` means "not known (yet)", which screens draw as ``–``; it is never a
zero in disguise. Text that comes from outside (paths, methods, peers) has passed :func:`printable` before it
gets in here.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

import msgspec

MasterState = Literal["booting", "serving", "reloading", "degraded", "stopping"]
WorkerState = Literal["booting", "idle", "busy", "retiring", "stuck", "quarantined"]
GenerationState = Literal["loading", "ready", "failed", "retiring", "ended"]
ReloadStage = Literal["loading", "replacing", "going back"]
Severity = Literal["info", "good", "warning", "error"]
DeathCause = Literal[
    "retired",  # it finished and went, because somebody asked for it or because it gave itself up
    "recycled",  # it had served long enough: --max-requests and the like
    "scaled down",
    "replaced",  # by a newer generation
    "stopped",  # with the server
    "quarantined",  # it ended while it was kept to be looked at
    "timeout",  # a request exceeded --timeout, or its interpreter did not answer any more
    "killed",  # by a signal that was no decision of the master's; ``actor`` is who sent it, '' if unknown
    "out of memory",  # by the kernel
    "crashed",  # by a signal of its own making, such as SIGSEGV
    "exited",  # by itself, unasked
    "boot failed",  # it said that it cannot load the application
    "aborted",  # by the master, for another time limit
]
"""Why a process ended."""

HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that can steer a terminal or reorder a line: control, format, surrogate, separators."""


def printable(text: str, limit: int = 0) -> str:
    """Escape what could steer a terminal, and cut to ``limit`` characters (0: no limit), marked by an
    ellipsis.
    """
    if not text.isprintable() or not text.isascii():
        text = "".join(_escape(c) if unicodedata.category(c) in HIDDEN_CATEGORIES else c for c in text)
    if limit and len(text) > limit:
        return text[: limit - 1] + "…"
    return text


def printable_lines(text: str) -> str:
    """As :func:`printable` for a text of several lines, such as a traceback: line ends stay, tabs become
    spaces.
    """
    return "\n".join(printable(line.rstrip("\r").expandtabs()) for line in text.split("\n"))


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all that goes over the wire: immutable, unknown fields ignored, so that versions can differ."""


class InFlight(Struct, frozen=True):
    """One request that a thread of a worker is working on. ``request`` tells it from the thread's other ones
    (0: not known).
    """

    thread: int
    method: str
    path: str
    client: str
    elapsed_s: float
    request: int = 0


class WorkerSnapshot(Struct, frozen=True):
    """One worker process.

    ``(pid, started_at)`` identifies it: a pid alone may have been given to another process meanwhile.
    ``requests`` and ``errors`` count since this worker started; ``errors`` are responses 5xx and requests
    cut. Percentiles are over the requests finished in the last ten seconds. ``heartbeat_age_s`` is known only
    while requests run: an idle worker has no need to wake. ``rps_history`` holds one figure a second, oldest
    first.
    """

    slot: int
    pid: int
    generation: int
    state: WorkerState
    started_at: float
    age_s: float
    requests: int = 0
    errors: int = 0
    rps: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    threads: int = 1
    threads_busy: int = 0
    connections: int = 0
    heartbeat_age_s: float | None = None
    in_flight: tuple[InFlight, ...] = ()
    rps_history: tuple[float, ...] = ()


class GenerationSnapshot(Struct, frozen=True):
    """One generation of the code: a zygote and the workers forked from it. ``error`` says why it failed.
    ``stale`` says which of its files are not on disk any more as they were loaded, '' for none; it is looked
    for while somebody watches.
    """

    number: int
    state: GenerationState
    zygote_pid: int | None = None
    zygote_rss_bytes: int | None = None
    workers: int = 0
    error: str = ""
    stale: str = ""


class ListenerSnapshot(Struct, frozen=True):
    """One listener. ``queue`` counts connections the kernel holds that no worker has accepted; None: not
    told.
    """

    address: str
    backlog: int
    queue: int | None = None


class ReloadSnapshot(Struct, frozen=True):
    """A reload under way: ``ready`` of ``workers`` of the new generation serve, and ``old`` workers of other
    generations are still there. ``going back``: it has failed, and ``to_generation`` is the one before.
    """

    from_generation: int
    to_generation: int
    stage: ReloadStage
    ready: int
    workers: int
    old: int
    elapsed_s: float


class MasterSnapshot(Struct, frozen=True):
    """The master process and the server as a whole. ``workers_wanted`` is what TTIN and TTOU change.
    ``control_shared`` is the control socket for other users, '' for none.

    ``memory_limit_bytes`` and ``memory_used_bytes`` are the control group's, file cache included;
    ``memory_room_bytes`` may still be used, cache that the kernel gives up without ado being no hindrance;
    ``cpu_limit`` the cores' worth of time that it grants; None: no limit, or none that can be read.
    """

    pid: int
    generation: int
    state: MasterState
    started_at: float
    uptime_s: float
    bind: tuple[str, ...]
    control: str
    app: str
    name: str = ""
    host: str = ""
    user: str = ""
    version: str = ""
    python: str = ""
    workers_wanted: int = 1
    threads: int = 1
    state_reason: str = ""
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    reloading_to: int | None = None
    log: str = ""
    reload: ReloadSnapshot | None = None
    memory_limit_bytes: int | None = None
    memory_used_bytes: int | None = None
    cpu_limit: float | None = None
    control_shared: str = ""
    memory_room_bytes: int | None = None


class Totals(Struct, frozen=True):
    """The server in one line. ``requests`` and ``errors`` count since the master started, over all workers
    that ever ran.

    ``rss_bytes`` adds workers, zygotes and master, so shared pages count several times; ``pss_bytes`` counts
    them once.
    """

    requests: int = 0
    errors: int = 0
    rps: float | None = None
    errors_per_s: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    threads: int = 0
    threads_busy: int = 0
    queue: int | None = None
    backlog: int | None = None
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None


class Event(Struct, frozen=True):
    """Something that happened. ``sequence`` grows by one from 1; ``actor`` is who caused it ('' for the
    master itself).
    """

    sequence: int
    at: float
    severity: Severity
    kind: str
    text: str
    actor: str = ""
    detail: str = ""


class Death(Struct, frozen=True):
    """The end of a worker or a zygote. ``sequence`` grows by one, over restarts of the server, too.

    ``text`` is one line with the cause, ``next_step`` what to do about it ('' if nothing needs to be done).
    Exactly one of ``status`` (its exit status) and ``signal`` (the name of what it died of) is set.
    ``memory`` is its resident memory over its life: pairs of seconds since its start and bytes, each the most
    of its time; ``peak_rss_bytes`` is the kernel's figure, its children's included. ``served_s`` counts from
    when it was ready; None: it never was. ``serving`` is what it had in hand when it ended or, for a timeout,
    what it was ended for; ``stack`` is where that was, or where it crashed; ``lines`` are the last it wrote
    to standard error. ``master`` is the pid of its master: the ledger outlives it. ``slot`` and ``worker``
    are None for a zygote.
    """

    sequence: int
    at: float
    process: Literal["worker", "zygote"]
    cause: DeathCause
    text: str
    generation: int
    pid: int
    slot: int | None = None
    worker: int | None = None
    status: int | None = None
    signal: str = ""
    actor: str = ""
    next_step: str = ""
    uptime_s: float = 0.0
    served_s: float | None = None
    requests: int = 0
    errors: int = 0
    peak_rss_bytes: int | None = None
    memory: tuple[tuple[float, int], ...] = ()
    serving: tuple[InFlight, ...] = ()
    stack: str = ""
    lines: tuple[str, ...] = ()
    master: int = 0


class Second(Struct, frozen=True):
    """One second of the server's past, as the graphs draw it."""

    at: float
    rps: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    threads: int = 0
    threads_busy: int = 0
    queue: int | None = None
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    errors_per_s: float = 0.0


class Snapshot(Struct, frozen=True):
    """Everything, at one moment. ``sequence`` grows with every sample; ``dropped`` counts snapshots a slow
    reader missed.
    """

    sequence: int
    at: float
    master: MasterSnapshot
    totals: Totals
    workers: tuple[WorkerSnapshot, ...] = ()
    generations: tuple[GenerationSnapshot, ...] = ()
    listeners: tuple[ListenerSnapshot, ...] = ()
    dropped: int = 0
