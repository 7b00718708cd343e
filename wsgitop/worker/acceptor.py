"""The listeners of a worker: when they are polled, and how many connections are taken at a time.

A worker that has no descriptor left leaves connections in the queue, where siblings see them, and looks again
a moment later: what is short now is mostly given back soon, by clients that leave. If nothing is for
PATIENCE_S and there is no sibling, they are told so instead (503), each over the spare descriptor: a client,
and a balancer before it, can do something about that, and nothing about silence. The option not taken, to
turn clients away at once, would refuse those that were served a moment later.

Run by the leader alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from wsgitop.logs.error_log import LOGGER
from wsgitop.settings.addresses import Address
from wsgitop.transport.queue_depth import tcp_queue
from wsgitop.worker.connection import NEVER
from wsgitop.worker.shortage import SHORT_OF, Shortage
from wsgitop.worker.siblings import Siblings

BATCH: Final = 64
PAUSE_S: Final = 0.25
PATIENCE_S: Final = 5.0
UNREAD_BYTES: Final = 64 * 1024
"""What a client that is turned away may have sent, or a reset would eat what it is told."""


class Acceptor:
    """Accepts from ``listeners``, which are non-blocking, and gives each connection to ``welcome``.

    ``room`` says how many more connections the worker may hold, ``refusal`` what a client is told that waits
    in vain. ``resume_at_s`` (monotonic) is when it must be resumed after a pause.
    """

    def __init__(
        self,
        listeners: Sequence[tuple[Address, socket.socket]],
        poller: select.epoll,
        siblings: Siblings,
        *,
        room: Callable[[], int],
        welcome: Callable[[Address, socket.socket, object], None],
        refusal: Callable[[], bytes],
    ) -> None:
        self._listeners = {sock.fileno(): (address, sock) for address, sock in listeners}
        self._poller = poller
        self._siblings = siblings
        self._room = room
        self._welcome = welcome
        self._refusal = refusal
        self._spare_fd = -1
        self._keep_spare()
        self._shortage = Shortage("accept connections")
        self._in_vain_s = NEVER  # since when nothing could be accepted
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

    def stop(self) -> None:
        """Accept no more until it is resumed.

        First what waits: it may be this worker alone that has been woken for it (EPOLLEXCLUSIVE), and the
        others would not look before yet another client comes.
        """
        for fd in self._listeners:
            self.accept(fd)
        self._unpoll()
        self.resume_at_s = NEVER

    def accept(self, fd: int) -> None:
        """Accept one connection while another worker is idle, which the next has woken; else this worker's
        share of those that wait, in one batch: with one at a time, late ones would wait behind slow requests.
        It is the caller's to pause it when there is no room for more.
        """
        address, listener = self._listeners[fd]
        self._accept(address, listener, 1 if self._siblings.idle() else self._share(listener))

    def _accept(self, address: Address, listener: socket.socket, most: int) -> int:
        """Accept up to so many; how many it were."""
        before = self.accepted
        for _ in range(min(most, self._room())):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno in SHORT_OF:
                    self._run_short(listener, error)
                else:
                    LOGGER.warning("Cannot accept on %s: %s", address, error)
                break
            if self._shortage.lasts:
                self._in_vain_s = NEVER
                self._shortage.worked()
            self.accepted += 1
            self._welcome(address, sock, peer)
        return self.accepted - before

    def _run_short(self, listener: socket.socket, error: OSError) -> None:
        self._shortage.failed(error)
        now_s = time.monotonic()
        self._in_vain_s = min(self._in_vain_s, now_s)
        if now_s >= self._in_vain_s + PATIENCE_S and not self._siblings.count():
            self._turn_away(listener)
        self.pause()

    def _turn_away(self, listener: socket.socket) -> None:
        """Answer those that wait over the spare descriptor, one after the other."""
        if self._spare_fd < 0:
            return
        os.close(self._spare_fd)
        self._spare_fd = -1
        # OSError: nobody waits any more, the client is gone, or another thread has taken the descriptor.
        with contextlib.suppress(OSError):
            answer = self._refusal()
            for _ in range(BATCH):
                with listener.accept()[0] as sock:
                    sock.setblocking(False)
                    with contextlib.suppress(OSError):
                        sock.recv(UNREAD_BYTES)
                    with contextlib.suppress(OSError):
                        sock.send(answer)
        self._keep_spare()

    def _keep_spare(self) -> None:
        if self._spare_fd < 0:
            with contextlib.suppress(OSError):
                self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _share(self, listener: socket.socket) -> int:
        siblings = self._siblings.count()
        if not siblings or listener.family == socket.AF_UNIX:
            return BATCH
        return min(BATCH, -(-tcp_queue(listener) // (siblings + 1)) or 1)

    def close(self, *, last: bool) -> None:
        """Accept no more, and close this process's copies of the listeners. ``last``: nobody accepts any
        more, so what waits in the queue, or comes until then, is taken as far as there is room: the kernel
        resets what is left.
        """
        self.stop()
        if last:
            for address, listener in self._listeners.values():
                while self._accept(address, listener, BATCH):
                    pass
            self.resume_at_s = NEVER
        self.forget()

    def forget(self) -> None:
        """Close the copies only; for a process that the application forked, which shares the poller."""
        for _, sock in self._listeners.values():
            sock.close()
        self._listeners.clear()
        if self._spare_fd >= 0:
            os.close(self._spare_fd)
            self._spare_fd = -1

    def _unpoll(self) -> None:
        if self._polled:
            self._polled = False
            for fd in self._listeners:
                self._poller.unregister(fd)
