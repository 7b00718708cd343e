"""The worker's engine: one poller, and threads of which one at a time leads (see
:mod:`wsgitop.worker.handover`).

Who runs what: ``work`` is the life of each thread; everything that it calls down to ``_serve`` runs in the
leader. A thread that has lost the lead within ``_serve`` gives its connection back to the leader, which
settles it: only the leader touches the table of connections, their deadlines and, ``park`` excepted, the
poller. ``retire`` and ``park`` are called by the watchdog.

One event is taken from the poller at a time: epoll's ready list is then the queue, and connections are served
in the order in which they became readable, whoever leads.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

from wsgitop.http.faults import Fault
from wsgitop.http.head import HeadParser, Limits, Request
from wsgitop.http.request import RequestParser
from wsgitop.http.response import CONTINUE, DateLine, render_error
from wsgitop.logs.error_log import LOGGER
from wsgitop.scoreboard import layout as at
from wsgitop.settings.addresses import Address
from wsgitop.settings.table import Settings
from wsgitop.worker.acceptor import Acceptor
from wsgitop.worker.access_log import AccessLog, Entry
from wsgitop.worker.connection import NEVER, Connection, State
from wsgitop.worker.handover import Crew
from wsgitop.worker.seat import Seat
from wsgitop.worker.siblings import Siblings
from wsgitop.wsgi.body import RequestBody
from wsgitop.wsgi.environ import EnvironTemplate, TrustedProxies
from wsgitop.wsgi.response import ClientGone, RequestCut, Response
from wsgitop.wsgi.types import WSGIApplication

RECEIVE_BYTES: Final = 32 * 1024
RECEIVE_BODY_BYTES: Final = 256 * 1024
INTERNAL_ERROR_STATUS: Final = os.EX_SOFTWARE
LINGER_S: Final = 2.0
LINGER_LIMIT_BYTES: Final = 1024 * 1024
SEND_PROGRESS_S: Final = 60.0
"""A reader that takes nothing for so long is given up."""

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

_READING: Final = State.READING
_HANDLING: Final = State.HANDLING
_monotonic: Final = time.monotonic
_monotonic_ns: Final = time.monotonic_ns


class Engine:
    """Serves connections of ``listeners`` with ``app`` until it has retired.

    ``row`` are the process words of the worker's scoreboard row; ``name`` says in the log which worker this
    is. ``wake_watchdog`` is called when a request goes to the application and the watchdog has set
    ``wake_wanted``.
    """

    def __init__(
        self,
        *,
        app: WSGIApplication,
        settings: Settings,
        listeners: tuple[tuple[Address, socket.socket], ...],
        seats: tuple[Seat, ...],
        row: memoryview,
        access_log: AccessLog | None,
        name: str,
        siblings: Siblings,
    ) -> None:
        self.app = app
        self.settings = settings
        self.name = name
        self.access_log = access_log
        self.crew = Crew(seats, self.park)
        self.connections: dict[int, Connection] = {}
        self.retiring = False
        self.wake_wanted = False
        self.wake_watchdog: Callable[[], None] = lambda: None
        self._row = row
        self._rejected = 0
        self._closes_idle = False
        self._draining = False
        self._ready: deque[Connection] = deque()
        self._given_back: deque[tuple[Connection, bool]] = deque()
        self._forked = False
        self._next_deadline_s = NEVER
        self._date = DateLine()
        self._multithread = len(seats) > 1
        self._keepalive_s = settings.keepalive
        self._limits = Limits(
            settings.limit_request_line or 8190,
            settings.limit_request_fields,
            settings.limit_request_field_size or 8190,
            settings.limit_request_body,
        )
        self._heads = HeadParser(self._limits)
        self._proxies = TrustedProxies(settings.forwarded_allow_ips, settings.secure_scheme_headers)
        self._poller = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller.register(self._wake_fd, _IN)
        self._acceptor = Acceptor(listeners, self._poller, siblings, room=self._room, welcome=self._welcome)

    # -- for other threads -----------------------------------------------------------------------------

    def wake(self) -> None:
        """Make the leader look around."""
        os.eventfd_write(self._wake_fd, 1)

    def retire(self, idle_s: float) -> None:
        """Stop accepting; end when the connections are done. ``idle_s``: 0 closes idle ones at once."""
        self._closes_idle = idle_s <= 0
        self.retiring = True
        self.wake()

    def park(self, connection: Connection) -> None:
        """Take a connection that a busy thread owns out of the poller. With the crew's lock held."""
        self._watch(connection, 0)

    def forget(self) -> None:
        """In a process that the application forked: close its copies of what is the worker's."""
        self._forked = True
        for connection in self.connections.values():
            connection.forget()
        self._acceptor.forget()
        self._poller.close()
        os.close(self._wake_fd)

    # -- threads ---------------------------------------------------------------------------------------

    def work(self, seat: Seat) -> None:
        """The life of a thread of the worker; returns when the worker has finished."""
        crew = self.crew
        try:
            seat.sit_down()
            while crew.take_or_wait(seat, self._before_waiting):
                if self._lead(seat):
                    crew.finish()
                    return
        except BaseException:  # noqa: BLE001 - logged, and the process ends
            # Not the application's fault but ours, and nobody knows what state the loop is in: a fresh
            # process does.
            LOGGER.critical("Internal error in %s; it ends", self.name, exc_info=True)
            os._exit(INTERNAL_ERROR_STATUS)

    def _before_waiting(self) -> None:
        leader = self.crew.leader
        if self.wake_wanted and leader is not None and leader.token:
            self.wake_watchdog()  # there is somebody to hand over to now

    def _lead(self, seat: Seat) -> bool:
        """Poll and serve. False: the lead was lost; True: the worker has finished."""
        poll = self._poller.poll
        connections = self.connections
        ready = self._ready
        given_back = self._given_back
        row = self._row
        shown = -1
        self._begin_accepting()
        while True:
            while given_back:
                self._settle(*given_back.popleft(), _monotonic())
            drained = self.retiring and self._drained()
            if len(connections) != shown:
                shown = row[at.CONNECTIONS] = len(connections)
            if drained:
                return True
            timeout_s = -1.0
            if self._next_deadline_s != NEVER:
                timeout_s = self._next_deadline_s - _monotonic()
                if timeout_s <= 0:
                    # Here, not behind an empty poll: under load the poll is never empty, and a deadline that
                    # passed meanwhile would make it return at once for ever.
                    self._sweep()
                    continue
            if ready:
                connection = ready.popleft()
                if connection.state is _READING and not self._advance(seat, connection):
                    return False
                timeout_s = 0.0  # in turns with the poller, so that pipelining does not get ahead of others
            events = poll(timeout_s, 1)
            if not events:
                continue
            found = connections.get(events[0][0])
            if found is not None and found.state is _READING:
                if not self._receive(seat, found):
                    return False
            else:
                self._other_event(*events[0], found)

    def _other_event(self, fd: int, mask: int, connection: Connection | None) -> None:
        if connection is None:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            elif fd in self._acceptor:
                self._acceptor.accept(fd)
                self._row[at.ACCEPTED] = self._acceptor.accepted
                self._next_deadline_s = min(self._next_deadline_s, self._acceptor.resume_at_s)
        elif connection.state is State.FLUSHING:
            self._flush(connection)
        elif connection.state is State.LINGERING:
            self._linger(connection)
        elif mask & ~_IN:
            # Its request is in hand: only a leader that serves it inline leaves it in the poller, and that
            # does not poll.
            self._watch(connection, 0)

    # -- accepting -------------------------------------------------------------------------------------

    def _begin_accepting(self) -> None:
        if self._acceptor.resume_at_s == NEVER and not self.retiring:
            self._acceptor.resume()

    def _room(self) -> int:
        return self.settings.worker_connections - len(self.connections)

    def _welcome(self, address: Address, sock: socket.socket, peer: object) -> None:
        sock.setblocking(False)
        host, port = "", ""
        if isinstance(peer, tuple):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host, port = str(peer[0]), str(peer[1])
            local = sock.getsockname()
            server = (str(local[0]), str(local[1]))
        else:
            server = (address.path, "")
        settings = self.settings
        connection = Connection(
            sock,
            host.encode(),
            RequestParser(self._heads, self._open_body),
            EnvironTemplate(server, (host, port), multithread=self._multithread, proxies=self._proxies),
            buffer_limit_bytes=settings.response_buffer,
            progress_s=SEND_PROGRESS_S,
            wait=self._wait_for_reader,
        )
        self.connections[connection.fd] = connection
        self._set_deadline(connection, _monotonic() + settings.header_timeout)
        self._watch(connection, _IN)

    def _open_body(self) -> RequestBody:
        return RequestBody(self.settings.body_buffer, self.settings.worker_tmp_dir)

    # -- reading ---------------------------------------------------------------------------------------

    def _receive(self, seat: Seat, connection: Connection) -> bool:
        """Read what is there and serve the request that it completes. False: the lead was lost."""
        parser = connection.parser
        try:
            data = connection.sock.recv(RECEIVE_BODY_BYTES if connection.partial else RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            self._close(connection)
            return True
        if not data:
            if parser.in_message:
                LOGGER.debug("%s left within a request", connection.client.decode() or "A client")
            self._close(connection)
            return True
        parser.feed(data)
        return self._advance(seat, connection)

    def _advance(self, seat: Seat, connection: Connection) -> bool:
        """Serve the next request of what has been read, if it is complete. False: the lead was lost."""
        parser = connection.parser
        try:
            request = parser.next()
        except OSError as error:
            return self._refuse_body(connection, error)
        if request is None:
            self._await_more(connection)
            return True
        if isinstance(request, Fault):
            self._refuse(connection, request)
            return True
        return self._serve(seat, connection, request)

    def _await_more(self, connection: Connection) -> None:
        """A request is not complete. Its head has one deadline, from its first byte; its body must make
        progress.
        """
        parser = connection.parser
        if parser.in_body or not connection.partial:
            self._set_deadline(connection, _monotonic() + self.settings.header_timeout)
        connection.partial = True
        if connection.mask != _IN:
            self._watch(connection, _IN)
        if parser.wants_continue:
            try:
                connection.send(CONTINUE)
            except ClientGone:
                self._close(connection)

    def _refuse_body(self, connection: Connection, error: OSError) -> bool:
        """The temporary file of a body failed, for example because the disk is full."""
        LOGGER.error("Cannot keep the body of a request: %s", error)
        self._refuse(connection, Fault(500, "The server cannot keep the body"))
        return True

    def _refuse(self, connection: Connection, fault: Fault) -> None:
        """Answer a request that does not get to the application; the connection ends with it."""
        self._rejected += 1
        self._row[at.REJECTED] = self._rejected
        LOGGER.info(
            "Refused a request from %s: %d %s", connection.client.decode() or "a local client", *fault
        )
        connection.closing = True
        try:
            connection.send(render_error(fault.status, fault.reason, self._date.at(time.time())))
        except ClientGone:
            self._close(connection)
            return
        self._conclude(connection, _monotonic())

    # -- serving ---------------------------------------------------------------------------------------

    def _serve(self, seat: Seat, connection: Connection, request: Request) -> bool:
        """Run the application for one request. False: the lead was lost meanwhile."""
        self._date.at(time.time())
        try:
            environ = connection.template.make(request)
        except OSError as error:
            return self._refuse_body(connection, error)
        response = Response(
            connection,
            head_only=request.method == "HEAD",
            minor=request.minor,
            # What a client has pipelined already is served by a retiring worker, too.
            keep_alive=request.keep_alive and (not self.retiring or connection.parser.buffered),
            date=self._date,
        )
        connection.state = _HANDLING
        connection.deadline_s = NEVER
        connection.partial = False
        connection.requests += 1
        started_ns = _monotonic_ns()
        seat.begin(connection, request, response, started_ns)
        response.since_s = started_ns / 1e9
        seat.token.append(None)
        if self.wake_wanted:
            self.wake_watchdog()
        broken = False
        failed = False
        try:
            response.run(self.app, environ)
        except (ClientGone, RequestCut):
            broken = True
        except BaseException as error:  # noqa: BLE001 - whatever an application raises, SystemExit too, costs its request only
            if self._forked:
                end_fork(error)
            failed = True
            broken = not self._answer_failure(request, response, error)
        if self._forked:
            end_fork(None)
        response.since_s = 0.0
        leads = self.crew.still_leads(seat)
        now_ns = _monotonic_ns()
        if response.cut:
            seat.rest()
        else:
            status = response.status if response.head_sent else 0
            seat.end(
                status,
                failed or status >= 500,
                request.received_bytes,
                response.sent_bytes,
                now_ns - started_ns,
            )
            if self.access_log is not None:
                self.access_log.write(
                    Entry(request, response, environ, connection.client.decode(), now_ns - started_ns)
                )
        body = request.body
        if isinstance(body, RequestBody):
            body.close()
        connection.closing = not response.keep_alive or connection.parser.finished
        if leads:
            self._settle(connection, broken or response.cut, now_ns / 1e9)
        else:
            self._given_back.append((connection, broken or response.cut))
            self.wake()
        return leads

    def _answer_failure(self, request: Request, response: Response, error: BaseException) -> bool:
        """Log what the application raised, and answer 500 if that is still possible. False: the connection
        must be cut.
        """
        LOGGER.error(
            "Error handling request %s %s in %s",
            request.method,
            escape(request.target),
            self.name,
            exc_info=error,
        )
        if response.head_sent:
            return response.complete  # then it was close() that failed, which is nothing to the client
        text = render_error(500, "The application failed.", self._date.text, body=request.method != "HEAD")
        return response.replace(text, 500, "500 Internal Server Error")

    def _wait_for_reader(self, connection: Connection, waits: bool) -> None:
        """The thread that serves this connection waits for its reader, without the lead, or goes on."""
        seat = next((seat for seat in self.crew.seats if seat.connection is connection), None)
        if seat is None:
            return
        seat.writing(waits)
        if waits:
            self.crew.step_aside(seat)
            self.wake_watchdog()

    # -- behind a response -----------------------------------------------------------------------------

    def _settle(self, connection: Connection, broken: bool, now_s: float) -> None:
        """A request is done. ``broken``: nothing more can be said on this connection."""
        if broken:
            self._close(connection)
        else:
            self._conclude(connection, now_s)

    def _conclude(self, connection: Connection, now_s: float) -> None:
        """The answer is complete: flush it, close, or wait for the next request."""
        if not connection.flushed:
            connection.state = State.FLUSHING
            self._set_deadline(connection, now_s + SEND_PROGRESS_S)
            self._watch(connection, _OUT)
        elif connection.closing or (
            self._closes_idle and not connection.parser.buffered and not self._readable(connection)
        ):
            self._part(connection, now_s)
        elif connection.parser.buffered:
            # Not polled until what is here is used up: else what a client pipelines would pile up without
            # bound, and the end of its side would be met before its last requests. Nor can it be late.
            connection.state = _READING
            connection.deadline_s = NEVER
            self._watch(connection, 0)
            self._ready.append(connection)
        else:
            connection.state = _READING
            self._set_deadline(connection, now_s + self._keepalive_s)
            if connection.mask != _IN:
                self._watch(connection, _IN)

    def _flush(self, connection: Connection) -> None:
        now_s = _monotonic()
        try:
            if connection.flush():
                self._set_deadline(connection, now_s + SEND_PROGRESS_S)
        except ClientGone:
            self._close(connection)
            return
        if connection.flushed:
            self._conclude(connection, now_s)

    def _part(self, connection: Connection, now_s: float) -> None:
        """Close our side. If the client is still sending, wait for its end: a reset would eat the last
        response.
        """
        parser = connection.parser
        if not (parser.faulted or parser.in_message or self._readable(connection)):
            self._close(connection)
            return
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        connection.state = State.LINGERING
        connection.backlog_bytes = 0
        self._set_deadline(connection, now_s + LINGER_S)
        self._watch(connection, _IN)

    def _linger(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(RECEIVE_BODY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.backlog_bytes += len(data)
        if not data or connection.backlog_bytes > LINGER_LIMIT_BYTES:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        # First out of the table, then out of the poller, then closed: the number may be another connection's
        # right after.
        if self.connections.get(connection.fd) is connection:
            del self.connections[connection.fd]
        self._watch(connection, 0)
        connection.state = State.LINGERING
        connection.close()

    @staticmethod
    def _readable(connection: Connection) -> bool:
        try:
            return bool(connection.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    # -- time ------------------------------------------------------------------------------------------

    def _set_deadline(self, connection: Connection, deadline_s: float) -> None:
        connection.deadline_s = deadline_s
        self._next_deadline_s = min(self._next_deadline_s, deadline_s)

    def _sweep(self) -> None:
        """Act on deadlines that have passed, and find the next. It is no sooner than 50 ms from now, to bound
        the cost.
        """
        now_s = _monotonic()
        nearest_s = NEVER
        if self._acceptor.resume_at_s <= now_s and not self.retiring:
            self._acceptor.resume()
        for connection in list(self.connections.values()):
            if connection.deadline_s <= now_s:
                self._expire(connection, now_s)
            if now_s < connection.deadline_s < nearest_s:
                nearest_s = connection.deadline_s
        self._next_deadline_s = max(min(nearest_s, self._acceptor.resume_at_s), now_s + 0.05)

    def _expire(self, connection: Connection, now_s: float) -> None:
        parser = connection.parser
        within_head = parser.in_message and not parser.in_body
        if connection.state is _READING and not within_head and self._readable(connection):
            # While all threads were busy nobody looked: what has come since is neither idle nor late. Within
            # a head it does not count, or a client could drip it for ever.
            self._set_deadline(connection, now_s + self.settings.header_timeout)
            return
        if connection.state is _READING and connection.parser.in_message and not connection.parser.finished:
            self._refuse(connection, Fault(408, "The request did not arrive in time"))
        elif connection.state is not _HANDLING:
            self._close(connection)

    # -- retiring --------------------------------------------------------------------------------------

    def _drained(self) -> bool:
        """The last connection has gone."""
        if not self._draining:
            self._drain()
        return not self.connections

    def _drain(self) -> None:
        """Close listeners and bound the life of connections on which nothing is under way.

        A connection with bytes to read has a request that is served yet. One without is kept as long as any
        idle connection, because its client may be sending just now; when the server stops it is closed,
        unless it has not had a request yet: its first is probably on its way.
        """
        self._draining = True
        self._row[at.READY_NS] = 0
        self._acceptor.close()
        now_s = _monotonic()
        for connection in list(self.connections.values()):
            if connection.state is not _READING or connection.parser.in_message or self._readable(connection):
                continue
            if connection.requests and self._closes_idle:
                self._close(connection)
            else:
                self._set_deadline(connection, min(connection.deadline_s, now_s + self.settings.keepalive))

    # -- poller ----------------------------------------------------------------------------------------

    def _watch(self, connection: Connection, mask: int) -> None:
        before = connection.mask
        if mask == before:
            return
        connection.mask = mask
        if not before:
            self._poller.register(connection.fd, mask)
        elif mask:
            self._poller.modify(connection.fd, mask)
        else:
            self._poller.unregister(connection.fd)


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
