"""What goes over the control socket: JSON-RPC 2.0, one object per line. The schema is these structs.

Server, client, command line and interface all use them. Fields may be added; their meaning never changes.
Requests:       {"jsonrpc": "2.0", "id": 1, "method": "scale", "params": {"workers": 4}}
Answers:        {"jsonrpc": "2.0", "id": 1, "result": {...}}  or  {"jsonrpc": "2.0", "id": 1, "error":
{"code": ..., "message": ...}} Notifications:  {"jsonrpc": "2.0", "method": "snapshot" | "event" | "log",
"params": {...}} Source: https://www.jsonrpc.org/specification
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wsgitop.snapshot import Death, Event, InFlight, Second, Snapshot, Struct, WorkerSnapshot

PROTOCOL = 1
"""Raised when an old client could no longer understand a new server. Adding fields does not raise it."""

FRAME_LIMIT_BYTES = 64 * 1024
RESULT_LIMIT_BYTES = 1024 * 1024

Role = Literal["viewer", "operator"]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
ACTION_FAILED = 1
"""The master tried and it did not work out; ``data.detail`` may hold a traceback."""
REFUSED = 4
"""The role of this client does not allow the method."""
TARGET_GONE = 5
"""The process that a destructive request named is not there any more (pid and start time must both match)."""
BUSY = 6
"""Something that excludes this action is under way."""


class Request(msgspec.Struct):
    """A call. ``params`` stays raw until the method is known."""

    method: str
    id: int | str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    jsonrpc: str = "2.0"


class ErrorData(msgspec.Struct, omit_defaults=True):
    remedy: str = ""
    detail: str = ""


class ErrorObject(msgspec.Struct, omit_defaults=True):
    code: int
    message: str
    data: ErrorData | None = None


class Response(msgspec.Struct, omit_defaults=True):
    """An answer or, with ``method`` set and no ``id``, a notification, as a client reads it."""

    id: int | str | None = None
    # Raw in a union with None would decode nothing but null; absent is empty.
    result: msgspec.Raw = msgspec.Raw()
    error: ErrorObject | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw()


# -- arguments
# --------------------------------------------------------------------------------------------------------


class NoArguments(Struct, frozen=True):
    """For methods that take none."""


class OrderArguments(Struct, frozen=True, kw_only=True):
    """What every order takes. ``key`` (at most 128 characters) makes it safe to give the order again after a
    connection was lost: for ten minutes the same user's same key is the same order, carried out once, and who
    repeats it gets the first one's outcome. '' for none.
    """

    key: str = ""


class ScaleArguments(OrderArguments, frozen=True):
    """Exactly one of the two: ``workers`` is the number wanted, ``change`` what to add to it (negative: take
    away).
    """

    workers: int | None = None
    change: int | None = None


class SignalArguments(OrderArguments, frozen=True):
    """``signal`` as a name without SIG ("HUP"). Without ``pid`` it is for the master; with it for that
    worker, and ``started_at`` (as in its snapshot) then proves that the same process is meant."""

    signal: str
    pid: int | None = None
    started_at: float | None = None


class WorkerArguments(OrderArguments, frozen=True):
    """One worker, as in :class:`SignalArguments`."""

    pid: int
    started_at: float | None = None


class StackArguments(Struct, frozen=True):
    """The worker, as in :class:`SignalArguments`, and which of its threads; without ``thread`` all of them,
    the application's own too."""

    pid: int
    started_at: float | None = None
    thread: int | None = None


class HistogramArguments(Struct, frozen=True):
    """The worker, as in :class:`SignalArguments`."""

    pid: int
    started_at: float | None = None


class CancelArguments(OrderArguments, frozen=True):
    """The one request to cut: its worker, its thread, and the ``request`` of :class:`InFlight`, so that no
    later one on the same thread can be hit."""

    pid: int
    started_at: float | None
    thread: int
    request: int


class LogLevelArguments(OrderArguments, frozen=True):
    """``level``: debug, info, warning, error or critical; of the error log, in all processes."""

    level: str


class StopArguments(OrderArguments, frozen=True):
    """``quick``: do not wait for requests in flight."""

    quick: bool = False


class SubscribeArguments(Struct, frozen=True):
    """What to send. ``interval_s``: time between snapshots, 0.25 to 10. The logs are for operators; lines
    that a reader is too slow for are dropped and counted. ``past_lines``: so many of the last lines of each
    log first, at most 500 and as far as they are remembered. A reload may leave no access log to follow: a
    last line says so.
    """

    interval_s: float = 1.0
    snapshots: bool = True
    events: bool = True
    error_log: bool = False
    access_log: bool = False
    past_lines: int = 0


class EventsArguments(Struct, frozen=True):
    """Events with a sequence above ``after``, at most ``limit`` of the newest."""

    after: int = 0
    limit: int = 100


class DeathsArguments(Struct, frozen=True):
    """Deaths with a sequence above ``after``, at most ``limit`` of the newest; with ``pid`` only those of
    processes that had it.
    """

    after: int = 0
    limit: int = 20
    pid: int | None = None


class HistoryArguments(Struct, frozen=True):
    """The last ``seconds`` seconds, at most 900."""

    seconds: int = 60


