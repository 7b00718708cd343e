"""A life's memory in few points."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from wsgitop.master.memory_curve import POINTS, MemoryCurve


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(0, 1 << 40)), max_size=400))
def test_a_curve_of_any_length_is_short_in_order_and_keeps_the_peak(samples: list[tuple[float, int]]) -> None:
    curve, now = MemoryCurve(50.0), 50.0
    for after_s, rss_bytes in samples:
        now += after_s
        curve.add(now, rss_bytes)
    points = curve.points()
    assert len(points) <= POINTS
    assert [age_s for age_s, _ in points] == sorted(age_s for age_s, _ in points)
    assert curve.peak_bytes() == max((rss_bytes for _, rss_bytes in samples), default=None)


def test_an_hour_of_seconds_is_evenly_spread_and_a_short_peak_is_seen() -> None:
    curve = MemoryCurve(0.0)
    for second in range(3600):
        curve.add(second, 10**9 if second == 1801 else second)
    points = curve.points()
    assert 25 <= len(points) <= POINTS
    gaps = [b[0] - a[0] for a, b in pairwise(points)]
    assert max(gaps) <= 2 * min(gaps)
    assert 1700 < next(age_s for age_s, rss_bytes in points if rss_bytes == 10**9) <= 1801


def test_four_samples_a_second_are_one_point() -> None:
    curve = MemoryCurve(0.0)
    for quarter in range(8):
        curve.add(quarter / 4, quarter)
    assert curve.points() == ((0.0, 3), (1.0, 7))


def test_a_clock_that_is_behind_does_no_harm() -> None:
    curve = MemoryCurve(100.0)
    curve.add(99.0, 5)
    curve.add(98.0, 7)
    assert curve.points() == ((0.0, 7),)
