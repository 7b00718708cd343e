"""The worker's engine: one poller, and threads of which one at a time leads (see
:mod:`wsgitop.worker.handover`).

Who runs what: ``work`` is the life of each thread; everything that it calls runs in the leader, but for
:meth:`Service.serve`, within which the lead may be lost. A thread that has lost it gives its connection back
to the leader, which settles it: only the leader touches the table of connections, their deadlines, the queue
of those that are ready and, ``park`` excepted, the poller. ``retire`` and ``park`` are called by the
watchdog. While nobody leads, the caretaker may touch them, run by the watchdog with the crew's lock.

The poller is asked for all that is ready, and connections are served in that order, whoever leads: what is
left of a round is the next leader's. One event at a time would be as fair and costs a system call for each
request.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from wsgitop.http.faults import Fault, RequestFault
from wsgitop.http.head import HeadParser, Limits, Request
from wsgitop.http.request import PARSED_BYTES, RequestParser
from wsgitop.logs.error_log import LOGGER
from wsgitop.scoreboard import layout as at
from wsgitop.settings.addresses import Address
from wsgitop.settings.hidden import shown_app
from wsgitop.settings.table import Settings
from wsgitop.worker.acceptor import Acceptor
from wsgitop.worker.access_log import AccessWriter
from wsgitop.worker.caretaker import Caretaker
from wsgitop.worker.connection import NEVER, Connection, Peer, State
from wsgitop.worker.front_door import FrontDoor
from wsgitop.worker.handover import Crew
from wsgitop.worker.migration import Exchange
from wsgitop.worker.seat import Seat
from wsgitop.worker.service import Service
from wsgitop.worker.settlement import SEND_PROGRESS_S, Settlement
from wsgitop.worker.siblings import Siblings
from wsgitop.worker.table import EVENTS, Table
from wsgitop.wsgi.body import RequestBody
from wsgitop.wsgi.environ import EnvironTemplate
from wsgitop.wsgi.proxies import TrustedProxies
from wsgitop.wsgi.types import WSGIApplication, WSGIEnvironment

RECEIVE_BYTES: Final = PARSED_BYTES
RECEIVE_BODY_BYTES: Final = 256 * 1024
ROUND_NS: Final = 2_000_000
"""How long the leader serves what was ready before it looks around again."""
INTERNAL_ERROR_STATUS: Final = os.EX_SOFTWARE

_IN: Final = select.EPOLLIN

_READING: Final = State.READING
_READY: Final = State.READY
_ANSWERED: Final = State.ANSWERED
_monotonic: Final = time.monotonic
_monotonic_ns: Final = time.monotonic_ns


class Engine:
    """Serves connections of ``listeners`` with ``app`` until it has retired.

    ``row`` are the process words of the worker's scoreboard row; ``name`` says in the log which worker this
    is; ``service`` makes what runs the application, another one with hooks than without.
    """

    def __init__(
        self,
        *,
        app: WSGIApplication,
        settings: Settings,
        listeners: tuple[tuple[Address, socket.socket], ...],
        seats: tuple[Seat, ...],
        row: memoryview,
        access_log: AccessWriter | None,
        name: str,
        siblings: Siblings,
        exchange: Exchange | None,
        service: Callable[..., Service] = Service,
    ) -> None:
        self.settings = settings
        self.name = name
        self.access_log = access_log
        self.crew = Crew(seats, self.park)
        self.retiring = False
        self._service = service(
            app=app, crew=self.crew, access_log=access_log, name=f"{name} of {shown_app(settings.wsgi_app)}"
        )
        self._row = row
        self._draining = self._last = False
        self._wants_quarantine = self._in_quarantine = False
        self._aside = False  # it retires or is in quarantine: it takes no new connections
        self._full = False  # no more is accepted for want of room
        self._round_ns = 0
        self._given_back: deque[Connection] = deque()
        self._multithread = len(seats) > 1
        self._keepalive_s = settings.keepalive
        self._heads = HeadParser(
            Limits(
                settings.limit_request_line or 8190,
                settings.limit_request_fields,
                settings.limit_request_field_size or 8190,
                settings.limit_request_body,
            )
        )
        self._proxies = TrustedProxies(settings, os.environ.get("SCRIPT_NAME", ""))
        self._table = Table()
        self.poller_fd = self._table.poller.fileno()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._table.poller.register(self._wake_fd, _IN)
        self.caretaker = Caretaker(
            table=self._table,
            crew=self.crew,
            siblings=siblings,
            exchange=exchange,
            row=row,
            keepalive_s=settings.keepalive,
            connect=self._connect,
            room=self._room,
        )
        # Chosen once, so that a check of the path costs nothing where there is none.
        self._answer = self._serve_or_tell_health if settings.health_path else self._serve
        self._settlement = Settlement(self._table, self.caretaker, settings.keepalive)
        self._door = FrontDoor(
            settings=settings,
            table=self._table,
            settlement=self._settlement,
            row=row,
            date=self._service.refresh_date,
        )
        self._acceptor = Acceptor(
            listeners,
            self._table.poller,
            siblings,
            room=self._room,
            welcome=self._welcome,
            refusal=self._door.no_room,
        )

    # -- for other threads -----------------------------------------------------------------------------

    def wake(self) -> None:
        """Make the leader look around."""
        os.eventfd_write(self._wake_fd, 1)

    def retire(self, idle_s: float, *, pass_on: bool, last: bool) -> None:
        """Stop accepting; end when the connections are done. ``idle_s``: 0 closes idle ones at once.
        ``pass_on``: other workers take over those between two requests. ``last``: nobody accepts any more.

        When it retires already, because the server stops meanwhile: nobody takes over any more.
        """
        if idle_s <= 0:
            self._settlement.closes_idle = True
        self._last = self._last or last
        self.caretaker.passes_on = pass_on and (self.caretaker.passes_on or not self.retiring)
        self.retiring = self._aside = True
        self._draining = False  # the leader goes through what is idle, once more if need be
        self.wake()

    def quarantine(self, on: bool) -> None:
        """Accept nothing and give idle connections away, but go on with what is here; or serve again."""
        self._wants_quarantine = on
        self.wake()

    def park(self, connection: Connection) -> None:
        """Take a connection that a busy thread owns out of the poller. With the crew's lock held."""
        self._table.watch(connection, 0)

    def drop(self, connection: Connection) -> None:
        """Watchdog: it is no longer this worker's to close; with the crew's lock held."""
        if self._table.connections.get(connection.fd) is connection:
            del self._table.connections[connection.fd]

    def refuse_rest(self) -> None:
        """Watchdog, before the process ends with no thread left; with the crew's lock held."""
        self.caretaker.refuse_rest(self._door.no_thread())

    def forget(self) -> None:
        """In a process that the application forked: close its copies of what is the worker's."""
        self._service.forget()
        self._table.forget()
        self._acceptor.forget()
        self.caretaker.forget()
        os.close(self._wake_fd)

    # -- threads ---------------------------------------------------------------------------------------

    def work(self, seat: Seat) -> None:
        """The life of a thread of the worker; returns when the worker has finished."""
        crew = self.crew
        try:
            seat.sit_down()
            while crew.take_or_wait(seat):
                if self._lead(seat):
                    crew.finish()
                    return
        except BaseException:  # noqa: BLE001 - logged, and the process ends
            # Not the application's fault but ours, and nobody knows what state the loop is in: a fresh
            # process does.
            LOGGER.critical("Internal error in %s; it ends", self.name, exc_info=True)
            os._exit(INTERNAL_ERROR_STATUS)

    def _lead(self, seat: Seat) -> bool:
        """Poll and serve. False: the lead was lost; True: the worker has finished."""
        ready = self._table.ready
        service = self._service
        self._begin_accepting()
        while True:
            if self._look_around():
                return True
            until_ns = self._round_ns + ROUND_NS
            while ready:
                connection = ready.popleft()
                if connection.state is _READY and not self._attend(seat, connection):
                    return False
                if service.done_ns > until_ns:
                    break

    def _look_around(self) -> bool:  # noqa: PLR0912 - what happens in each round, and calls cost
        """Take back what other threads have done, act on deadlines, and find out what is ready. True: the
        worker has finished.
        """
        given_back = self._given_back
        while given_back:
            self._settlement.settle(given_back.popleft(), _monotonic())
        if self.retiring and not self._draining:
            self._drain()
        if self._wants_quarantine is not self._in_quarantine and not self.retiring:
            self._change_quarantine()
        timeout_s = self._table.next_deadline_s
        if timeout_s != NEVER:
            now_s = _monotonic()
            if timeout_s <= now_s:
                # Here, not behind an empty poll: under load the poll is never empty, and a deadline that
                # passed meanwhile would make it return at once for ever.
                self._sweep(now_s)
            timeout_s = self._table.next_deadline_s - now_s
        if self._full and self._room() > 0:
            self._full = False
            self._begin_accepting(paused=True)
        connections = self._table.connections
        row = self._row
        row[at.CONNECTIONS] = len(connections)
        if self._draining and not connections:
            return True
        ready = self._table.ready
        crew = self.crew
        others = len(crew.seats) - 1 - len(crew.idle)  # that are busy
        pipelined = self._table.pipelined
        if ready or pipelined:
            timeout_s = 0.0
        else:
            row[at.DRAINED_NS] = _monotonic_ns()
            row[at.LOAD] = others
            if timeout_s == NEVER:
                timeout_s = -1.0
        for fd, mask in self._table.poller.poll(timeout_s, EVENTS):
            found = connections.get(fd)
            if found is None or found.state is not _READING:
                self._other_event(fd, mask, found)
            else:
                found.state = _READY
                ready.append(found)
        if pipelined:
            ready.extend(pipelined)
            pipelined.clear()
        row[at.LOAD] = len(ready) + others
        self._round_ns = _monotonic_ns()
        return False

    def _other_event(self, fd: int, mask: int, connection: Connection | None) -> None:
        if connection is None:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            elif fd in self._acceptor:
                self._acceptor.accept(fd)
                self._row[at.ACCEPTED] = self._acceptor.accepted
                self._stop_when_full()
            elif fd == self.caretaker.fd:
                self.caretaker.take_over()
                self._stop_when_full()
        elif connection.state is State.FLUSHING:
            self._settlement.flush(connection)
        elif connection.state is State.LINGERING:
            self._settlement.linger(connection)
        elif mask & ~_IN and connection.state is not _READY:
            # Its request is in hand: only a leader that serves it inline leaves it in the poller, and that
            # does not poll.
            self._table.watch(connection, 0)

    # -- accepting -------------------------------------------------------------------------------------

    def _begin_accepting(self, *, paused: bool = False) -> None:
        if (paused or self._acceptor.resume_at_s == NEVER) and not self._aside:
            self._acceptor.resume()
            self.caretaker.begin()

    def _stop_when_full(self) -> None:
        """Be woken for nothing that there is no room for: nobody else would be (EPOLLEXCLUSIVE).

        Until a connection ends, which may be soon: to wait for the end of the pause would let in no more than
        ``worker_connections`` clients in each.
        """
        if self._room() <= 0:
            self._full = True
            self._acceptor.pause()
            self.caretaker.pause()
        self._table.look_by(self._acceptor.resume_at_s)

    def _room(self) -> int:
        return self.settings.worker_connections - len(self._table.connections)

    def _welcome(self, address: Address, sock: socket.socket, peer: object) -> None:
        sock.setblocking(False)
        client = "", ""
        if isinstance(peer, tuple):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = str(peer[0]), str(peer[1])
            local = sock.getsockname()
            server = str(local[0]), str(local[1])
        else:
            server = address.path, ""
        connection = self._connect(sock, Peer(server, client))
        self._table.set_deadline(connection, _monotonic() + self.settings.header_timeout)
        self._table.watch(connection, _IN)

    def _connect(self, sock: socket.socket, peer: Peer) -> Connection:
        connection = Connection(
            sock,
            peer.client[0].encode(),
            peer,
            RequestParser(self._heads, self._open_body),
            EnvironTemplate(*peer, multithread=self._multithread, proxies=self._proxies),
            buffer_limit_bytes=self.settings.response_buffer,
            progress_s=SEND_PROGRESS_S,
            wait=self._wait_for_reader,
        )
        self._table.connections[connection.fd] = connection
        return connection

    def _open_body(self) -> RequestBody:
        return RequestBody(self.settings.body_buffer, self.settings.worker_tmp_dir)

    # -- reading ---------------------------------------------------------------------------------------

    def _attend(self, seat: Seat, connection: Connection) -> bool:
        """Read what is there and serve the request that it completes. False: the lead was lost."""
        data = b""
        if connection.mask:
            try:
                size = RECEIVE_BYTES
                if connection.partial:
                    size = min(connection.parser.appetite_bytes, RECEIVE_BODY_BYTES)
                data = connection.sock.recv(size)
            except BlockingIOError:
                connection.state = _READING
                return True
            except OSError:
                self._table.close(connection)
                return True
            if not data:
                self._door.end_of_file(connection)
                return True
        request = None
        try:
            request = connection.parser.take(data)  # of what a client has pipelined, if there is no data
            environ = connection.template.make(request) if type(request) is Request else None
        except OSError as error:
            self._door.refuse_body(connection, request, error)
        except RequestFault as error:  # what its peer may not say
            self._door.refuse_environ(connection, request, error.fault)
        else:
            if environ is not None:
                assert type(request) is Request
                return self._answer(seat, connection, request, environ)
            if isinstance(request, Fault):
                self._door.refuse(connection, request)
            else:
                self._door.await_more(connection)
        return True

    def _serve(self, seat: Seat, connection: Connection, request: Request, environ: WSGIEnvironment) -> bool:
        # What a client has pipelined already is served by a retiring worker, too.
        parser = connection.parser
        service = self._service
        keeps = not self.retiring or bool(parser.buffer) or self.caretaker.passes_on
        if not service.serve(seat, connection, request, environ, keeps):
            self._given_back.append(connection)
            self.wake()
            return False
        now_s = service.done_ns / 1e9
        if (
            connection.closing
            or connection.state is not _ANSWERED
            or parser.buffer
            or connection.backlog
            or self._aside
            or not connection.mask
        ):
            self._settlement.settle(connection, now_s)
            return True
        # What that comes to for most requests.
        connection.state = _READING
        connection.deadline_s = deadline_s = now_s + self._keepalive_s
        if deadline_s < self._table.next_deadline_s:  # noqa: PLR1730 - a call would cost more than all the rest
            self._table.next_deadline_s = deadline_s
        return True

    def _serve_or_tell_health(
        self, seat: Seat, connection: Connection, request: Request, environ: WSGIEnvironment
    ) -> bool:
        if not self._door.asks_for_health(request):
            return self._serve(seat, connection, request, environ)
        self._door.tell_health(connection, request, keeps=not self.retiring)
        return True

    def _wait_for_reader(self, connection: Connection, waits: bool) -> None:
        """The thread that serves this connection waits for its reader, without the lead, or goes on."""
        seat = next((seat for seat in self.crew.seats if seat.connection is connection), None)
        if seat is None:
            return
        seat.writing(waits)
        if waits:
            self.crew.step_aside(seat)
            self.crew.wake_watchdog()

    # -- time ------------------------------------------------------------------------------------------

    def _sweep(self, now_s: float) -> None:
        """Act on deadlines that have passed, and find the next. It is no sooner than 50 ms from now, to bound
        the cost.
        """
        nearest_s = NEVER
        if self._in_quarantine and not self.retiring:
            self.caretaker.passes_on = self.caretaker.has_siblings()
        elif not self.retiring:
            if self._room() <= 0:
                self._full = True
                self._acceptor.pause()
            else:
                if self._acceptor.resume_at_s <= now_s:
                    self._acceptor.resume()
                self.caretaker.begin()
        for connection in list(self._table.connections.values()):
            if connection.deadline_s <= now_s:
                self._expire(connection, now_s)
            if now_s < connection.deadline_s < nearest_s:
                nearest_s = connection.deadline_s
            elif connection.state is _READY and connection.deadline_s <= now_s:
                nearest_s = now_s  # it may turn out to have nothing that counts; its turn comes first
        self._table.next_deadline_s = max(min(nearest_s, self._acceptor.resume_at_s), now_s + 0.05)
        if self.caretaker.passes_on and self._aside:
            self.caretaker.pass_idle_on(now_s)

    def _expire(self, connection: Connection, now_s: float) -> None:
        parser = connection.parser
        within_head = parser.in_message and not parser.in_body
        if connection.state is _READING and not within_head and connection.readable():
            # While all threads were busy nobody looked: what has come since is neither idle nor late. Within
            # a head it does not count, or a client could drip it for ever.
            self._table.set_deadline(connection, now_s + self.settings.header_timeout)
            return
        if connection.state is _READING and connection.parser.in_message and not connection.parser.finished:
            self._door.refuse(connection, Fault(408, "The request did not arrive in time", parser.head_only))
        elif connection.state in (_READING, State.FLUSHING, State.LINGERING):
            self._table.close(connection)

    # -- quarantine ------------------------------------------------------------------------------------

    def _change_quarantine(self) -> None:
        """Take part in accepting no longer, or again. The listeners stay open for that."""
        self._in_quarantine = self._aside = on = self._wants_quarantine
        self._row[at.READY_NS] = 0 if on else _monotonic_ns()
        self.caretaker.passes_on = on and self.caretaker.has_siblings()
        if not on:
            self._begin_accepting(paused=True)
            return
        self._acceptor.stop()
        self.caretaker.end()  # with what waits there: it may be this worker alone that was woken for it
        if self.caretaker.passes_on:
            self.caretaker.pass_idle_on(_monotonic())

    # -- retiring --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Close listeners and bound the life of connections on which nothing is under way.

        A connection with bytes to read has a request that is served yet. One without is kept as long as any
        idle connection, because its client may be sending just now; when the server stops it is closed,
        unless it has not had a request yet: its first is probably on its way.
        """
        self._draining = True
        self._row[at.READY_NS] = 0
        self._acceptor.close(last=self._last)
        self.caretaker.end()
        now_s = _monotonic()
        for connection in list(self._table.connections.values()):
            if connection.state is not _READING or connection.parser.in_message or connection.readable():
                continue
            if connection.requests and self._settlement.closes_idle:
                self._table.close(connection)
            else:
                self._table.set_deadline(
                    connection, min(connection.deadline_s, now_s + self.settings.keepalive)
                )
        if self.caretaker.passes_on:
            self.caretaker.pass_idle_on(now_s)
