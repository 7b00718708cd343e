"""Cutting a request whose thread is at the worst moment: between two steps that no test can hit by chance."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from wsgitop.channel import messages as m
from wsgitop.http.response import DateLine
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board
from wsgitop.worker.connection import NEVER
from wsgitop.worker.cutting import AGAIN_S, BACK_S, GRACE_S, Cutter
from wsgitop.worker.handover import Crew
from wsgitop.worker.seat import Seat
from wsgitop.wsgi.response import Response

LINE: Any = SimpleNamespace(method="GET", target="/cart?secret")
REQUEST: Any = SimpleNamespace(line=LINE, method="GET", target="/cart?secret", fields={})
ORDER = m.CancelRequest(1, 0, 1000)


class Stage:
    """A crew of two seats and a cutter; the first seat leads."""

    def __init__(self) -> None:
        self.board = Board.create(2)
        self.seat, self.other = (Seat(index, self.board.thread(0, index)) for index in range(2))
        self.crew = Crew([self.seat, self.other], lambda connection: None)
        self.crew.leader = self.seat
        self.told: list[m.Message] = []
        self.reasons: list[str] = []
        engine: Any = SimpleNamespace(
            crew=self.crew, access_log=None, name="worker 1", wake=lambda: None, drop=lambda connection: None
        )
        self.cutter = Cutter(engine, send=self.told.append, retire=self.reasons.append)
        self.sent: list[bytes] = []
        self.connection: Any = SimpleNamespace(client=b"127.0.0.1", cut=self.sent.append)
        self.response = self.fresh()

    def fresh(self) -> Response:
        sink: Any = None
        return Response(sink, False, 1, True, DateLine(), 1.0)

    def begin(self, started_ns: int = 1000, *, token: bool = True) -> None:
        self.response = self.fresh()
        self.seat.begin(self.connection, REQUEST, self.response, started_ns)
        if token:
            self.seat.token.append(None)

    def end(self) -> None:
        self.seat.end(200, False, 0, 0, 1000)


@pytest.fixture
def stage() -> Iterator[Stage]:
    it = Stage()
    yield it
    board = it.board
    it.__dict__.clear()  # the seats' views of it
    board.close()


def test_a_leader_whose_request_has_ended_but_for_the_books(stage: Stage) -> None:
    stage.begin(token=False)
    stage.cutter.cancel(ORDER)
    assert not stage.told and not stage.response.cut  # nobody can tell yet which it is
    assert 0 < stage.cutter.next_s < NEVER
    stage.end()
    stage.cutter.tend(0.0)
    assert stage.told == [m.RequestCancelled(1, "finished")]
    assert stage.cutter.next_s == NEVER


def test_a_leader_whose_request_has_only_just_begun(stage: Stage) -> None:
    stage.begin(token=False)
    stage.cutter.cancel(ORDER)
    stage.cutter.tend(0.0)
    assert stage.cutter.next_s == pytest.approx(AGAIN_S)
    stage.seat.token.append(None)
    stage.cutter.tend(1.0)
    assert stage.response.cut and len(stage.sent) == 1 and b" 503 " in stage.sent[0]
    assert stage.crew.leader is None and not stage.seat.token
    assert stage.cutter.next_s == 1.0 + GRACE_S


def test_a_leader_that_serves_the_next_request_by_the_time_of_the_second_try(stage: Stage) -> None:
    stage.begin(token=False)
    stage.cutter.cancel(ORDER)
    stage.end()
    stage.begin(2000)
    stage.cutter.tend(0.0)
    assert stage.told == [m.RequestCancelled(1, "finished")]
    assert not stage.response.cut and stage.seat.token and stage.crew.leader is stage.seat


def test_the_next_request_has_begun_when_the_token_is_taken(stage: Stage) -> None:
    stage.begin()

    class Token(list[None]):
        def pop(self, *_: Any) -> None:
            if stage.seat.started_ns == 1000:
                stage.end()
                stage.begin(2000)

    stage.seat.token = Token([None])
    stage.cutter.cancel(ORDER)
    assert stage.told == [m.RequestCancelled(1, "finished")]
    assert not stage.response.cut and not stage.sent


def test_a_follower_that_is_past_the_transition(stage: Stage) -> None:
    stage.begin(token=False)
    stage.crew.leader = stage.other
    stage.crew.wait_for_transition(stage.seat)
    stage.cutter.cancel(ORDER)
    assert stage.told == [m.RequestCancelled(1, "finished")]
    assert not stage.response.cut and not stage.sent
    stage.end()
    assert stage.seat.started_ns == 0


def test_a_request_whose_answer_is_complete_is_over(stage: Stage) -> None:
    stage.begin()
    stage.response.complete, stage.response.since_s = True, 0.0
    stage.cutter.cancel(ORDER)
    assert stage.told == [m.RequestCancelled(1, "finished")]
    assert not stage.response.cut and not stage.sent


def test_a_thread_in_close_behind_a_complete_answer_is_cut(stage: Stage) -> None:
    stage.begin()
    stage.response.voice.pop()
    stage.response.head_sent = stage.response.complete = True
    stage.cutter.cancel(ORDER)
    assert stage.response.cut and stage.sent == [b""]


def test_what_is_cut_is_counted_once_and_told_as_slow(stage: Stage) -> None:
    stage.begin()
    stage.cutter.cancel(ORDER)
    block = stage.board.thread(0, 0)
    assert (block[at.REQUESTS], block[at.ERRORS], block[at.STATUS_1XX + 4]) == (1, 1, 1)
    (slow,) = stage.seat.slow.take()
    assert (slow.path, slow.status, slow.cut) == ("/cart", 503, True)
    stage.seat.rest()
    stage.cutter.tend(0.0)
    assert [(answer.end, answer.answered) for answer in stage.told] == [("raised", True)]  # type: ignore[attr-defined]
    assert (block[at.REQUESTS], block[at.STARTED_NS]) == (1, 0)


def test_who_does_not_come_back_costs_the_worker_once(stage: Stage) -> None:
    stage.begin()
    stage.cutter.cancel(ORDER)
    by_s = stage.cutter.next_s - GRACE_S + BACK_S
    stage.cutter.tend(stage.cutter.next_s)
    assert [answer.end for answer in stage.told] == ["disconnected"]  # type: ignore[attr-defined]
    stage.cutter.tend(by_s - 0.1)
    assert not stage.reasons
    stage.cutter.tend(by_s)
    stage.cutter.tend(by_s + 100)
    assert stage.reasons == ["thread 0 has not come back within 10 s since GET /cart was cancelled"]
    assert stage.cutter.next_s == NEVER


def test_a_time_limit_forgets_those_that_have_come_back(stage: Stage) -> None:
    for started_ns in (1000, 2000):
        stage.begin(started_ns)
        stage.crew.leader = stage.seat
        stage.cutter.time_out(stage.seat, stage.response, 5.0, 1.0)
        assert [cut.started_ns for cut in stage.cutter._cuts] == [started_ns]
        stage.seat.rest()
    assert stage.cutter.next_s == NEVER


def test_a_time_limit_cuts_no_later_request(stage: Stage) -> None:
    stage.begin()
    late = stage.response
    stage.seat.token.pop()
    stage.end()
    stage.begin(2000)
    stage.cutter.time_out(stage.seat, late, 5.0, 1.0)
    assert not late.cut and not stage.response.cut and not stage.reasons
    stage.cutter.time_out(stage.seat, stage.response, 5.0, 1.0)
    assert stage.response.cut and stage.reasons == ["a request took longer than 1 s"]
    assert isinstance(stage.told[-1], m.RequestTimeout) and b" 504 " in stage.sent[0]
