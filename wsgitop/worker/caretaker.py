"""Who serves a connection sooner: passing connections to sibling workers, and taking theirs over.

Three cases. While all threads are busy nobody leads, and the watchdog keeps house: it holds the crew's lock
and gives what waits here to siblings that are idle, or clearly less loaded. A worker that retires gives its
idle connections away, so that nothing is closed under a client. A worker whose threads are all lost gives
away whatever it can. The leader of the other worker takes over what comes.

A request that takes long weighs as much as what siblings get done meanwhile, or who is behind it would wait
for its end as soon as all siblings are a little busy. The measure is what they get done and not the clock:
where all requests take long, however long that is, nobody gets more done than others, and everything stays.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from wsgitop.scoreboard import layout as at
from wsgitop.worker.connection import Connection, Peer, State
from wsgitop.worker.handover import Crew
from wsgitop.worker.migration import UNREAD_LIMIT_BYTES, Exchange, Parcel
from wsgitop.worker.shortage import Shortage
from wsgitop.worker.siblings import Siblings
from wsgitop.worker.table import EVENTS, Table

UNEVEN: Final = 2
"""A difference in load that makes it worth to move connections from one busy worker to another."""
LONG: Final = 3
"""A thread whose request takes as long as so many of a sibling's has one that takes long."""
LONG_S: Final = 0.1
"""After so long it is worth the while to find out."""
TAKEN_AT_ONCE: Final = 16
PASSING_INTERVAL_S: Final = 0.05
NO_ROOM_S: Final = 0.25

_IN: Final = select.EPOLLIN
_READING: Final = State.READING
_READY: Final = State.READY
_monotonic: Final = time.monotonic


