"""Takes connections from a listening control socket, no more a second than a master has time for.

asyncio's own server accepts a hundred in one turn of the loop, as fast as they come: whoever connects over
and over would have the master for himself. Here they wait in the kernel's queue, each socket's apart, so that
others cannot delay the owner; and who is turned away costs no transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from wsgitop.logs.error_log import LOGGER

AT_ONCE = 4
"""Connections taken in one turn of the loop."""
SHORTAGE_S = 1.0
"""How long to wait when the process has no descriptors left."""
TURNED_AWAY_S = 1.0
"""How long a client that is refused may take to read why."""


class Acceptor:
    """Accepts from ``sock``, which it closes in the end, and gives each connection to ``receive``.

    ``per_s`` connections a second, ``burst`` at once. Owned by the loop that runs it.
    """

    def __init__(
        self, sock: socket.socket, receive: Callable[[socket.socket], None], *, per_s: float, burst: float
    ) -> None:
        self._sock = sock
        self._receive = receive
        self._per_s = per_s
        self._burst = self._tokens = burst
        self._loop = asyncio.get_running_loop()
        self._tokens_at = self._loop.time()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock, self._ready)

    def close(self) -> None:
        """Accept no more, and close the socket. May be called again."""
        if self._pause is not None:
            self._pause.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _ready(self) -> None:
        now = self._loop.time()
        self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self._per_s)
        self._tokens_at = now
        for _ in range(AT_ONCE):
            if self._tokens < 1:
                # Until a few can be taken at once: to wake for each would cost as much again.
                self._rest((AT_ONCE - self._tokens) / self._per_s)
                return
            try:
                client, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                LOGGER.warning("control: no connection can be accepted: %s", error.strerror)
                self._rest(SHORTAGE_S)
                return
            self._tokens -= 1
            client.setblocking(False)
            self._receive(client)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._ready)


class TurnedAway:
    """Connections of clients that are not wanted, at most ``most``: told why, not read from, closed soon.

    Not closed at once: the client may be writing its first call, and the failure of that would hide the
    reason that it is about to read.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._held: deque[tuple[float, socket.socket]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, client: socket.socket, reason: bytes) -> None:
        """Tell ``client`` the reason, and close it after a while."""
        with contextlib.suppress(OSError):  # it has gone by itself
            client.send(reason)
        self._held.append((self._loop.time() + TURNED_AWAY_S, client))
        while len(self._held) > self._most:
            self._held.popleft()[1].close()
        if self._timer is None:
            self._timer = self._loop.call_later(TURNED_AWAY_S, self._look)

    def close(self) -> None:
        """Close them all."""
        if self._timer is not None:
            self._timer.cancel()
        while self._held:
            self._held.popleft()[1].close()

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._held and self._held[0][0] <= now:
            self._held.popleft()[1].close()
        if self._held:
            self._timer = self._loop.call_at(self._held[0][0], self._look)
