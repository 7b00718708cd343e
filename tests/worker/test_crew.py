"""Who leads, in any order of events that threads and the watchdog can bring about. One thread plays all."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, integers

from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board
from wsgitop.worker.connection import Connection
from wsgitop.worker.handover import Crew
from wsgitop.worker.seat import Seat

THREADS = 4


class Baton:
    """Shows who waits; a real one would stop the only thread there is."""

    waiting = False

    def acquire(self) -> None:
        assert not self.waiting
        self.waiting = True

    def release(self) -> None:
        assert self.waiting, "it would not stop the next time"
        self.waiting = False


class Woken(Exception):
    """The watchdog was told, although it does not sleep."""


class Crews(RuleBasedStateMachine):
    """``serving``: seats whose thread is inside the application. ``parked``: connections that are out of the
    poller.
    """

    block = memoryview(bytearray(at.THREAD_WORDS * at.WORD_BYTES)).cast("Q")

    def __init__(self) -> None:
        super().__init__()
        self.parked: list[Any] = []
        self.crew = Crew([Seat(index, self.block) for index in range(THREADS)], self.parked.append)
        self.crew.wake_watchdog = self.wake
        self.serving: set[Seat] = set()
        self.free = set(self.crew.seats)  # have come back and not asked for the lead yet
        self.batons = [Baton() for _ in range(THREADS)]
        for seat in self.crew.seats:
            seat.baton = self.batons[seat.index]  # type: ignore[assignment]

    def wake(self) -> None:
        if not self.crew.wake_wanted:
            raise Woken
        self.crew.wake_wanted = False

    def pick(self, seats: set[Seat], number: int) -> Seat:
        return sorted(seats, key=lambda seat: seat.index)[number % len(seats)]

    # -- threads -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.free)
    @rule(number=integers(0, THREADS))
    def ask(self, number: int) -> None:
        seat = self.pick(self.free, number)
        self.free.remove(seat)
        before = self.crew.leader
        self.crew.take_or_wait(seat)
        if before is None:
            assert self.crew.leader is seat, "the first that is free leads"

    @precondition(lambda self: self.crew.leader is not None and self.crew.leader.response is None)
    @rule(long=booleans(), eager=booleans())
    def serve(self, long: bool, eager: bool) -> None:
        seat = self.crew.leader
        assert seat is not None and not seat.token
        seat.serial += 1
        seat.connection = Connection.__new__(Connection)
        since_s = time.monotonic() - (1.0 if long else -1.0)
        seat.response = SimpleNamespace(since_s=since_s)  # type: ignore[assignment]
        if not (eager and self.crew.give_lead(seat)):
            seat.token.append(None)
        else:
            assert self.parked[-1] is seat.connection
        if self.crew.wake_wanted:
            self.crew.wake_watchdog()
        self.serving.add(seat)

    @precondition(lambda self: self.serving)
    @rule(number=integers(0, THREADS))
    def come_back(self, number: int) -> None:
        seat = self.pick(self.serving, number)
        self.serving.remove(seat)
        try:
            seat.token.pop()
            leads = True
        except IndexError:
            self.crew.wait_for_transition(seat)
            leads = False
        assert leads == (self.crew.leader is seat), "it leads if and only if it found its token"
        assert leads or seat.connection in self.parked, "nobody polls what is another thread's"
        seat.response = seat.connection = None
        if not leads:
            self.free.add(seat)

    @precondition(lambda self: self.serving)
    @rule(number=integers(0, THREADS))
    def wait_for_a_reader(self, number: int) -> None:
        seat = self.pick(self.serving, number)
        self.crew.step_aside(seat)
        assert self.crew.leader is not seat

    # -- watchdog ------------------------------------------------------------------------------------------

    @rule(waits=booleans())
    def hand_over(self, waits: bool) -> None:
        idle = bool(self.crew.idle)
        self.crew.hand_over(waits=waits)
        assert self.crew.leader is not None or not idle

    @rule()
    def vacate(self) -> None:
        before = self.crew.leader
        self.crew.vacate()
        assert self.crew.leader in {None, before}
        if before is not None and before not in self.serving:
            assert self.crew.leader is before, "only who is inside the application is relieved"

    @rule()
    def sleep(self) -> None:
        """As Watchdog._pace_at_leisure does."""
        crew = self.crew
        crew.wake_wanted = True
        if crew.leader is None or (crew.leader.token and crew.idle):
            crew.wake_wanted = False

    # -- always --------------------------------------------------------------------------------------------

    @invariant()
    def everybody_is_in_one_place(self) -> None:
        crew = self.crew
        leader = {crew.leader} - {None}
        idle = set(crew.idle)
        assert len(idle) == len(crew.idle)
        assert not leader & idle and not self.free & (idle | leader | self.serving)
        assert not idle & self.serving
        assert idle | leader | self.free | self.serving == set(crew.seats), "nobody has got lost"

    @invariant()
    def tokens_are_the_leaders(self) -> None:
        for seat in self.crew.seats:
            inside = seat is self.crew.leader and seat in self.serving
            assert seat.token == ([None] if inside else [])

    @invariant()
    def who_is_idle_waits_and_nobody_else(self) -> None:
        for seat in self.crew.seats:
            assert self.batons[seat.index].waiting == (seat in self.crew.idle)

    @invariant()
    def nobody_sleeps_beside_work(self) -> None:
        crew = self.crew
        if crew.wake_wanted and crew.leader is not None and crew.idle:
            assert not crew.leader.token, (
                "an idle thread, a request that may take long, and a watchdog asleep"
            )


TestCrew = Crews.TestCase
TestCrew.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_all_go_home() -> None:
    board = Board.create(THREADS)
    seats = [Seat(index, board.thread(0, index)) for index in range(THREADS)]
    crew = Crew(seats, lambda connection: None)
    for seat in seats:
        seat.baton.release()
        assert crew.take_or_wait(seat)
    assert crew.leader is seats[0] and crew.idle == seats[1:]
    crew.finish()
    assert crew.leader is None and not crew.idle
    assert not any(seat.baton.locked() for seat in seats), "all were let go"
    assert not any(crew.take_or_wait(seat) for seat in seats), "who comes back later goes, too"
    board.close()


def test_who_becomes_idle_beside_a_request_wakes_the_watchdog() -> None:
    crews = Crews()
    crews.ask(0)
    crews.serve(long=False, eager=False)
    crews.sleep()
    assert crews.crew.wake_wanted, "there was nobody to hand over to"
    crews.ask(0)
    assert crews.crew.idle and not crews.crew.wake_wanted