class RequestsArguments(Struct, frozen=True):
    """At most ``limit`` requests in flight and as many that have finished."""

    limit: int = 100


class LogArguments(Struct, frozen=True):
    """Which log, and how many of its last lines, at most 500 and as far as they are remembered."""

    log: Literal["error", "access"] = "error"
    lines: int = 100


class SettingsArguments(Struct, frozen=True):
    """``changed``: only those that are not at their default."""

    changed: bool = False


# -- results
# ----------------------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True):
    """Who answers. ``methods`` names what this server offers to this client, ``capabilities`` what else it
    can: "keys" (orders may be repeated, see :class:`OrderArguments`), "logs" (subscriptions to the logs).
    """

    protocol: int
    version: str
    pid: int
    role: Role
    app: str
    methods: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class WorkersResult(Struct, frozen=True):
    workers: tuple[WorkerSnapshot, ...]


class RequestInFlight(Struct, frozen=True):
    """A request that is being served, and where."""

    slot: int
    pid: int
    started_at: float
    generation: int
    request: InFlight


class SlowRequest(Struct, frozen=True):
    """A request that has finished and took long. ``at`` is when it ended; ``status`` 0: nothing was answered.
    ``cut``: it was ended, by a time limit or by an operator.
    """

    at: float
    slot: int
    pid: int
    generation: int
    method: str
    path: str
    client: str
    status: int
    elapsed_s: float
    cut: bool = False


class RequestsResult(Struct, frozen=True):
    """``in_flight``, the oldest first, and the ``slowest`` of the last quarter of an hour, the slowest first.
    ``total`` is how many are in flight.
    """

    in_flight: tuple[RequestInFlight, ...]
    slowest: tuple[SlowRequest, ...] = ()
    total: int = 0


class Frame(Struct, frozen=True):
    """One call of a stack. ``application``: neither the standard library's, nor an installed package's, nor
    the server's. ``code`` is the line's text, '' if the file cannot be read.
    """

    file: str
    line: int
    function: str
    code: str = ""
    application: bool = False


class ThreadStack(Struct, frozen=True):
    """The stack of one thread, the outermost call first. ``thread`` as in :class:`InFlight`; None: it is none
    of those that serve requests. ``request`` is what it serves; None: nothing.
    """

    name: str
    frames: tuple[Frame, ...]
    thread: int | None = None
    request: InFlight | None = None


class StackResult(Struct, frozen=True):
    """Stacks of a worker. ``taken_by``: "watchdog", or "faulthandler" when the interpreter did not answer:
    then ``text`` is all there is, and ``threads`` is empty. ``dropped`` counts frames that were left out for
    size.
    """

    slot: int
    pid: int
    taken_by: Literal["watchdog", "faulthandler"]
    threads: tuple[ThreadStack, ...] = ()
    text: str = ""
    dropped: int = 0


class HistogramResult(Struct, frozen=True):
    """How long the requests of one worker took that finished in the last ``seconds`` seconds. ``buckets`` are
    pairs: a bound in milliseconds, and how many took less than that and at least as long as the next lower
    bound of the scale, which is at most an eighth below; buckets without a request are left out, the
    shortest come first.
    """

    slot: int
    pid: int
    seconds: int = 10
    buckets: tuple[tuple[float, int], ...] = ()


class SettingShown(Struct, frozen=True):
    """One setting. Values are as people write them; secrets in them are hidden. ``source`` is where the value
    comes from, '' for its default. ``flags`` are those of the command line.
    """

    name: str
    value: str
    default: str
    source: str = ""
    section: str = ""
    help: str = ""
    flags: tuple[str, ...] = ()


class LogResult(Struct, frozen=True):
    """The oldest first, whatever could steer a terminal escaped."""

    lines: tuple[str, ...]


class SettingsResult(Struct, frozen=True):
    settings: tuple[SettingShown, ...]


class MetricsResult(Struct, frozen=True):
    """OpenMetrics text, as at --metrics."""

    text: str


class LogLine(Struct, frozen=True):
    """A line of a log for a subscriber; ``dropped`` counts the lines it missed before this one."""

    log: Literal["error", "access"]
    text: str
    dropped: int = 0


class Outcome(Struct, frozen=True):
    """An action is done. ``text`` is one line for people; the figures are as they stood at the end."""

    text: str
    generation: int
    workers: int
    elapsed_s: float = 0.0


class Cancelled(Outcome, frozen=True):
    """What came of cutting a request. ``end``: "finished": it was over by itself; "raised": the connection
    was cut and the application ended by the exception that its next write met; "disconnected": the connection
    was cut, and the thread still runs the request. ``answered``: the client got an error answer, not merely
    an end.
    """

    end: Literal["finished", "raised", "disconnected"] = "finished"
    answered: bool = False


class EventsResult(Struct, frozen=True):
    events: tuple[Event, ...]


class DeathsResult(Struct, frozen=True):
    deaths: tuple[Death, ...]


class HistoryResult(Struct, frozen=True):
    seconds: tuple[Second, ...]


class Subscribed(Struct, frozen=True):
    """The rate that was granted, and a first snapshot, so that a screen need not wait for the next tick."""

    interval_s: float
    snapshot: Snapshot
