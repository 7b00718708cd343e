"""Graphs: zero-based, over a fixed window, and no peak is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.tui.theme import ANSI, ASCII_SIGNS, DARK, Look
from wsgitop.tui.widgets import plot

LOOKS = [Look(), Look(palette=ANSI, color=False), Look(palette=ANSI, signs=ASCII_SIGNS)]

values = st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=80)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(1, 200), st.floats(1e9, 2e9))
def test_every_peak_is_in_some_column(figures: list[float], width: int, now: float) -> None:
    samples = [(now - len(figures) + 1 + index, value) for index, value in enumerate(figures)]
    columns = plot.columns(samples, now, width)
    assert len(columns) == width
    # The oldest sample may lie before the first column when the window is full; all the others are in.
    assert max(value for value in columns if value is not None) >= max(figures[-58:])
    assert {value for value in columns if value is not None} <= set(figures)


def test_a_young_graph_starts_at_the_right() -> None:
    columns = plot.columns([(100.0, 5.0), (101.0, 6.0)], 101.0, 60)
    assert columns[:57] == [None] * 57
    assert columns[-2:] == [5.0, 6.0]


def test_what_nobody_looked_at_is_a_gap() -> None:
    columns = plot.columns([(60.0, 1.0), (100.0, 2.0)], 100.0, 60)
    assert columns[-1] == 2.0
    assert columns[-30] is None
    assert sum(value == 1.0 for value in columns) <= 4


@given(values, st.floats(1, 1e9))
def test_a_ceiling_is_round_and_high_enough(figures: list[float | None], least: float) -> None:
    top = plot.ceiling(figures, least)
    assert top >= least * 0.9999
    assert all(value is None or value <= top * 1.001 for value in figures)
    highest = max((value for value in figures if value is not None), default=0.0)
    assert top <= max(least, highest * 2.01)


@pytest.mark.parametrize(
    ("value", "top", "rows", "eighths"),
    [
        (0, 100, 1, 0),
        (100, 100, 1, 8),
        (50, 100, 2, 8),
        (0.01, 100, 4, 1),
        (200, 100, 3, 24),
        (98, 100, 1, 8),
    ],
)
def test_bars_begin_at_zero(value: float, top: float, rows: int, eighths: int) -> None:
    """98 of 100 looks full, and not like a cliff beside 99."""
    assert plot.heights([value], top, rows) == [eighths]


@pytest.mark.parametrize("look", LOOKS, ids=["color", "no color", "ascii"])
@given(front=values, back=values, rows=st.integers(1, 6))
def test_every_row_has_its_width(
    look: Look, front: list[float | None], back: list[float | None], rows: int
) -> None:
    width = min(len(front), len(back))
    series = [plot.Series(front[:width], "p50"), plot.Series(back[:width], "p99")]
    lines = plot.plot(look, series, rows, plot.ceiling([*front, *back]))
    assert len(lines) == rows
    for line in lines:
        assert sum(segment.cell_length for segment in line) == width
        if look.is_ascii:
            assert all(segment.text.isascii() for segment in line)


def test_what_lies_behind_fills_the_cell_as_its_ground() -> None:
    look = Look(palette=DARK)
    [[segment]] = plot.plot(look, [plot.Series([4.0], "p50"), plot.Series([8.0], "p95")], 1, 8.0)
    assert segment.text == "▄"
    assert segment.style is not None
    assert segment.style.bgcolor == look.palette.shade("p95", plot.DEPTH[1]).color


def test_without_color_series_are_told_apart_by_shade() -> None:
    look = Look(palette=ANSI, color=False)
    series = [plot.Series([8.0, 0.0], "p50"), plot.Series([8.0, 8.0], "p95")]
    [line] = plot.plot(look, series, 1, 8.0)
    assert "".join(segment.text for segment in line) == "█▒"
