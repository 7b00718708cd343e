"""One request through the application: from a complete request to a connection that the loop takes back.

Run by the thread that serves the request. It begins in the leader; the lead may be lost to the watchdog
within :meth:`Service.serve`, which then touches nothing but its own seat, response and connection.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Final, NoReturn

from wsgitop.http.head import Request
from wsgitop.http.response import DateLine, render_error
from wsgitop.logs.error_log import LOGGER
from wsgitop.worker.access_log import AccessWriter
from wsgitop.worker.connection import Connection, State
from wsgitop.worker.handover import Crew
from wsgitop.worker.seat import Seat
from wsgitop.wsgi.response import ClientGone, RequestCut, Response
from wsgitop.wsgi.types import WSGIApplication, WSGIEnvironment

_HANDLING: Final = State.HANDLING
_ANSWERED: Final = State.ANSWERED
_BROKEN: Final = State.BROKEN
_monotonic_ns: Final = time.monotonic_ns
SECOND_NS: Final = 1_000_000_000


class Service:
    """Serves requests with ``app``. ``done_ns`` (monotonic) is when the last request in the leader ended.

    ``name`` says in the log which worker this is, and of which application.
    """

    def __init__(
        self, *, app: WSGIApplication, crew: Crew, access_log: AccessWriter | None, name: str
    ) -> None:
        self.access_log = access_log
        self.done_ns = 0
        self.date = DateLine()
        self._app = app
        self._crew = crew
        self._name = name
        self._date_until_ns = 0
        self._forked = False

    def forget(self) -> None:
        """In a process that the application forked: when it comes back from there, it finds no token."""
        self._forked = True
        for seat in self._crew.seats:
            seat.token.clear()
        if self.access_log is not None:
            self.access_log.close()

    def serve(
        self, seat: Seat, connection: Connection, request: Request, environ: WSGIEnvironment, keeps: bool
    ) -> bool:
        """Run the application for one request; ``keeps``: the connection may be kept. False: the lead was
        lost meanwhile.

        The connection is ``ANSWERED`` then, or ``BROKEN``: nothing more can be said on it.
        """
        started_ns = _monotonic_ns()
        if started_ns >= self._date_until_ns:
            self._tell_time(started_ns)
        line = request.line
        response = Response(
            connection,
            line.method == "HEAD",
            line.minor,
            keeps and request.keep_alive,
            self.date,
            started_ns / SECOND_NS,
        )
        connection.state = _HANDLING
        seat.begin(connection, request, response, started_ns)
        crew = self._crew
        eager = crew.eager and crew.give_lead(seat)
        if not eager:
            seat.token.append(None)
        if crew.wake_wanted:
            crew.wake_watchdog()
        whole = self._call(request, response, environ)
        try:
            seat.token.pop()
            leads = True
        except IndexError:
            if self._forked:
                end_fork(None)
            crew.wait_for_transition(seat)
            leads = False
        done_ns = _monotonic_ns()
        if response.cut:
            seat.rest()
            whole = False
            crew.wake_watchdog()  # somebody may wait for news of it
        else:
            status = response.status if response.head_sent else 0
            elapsed_ns = done_ns - started_ns
            seat.end(
                status,
                response.failed or status >= 500,
                request.received_bytes,
                response.sent_bytes,
                elapsed_ns,
            )
            if self.access_log is not None:
                self.access_log.write(request, response, environ, connection.peer.client[0], elapsed_ns)
        if request.body is not None:
            request.body.close()
        connection.partial = False
        connection.requests += 1
        connection.closing = not response.keep_alive or connection.parser.finished
        connection.state = _ANSWERED if whole else _BROKEN
        if leads:
            self.done_ns = done_ns
        elif eager:
            crew.learn(seat, done_ns - started_ns)
        return leads

    def _call(self, request: Request, response: Response, environ: WSGIEnvironment) -> bool:
        """Run the application. False: nothing more can be said on the connection."""
        try:
            response.run(self._app, environ)
        except (ClientGone, RequestCut):
            response.since_s = 0.0
            return False
        except BaseException as error:  # noqa: BLE001 - whatever an application raises, SystemExit too, costs its request only
            if self._forked:
                end_fork(error)
            response.since_s = 0.0
            response.failed = True
            return self._answer_failure(request, response, error)
        if response.complaint:
            LOGGER.error(
                "Error handling request %s %s in %s: %s",
                request.method,
                escape(request.target),
                self._name,
                response.complaint,
            )
        return True

    def _tell_time(self, now_ns: int) -> None:
        now_s = time.time()
        self.date.at(now_s)
        self._date_until_ns = now_ns + int((1 - now_s % 1) * SECOND_NS)

    def refresh_date(self) -> str:
        """The Date line for what is not answered by the application."""
        return self.date.at(time.time())

    def _answer_failure(self, request: Request, response: Response, error: BaseException) -> bool:
        """Log what the application raised, and answer 500 if that is still possible. False: the connection
        must be cut.
        """
        LOGGER.error(
            "Error handling request %s %s in %s",
            request.method,
            escape(request.target),
            self._name,
            exc_info=error,
        )
        if response.head_sent:
            return response.complete  # then it was close() that failed, which is nothing to the client
        text = render_error(500, "The application failed.", self.date.text, body=request.method != "HEAD")
        return response.replace(text, 500, "500 Internal Server Error")


def end_fork(error: BaseException | None) -> NoReturn:
    """End a process that the application forked and that came back from it, as the interpreter would.

    The request, its connection and the scoreboard are the worker's. Raises nothing.
    """
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        LOGGER.error("A process that the application forked failed", exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)


def escape(text: str) -> str:
    """A request target for one line of a log."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
