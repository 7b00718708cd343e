"""The connection to a server: frames over a byte stream, answers to who waits for them, news to a feed."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from wsgitop.control import messages as m
from wsgitop.control.codec import FrameTooLong, Splitter, decode_response, encode_request
from wsgitop.control.faults import as_fault
from wsgitop.control.messages import LogLine
from wsgitop.errors import CannotConnect, ProtocolError, Refused, WsgitopError
from wsgitop.snapshot import Event, Snapshot, printable

SNAPSHOT_LIMIT_BYTES = 16 * 1024 * 1024
"""Longest frame that holds snapshots: some 10,000 workers."""
LARGE_RESULTS = frozenset({"status", "workers", "subscribe"})
EVENTS_KEPT = 1000
"""Events that wait for a reader that is slower than they come; the oldest give way."""
LINES_KEPT = 5000
"""As above, of the logs."""
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading a frame, or a part of it, may raise."""

_SNAPSHOTS = msgspec.json.Decoder(Snapshot)
_EVENTS = msgspec.json.Decoder(Event)
_LINES = msgspec.json.Decoder(LogLine)


class Feed:
    """What a subscription has received and its reader has not taken yet: the newest snapshot, and events
    in order."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.lines: deque[LogLine] = deque(maxlen=LINES_KEPT)
        self.lines_lost = 0
        self.news = asyncio.Event()
        self.ended = False

    def add_line(self, line: LogLine) -> None:
        """Keep a line of a log; the oldest gives way, and is counted."""
        if len(self.lines) == LINES_KEPT:
            self.lines_lost += 1 + self.lines[0].dropped
        self.lines.append(line)

    def next_line(self) -> LogLine:
        """The oldest line that is kept, with the count of those that were lost before it."""
        line = self.lines.popleft()
        if self.lines_lost:
            line = msgspec.structs.replace(line, dropped=line.dropped + self.lines_lost)
            self.lines_lost = 0
        return line

    def end(self) -> None:
        self.ended = True
        self.news.set()


class Link(asyncio.Protocol):
    """The connection: answers go to who waits for them, news to the feed."""

    def __init__(self) -> None:
        self.feed: Feed | None = None
        self.fault: WsgitopError | None = None
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._splitter = Splitter(SNAPSHOT_LIMIT_BYTES)
        self._waiting: dict[int, tuple[str, asyncio.Future[bytes]]] = {}
        self._last_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._splitter.feed(data)
        try:
            while self.fault is None and (frame := self._splitter.next_frame()) is not None:
                self._received(frame)
        except FrameTooLong:
            self.fail(ProtocolError("the server sent more than a snapshot can have"))
        except MALFORMED as error:
            self.fail(
                ProtocolError(f"the server does not speak the control protocol: {printable(str(error), 200)}")
            )

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(
            CannotConnect("the connection to the server was lost", "It may have ended; look at its log.")
        )
        if not self.closed.done():
            self.closed.set_result(None)

    def fail(self, fault: WsgitopError) -> None:
        """The link is of no use any more: everybody who waits is told why."""
        if self.fault is None:
            self.fault = fault
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(again(self.fault))
        if self.feed is not None:
            self.feed.end()
        if self.transport is not None:
            self.transport.abort()

    def call(self, method: str, arguments: msgspec.Struct) -> asyncio.Future[bytes]:
        """Send a call; its raw result will come."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.fault is not None or self.transport is None:
            future.set_exception(again(self.fault or CannotConnect("not connected")))
            return future
        self._last_id += 1
        call_id = self._last_id
        self._waiting[call_id] = (method, future)
        future.add_done_callback(lambda _future: self._waiting.pop(call_id, None))
        self.transport.write(encode_request(call_id, method, arguments))
        return future

    def _received(self, frame: bytes) -> None:
        response = decode_response(frame)
        if response.method:
            self._news(response)
        elif isinstance(response.id, int) and response.id in self._waiting:
            method, future = self._waiting[response.id]
            if len(frame) > m.RESULT_LIMIT_BYTES and method not in LARGE_RESULTS:
                self.fail(ProtocolError(f"the server's answer to {method} is longer than it may be"))
            elif future.done():
                return
            elif response.error is not None:
                future.set_exception(as_fault(response.error))
            else:
                future.set_result(bytes(response.result))
        elif response.id is None and response.error is not None:
            # Not an answer to a call: the server turns this client away, or ends the connection.
            fault = as_fault(response.error)
            self.fail(
                fault
                if isinstance(fault, Refused)
                else CannotConnect(f"the server ended the connection: {fault.cause}")
            )

    def _news(self, response: m.Response) -> None:
        feed = self.feed
        if feed is None:
            return
        if response.method == "snapshot":
            feed.snapshot = _SNAPSHOTS.decode(response.params)
        elif response.method == "event":
            feed.events.append(_EVENTS.decode(response.params))
        elif response.method == "log":
            feed.add_line(_LINES.decode(response.params))
        feed.news.set()


def again(fault: WsgitopError) -> WsgitopError:
    """The same fault as a new object: one exception raised in several tasks collects all their tracebacks."""
    fresh = type(fault)(fault.cause, fault.remedy)
    fresh.__cause__ = fault.__cause__
    return fresh
