"""Which workers are worn."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.master.recycling import MIB, Usage, draw_limits, worn
from wsgitop.master.roster import Roster, WorkerRecord
from wsgitop.master.states import WorkerPhase
from wsgitop.settings.table import Settings

NOW = 5000.0


def one(**settings: object) -> tuple[Roster, WorkerRecord]:
    found = Roster(1)
    record = found.add_worker(1, 0, 1, NOW - 110)
    record.phase, record.ready_at = WorkerPhase.READY, NOW - 100
    draw_limits(record, Settings(**settings), random.Random(1))  # type: ignore[arg-type] # by name
    return found, record


@pytest.mark.parametrize(
    ("settings", "usage", "why"),
    [
        ({}, Usage(10**9, 10**12), None),
        ({"max_requests": 1000}, Usage(999, None), None),
        ({"max_requests": 1000}, Usage(1000, None), "recycled after 1,000 requests (--max-requests)"),
        ({"max_lifetime": 101.0}, Usage(0, None), None),
        ({"max_lifetime": 100.0}, Usage(0, None), "recycled after 100 s (--max-lifetime)"),
        ({"max_rss": 300 * MIB}, Usage(0, None), None),
        ({"max_rss": 300 * MIB}, Usage(0, 300 * MIB), None),
        (
            {"max_rss": 300 * MIB},
            Usage(0, 301 * MIB),
            "recycled at 301 MiB of memory, above 300 MiB (--max-rss)",
        ),
    ],
)
def test_worn(settings: dict[str, object], usage: Usage, why: str | None) -> None:
    found, record = one(**settings)
    assert worn(found, {record.worker: usage}, NOW) == ({record.worker: why} if why else {})


@pytest.mark.parametrize("phase", [phase for phase in WorkerPhase if phase is not WorkerPhase.READY])
def test_only_who_serves_is_worn(phase: WorkerPhase) -> None:
    found, record = one(max_requests=1)
    record.phase = phase
    assert worn(found, {record.worker: Usage(5, None)}, NOW) == {}


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 2**32))
def test_jitter_adds_and_never_takes_away(limit: int, jitter: int, seed: int) -> None:
    _, record = one()
    draw_limits(record, Settings(max_requests=limit, max_requests_jitter=jitter), random.Random(seed))
    assert limit <= record.max_requests <= limit + jitter
    draw_limits(record, Settings(max_lifetime=limit, max_lifetime_jitter=jitter), random.Random(seed))
    assert limit <= record.max_lifetime_s <= limit + jitter
