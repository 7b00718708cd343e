"""Cutting one request short: because a call of the application takes too long, or because an operator asks.

Who runs this: the watchdog. It owns the list of requests that were cut and whose threads have not come back.

A thread cannot be killed, and an exception that is raised in it from outside may hit it with a lock in its
hands, or in the server's code. So the client is cut instead: it gets an error answer if nothing was said
before, and an end otherwise. The thread is written off; it meets RequestCut or ClientGone with the next thing
that it has to say, and its place is then as good as before.

That it is this very request that is cut, and no later one of the same thread, is certain because the crew's
lock is held: a thread that leads has its token taken first, and without the lead it needs the lock to end.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wsgitop.channel import messages as m
from wsgitop.http.head import Request
from wsgitop.http.response import DateLine, render_error
from wsgitop.logs.error_log import LOGGER
from wsgitop.snapshot import printable
from wsgitop.worker.connection import NEVER, Connection
from wsgitop.worker.loop import Engine
from wsgitop.worker.seat import Seat
from wsgitop.worker.service import escape
from wsgitop.worker.slow_requests import METHOD_LIMIT, PATH_LIMIT, shown_path
from wsgitop.wsgi.response import Response

GRACE_S: Final = 1.0
"""How long the answer to an operator waits for the thread to come back."""
BACK_S: Final = 10.0
"""A thread that has not come back so long after an operator cut its request is lost, and its worker goes."""
AGAIN_S: Final = 0.001
"""Before the next try with a request that has just begun, or just ended."""
_PHRASES: Final = {503: "503 Service Unavailable", 504: "504 Gateway Timeout"}


@dataclass(slots=True)
class _Cut:
    """A request that was cut. ``waiting`` are the inquiries to be answered, and by when (monotonic)."""

    seat: Seat
    connection: Connection
    request: Request
    response: Response
    started_ns: int
    elapsed_ns: int
    answered: bool
    back_by_s: float = NEVER
    waiting: list[tuple[int, float]] = field(default_factory=list)


class Cutter:
    """``send`` tells the master; ``retire`` has the worker finish and go, for a reason. ``next_s``
    (monotonic) is when :meth:`tend` has something to do. ``stays``: the worker is kept to be looked at, with
    threads that are lost, too.
    """

    def __init__(
        self, engine: Engine, *, send: Callable[[m.Message], None], retire: Callable[[str], None]
    ) -> None:
        self.next_s = NEVER
        self.stays = False
        self._engine = engine
        self._crew = engine.crew
        self._send = send
        self._retire = retire
        self._cuts: list[_Cut] = []
        self._undecided: list[m.CancelRequest] = []
        self._date = DateLine()

    def time_out(self, seat: Seat, response: Response, elapsed_s: float, limit_s: float) -> None:
        """End a request whose call of the application takes longer than ``limit_s``: the stack first, then
        the consequences. The worker retires, so that the master replaces it.
        """
        frame = sys._current_frames().get(seat.ident)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        del frame
        with self._crew.lock:
            if seat.response is not response or not self._crew.depose(seat):
                return
            # It may have begun with something else, or got to its end.
            if seat.response is not response or not response.since_s:
                return
            cut = self._cut(seat, response, int(elapsed_s * 1e9), 504, "The application took too long.")
        request = cut.request
        LOGGER.critical(
            "Timeout: %s %s takes %.1f s in %s, thread %d; %s, and the worker is replaced. Its stack:\n%s",
            request.method, escape(request.target), elapsed_s, self._engine.name, seat.index,
            "answered 504" if cut.answered else "the connection was cut", stack,
        )  # fmt: skip
        self._log(cut)
        path = shown_path(request.target, seat.show_query)
        self._send(m.RequestTimeout(seat.index, request.method, path, elapsed_s, m.clip(stack), cut.answered))
        self._retire(f"a request took longer than {limit_s:g} s")
        self._engine.wake()
        self.tend(time.monotonic())  # forgets those before it that have come back

    def cancel(self, order: m.CancelRequest) -> None:
        """End the one request that is meant, and tell what came of it: now, or within GRACE_S."""
        now_s = time.monotonic()
        self.tend(now_s)
        known = next((cut for cut in self._cuts if cut.started_ns == order.request), None)
        if known is not None and known.seat.index == order.thread:
            known.waiting.append((order.inquiry, now_s + GRACE_S))
        else:
            self._try(order, now_s)
        self._plan(now_s)

    def tend(self, now_s: float) -> None:
        """See who has come back, answer who has waited long enough, and give up who does not come back."""
        undecided, self._undecided = self._undecided, []
        for order in undecided:
            self._try(order, now_s)
        for cut in list(self._cuts):
            if cut.seat.response is not cut.response:
                self._cuts.remove(cut)
                # Whoever says nothing more has ended by itself, with an exception of its own or without.
                over = cut.response.complete or cut.response.failed
                for inquiry, _ in cut.waiting:
                    self._answer(inquiry, cut, "finished" if over else "raised")
                continue
            for waiting in [waiting for waiting in cut.waiting if waiting[1] <= now_s]:
                cut.waiting.remove(waiting)
                self._answer(waiting[0], cut, "disconnected")
            if now_s >= cut.back_by_s:
                cut.back_by_s = now_s + BACK_S if self.stays else NEVER
                if self.stays:
                    continue
                method, path = _named(cut)
                self._retire(
                    f"thread {cut.seat.index} has not come back within {BACK_S:g} s since {method} {path} "
                    "was cancelled"
                )
        self._plan(now_s)

    def _plan(self, now_s: float) -> None:
        times = [cut.back_by_s for cut in self._cuts]
        times += [by_s for cut in self._cuts for _, by_s in cut.waiting]
        if self._undecided:
            times.append(now_s + AGAIN_S)
        self.next_s = min(times, default=NEVER)

    def _answer(self, inquiry: int, cut: _Cut, end: m.End) -> None:
        method, path = _named(cut)
        self._send(m.RequestCancelled(inquiry, end, True, cut.answered, method, path, cut.elapsed_ns))

    def _try(self, order: m.CancelRequest, now_s: float) -> None:
        crew = self._crew
        seat = crew.seats[order.thread] if order.thread < len(crew.seats) else None
        if seat is None or not order.request or seat.started_ns != order.request:
            self._send(m.RequestCancelled(order.inquiry, "finished"))
            return
        with crew.lock:
            if not crew.depose(seat):
                self._undecided.append(order)  # it has just begun, or is about to end
                return
            response = seat.response
            if response is None or seat.over == seat.serial or seat.started_ns != order.request:
                cut = None
            elif response.complete and not response.since_s:
                cut = None  # all is said: to cut the connection would hit the client's next request
            else:
                elapsed_ns = time.monotonic_ns() - order.request
                cut = self._cut(seat, response, elapsed_ns, 503, "The request was cancelled.")
        if cut is None:
            self._send(m.RequestCancelled(order.inquiry, "finished"))
            return
        self._log(cut)
        cut.back_by_s = now_s + BACK_S
        cut.waiting.append((order.inquiry, now_s + GRACE_S))
        self._engine.wake()

    def _cut(self, seat: Seat, response: Response, elapsed_ns: int, status: int, text: str) -> _Cut:
        """With the crew's lock, and the seat deposed: answer or cut, and write the thread off."""
        request, connection = seat.request, seat.connection
        assert request is not None and connection is not None, "they are there before the response is"
        response.cut = True
        answered = bool(response.voice)
        if answered:
            try:
                response.voice.pop()
            except IndexError:
                answered = False
        self._engine.drop(connection)
        answer = b""
        if answered:
            answer = render_error(status, text, self._date.at(time.time()), body=request.method != "HEAD")
            response.headers = []
            response.status, response.status_text = status, _PHRASES[status]
            response.sent_bytes = len(answer)
        connection.cut(answer)
        seat.write_off(response.status if answered or response.head_sent else 0)
        cut = _Cut(seat, connection, request, response, seat.started_ns, elapsed_ns, answered)
        self._cuts.append(cut)
        return cut

    def _log(self, cut: _Cut) -> None:
        """A line in the access log."""
        if self._engine.access_log is not None:
            client = cut.connection.client.decode()
            self._engine.access_log.write(
                cut.request, cut.response, cut.request.fields, client, cut.elapsed_ns
            )


def _named(cut: _Cut) -> tuple[str, str]:
    """Method and path to be shown."""
    request = cut.request
    path = shown_path(request.target, cut.seat.show_query)
    return printable(request.method, METHOD_LIMIT), printable(path, PATH_LIMIT)
