"""Rates, percentiles and one worker's figures from its row."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.master.gauge import PERCENTILE_SECONDS, RATE_WINDOW_S, Percentiles, Rate, WorkerGauge
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board, text_bytes, write_text
from wsgitop.scoreboard.histogram import bucket

FULL = (1 << 64) - 1
SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(0.0, 5.0)], None),
        ([(0.0, 5.0), (0.0, 9.0)], None),
        ([(0.0, 5.0), (2.0, 9.0)], 2.0),
        ([(0.0, 0.0), (1.0, 10.0), (2.0, 20.0), (3.0, 20.0)], 5.0),
        ([(0.0, 9.0), (1.0, 5.0)], 0.0),  # a counter never goes back; what looks like it is no rate
    ],
)
def test_rate(samples: list[tuple[float, float]], expected: float | None) -> None:
    rate = Rate()
    found = None
    for now, value in samples:
        found = rate.add(now, value)
    assert found == expected


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.integers(0, 1000)), min_size=2, max_size=60))
def test_rate_lies_between_the_extremes_and_keeps_little(steps: list[tuple[float, int]]) -> None:
    rate = Rate()
    rate.add(0.0, 0)
    now, value = 0.0, 0
    for elapsed, growth in steps:
        now, value = now + elapsed, value + growth
        found = rate.add(now, value)
        assert found is not None
        assert 0 <= found <= max(g / e for e, g in steps) * 1.000001
    assert len(rate._samples) <= RATE_WINDOW_S / 0.01 + 3


def test_percentiles_forget_after_the_window() -> None:
    percentiles = Percentiles()
    total = [0] * at.BUCKETS
    for _ in range(3):
        percentiles.second(total)
    assert percentiles.values() == (None, None, None)
    total = list(total)
    total[bucket(1000)] = 100
    for _ in range(PERCENTILE_SECONDS):
        percentiles.second(total)
        p50, _, p99 = percentiles.values()
        assert p50 is not None and p50 == p99 == pytest.approx(1.0, rel=0.06)
    percentiles.second(total)
    assert percentiles.values() == (None, None, None)


@given(st.lists(st.lists(st.integers(1, 5_000_000), max_size=8), min_size=1, max_size=40))
def test_percentiles_cover_the_last_seconds(seconds: list[list[int]]) -> None:
    percentiles = Percentiles()
    total = [0] * at.BUCKETS
    for values_us in seconds:
        if values_us:  # as WorkerGauge does: the same list while nothing has come
            total = list(total)
            for value in values_us:
                total[bucket(value)] += 1
        percentiles.second(total)
    expected = [0] * at.BUCKETS
    for value in (v for values_us in seconds[-PERCENTILE_SECONDS:] for v in values_us):
        expected[bucket(value)] += 1
    assert percentiles.recent == expected


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(threads=2)
    yield board
    board.close()


def test_gauge(board: Board) -> None:
    gauge = WorkerGauge(board, 4)
    block = board.thread(4, 1)
    gauge.read(0.0)
    assert (gauge.requests, gauge.busy, gauge.rps, gauge.heartbeat_age_s(5)) == (0, 0, None, None)
    block[at.REQUESTS], block[at.ERRORS] = 30, 2
    block[at.HISTOGRAM + bucket(2000)] = 30
    block[at.THREAD_STATE], block[at.STARTED_NS] = at.THREAD_BUSY, 5 * SECOND_NS
    write_text(block, text_bytes(block), b"GET", b"/caf\xc3\xa9/\x1b[2J\xff", b"::1")
    board.row(4)[at.CONNECTIONS] = 7
    gauge.read(3.0)
    assert (gauge.requests, gauge.errors, gauge.busy, gauge.connections) == (30, 2, 1, 7)
    assert gauge.rps == 10.0
    assert sum(gauge.second()) == 30
    assert gauge.percentiles[0] == pytest.approx(2.0, rel=0.06)
    assert list(gauge.history) == [10.0]
    (request,) = gauge.in_flight(7 * SECOND_NS)
    assert (request.method, request.path, request.client) == ("GET", "/café/\\x1b[2J\\xff", "::1")
    assert (request.thread, request.elapsed_s) == (1, 2.0)
    assert gauge.longest_s(7 * SECOND_NS) == 2.0


def test_heartbeat(board: Board) -> None:
    gauge = WorkerGauge(board, 0)
    block = board.thread(0, 0)
    block[at.THREAD_STATE], block[at.STARTED_NS] = at.THREAD_BUSY, 10 * SECOND_NS
    gauge.read(0.0)
    assert gauge.heartbeat_age_s(12 * SECOND_NS) == 2.0, "no beat yet: since the request began"
    board.row(0)[at.HEARTBEAT_NS] = 11 * SECOND_NS
    assert gauge.heartbeat_age_s(15 * SECOND_NS) == 4.0
    assert gauge.heartbeat_age_s(15 * SECOND_NS, floor_ns=14 * SECOND_NS) == 1.0
    assert gauge.heartbeat_age_s(1) == 0.0, "a clock that stands behind is no age"
    block[at.THREAD_STATE] = at.THREAD_IDLE
    gauge.read(1.0)
    assert gauge.heartbeat_age_s(99 * SECOND_NS) is None


def test_corrupt_row_spoils_nothing_but_its_figures(board: Board) -> None:
    board.row(0)[:] = memoryview(b"\xff" * len(board.row(0)) * 8).cast("Q")
    gauges = [WorkerGauge(board, row) for row in (0, 1)]
    for now in (0.0, 1.0, 2.0):
        for gauge in gauges:
            gauge.read(now)
            gauge.second()
    sick, well = gauges
    assert (well.requests, well.busy, well.percentiles) == (0, 0, (None, None, None))
    figures = (
        sick.requests, sick.errors, sick.rps, sick.percentiles, sick.connections,
        sick.heartbeat_age_s(5), sick.longest_s(5), sick.in_flight(5), list(sick.history),
    )  # fmt: skip
    # A thousand of them, summed up, can still be sent.
    msgspec.json.encode(figures)
    msgspec.json.encode(sick.requests * 1000)


@given(st.binary(min_size=1, max_size=3000))
def test_random_rows_never_raise(noise: bytes) -> None:
    board = Board.create(threads=1)
    try:
        row = board.row(0)
        size = len(row) * 8
        row.cast("B")[:] = (noise * (size // len(noise) + 1))[:size]
        gauge = WorkerGauge(board, 0)
        gauge.read(1.0)
        gauge.second()
        gauge.read(2.0)
        msgspec.json.encode((gauge.in_flight(10**18), gauge.percentiles, gauge.requests, gauge.connections))
    finally:
        del gauge, row
        board.close()
