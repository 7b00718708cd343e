"""What becomes of a connection behind a response: flushed, kept, passed on, or parted with.

Run by the leader.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Final

from wsgitop.worker.caretaker import PASSING_INTERVAL_S, Caretaker
from wsgitop.worker.connection import NEVER, Connection, State
from wsgitop.worker.table import Table
from wsgitop.wsgi.response import ClientGone

LINGER_S: Final = 2.0
LINGER_LIMIT_BYTES: Final = 1024 * 1024
LINGER_READ_BYTES: Final = 256 * 1024
SEND_PROGRESS_S: Final = 60.0
"""A reader that takes nothing for so long is given up."""

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_READING: Final = State.READING
_READY: Final = State.READY
_monotonic: Final = time.monotonic


class Settlement:
    """``keepalive_s`` is how long an idle connection is kept; ``closes_idle``: none is, the server stops."""

    def __init__(self, table: Table, caretaker: Caretaker, keepalive_s: float) -> None:
        self._table = table
        self._caretaker = caretaker
        self._keepalive_s = keepalive_s
        self.closes_idle = False

    def settle(self, connection: Connection, now_s: float) -> None:
        """A request is done."""
        if connection.state is State.BROKEN:
            self._table.close(connection)
        else:
            self.conclude(connection, now_s)

    def conclude(self, connection: Connection, now_s: float) -> None:
        """The answer is complete: flush it, close, or wait for the next request."""
        if not connection.flushed:
            connection.state = State.FLUSHING
            self._table.set_deadline(connection, now_s + SEND_PROGRESS_S)
            self._table.watch(connection, _OUT)
        elif connection.closing or (
            self.closes_idle and not connection.parser.buffer and not connection.readable()
        ):
            self._part(connection, now_s)
        elif connection.parser.buffer:
            # Not polled until what is here is used up: else what a client pipelines would pile up without
            # bound, and the end of its side would be met before its last requests. Nor can it be late.
            connection.state = _READY
            connection.deadline_s = NEVER
            self._table.watch(connection, 0)
            self._table.pipelined.append(connection)
        else:
            connection.state = _READING
            self._table.set_deadline(connection, now_s + self._keepalive_s)
            if self._caretaker.passes_on:
                if self._caretaker.pass_on(connection):
                    return
                self._table.look_by(now_s + PASSING_INTERVAL_S)
            if connection.mask != _IN:
                self._table.watch(connection, _IN)

    def flush(self, connection: Connection) -> None:
        """The reader takes something again."""
        now_s = _monotonic()
        try:
            if connection.flush():
                self._table.set_deadline(connection, now_s + SEND_PROGRESS_S)
        except ClientGone:
            self._table.close(connection)
            return
        if connection.flushed:
            self.conclude(connection, now_s)

    def _part(self, connection: Connection, now_s: float) -> None:
        """Close our side. If the client is still sending, wait for its end: a reset would eat the last
        response.
        """
        parser = connection.parser
        if not (parser.faulted or parser.in_message or connection.readable()):
            self._table.close(connection)
            return
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._table.close(connection)
            return
        connection.state = State.LINGERING
        connection.backlog_bytes = 0
        self._table.set_deadline(connection, now_s + LINGER_S)
        self._table.watch(connection, _IN)

    def linger(self, connection: Connection) -> None:
        """Our side is closed; wait for the client's end."""
        try:
            data = connection.sock.recv(LINGER_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.backlog_bytes += len(data)
        if not data or connection.backlog_bytes > LINGER_LIMIT_BYTES:
            self._table.close(connection)
