"""The connection to a server: frames over a byte stream, answers to who waits for them, news to a feed.

The stream is a unix socket or a process that reaches another machine. A link on which somebody waits and
nothing comes asks for a sign of life, and is given up when there is none: a network that is gone says
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Protocol

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
NEWS_LIMIT_BYTES = 256 * 1024
"""Longest frame of an event or a line of a log: so many of them are kept that their number is no bound."""
TICK_S = 1.0
ASK_AFTER_TICKS = 3
GIVE_UP_AFTER_TICKS = 10
"""Ticks of silence. Ticks and not the clock: of a process that was stopped itself, the first one says no
more than that."""
LAST_RESORT_S = 1.0
NOISE_LIMIT = 120
FRAME_START = b'{"jsonrpc"'
"""Every frame of ours begins so. A line that a start file printed without an end stands before it."""
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


class Stream(Protocol):
    """What a link writes to; an asyncio.Transport is one."""

    def write(self, data: bytes, /) -> None: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Link(asyncio.Protocol):
    """The connection: answers go to who waits for them, news to the feed. It is the protocol of a unix
    socket, and gets the bytes of a process.

    ``label`` names the other side in messages. ``noise_lines`` is how many lines that are no frames may come
    before the first answer: what a login shell prints.
    """

    def __init__(self, label: str, *, noise_lines: int = 0) -> None:
        self.label = label
        self.feed: Feed | None = None
        self.fault: WsgitopError | None = None
        self.stream: Stream | None = None
        self.noise = ""
        """The first of the lines that were no frames."""
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._splitter = Splitter(SNAPSHOT_LIMIT_BYTES)
        self._allows_noise = noise_lines > 0
        self._noise_left = noise_lines
        self.is_greeted = False
        """Whether the other side has said who it is."""
        self.closing_s = 1.0
        """How long :meth:`close` waits for the stream's end."""
        self.last_resort: Callable[[], None] = lambda: None
        """What it then does."""
        self._waiting: dict[int, tuple[str, asyncio.Future[bytes]]] = {}
        self._last_id = 0
        self._silent_ticks = 0
        self._sign_of_life: asyncio.Future[bytes] | None = None
        self._tick_timer: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a call can be sent."""
        return self.fault is None and self.stream is not None and not self.stream.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.stream = transport
        self.last_resort = transport.abort

    def greeted(self) -> None:
        """The other side has said who it is: from now on all it sends is frames, and silence is watched."""
        self.is_greeted = True
        self._tick_timer = self._loop.call_later(TICK_S, self._tick)

    def data_received(self, data: bytes) -> None:
        self._silent_ticks = 0
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
        self.lost(
            CannotConnect("the connection to the server was lost", "It may have ended; look at its log.")
        )

    def lost(self, fault: WsgitopError) -> None:
        """The stream has ended."""
        self.fail(fault)
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
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if self.stream is not None:
            self.stream.abort()

    async def close(self) -> None:
        """Close the connection, and return when the other side has."""
        if self.feed is not None:
            self.feed.end()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if self.stream is None:
            return
        self.stream.close()
        try:
            await self._wait_for_end(self.closing_s)
        finally:
            if not self.closed.done():
                # The time is over, or who waits here is cancelled: it must neither live on nor stay a zombie.
                self.last_resort()
                await self._wait_for_end(LAST_RESORT_S)

    async def _wait_for_end(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await asyncio.shield(self.closed)

    def call(self, method: str, arguments: msgspec.Struct) -> asyncio.Future[bytes]:
        """Send a call; its raw result will come."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.fault is not None or self.stream is None:
            future.set_exception(again(self.fault or CannotConnect("not connected")))
            return future
        self._last_id += 1
        call_id = self._last_id
        self._waiting[call_id] = (method, future)
        future.add_done_callback(lambda _future: self._waiting.pop(call_id, None))
        self.stream.write(encode_request(call_id, method, arguments))
        return future

    def _tick(self) -> None:
        """Once a second, from the greeting on."""
        self._tick_timer = self._loop.call_later(TICK_S, self._tick)
        asked = self._sign_of_life is not None and not self._sign_of_life.done()
        if self.feed is None and len(self._waiting) <= asked:
            self._silent_ticks = 0  # nobody waits for anything
            return
        self._silent_ticks += 1
        if self._silent_ticks >= GIVE_UP_AFTER_TICKS:
            self.fail(
                CannotConnect(
                    f"the connection to the server is dead: no answer for {GIVE_UP_AFTER_TICKS * TICK_S:g} s",
                    "The network may be down, or the server stopped.",
                )
            )
        elif self._silent_ticks >= ASK_AFTER_TICKS and not asked:
            self._sign_of_life = self.call("hello", m.NoArguments())
            self._sign_of_life.add_done_callback(forget)

    def _received(self, frame: bytes) -> None:
        if self._allows_noise and not self.is_greeted and (frame := self._without_noise(frame)) == b"":
            return
        response = decode_response(frame)
        if response.method in ("event", "log") and len(frame) > NEWS_LIMIT_BYTES:
            self.fail(ProtocolError(f"the server sent a longer {response.method} than there can be"))
        elif response.method:
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

    def _without_noise(self, frame: bytes) -> bytes:
        """What of a line is a frame; the rest is remembered, and too much of it is a fault."""
        before, start, rest = frame.partition(FRAME_START)
        if before.strip() and not self.noise:
            self.noise = printable(before.decode(errors="replace").strip(), NOISE_LIMIT)
        if before:
            self._noise_left -= 1
        if self._noise_left < 0:
            self.fail(ProtocolError(f"it prints other text: {self.noise}"))
            return b""
        return start + rest

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


def forget(future: asyncio.Future[bytes]) -> None:
    """For the outcome of a call that nobody waits for."""
    if not future.cancelled():
        future.exception()


def again(fault: WsgitopError) -> WsgitopError:
    """The same fault as a new object: one exception raised in several tasks collects all their tracebacks."""
    fresh = type(fault)(fault.cause, fault.remedy)
    fresh.__cause__ = fault.__cause__
    return fresh
