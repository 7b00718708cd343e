"""What goes over the control socket: JSON-RPC 2.0, one object per line. The schema is these structs.

Server, client, command line and interface all use them. Fields may be added; their meaning never changes.
Requests:       {"jsonrpc": "2.0", "id": 1, "method": "scale", "params": {"workers": 4}}
Answers:        {"jsonrpc": "2.0", "id": 1, "result": {...}}  or  {"jsonrpc": "2.0", "id": 1, "error":
{"code": ..., "message": ...}} Notifications:  {"jsonrpc": "2.0", "method": "snapshot" | "event", "params":
{...}} Source: https://www.jsonrpc.org/specification
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wsgitop.snapshot import Death, Event, Second, Snapshot, Struct, WorkerSnapshot

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


class ScaleArguments(Struct, frozen=True):
    """Exactly one of the two: ``workers`` is the number wanted, ``change`` what to add to it (negative: take
    away).
    """

    workers: int | None = None
    change: int | None = None


class SignalArguments(Struct, frozen=True):
    """``signal`` as a name without SIG ("HUP"). Without ``pid`` it is for the master; with it for that
    worker, and ``started_at`` (as in its snapshot) then proves that the same process is meant."""

    signal: str
    pid: int | None = None
    started_at: float | None = None


class WorkerArguments(Struct, frozen=True):
    """One worker, as in :class:`SignalArguments`."""

    pid: int
    started_at: float | None = None


class StopArguments(Struct, frozen=True):
    """``quick``: do not wait for requests in flight."""

    quick: bool = False


class SubscribeArguments(Struct, frozen=True):
    """``interval_s``: time between snapshots, 0.25 to 10."""

    interval_s: float = 1.0


class EventsArguments(Struct, frozen=True):
    """Events with a sequence above ``after``, at most ``limit`` of the newest."""

    after: int = 0
    limit: int = 100


class DeathsArguments(Struct, frozen=True):
    """Deaths with a sequence above ``after``, at most ``limit`` of the newest."""

    after: int = 0
    limit: int = 20


class HistoryArguments(Struct, frozen=True):
    """The last ``seconds`` seconds, at most 900."""

    seconds: int = 60


# -- results
# ----------------------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True):
    """Who answers. ``methods`` names what this server offers to this client."""

    protocol: int
    version: str
    pid: int
    role: Role
    app: str
    methods: tuple[str, ...] = ()


class WorkersResult(Struct, frozen=True):
    workers: tuple[WorkerSnapshot, ...]


class Outcome(Struct, frozen=True):
    """An action is done. ``text`` is one line for people; the figures are as they stood at the end."""

    text: str
    generation: int
    workers: int
    elapsed_s: float = 0.0


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
