"""Whose call is handled next: one frame of each client in rotation, within a share of the loop's time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol


class Taker(Protocol):
    """A client with something to handle. ``is_owner``: of the server's own user, or root."""

    is_owner: bool

    def take_turn(self) -> bool:
        """Handle one frame. Whether another one may be handled right away."""


class Turns:
    """The rotation. All calls together get ``share`` of the loop's time, and ``burst_s`` of it in a row when
    they had less before: a crowd of clients slows itself down, not the master.

    The owner's clients and the others' take turns, however many there are of either, so that no crowd of
    others stands before the owner.
    """

    def __init__(self, *, share: float, burst_s: float) -> None:
        self._share = share
        self._burst_s = self._left_s = burst_s
        self._loop = asyncio.get_running_loop()
        self._left_at = self._loop.time()
        self._owners: deque[Taker] = deque()
        self._others: deque[Taker] = deque()
        self._queued: set[Taker] = set()
        self._next: asyncio.Handle | None = None
        self.is_crowded = False
        """More was asked the last time than there was time for."""

    def ask(self, taker: Taker) -> None:
        """Let ``taker`` have a turn."""
        self._queue(taker)
        if self._next is None:
            self._next = self._loop.call_soon(self._run)

    def stop(self) -> None:
        """No more turns."""
        if self._next is not None:
            self._next.cancel()

    def _queue(self, taker: Taker) -> None:
        if taker not in self._queued:
            self._queued.add(taker)
            (self._owners if taker.is_owner else self._others).append(taker)

    def _run(self) -> None:
        wait_s = 0.0
        try:
            wait_s = self._go_round()
        finally:
            # Until here it was set, so that a client that asked meanwhile was only put into the queue.
            self._next = None
            self.is_crowded = wait_s > 0
            if self._queued and not wait_s:  # a fault of one is no reason to leave the rest
                wait_s = self._burst_s / 2 / self._share
            if wait_s:
                self._next = self._loop.call_later(wait_s, self._run)

    def _go_round(self) -> float:
        """Let them have their turns; how long to wait then, 0 if nobody has anything left to handle."""
        now = self._loop.time()
        self._left_s = min(self._burst_s, self._left_s + (now - self._left_at) * self._share)
        self._left_at = now
        # Processor time: what other processes take of a busy machine is not the clients' doing.
        used_s = time.thread_time()
        while self._queued:
            if self._left_s <= 0:
                # Until half of the burst is there again: a wake-up for each call would cost more than it.
                return (self._burst_s / 2 - self._left_s) / self._share
            for queue in (self._owners, self._others):
                if not queue:
                    continue
                taker = queue.popleft()
                self._queued.discard(taker)
                if taker.take_turn():
                    self._queue(taker)
            before_s, used_s = used_s, time.thread_time()
            self._left_s -= used_s - before_s
        return 0.0
