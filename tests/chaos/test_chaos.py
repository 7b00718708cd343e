"""Faults by chance for some seconds, and what changes cost, in short. By hand both run for longer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.reloads import Amount, kills, reloads, scaling
from tests.chaos.run import Plan, chaos

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

SHORT = Amount(changes=5, requests=5000, least_per_s=100, workers=2, pause_s=0.003)
"""Beside other tests on the same cores."""


def test_the_server_keeps_its_promises_whatever_happens() -> None:
    report = chaos(Plan(seed=1, seconds=6, workers=2, threads=2, killed=True))
    print(report)
    assert not report.faults, str(report)
    assert report.injected.total() > 4


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "import"])
def test_five_reloads_cost_none_of_five_thousand_requests(preload: bool) -> None:
    result = reloads(preload, SHORT)
    assert not result.missed, str(result)


def test_scaling_costs_no_request() -> None:
    result = scaling(True, replace(SHORT, requests=2000))
    assert not result.missed, str(result)


def test_a_killed_worker_takes_only_along_what_it_was_serving() -> None:
    result = kills(1.5)
    assert not result.missed, str(result)
