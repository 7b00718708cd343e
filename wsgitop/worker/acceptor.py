"""The listeners of a worker: when they are polled, and how many connections are taken at a time.

Run by the leader alone.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from wsgitop.logs.error_log import LOGGER
from wsgitop.settings.addresses import Address
from wsgitop.transport.queue_depth import tcp_queue
from wsgitop.worker.connection import NEVER
from wsgitop.worker.siblings import Siblings

BATCH: Final = 64
PAUSE_S: Final = 0.25
_NO_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Acceptor:
    """Accepts from ``listeners``, which are non-blocking, and gives each connection to ``welcome``.

    ``room`` says how many more connections the worker may hold. ``resume_at_s`` (monotonic) is when it must
    be resumed after a pause.
    """

    def __init__(
        self,
        listeners: Sequence[tuple[Address, socket.socket]],
        poller: select.epoll,
        siblings: Siblings,
        *,
        room: Callable[[], int],
        welcome: Callable[[Address, socket.socket, object], None],
    ) -> None:
        self._listeners = {sock.fileno(): (address, sock) for address, sock in listeners}
        self._poller = poller
        self._siblings = siblings
        self._room = room
        self._welcome = welcome
        self._polled = False
        self.accepted = 0
        self.resume_at_s = NEVER

    def __contains__(self, fd: int) -> bool:
        return fd in self._listeners

    def resume(self) -> None:
        """Poll the listeners. EPOLLEXCLUSIVE: one connection wakes one idle worker, not all."""
        self.resume_at_s = NEVER
        if not self._polled:
            self._polled = True
            for fd in self._listeners:
                self._poller.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def pause(self) -> None:
        """Not polling is what keeps the loop from spinning on a listener that it cannot accept from."""
        self._unpoll()
        self.resume_at_s = time.monotonic() + PAUSE_S

    def accept(self, fd: int) -> None:
        """Accept one connection while another worker is idle, which the next has woken; else this worker's
        share of those that wait, in one batch: with one at a time, late ones would wait behind slow requests.
        It is the caller's to pause it when there is no room for more.
        """
        address, listener = self._listeners[fd]
        for _ in range(min(1 if self._siblings.idle() else self._share(listener), self._room())):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    LOGGER.warning("Cannot accept on %s: %s", address, error)
                    break
                LOGGER.error(
                    "Cannot accept on %s: %s; trying again in %g s", address, error.strerror, PAUSE_S
                )
                self.pause()
                break
            self.accepted += 1
            self._welcome(address, sock, peer)

    def _share(self, listener: socket.socket) -> int:
        siblings = self._siblings.count()
        if not siblings or listener.family == socket.AF_UNIX:
            return BATCH
        return min(BATCH, -(-tcp_queue(listener) // (siblings + 1)) or 1)

    def close(self) -> None:
        """Accept no more, and close this process's copies of the listeners.

        First what waits: it may be this worker alone that has been woken for it (EPOLLEXCLUSIVE), and the
        others would not look before yet another client comes.
        """
        for fd in self._listeners:
            self.accept(fd)
        self._unpoll()
        self.resume_at_s = NEVER
        self.forget()

    def forget(self) -> None:
        """Close the copies only; for a process that the application forked, which shares the poller."""
        for _, sock in self._listeners.values():
            sock.close()
        self._listeners.clear()

    def _unpoll(self) -> None:
        if self._polled:
            self._polled = False
            for fd in self._listeners:
                self._poller.unregister(fd)
