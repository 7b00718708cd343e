"""The checks of the chaos find what they are there for, and a seed gives the same faults again."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from tests.chaos.client import Failure
from tests.chaos.faults import TABLE, draw
from tests.chaos.judge import Kill, Strength, called_twice, excuse, grown, too_many
from tests.chaos.run import Plan, Report

KILL = Kill(pid=7, at_s=10.0)


@pytest.mark.parametrize(
    ("begun_s", "ended_s", "callers", "excused"),
    [
        (9.9, 10.01, [7], True),
        (9.9, 10.01, [8], False),  # another worker had it
        (9.9, 9.99, [7], False),  # before the kill
        (9.9, 10.01, [], True),  # not read yet, or between accept and call
        (9.0, 11.0, [], False),  # long after the kill
        (10.2, 10.3, [], True),  # on a connection that the worker had, which is not told yet
        (11.0, 11.1, [], False),
        (9.9, 10.01, [7, 8], False),
    ],
)
def test_only_what_a_killed_worker_had_is_excused(
    begun_s: float, ended_s: float, callers: list[int], excused: bool
) -> None:
    failure = Failure(1, "keep-alive", begun_s, ended_s, "")
    assert (excuse(failure, callers, [KILL]) is KILL) is excused


def test_calls_are_counted() -> None:
    assert called_twice({1: [7], 2: [7, 8]}) == ["request 2 was called by [7, 8]"]


@pytest.mark.parametrize(
    ("workers", "aside", "wanted", "wrong"),
    [(4, 0, 3, False), (5, 0, 3, True), (5, 1, 3, False), (2, 0, 3, False)],
)
def test_no_more_workers_than_wanted_and_surge(workers: int, aside: int, wanted: int, wrong: bool) -> None:
    assert bool(too_many([Strength(1.0, workers, aside, wanted)], 1, 5.0)) is wrong


def test_those_that_were_wanted_before_may_take_their_time() -> None:
    before = Strength(1.0, 5, 0, 5)
    assert not too_many([before, Strength(3.0, 5, 0, 3)], 1, 5.0)
    assert too_many([before, Strength(3.0, 3, 0, 3), Strength(9.0, 5, 0, 3)], 1, 5.0)


def test_a_report_can_be_written_as_json() -> None:
    report = Report(Plan(seed=3))
    report.injected["reload"] += 2
    data = json.loads(json.dumps(report.as_data()))
    assert (data["plan"]["seed"], data["injected"]) == (3, {"reload": 2})


def test_growth() -> None:
    assert not grown("threads", 4, 4, 0)
    assert grown("threads", 4, 5, 0) == ["the master's threads grew from 4 to 5"]


def test_the_same_seed_gives_the_same_faults() -> None:
    def order(seed: int) -> list[tuple[float, str, int]]:
        return [(d.pause_s, d.fault.name, d.seed) for d in islice(draw(seed), 100)]

    assert order(5) == order(5) != order(6)
    kinds = sum(fault.weight for fault in TABLE)
    assert {name for _, name, _ in order(5)[:kinds]} == {fault.name for fault in TABLE}, "each has its turn"
