"""Who leads: the thread that polls, accepts, parses and runs fast requests itself.

The leader keeps no lock for that. Before it calls the application it pushes an element on its seat's
``token``, afterwards it pops it; pops are atomic, so either it gets the element and still leads, or somebody
else has got it, and with it the leadership. That somebody (the watchdog, or a thread that has just become
free) holds ``lock`` for the whole transition: it pops the token, takes the old leader's connection out of the
poller, and names the new leader, or nobody, if no thread is free. An old leader that finds its token gone
takes the same lock once, so that the transition is over before it touches its connection again. While nobody
leads, whoever holds the lock may touch what is the leader's: the watchdog keeps house then.

When nearly every request waits (for a database, say), it is a waste to find that out a tick later each time:
``eager`` makes the leader hand over before the call.

The option not taken: a queue between an accepting thread and a pool. It costs two thread switches for each
request, which is more than the whole of a small one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from wsgitop.worker.connection import Connection
from wsgitop.worker.seat import Seat

RELIEF_AFTER_S: Final = 0.0005
"""A leader is relieved whose request has been running for longer than this."""
WAITING_NS: Final = 1_000_000
"""A request that spent more than this without computing is one that waits."""
EAGER_SHARE: Final = 0.6
"""Share of requests that wait, above which the lead is given away before the call."""
LEARNING_RATE: Final = 1 / 8


class Crew:
    """The seats of a worker. ``handovers`` counts leads that changed hands within a request. ``park`` takes a
    connection out of the poller, with the lock held.

    ``wake_watchdog`` is called when a request goes to the application and the watchdog has set
    ``wake_wanted``.
    """

    def __init__(self, seats: Sequence[Seat], park: Callable[[Connection], None]) -> None:
        self.seats = tuple(seats)
        self.lock = threading.Lock()
        self.leader: Seat | None = None
        self.idle: list[Seat] = []
        self.finished = False
        self.handovers = 0
        self.eager = False
        self.wake_wanted = False
        self.wake_watchdog: Callable[[], None] = lambda: None
        self._park = park
        self._waits = 0.0
        self._served_at_handover = 0

    # -- threads ---------------------------------------------------------------------------------------

    def take_or_wait(self, seat: Seat) -> bool:
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
            leader = self.leader
        if self.wake_wanted and leader is not None and leader.token:
            self.wake_watchdog()  # there is somebody to hand over to now
        seat.baton.acquire()
        return not self.finished

    def wait_for_transition(self, seat: Seat) -> None:
        """Called by a thread that has found its token gone: what is done with its connection is over then.
        Nobody who has the lock cuts its request any more.
        """
        with self.lock:
            seat.over = seat.serial

    def give_lead(self, seat: Seat) -> bool:
        """Called by a leader before it calls the application: let an idle thread lead. False: there is
        none.
        """
        with self.lock:
            if not self.idle:
                return False
            heir = self.idle.pop()
            if seat.connection is not None:
                self._park(seat.connection)
            self.leader = heir
            self.handovers += 1
            heir.baton.release()
        seat.cpu_since_ns = time.thread_time_ns()
        return True

    def learn(self, seat: Seat, elapsed_ns: int) -> None:
        """Called by a thread that gave the lead away before the call: did the request wait?"""
        waited_ns = elapsed_ns - (time.thread_time_ns() - seat.cpu_since_ns)
        self._waits += (float(waited_ns > WAITING_NS) - self._waits) * LEARNING_RATE
        self.eager = self._waits > EAGER_SHARE

    def step_aside(self, seat: Seat) -> None:
        """Called by a thread that is about to wait within a request: if it leads, let an idle thread lead, or
        nobody.

        Nobody is right, too: the first thread that becomes free takes the lead.
        """
        with self.lock:
            self.depose(seat)

    def finish(self) -> None:
        """Send all threads home. Those that are inside the application find out when they come back."""
        with self.lock:
            self.finished = True
            self.leader = None
            for seat in self.idle:
                seat.baton.release()
            self.idle.clear()

    # -- watchdog --------------------------------------------------------------------------------------

    def hand_over(self, *, waits: bool) -> None:
        """Let an idle thread lead, if there is one and the leader is inside the application or nobody leads.
        ``waits``: the leader's request is waiting rather than computing.
        """
        with self.lock:
            leader = self.leader
            if self.finished or not self.idle:
                return
            if leader is None:
                self.leader = self.idle[-1]
            elif not self._relieve(leader, self.idle[-1]):
                return
            self.idle.pop().baton.release()
        served = sum(seat.serial for seat in self.seats)
        share = 1 / max(1, served - self._served_at_handover) if waits else 0.0
        self._served_at_handover = served
        self._waits += (share - self._waits) * LEARNING_RATE
        self.eager = self._waits > EAGER_SHARE

    def vacate(self) -> None:
        """Let nobody lead, if the leader is inside the application: the watchdog keeps house meanwhile."""
        with self.lock:
            if self.leader is not None:
                self._relieve(self.leader, None)

    def depose(self, seat: Seat) -> bool:
        """With the lock held: end this seat's leadership. False: it leads, but its request has just ended, or
        just begun.
        """
        if self.leader is not seat:
            return True
        heir = self.idle[-1] if self.idle else None
        if not self._relieve(seat, heir):
            return False
        if heir is not None:
            self.idle.pop()
            heir.baton.release()
        return True

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
