"""One client of the control socket: frames in, frames out, and all limits that hold for one client.

Runs in the master's event loop and never waits: what a client does, or fails to do, costs the master a
bounded amount of memory and time. A client that does not read its answers is not read from; one that sends
faster than its token bucket fills waits; one that begins a frame and does not end it is cut off.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

from wsgitop.control.codec import FrameTooLong, Splitter, encode_error
from wsgitop.control.messages import FRAME_LIMIT_BYTES, INVALID_REQUEST, Role
from wsgitop.control.peers import Known, Peer
from wsgitop.control.turns import Turns

WRITE_HIGH_BYTES = 256 * 1024
"""With more than this unread, no further call of the client is looked at."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may do, and all of them together. Times in seconds.

    ``clients`` are there at most, and of them ``clients_of_others`` of users other than the owner and root,
    ``clients_per_user`` of each: others cannot keep the owner out. Connections are accepted at
    ``accepts_per_s``, up to ``accepts_burst`` at once; a client's calls refill at ``calls_per_s`` up to
    ``calls_burst``. All calls together get ``share`` of the loop's time, ``burst_s`` of it in a row.
    """

    frame_bytes: int = FRAME_LIMIT_BYTES
    frame_s: float = 5.0
    clients: int = 256
    clients_of_others: int = 192
    clients_per_user: int = 64
    turned_away: int = 64
    accepts_per_s: float = 50.0
    accepts_burst: float = 256.0
    calls_in_flight: int = 16
    calls_per_s: float = 20.0
    calls_burst: float = 60.0
    share: float = 0.05
    burst_s: float = 0.002


class Subscription:
    """What a subscriber gets, and what it has missed.

    ``event_cursor``: sequence of the last event it was sent; ``lines_dropped``: of each log since the last
    line it was sent.
    """

    __slots__ = (
        "access_log",
        "dropped",
        "due_at",
        "error_log",
        "event_cursor",
        "events",
        "interval_s",
        "lines_dropped",
        "snapshots",
    )

    def __init__(
        self,
        interval_s: float,
        now: float,
        event_cursor: int,
        *,
        snapshots: bool = True,
        events: bool = True,
        error_log: bool = False,
        access_log: bool = False,
    ) -> None:
        self.interval_s = interval_s
        self.due_at = now + interval_s
        self.event_cursor = event_cursor
        self.dropped = 0
        self.snapshots = snapshots
        self.events = events
        self.error_log = error_log
        self.access_log = access_log
        self.lines_dropped = {"error": 0, "access": 0}

    def follows(self, log: Literal["error", "access"]) -> bool:
        """Whether it gets the lines of this log."""
        return self.error_log if log == "error" else self.access_log

    def is_due(self, now: float) -> bool:
        """Whether the next snapshot is for this one.

        The sampler's tick jitters, hence a tenth of tolerance.
        """
        return now >= self.due_at - self.interval_s / 10

    def sent(self, now: float) -> None:
        """Note that a snapshot was due and has been dealt with."""
        self.due_at += self.interval_s
        if self.due_at <= now:
            self.due_at = now + self.interval_s


class Owner(Protocol):
    """What a connection needs from the server."""

    limits: Limits
    turns: Turns

    def handle(self, connection: Connection, frame: bytes) -> None:
        """One frame has arrived."""

    def introduce(self, connection: Connection) -> None:
        """Find out who the client is, for those who read what it has done, and tell it by
        :meth:`Connection.introduced`."""

    def drained(self, connection: Connection) -> None:
        """The client has read all that was written to it."""

    def lost(self, connection: Connection) -> None:
        """The client is gone."""


class Connection(asyncio.Protocol):
    """One client. The server reads ``role`` and ``peer``, and sends by :meth:`send`.

    ``is_owner``: it is of the server's own user, or root's.
    """

    def __init__(self, owner: Owner, peer: Peer, role: Role, *, is_owner: bool) -> None:
        self.peer = peer
        self.role = role
        self.is_owner = is_owner
        self.known = Known()
        self.subscription: Subscription | None = None
        self.calls_in_flight = 0
        self._owner = owner
        self._limits = owner.limits
        self._loop = asyncio.get_running_loop()
        self._splitter = Splitter(self._limits.frame_bytes)
        self._tokens = self._limits.calls_burst
        self._tokens_at = self._loop.time()
        self._unread = False
        self._at_end = False
        self._is_unknown = False
        self._throttle: asyncio.TimerHandle | None = None
        self._frame_timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # The low mark is zero, so that resume_writing means that the client has read everything.
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=0)
        if self.role == "operator":
            # Its orders are told to everybody with its name: none is looked at before that is known.
            self._is_unknown = True
            self._owner.introduce(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived. No more are read until the frames in them have been handled."""
        if self._transport is None:
            return
        self._splitter.feed(data)
        if b"\n" in data:
            self._stop_frame_timer()  # complete: how long it waits for its turn is not the client's doing
        self._transport.pause_reading()
        self._owner.turns.ask(self)

    def eof_received(self) -> bool:
        """The client will send nothing more. It still gets the answers it waits for."""
        self._at_end = True
        return not self._close_if_finished()

    def pause_writing(self) -> None:
        """The client does not keep up with reading."""
        self._unread = True

    def resume_writing(self) -> None:
        """The client has read everything."""
        self._unread = False
        self._owner.drained(self)
        self._owner.turns.ask(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone."""
        self._transport = None
        for handle in (self._throttle, self._frame_timer):
            if handle is not None:
                handle.cancel()
        self._owner.lost(self)

    # -- the server's side

    @property
    def is_open(self) -> bool:
        """Whether there is still somebody to talk to."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        """What was written and the client has not read yet, beyond what the kernel holds."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, frame: bytes) -> None:
        """Write a frame; it is dropped if the client is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def introduced(self, known: Known) -> None:
        """What could be found out about the peer."""
        self.known = known
        self._is_unknown = False
        if self._transport is not None:
            self._owner.turns.ask(self)

    def call_finished(self) -> None:
        """A call that took time was answered."""
        self.calls_in_flight -= 1
        if self._at_end:
            self._close_if_finished()

    def close(self) -> None:
        """Close after what was written has been read."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- frames

    def take_turn(self) -> bool:
        """Handle the next frame, if the limits allow. Whether another one may be handled right away."""
        if self._unread or self._is_unknown or not self.is_open:
            return False  # resume_writing and introduced ask for the next turn
        wait_s = self._token_wait_s()
        if wait_s > 0:
            self._throttle = self._loop.call_later(wait_s, self._owner.turns.ask, self)
            return False
        try:
            frame = self._splitter.next_frame()
        except FrameTooLong:
            self._cut_off(f"a frame has at most {self._limits.frame_bytes} bytes")
            return False
        if frame is None:
            self._wait_for_more()
            return False
        self._stop_frame_timer()
        self._tokens -= 1  # a blank one costs time as well
        if frame.strip():
            self._owner.handle(self, frame)
        return True

    def _wait_for_more(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._splitter.has_bytes and self._frame_timer is None:
            self._frame_timer = self._loop.call_later(
                self._limits.frame_s,
                self._cut_off,
                f"the frame was not complete within {self._limits.frame_s:g} s",
            )
        self._transport.resume_reading()

    def _token_wait_s(self) -> float:
        """How long to wait for the next call, 0 if it may be handled now. A token bucket."""
        now = self._loop.time()
        self._tokens = min(
            self._limits.calls_burst, self._tokens + (now - self._tokens_at) * self._limits.calls_per_s
        )
        self._tokens_at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._limits.calls_per_s

    def _stop_frame_timer(self) -> None:
        if self._frame_timer is not None:
            self._frame_timer.cancel()
            self._frame_timer = None

    def _cut_off(self, reason: str) -> None:
        self.send(encode_error(None, INVALID_REQUEST, reason))
        self._stop_frame_timer()
        self.close()
        if self.unsent_bytes:
            # It does not read either: nothing is gained by waiting for it.
            self.abort()

    def _close_if_finished(self) -> bool:
        if self.calls_in_flight:
            return False
        self.close()
        return True
