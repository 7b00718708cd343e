"""The connections of a worker: the poller that watches them, who is ready, and what is due when.

It belongs to whoever leads; while nobody does, to the watchdog with the crew's lock.
"""

from __future__ import annotations

import select
from collections import deque
from typing import Final

from wsgitop.worker.connection import NEVER, Connection, State

EVENTS: Final = 256


class Table:
    """``connections`` are all, by descriptor. ``ready`` are those with something to read, in the order in
    which they became so; ``pipelined`` those whose next request has been read already: they are ready behind
    the next poll. ``next_deadline_s`` (monotonic) is no later than the first deadline.
    """

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}
        self.ready: deque[Connection] = deque()
        self.pipelined: list[Connection] = []
        self.next_deadline_s = NEVER
        self.poller = select.epoll()

    def set_deadline(self, connection: Connection, deadline_s: float) -> None:
        """When something must have happened on it."""
        connection.deadline_s = deadline_s
        self.look_by(deadline_s)

    def look_by(self, deadline_s: float) -> None:
        """Something is due then."""
        self.next_deadline_s = min(self.next_deadline_s, deadline_s)

    def watch(self, connection: Connection, mask: int) -> None:
        """Have the poller watch for these events; 0: for none."""
        before = connection.mask
        if mask == before:
            return
        connection.mask = mask
        if not before:
            self.poller.register(connection.fd, mask)
        elif mask:
            self.poller.modify(connection.fd, mask)
        else:
            self.poller.unregister(connection.fd)

    def close(self, connection: Connection) -> None:
        """Let go of it: first out of the table, then out of the poller, then closed, because the number may
        be another connection's right after.
        """
        if self.connections.get(connection.fd) is connection:
            del self.connections[connection.fd]
        self.watch(connection, 0)
        connection.state = State.CLOSED
        connection.close()

    def forget(self) -> None:
        """In a process that the application forked: close its copies."""
        for connection in self.connections.values():
            connection.forget()
        self.poller.close()
