"""Requests in flight: ages that go on, and who is who."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.fake import EPOCH, SLOWEST, worker
from wsgitop.control.messages import RequestInFlight, RequestsResult
from wsgitop.snapshot import InFlight
from wsgitop.tui.arrange import identity
from wsgitop.tui.filtering import Filter
from wsgitop.tui.in_flight import Flights, severity_of, slow_words, words, worker_of


def told(
    elapsed_s: float, *, request: int = 7, thread: int = 0, pid: int = 40, at: float = 1.0
) -> RequestInFlight:
    one = InFlight(thread, "GET", f"/{request}", "203.0.113.1:5000", elapsed_s, request)
    return RequestInFlight(1, pid, at, 7, one)


def answer(*requests: RequestInFlight, total: int = 0) -> RequestsResult:
    return RequestsResult(requests, (), total)


def test_ages_go_on_between_answers() -> None:
    flights = Flights()
    flights.take(answer(told(0.5)), 100.0)
    assert [one.elapsed_s for one in flights.rows(100.0)] == [0.5]
    assert [one.elapsed_s for one in flights.rows(101.25)] == [1.75]
    assert flights.rows(90.0)[0].elapsed_s == 0, "a clock that is behind makes nobody younger than that"


def test_an_answer_that_comes_late_makes_nobody_younger() -> None:
    flights = Flights()
    flights.take(answer(told(5.0)), 100.0)
    flights.take(answer(told(5.6)), 101.0)  # 0.4 s on its way
    assert flights.rows(101.0)[0].elapsed_s == 6.0
    flights.take(answer(told(7.2)), 102.0)  # and the first one was late, too
    assert flights.rows(102.0)[0].elapsed_s == pytest.approx(7.2)


@given(delays=st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_ages_never_go_back(delays: list[float]) -> None:
    flights, last, now = Flights(), 0.0, 0.0
    for second, delay in enumerate(delays):
        now = max(now, 1000.0 + second + delay)
        flights.take(answer(told(now - 1000.0 - delay)), now)
        for _ in range(2):
            (one,) = flights.rows(now)
            assert one.elapsed_s >= last - 1e-6
            last, now = one.elapsed_s, now + 0.5


@pytest.mark.parametrize("other", [{"request": 8}, {"thread": 1}, {"pid": 41}, {"at": 2.0}])
def test_another_request_starts_anew(other: dict[str, int]) -> None:
    flights = Flights()
    flights.take(answer(told(9.0)), 100.0)
    before = flights.rows(100.0)[0].key
    flights.take(answer(told(0.1, **other)), 101.0)
    (one,) = flights.rows(101.0)
    assert one.key != before and one.elapsed_s == pytest.approx(0.1)


def test_without_a_number_what_is_told_counts() -> None:
    flights = Flights()
    flights.take(answer(told(9.0, request=0)), 100.0)
    flights.take(answer(told(0.1, request=0)), 101.0)
    assert flights.rows(101.0)[0].elapsed_s == pytest.approx(0.1)


def test_one_that_reads_as_before_is_the_same_object() -> None:
    flights = Flights()
    flights.take(answer(told(700.0), told(3.0, request=8)), 100.0)
    old, young = flights.rows(100.0)
    later = flights.rows(101.0)
    assert later[0] is old and later[1] is not young
    flights.take(answer(told(701.0), told(4.0, request=8)), 101.0)
    assert flights.rows(101.0)[0] is old


def test_the_note_tells_what_is_left_out() -> None:
    flights = Flights()
    assert flights.note(()) == ""
    flights.take(answer(told(12.4)), 100.0)
    assert flights.note(flights.rows(100.0)) == "oldest 12.4s"
    flights.take(answer(told(12.4), total=1250), 100.0)
    assert flights.note(flights.rows(100.0)) == "oldest 12.4s, the oldest of 1250"


@pytest.mark.parametrize(
    ("elapsed_s", "severity"), [(0, "info"), (0.99, "info"), (1, "warning"), (4.99, "warning"), (5, "error")]
)
def test_how_alarming_an_age_is(elapsed_s: float, severity: str) -> None:
    assert severity_of(elapsed_s) == severity


def test_what_a_filter_finds() -> None:
    flights = Flights()
    flights.take(answer(told(1.0)), 0.0)
    text = words(flights.rows(0.0)[0])
    assert all(Filter.parse(wanted).passes(text) for wanted in ("get /7", "#1", "203.0.113", "gen7 40"))
    assert Filter.parse("cut 504").passes(slow_words(SLOWEST[1])) and not Filter.parse("cut").passes(
        slow_words(SLOWEST[0])
    )


def test_the_worker_that_has_served_a_finished_request() -> None:
    slow = SLOWEST[0]
    same = worker(3, "idle")
    assert worker_of(slow, (worker(2), same)) == identity(same)
    assert worker_of(slow, (worker(3, "idle", generation=8),)) is None
    successor = msgspec.structs.replace(same, started_at=EPOCH - 1)
    assert worker_of(slow, (successor,)) is None, "the same pid again"
