"""That the measurement measures."""

from __future__ import annotations

from unittest import mock

from tests.benchmarks import scoreboard


def test_both_ways_serve() -> None:
    with mock.patch.object(scoreboard, "ROUNDS", 2), mock.patch.object(scoreboard, "REQUESTS", 20):
        with_it, without = scoreboard.measure()
    assert with_it > 0 and without > 0
