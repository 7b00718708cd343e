"""Who leads: the thread that polls, accepts, parses and runs fast requests itself.

The leader keeps no lock for that. Before it calls the application it pushes an element on its seat's
``token``, afterwards it pops it; pops are atomic, so either it gets the element and still leads, or somebody
else has got it, and with it the leadership. That somebody (the watchdog, or a thread that has just become
free) holds ``lock`` for the whole transition: it pops the token, takes the old leader's connection out of the
poller, and names the new leader. An old leader that finds its token gone takes the same lock once, so that
the transition is over before it touches its connection again.

The option not taken: a queue between an accepting thread and a pool. It costs two thread switches for each
request, which is more than the whole of a small one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from wsgitop.worker.connection import Connection
from wsgitop.worker.seat import Seat

RELIEF_AFTER_S = 0.001
"""A thread that becomes free takes over from a leader whose request has been running for longer than this."""


class Crew:
    """The seats of a worker. ``handovers`` counts leads that changed hands within a request. ``park`` takes a
    connection out of the poller, with the lock held.
    """

    def __init__(self, seats: Sequence[Seat], park: Callable[[Connection], None]) -> None:
        self.seats = tuple(seats)
        self.lock = threading.Lock()
        self.leader: Seat | None = None
        self.idle: list[Seat] = []
        self.finished = False
        self.handovers = 0
        self._park = park

    def take_or_wait(self, seat: Seat, before_waiting: Callable[[], None]) -> bool:
        """Called by a thread that has nothing to do: returns when it leads. False: the worker is done."""
        with self.lock:
            if self.finished:
                return False
            leader = self.leader
            if leader is None:
                self.leader = seat
                return True
            response = leader.response
            since_s = response.since_s if response is not None else 0.0
            if since_s and time.monotonic() - since_s > RELIEF_AFTER_S and self._relieve(leader, seat):
                return True
            self.idle.append(seat)
        before_waiting()
        seat.baton.acquire()
        return not self.finished

    def still_leads(self, seat: Seat) -> bool:
        """Called by a thread behind its call of the application. False: it has lost the lead, and the
        transition is over.
        """
        try:
            seat.token.pop()
        except IndexError:
            with self.lock:
                return False
        return True

    def hand_over(self) -> None:
        """Watchdog: let an idle thread lead, if there is one and the leader is inside the application."""
        with self.lock:
            leader = self.leader
            if leader is not None and self.idle and self._relieve(leader, self.idle[-1]):
                self.idle.pop().baton.release()

    def step_aside(self, seat: Seat) -> None:
        """Called by a thread that is about to wait within a request: if it leads, let an idle thread lead, or
        nobody.

        Nobody is right, too: the first thread that becomes free takes the lead.
        """
        with self.lock:
            self.depose(seat)

    def depose(self, seat: Seat) -> bool:
        """With the lock held: end this seat's leadership. False: it leads, but its request has just ended."""
        if self.leader is not seat:
            return True
        heir = self.idle[-1] if self.idle else None
        if not self._relieve(seat, heir):
            return False
        if heir is not None:
            self.idle.pop()
            heir.baton.release()
        return True

    def finish(self) -> None:
        """Send all threads home. Those that are inside the application find out when they come back."""
        with self.lock:
            self.finished = True
            self.leader = None
            for seat in self.idle:
                seat.baton.release()
            self.idle.clear()

    def _relieve(self, leader: Seat, heir: Seat | None) -> bool:
        try:
            leader.token.pop()
        except IndexError:
            return False
        if leader.connection is not None:
            self._park(leader.connection)
        self.leader = heir
        self.handovers += 1
        return True
