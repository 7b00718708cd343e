"""Bytes to calls, and answers to bytes. No sockets and no clock: tested with plain data.

A frame is one JSON object and a newline. JSON text never holds a raw newline, so that splitting needs no
parser. Source: https://www.jsonrpc.org/specification, without its batches: a frame that holds a list is
refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from wsgitop.control.messages import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    ErrorObject,
    LogLine,
    Request,
    Response,
)
from wsgitop.snapshot import Event, Snapshot

_ENCODER = msgspec.json.Encoder()
_REQUESTS = msgspec.json.Decoder(Request)
_RESPONSES = msgspec.json.Decoder(Response)
MOST_BRACKETS = 64
MOST_COLONS = 1024
"""What a call may have of each, in its texts too: depth and number of keys, bounded before anything is
parsed."""
_DROPPED_NONE = b'"dropped":0}}'


class FrameTooLong(Exception):
    """A frame exceeds the limit.

    What follows cannot be told apart from it: the connection has to be closed.
    """


class CallFault(Exception):
    """A frame that is no usable call. ``call_id`` is its id as far as it could be read."""

    def __init__(self, code: int, message: str, call_id: int | str | None = None) -> None:
        self.error = ErrorObject(code, message)
        self.call_id = call_id
        super().__init__(message)


class Splitter:
    """Collects bytes and hands out complete frames without their newline.

    Holds little more than one frame.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The oldest complete frame, None if there is none yet. Raises FrameTooLong."""
        end = self._buffer.find(b"\n", self._searched, self._limit + 1)
        if end < 0:
            if len(self._buffer) > self._limit:
                raise FrameTooLong
            self._searched = len(self._buffer)
            return None
        frame = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return frame

    @property
    def has_bytes(self) -> bool:
        """Whether something is held. After ``next_frame`` has said None, that is the beginning of a frame."""
        return bool(self._buffer)


def decode_request(frame: bytes) -> Request:
    """A call. Raises CallFault."""
    if frame.count(b"[") + frame.count(b"{") > MOST_BRACKETS or frame.count(b":") > MOST_COLONS:
        raise CallFault(PARSE_ERROR, "nested too deeply, or too many keys")
    try:
        request = _REQUESTS.decode(frame)
    except msgspec.ValidationError as error:
        raise CallFault(INVALID_REQUEST, f"not a call: {error}", _salvage_id(frame)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CallFault(PARSE_ERROR, f"not JSON: {error}") from None
    except RecursionError:
        raise CallFault(PARSE_ERROR, "nested too deeply") from None
    if request.jsonrpc != "2.0":
        raise CallFault(INVALID_REQUEST, 'not a call: "jsonrpc" is not "2.0"', request.id)
    if request.id is None:
        # JSON-RPC lets a caller do without an answer. An order that nobody hears the outcome of is not wanted
        # here.
        raise CallFault(INVALID_REQUEST, "a call needs an id")
    return request


def _salvage_id(frame: bytes) -> int | str | None:
    """The id of a call with some other fault, so that the client can tell which one failed."""

    class OnlyId(msgspec.Struct):
        id: int | str | None = None

    try:
        return msgspec.json.decode(frame, type=OnlyId).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_arguments(request: Request, kind: type[Any]) -> Any:
    """The arguments of a call. Raises CallFault."""
    raw = bytes(request.params)
    try:
        return msgspec.json.decode(b"{}" if raw == b"null" else raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CallFault(INVALID_PARAMS, f"{request.method}: {error}", request.id) from None
    except RecursionError:
        raise CallFault(INVALID_PARAMS, f"{request.method}: nested too deeply", request.id) from None


def decode_response(frame: bytes) -> Response:
    """An answer or a notification, for clients.

    Raises msgspec.MsgspecError, UnicodeDecodeError, RecursionError.
    """
    return _RESPONSES.decode(frame)


def encode_request(call_id: int, method: str, arguments: msgspec.Struct) -> bytes:
    """A call as a frame."""
    return _line({"jsonrpc": "2.0", "id": call_id, "method": method, "params": arguments})


def encode_result(call_id: int | str | None, result: object) -> bytes:
    """An answer as a frame."""
    return _line({"jsonrpc": "2.0", "id": call_id, "result": result})


def encode_error(
    call_id: int | str | None, code: int, message: str, *, remedy: str = "", detail: str = ""
) -> bytes:
    """A refusal as a frame."""
    data = ErrorData(remedy, detail) if remedy or detail else None
    return _line({"jsonrpc": "2.0", "id": call_id, "error": ErrorObject(code, message, data)})


def encode_event(event: Event) -> bytes:
    """An event for subscribers as a frame."""
    return _line({"jsonrpc": "2.0", "method": "event", "params": event})


def encode_log_line(line: LogLine) -> bytes:
    """A line of a log for subscribers as a frame."""
    return _line({"jsonrpc": "2.0", "method": "log", "params": line})


class SnapshotFrame(NamedTuple):
    """A snapshot for subscribers, encoded once for all of them; only the count of what each missed
    differs."""

    body: bytes

    def for_subscriber(self, dropped: int) -> bytes:
        """The frame for a subscriber that has missed ``dropped`` snapshots."""
        return b"%s%d}}\n" % (self.body, dropped)


def encode_snapshot(snapshot: Snapshot) -> SnapshotFrame:
    """Encode ``snapshot`` for any number of subscribers."""
    if snapshot.dropped:
        snapshot = msgspec.structs.replace(snapshot, dropped=0)
    text = _ENCODER.encode({"jsonrpc": "2.0", "method": "snapshot", "params": snapshot})
    # ``dropped`` is the last field of Snapshot; a test holds that.
    return SnapshotFrame(text[: -len(_DROPPED_NONE)] + b'"dropped":')


def size(value: object) -> int:
    """Bytes of ``value`` as JSON."""
    return len(_ENCODER.encode(value))


def _line(value: object) -> bytes:
    return _ENCODER.encode(value) + b"\n"
