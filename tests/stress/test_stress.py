"""50,000 requests while the server reloads and scales. ``python -m tests.stress`` runs it for longer."""

from __future__ import annotations

import pytest

from tests.stress.run import Plan, stress

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("shape", ["1x4", "1x8", "4x1", pytest.param("2x3", marks=pytest.mark.every_python)])
def test_no_response_is_lost_doubled_or_given_to_the_wrong_connection(shape: str) -> None:
    workers, threads = map(int, shape.split("x"))
    report = stress(Plan(workers, threads, 12_500, seed=7, every_s=1.0))
    print(report)
    assert not report.faults, str(report)
    assert report.counts["answered"] > 12_000
    assert report.record["X"] and report.actions["SIGHUP"]


@pytest.mark.parametrize("shape", ["1x4", "4x1"])
def test_what_has_been_called_is_answered_when_the_server_ends(shape: str) -> None:
    workers, threads = map(int, shape.split("x"))
    report = stress(Plan(workers, threads, 6000, seed=7, stop_at=0.3))
    assert not report.faults, str(report)
    assert report.counts["not answered by a server that ends"]


def test_a_worker_whose_threads_hang_takes_no_other_request_along() -> None:
    report = stress(Plan(4, 1, 4000, seed=8, hangs=0.0008, timeout_s=1.5))
    assert not report.faults, str(report)
    assert report.record["H"]