class Caretaker:
    """``connect`` makes a connection of a socket, ``room`` says how many more the worker may hold.

    ``passes_on``: the worker retires, and others take over connections that are between two requests.
    """

    def __init__(
        self,
        *,
        table: Table,
        crew: Crew,
        siblings: Siblings,
        exchange: Exchange | None,
        row: memoryview,
        keepalive_s: float,
        connect: Callable[[socket.socket, Peer], Connection],
        room: Callable[[], int],
    ) -> None:
        self._table = table
        self._crew = crew
        self._siblings = siblings
        self._exchange = exchange
        self._row = row
        self._keepalive_s = keepalive_s
        self._connect = connect
        self._room = room
        self._polled = False
        self._migrated_in = self._migrated_out = 0
        self._began = self._served_before = 0
        self.fd = -1 if exchange is None else exchange.fileno()
        self.passes_on = False
        self._shortage = Shortage("take over connections of other workers")

    def begin(self) -> None:
        """Leader: be woken when a sibling gives a connection away."""
        if self._exchange is not None and not self._polled:
            self._polled = True
            self._table.poller.register(self.fd, _IN | select.EPOLLEXCLUSIVE)

    def end(self) -> None:
        """Leader, when the worker begins to retire: take nothing over any more.

        But what waits there now: it may be this worker alone that was woken for it.
        """
        if self._polled:
            self.take_over()
            self._ignore()

    def pause(self) -> None:
        """Leader: not polled meanwhile, or the loop would spin on it; others take what waits."""
        self._ignore()
        self._table.look_by(_monotonic() + NO_ROOM_S)

    def _ignore(self) -> None:
        if self._polled:
            self._polled = False
            self._table.poller.unregister(self.fd)

    def forget(self) -> None:
        """In a process that the application forked."""
        if self._exchange is not None:
            self._exchange.close()

    def keep_house(self) -> bool:
        """Watchdog, with the crew's lock, while nobody leads because all are busy: pass what waits on to
        workers that can serve it sooner. True: something waits still.

        It does not accept, read or serve.
        """
        table = self._table
        ready = table.ready
        connections = table.connections
        events = table.poller.poll(0.0, EVENTS)
        for fd, _ in events:
            found = connections.get(fd)
            if found is not None and found.state is _READING:
                found.state = _READY
                ready.append(found)
        if self.passes_on:
            self.pass_idle_on(_monotonic())
        arrears = self._arrears()
        load = len(ready) + len(table.pipelined) + sum(seat.response is not None for seat in self._crew.seats)
        load += arrears
        if ready:
            load -= self._pass_ready_on(load, late=arrears > 0)
        self._row[at.LOAD] = load
        self._row[at.CONNECTIONS] = len(connections)
        return bool(ready) or bool(events)  # the latter may be a listener, which stays as it is

    def _arrears(self) -> int:
        """How many requests each sibling has finished since a thread here last began one, beyond what is
        usual.
        """
        began = sum(seat.serial for seat in self._crew.seats)
        served, workers = self._siblings.served()
        if began != self._began or served < self._served_before or not workers:  # fewer: one has retired
            self._began, self._served_before = began, served
            return 0
        return max(0, (served - self._served_before) // workers - LONG * len(self._crew.seats))

    def _pass_ready_on(self, load: int, *, late: bool) -> int:
        """Pass on what waits here and is served sooner elsewhere; how many were passed. ``late``: a sibling
        would have served it by now.
        """
        ready = self._table.ready
        idle, surplus = self._room_elsewhere(load)
        # Idle siblings get who has waited longest. Between busy ones who came last moves, to the end of a
        # shorter queue: anything else would let some go before others again and again. Behind a request that
        # takes long all will move, so those who wait longest begin; at the end of that queue none the less.
        room = idle or surplus
        passed = 0
        for connection in list(ready) if idle or late else list(reversed(ready)):
            if passed == room:
                break
            if connection.state is _READY and self.pass_on(connection, first=bool(idle)):
                ready.remove(connection)
                passed += 1
        return passed

    def abandon(self) -> None:
        """Watchdog, with the crew's lock, when no thread will ever lead again: give away what can be given
        away, with what has been read of the next request.
        """
        if self.passes_on:
            for connection in list(self._table.connections.values()):
                if connection.state in (_READING, _READY):
                    self.pass_on(connection, unread=True)

    def refuse_rest(self, answer: Callable[[bool], bytes]) -> None:
        """Watchdog, before the process ends with no thread left: say so to those whose request is not
        complete. ``answer`` makes the answer, to a HEAD if it is given True.
        """
        for connection in list(self._table.connections.values()):
            if connection.state in (_READING, _READY) and connection.parser.in_message:
                connection.cut(answer(connection.parser.head_only))

    def has_siblings(self) -> bool:
        """Other workers accept connections, and could take some over."""
        return self._exchange is not None and self._siblings.least_load() is not None

    def may_pass(self, elapsed_s: float) -> bool:
        """Other connections may wait here, and siblings could serve them, or should know that this worker,
        whose request has taken so long, is none to count on.
        """
        if len(self._table.connections) < 2 and elapsed_s < LONG_S:
            return False
        if self.passes_on:
            return True  # to those of the next generation, of which nothing is known here
        if not self._polled:
            return False
        # If all threads are busy here as there, only who keeps house can compare the loads.
        return self._siblings.idle_threads() > 0 or (not self._crew.idle and self.has_siblings())

    def _room_elsewhere(self, load: int) -> tuple[int, int]:
        """How many threads are idle in other workers, and, if none is, how many connections one of them
        should have of this worker's ``load`` for both to have the same to do.
        """
        exchange = self._exchange
        if exchange is None or not (self._polled or self.passes_on) or exchange.pending():
            return 0, 0  # the siblings are not as free as they look
        idle = self._siblings.idle_threads()
        least = None if idle else self._siblings.least_load()
        return idle, (load - least) // 2 if least is not None and load - least >= UNEVEN else 0

    def pass_on(self, connection: Connection, *, unread: bool = False, first: bool = True) -> bool:
        """Give a connection to another worker, if it is between two messages, or, with ``unread``, if its
        next request has not got further than its head. ``first``: it goes before who waits there. False: it
        stays.
        """
        exchange = self._exchange
        parser = connection.parser
        data = parser.unread if unread else None if parser.in_message else b""
        if (
            exchange is None
            or data is None
            or len(data) > UNREAD_LIMIT_BYTES
            or connection.closing
            or not connection.flushed
        ):
            return False
        (host, port), client = connection.peer
        parcel = Parcel(
            (os.fsencode(host), port),
            client,
            requests=connection.requests,
            deadline_s=min(connection.deadline_s, _monotonic() + self._keepalive_s),
            waiting=connection.state is _READY or bool(data),
            first=first,
            unread=data,
        )
        if not exchange.send(parcel, connection.fd):
            return False
        self._migrated_out += 1
        self._row[at.MIGRATED_OUT] = self._migrated_out
        self._table.close(connection)
        return True

    def pass_idle_on(self, now_s: float) -> None:
        """Retiring: to whoever takes over, with the client none the wiser."""
        table = self._table
        left = False
        for connection in list(table.connections.values()):
            if connection.state in (_READING, _READY) and not self.pass_on(connection):
                left = True
        if left:  # the others have not taken all of them yet, or a request is coming in
            table.look_by(now_s + PASSING_INTERVAL_S)

    def take_over(self) -> None:
        """Take connections from siblings: one that waits to be served, or some that do not.

        It is the caller's to pause it when there is no room for more.
        """
        exchange = self._exchange
        table = self._table
        ready = table.ready
        if exchange is None:
            return
        for _ in range(min(TAKEN_AT_ONCE, self._room())):
            least = self._siblings.least_load() if ready else None
            if least is not None and len(ready) + 1 - least >= UNEVEN:
                return  # others have less to do, and it is here for that very reason
            try:
                found = exchange.receive()
            except OSError as error:
                self._shortage.failed(error)
                self.pause()
                return
            if found is None:
                return
            if self._shortage.lasts:
                self._shortage.worked()
            parcel, sock = found
            sock.setblocking(False)
            host, port = parcel.server
            connection = self._connect(sock, Peer((os.fsdecode(host), port), parcel.client))
            connection.requests = parcel.requests
            table.set_deadline(connection, parcel.deadline_s)
            if parcel.unread:
                connection.parser.feed(parcel.unread)  # and is looked at before more is read
            else:
                table.watch(connection, _IN)
            self._migrated_in += 1
            self._row[at.MIGRATED_IN] = self._migrated_in
            if parcel.waiting:
                connection.state = _READY
                if parcel.first:
                    ready.appendleft(connection)  # it has waited longer than any other
                    return
                ready.append(connection)
