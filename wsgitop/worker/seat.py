"""A thread's place in a worker: what it serves now, its token, and its block of the scoreboard.

The thread itself is the only writer of its block and of these fields, with one exception: when the watchdog
cuts a request it counts it, because the thread may never come back; the thread then counts nothing (see
:meth:`Seat.write_off`). If it does come back, it rests, and its place is as good as before.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from wsgitop.http.head import Request, RequestLine
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import text_bytes, write_text
from wsgitop.scoreboard.histogram import bucket
from wsgitop.worker.connection import Connection
from wsgitop.worker.slow_requests import LONG_NS, SlowRequests, shown_path
from wsgitop.wsgi.response import Response

_HISTOGRAM: Final = at.HISTOGRAM
_FIRST_CLASS: Final = at.STATUS_1XX - 1
# Names of a module are found faster than those of another.
_STARTED: Final = at.STARTED_NS
_STATE: Final = at.THREAD_STATE
_BUSY: Final = at.THREAD_BUSY
_IDLE: Final = at.THREAD_IDLE
_REQUESTS: Final = at.REQUESTS
_RECEIVED: Final = at.BYTES_RECEIVED
_SENT: Final = at.BYTES_SENT
_LATENCY: Final = at.LATENCY_SUM_NS
_QUICK_US: Final = 4096
_QUICK: Final = bytes(bucket(us) for us in range(_QUICK_US))
"""The buckets of short latencies."""


class Seat:
    """``token`` holds one element while this thread leads *and* runs the application: whoever pops it owns
    the leadership.

    ``serial`` grows with every request, so that the watchdog can tell whether it still sees the same one.
    ``over`` is the serial of the last one that came to its end in a thread that had lost the lead meanwhile
    (see :meth:`wsgitop.worker.handover.Crew.wait_for_transition`).
    ``cpu_since_ns`` is the thread's CPU time when it gave the lead away before a call. ``request``,
    ``connection`` and ``response`` belong to the request in hand; ``response`` is None between
    requests. ``slow`` hears of those that took long; the worker's seats share it. ``show_query``: paths are
    shown with their queries.
    """

    __slots__ = (
        "_block",
        "_latency_ns",
        "_received_bytes",
        "_requests",
        "_sent_bytes",
        "_shown_client",
        "_shown_line",
        "_text",
        "baton",
        "connection",
        "cpu_since_ns",
        "ident",
        "index",
        "over",
        "request",
        "response",
        "serial",
        "show_query",
        "slow",
        "token",
    )

    def __init__(self, index: int, block: memoryview, slow: SlowRequests | None = None) -> None:
        self.index = index
        self.slow = slow or SlowRequests()
        self.show_query = self.slow.show_query
        self.ident = 0
        self.token: list[None] = []
        self.serial = 0
        self.over = -1
        self.cpu_since_ns = 0
        self.baton = threading.Lock()
        self.baton.acquire()
        self.request: Request | None = None
        self.connection: Connection | None = None
        self.response: Response | None = None
        self._block = block
        self._text = text_bytes(block)
        self._shown_line: RequestLine | None = None
        self._shown_client = b""
        self._requests = self._received_bytes = self._sent_bytes = self._latency_ns = 0

    def sit_down(self) -> None:
        """The calling thread takes this place."""
        self.ident = threading.get_ident()
        self._block[at.NATIVE_ID] = threading.get_native_id()
        self._block[at.THREAD_STATE] = at.THREAD_IDLE

    def begin(self, connection: Connection, request: Request, response: Response, started_ns: int) -> None:
        """A request goes to the application now."""
        block = self._block
        line = request.line
        if line is not self._shown_line or connection.client is not self._shown_client:
            self._shown_line = line
            self._shown_client = connection.client
            path = shown_path(line.target, self.show_query).encode()
            write_text(block, self._text, line.method.encode(), path, connection.client)
        block[_STARTED] = started_ns
        block[_STATE] = _BUSY
        self.request = request
        self.connection = connection
        self.serial += 1
        self.response = response  # last, because who finds it finds the rest as well

    def end(self, status: int, failed: bool, received_bytes: int, sent_bytes: int, elapsed_ns: int) -> None:
        """The request is over: ``failed`` if answered 5xx or cut. ``status`` 0: nothing was answered."""
        # The sums are kept here as well, because to read them from the block costs more than to write them.
        block = self._block
        block[_REQUESTS] = self._requests = self._requests + 1
        block[_RECEIVED] = self._received_bytes = self._received_bytes + received_bytes
        block[_SENT] = self._sent_bytes = self._sent_bytes + sent_bytes
        block[_LATENCY] = self._latency_ns = self._latency_ns + elapsed_ns
        if failed:
            block[at.ERRORS] += 1
        if status:
            block[_FIRST_CLASS + status // 100] += 1
        elapsed_us = elapsed_ns // 1000
        if elapsed_us < _QUICK_US:
            block[_HISTOGRAM + _QUICK[elapsed_us]] += 1
        else:
            block[_HISTOGRAM + bucket(elapsed_us)] += 1
            if elapsed_ns >= LONG_NS:
                self._note(status, elapsed_ns, cut=False)
        block[_STARTED] = 0  # as rest() does, without a call more for each request
        block[_STATE] = _IDLE
        self.response = self.request = self.connection = None

    def rest(self) -> None:
        """Nothing in hand any more."""
        block = self._block
        block[at.STARTED_NS] = 0
        block[at.THREAD_STATE] = at.THREAD_IDLE
        self.response = self.request = self.connection = None

    def write_off(self, status: int) -> None:
        """Watchdog: count a request that was cut. State and start stay: the thread is still in there."""
        block = self._block
        block[_REQUESTS] = self._requests = self._requests + 1
        block[at.ERRORS] += 1
        if status:
            block[_FIRST_CLASS + status // 100] += 1
        elapsed_ns = time.monotonic_ns() - block[_STARTED]
        block[_LATENCY] = self._latency_ns = self._latency_ns + elapsed_ns
        block[_HISTOGRAM + bucket(elapsed_ns // 1000)] += 1
        self._note(status, elapsed_ns, cut=True)

    def _note(self, status: int, elapsed_ns: int, *, cut: bool) -> None:
        request, connection = self.request, self.connection
        if request is not None and connection is not None:
            self.slow.note(request.line, connection.client, status, elapsed_ns, cut)

    @property
    def started_ns(self) -> int:
        """When the request in hand was given to the application, which tells it from all others of this seat;
        0: there is none.
        """
        return self._block[_STARTED]

    def writing(self, waits: bool) -> None:
        """The application waits for a slow reader, or goes on."""
        self._block[at.THREAD_STATE] = at.THREAD_WRITING if waits else at.THREAD_BUSY
