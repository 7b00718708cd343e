"""One client connection: its socket, its parser, and what the socket has not taken yet.

It belongs to the leader, except while a request of it is in hand: then to the thread that serves the request.
Being the :class:`wsgitop.wsgi.response.Sink` of its responses, it never blocks but in :meth:`drain`. The
watchdog calls :meth:`push`, so what has to do with the backlog is done with a lock held; without a backlog
there is nothing to push, and no lock is taken.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from wsgitop.http.request import RequestParser
from wsgitop.logs.error_log import LOGGER
from wsgitop.wsgi.environ import EnvironTemplate
from wsgitop.wsgi.files import FileRange
from wsgitop.wsgi.response import ClientGone

NEVER: Final = math.inf
FLUSH_BYTES: Final = 4 * 1024 * 1024
"""What goes out at most before other connections get their turn."""


class State(enum.Enum):
    """What a connection is at. The leader acts by it when the socket is ready or the deadline has passed."""

    READING = enum.auto()  # idle between requests, or a request is coming in; the poller watches it
    READY = enum.auto()  # there is something to read; it waits for its turn
    HANDLING = enum.auto()  # the application has it; the loop keeps its hands off
    ANSWERED = enum.auto()  # the application is done with it; the loop has not taken it back yet
    BROKEN = enum.auto()  # the same, and nothing more can be said on it
    FLUSHING = enum.auto()  # the response is complete, the reader slow
    LINGERING = enum.auto()  # our side is closed; what the client still sends is thrown away
    CLOSED = enum.auto()


class Peer(NamedTuple):
    """The ends of a connection as (host, port), in text. Those of a unix socket are empty, but for its path
    as the host of ``server``.
    """

    server: tuple[str, str]
    client: tuple[str, str]


class Connection:
    """``deadline_s`` (monotonic) is when the loop must act if nothing happens; ``mask`` what the poller
    watches for.

    ``closing``: it ends behind what is being sent. ``partial``: a request has begun and is not complete.
    ``client`` is the peer as text for scoreboard and log, ``peer`` both ends as text.
    """

    __slots__ = (
        "_buffer_limit_bytes",
        "_lock",
        "_progress_s",
        "_shrunk",
        "_wait",
        "backlog",
        "backlog_bytes",
        "client",
        "closing",
        "deadline_s",
        "fd",
        "mask",
        "parser",
        "partial",
        "peer",
        "requests",
        "sock",
        "state",
        "template",
    )

    def __init__(
        self,
        sock: socket.socket,
        client: bytes,
        peer: Peer,
        parser: RequestParser,
        template: EnvironTemplate,
        *,
        buffer_limit_bytes: int,
        progress_s: float,
        wait: Callable[[Connection, bool], None],
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.client = client
        self.peer = peer
        self.parser = parser
        self.template = template
        self.state = State.READING
        self.mask = 0
        self.deadline_s = NEVER
        self.closing = False
        self.partial = False
        self.requests = 0
        # A queue costs 600 bytes, and most connections never need one.
        self.backlog: deque[memoryview | FileRange] | None = None
        self.backlog_bytes = 0
        self._lock = threading.Lock()
        self._buffer_limit_bytes = buffer_limit_bytes
        self._progress_s = progress_s
        self._shrunk = False
        self._wait = wait

    @property
    def flushed(self) -> bool:
        """The socket has taken everything."""
        return not self.backlog

    def readable(self) -> bool:
        """There are bytes of the client's to read."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def send(self, data: bytes) -> None:
        """Send what the socket takes and keep the rest. Raises ClientGone."""
        sent = 0
        if not self.backlog:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                raise ClientGone(str(error)) from None
            if sent == len(data):
                return
        with self._lock:
            self._queue().append(memoryview(data)[sent:])
            self.backlog_bytes += len(data) - sent

    def _queue(self) -> deque[memoryview | FileRange]:
        if self.backlog is None:
            self.backlog = deque()
        return self.backlog

    def send_file(self, part: FileRange) -> None:
        """Send what the socket takes of a file; the rest goes out from a duplicate of its descriptor, since
        the application closes the file, on its own thread, before a slow reader has got it all. Raises
        ClientGone.
        """
        with self._lock:
            self._queue().append(part._replace(fd=os.dup(part.fd)))
        self.flush()

    def flush(self) -> bool:
        """Send of the backlog what the socket takes. True: something went. Raises ClientGone."""
        with self._lock:
            return self._flush()

    def push(self) -> None:
        """Watchdog: what is kept must not wait until the application has made its next block (PEP 3333,
        "Buffering and Streaming").
        """
        if self.backlog:
            with contextlib.suppress(ClientGone):  # the thread that serves it finds out
                self.flush()

    def _flush(self) -> bool:
        backlog = self.backlog
        progress = False
        room = FLUSH_BYTES
        try:
            # A fast reader of a large file must not have the loop to itself.
            while backlog and room > 0:
                item = backlog[0]
                if isinstance(item, FileRange):
                    sent = os.sendfile(self.fd, item.fd, item.offset, min(item.size, room))
                    if not sent:
                        self._tell_shrunk()
                        raise ClientGone("the file became shorter while it was sent")
                    progress = True
                    room -= sent
                    if sent < item.size:
                        backlog[0] = FileRange(item.fd, item.offset + sent, item.size - sent)
                        continue
                    os.close(item.fd)
                else:
                    sent = self.sock.send(item)
                    progress = True
                    room -= sent
                    self.backlog_bytes -= sent
                    if sent < len(item):
                        backlog[0] = item[sent:]
                        continue
                backlog.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            raise ClientGone(str(error)) from None
        return progress

    def _tell_shrunk(self) -> None:
        """Once: the watchdog may find it before the thread does."""
        if not self._shrunk:
            self._shrunk = True
            LOGGER.error(
                "Cut a response to %s: the file that is sent became shorter meanwhile",
                self.client.decode() or "a local client",
            )

    def drain(self) -> None:
        """Wait, without the leadership, while more is kept than the response buffer holds. Raises ClientGone.

        A reader that takes nothing for the progress deadline is given up.
        """
        limit = self._buffer_limit_bytes
        if not self.backlog:
            return
        self.flush()
        if self.backlog_bytes <= limit:
            return
        self._wait(self, True)
        try:
            poller = select.poll()
            poller.register(self.fd, select.POLLOUT)
            while self.backlog_bytes > limit // 2:
                if not poller.poll(self._progress_s * 1000):
                    raise ClientGone(f"the client took nothing for {self._progress_s:g} s")
                self.flush()
        finally:
            self._wait(self, False)

    def cut(self, answer: bytes) -> None:
        """Watchdog: end it now, with an answer if nothing was said before. The thread that serves it finds it
        dead.
        """
        try:
            if answer:
                self.sock.send(answer)
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was dead already

    def forget(self) -> None:
        """In a process that the application forked, where nobody gives the lock back that another thread
        held.
        """
        self._lock = threading.Lock()
        self.close()

    def close(self) -> None:
        """Close socket and files, also that of a body that is incomplete. The poller must have let go of it
        before.
        """
        with self._lock:
            for item in self.backlog or ():
                if isinstance(item, FileRange):
                    os.close(item.fd)
            self.backlog = None
            self.backlog_bytes = 0
            self.sock.close()
        # Whoever served it may hold on to the connection until there is something else to do.
        self.parser.abandon()
