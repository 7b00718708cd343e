"""Figures: what they read like, and that they never outgrow their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.tui import figures

numbers = st.none() | st.floats(min_value=0, max_value=1e12) | st.sampled_from([float("inf"), float("nan")])


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (figures.rate, None, "–"),
        (figures.rate, 0.0, "0.0"),
        (figures.rate, 58.14, "58.1"),
        (figures.rate, 999.96, "1000"),
        (figures.rate, 12_400, "12.4k"),
        (figures.count, 182_201, "182201"),
        (figures.count, 1_234_567, "1.23M"),
        (figures.milliseconds, 0.031, "0.03"),
        (figures.milliseconds, 0.42, "0.4"),
        (figures.milliseconds, 39.4, "39"),
        (figures.milliseconds, 2100, "2100"),
        (figures.milliseconds, 12_400, "12.4s"),
        (figures.percent, 99.8, "99.8"),
        (figures.percent, 341.2, "341"),
        (figures.size, 101 << 20, "101M"),
        (figures.size, int(1.2 * (1 << 30)), "1.2G"),
        (figures.size, 512, "512B"),
        (figures.elapsed, 0.031, "0.03s"),
        (figures.elapsed, 12.4, "12.4s"),
        (figures.elapsed, 312, "312s"),
        (figures.age, 12.9, "12s"),
        (figures.age, 41 * 60, "41m"),
        (figures.age, 3 * 3600 + 720, "3h12m"),
        (figures.age, 76 * 3600, "3d04h"),
        (figures.beat, 0.1, "0.1s"),
        (figures.beat, 12.0, "12s"),
    ],
)
def test_reads(function: object, value: object, text: str) -> None:
    assert function(value) == text  # type: ignore[operator]  # one of a table of functions


@given(numbers)
def test_no_figure_outgrows_its_column(value: float | None) -> None:
    for function in (figures.rate, figures.milliseconds, figures.percent, figures.beat):
        assert 1 <= len(function(value)) <= 6, function
    for function in (figures.rate, figures.percent):
        assert len(function(value)) <= 5, function
    assert len(figures.age(value)) <= 6


@given(st.integers(min_value=0, max_value=1 << 62))
def test_no_integer_outgrows_its_column(value: int) -> None:
    assert len(figures.count(value)) <= 6
    assert len(figures.size(value)) <= 5


@pytest.mark.parametrize("at", [1e18, -1e18, 1e300, -1e300, float("inf"), float("nan")])
def test_what_is_no_time_is_not_known(at: float) -> None:
    assert figures.clock(at) == figures.moment(at, "%Y") == figures.UNKNOWN
