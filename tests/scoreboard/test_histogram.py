"""The latency histogram against exact figures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.scoreboard.histogram import (
    LIMIT_US,
    MOST,
    bounds_us,
    bucket,
    filled_ms,
    middle_us,
    percentile_ms,
)
from wsgitop.scoreboard.layout import BUCKETS

ERROR = 0.06


def test_buckets_tile_the_whole_range() -> None:
    assert bounds_us(0)[0] == 0
    for index in range(1, BUCKETS):
        assert bounds_us(index)[0] == bounds_us(index - 1)[1]
    assert bounds_us(BUCKETS - 1)[1] == LIMIT_US


@given(st.integers(0, LIMIT_US - 1))
def test_a_value_lies_in_its_bucket(value_us: int) -> None:
    low, high = bounds_us(bucket(value_us))
    assert low <= value_us < high


@given(st.integers(8, LIMIT_US - 1))
def test_relative_error(value_us: int) -> None:
    low, high = bounds_us(bucket(value_us))
    middle = middle_us(bucket(value_us))
    # A latency is not a whole number of microseconds: the whole half-open range has to be near.
    assert abs(middle - low) <= ERROR * low
    assert abs(middle - high) <= ERROR * high


@pytest.mark.parametrize(
    ("value_us", "expected"),
    [(-5, 0), (0, 0), (1, 1), (7, 7), (LIMIT_US, BUCKETS - 1), (1 << 63, BUCKETS - 1)],
)
def test_edges(value_us: int, expected: int) -> None:
    assert bucket(value_us) == expected


@given(
    st.lists(st.integers(20, 10_000_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0])
)
def test_percentile_against_the_sorted_list(values_us: list[int], share: float) -> None:
    counts = [0] * BUCKETS
    for value in values_us:
        counts[bucket(value)] += 1
    exact_ms = sorted(values_us)[math.ceil(share * len(values_us)) - 1] / 1000
    found_ms = percentile_ms(counts, share)
    assert found_ms is not None
    assert abs(found_ms - exact_ms) <= ERROR * exact_ms


def test_percentile_of_nothing() -> None:
    assert percentile_ms([0] * BUCKETS, 0.5) is None


def test_percentile_of_a_corrupt_row() -> None:
    assert percentile_ms([(1 << 64) - 1] * BUCKETS, 0.99) is not None


def test_the_buckets_that_hold_something() -> None:
    counts = [0] * BUCKETS
    assert filled_ms(counts) == ()
    counts[bucket(1000)] = 3
    counts[bucket(8000)] = 1 << 70
    counts[bucket(9999)] = -2
    assert filled_ms(counts) == ((1.024, 3), (8.192, MOST)), "upper bounds, the shortest first"
