"""Graphs of block characters: zero-based, over a fixed window, pure functions.

A column stands for a fixed stretch of absolute time and shows the *greatest* value in it: a peak never falls
between two columns, and the picture moves by whole columns instead of shimmering. What was not measured stays
empty; a graph that is younger than its window starts at the right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from rich.segment import Segment
from rich.style import Style

from wsgitop.tui.theme import Look

T = TypeVar("T")

EIGHTHS = 8

DEPTH = (1.0, 0.9, 0.6)
"""How strong the colours of the first, second and third series are: what is in front comes forward."""


class Series(NamedTuple):
    """One curve: a value for each column (None: nothing there), and the colour of the palette it has."""

    values: Sequence[float | None]
    color: str


def columns(
    samples: Iterable[tuple[float, float | None]],
    now: float,
    width: int,
    *,
    window_s: float = 60,
    hold_s: float = 2.5,
) -> list[float | None]:
    """``width`` values, oldest first, from ``(at, value)`` samples in order of time; the last has ``now``.

    A sample stands until the next one, but no longer than ``hold_s``: after that there is a gap, because
    nobody looked.
    """
    step_s = window_s / max(width, 1)
    first = math.floor(now / step_s) - width + 1
    found: list[float | None] = [None] * width
    carried: list[tuple[float, float | None]] = list(samples)
    for index, (at, value) in enumerate(carried):
        if value is None or not math.isfinite(value):
            continue
        until = min(carried[index + 1][0] if index + 1 < len(carried) else now, at + hold_s)
        begin = math.floor(at / step_s) - first
        end = max(begin, math.ceil(until / step_s) - first - 1)
        for column in range(max(begin, 0), min(end, width - 1) + 1):
            old = found[column]
            found[column] = value if old is None else max(old, value)
    return found


def ceiling(values: Iterable[float | None], least: float = 1.0) -> float:
    """A round number no smaller than any of the values: the top of the scale. Its bottom is always zero."""
    highest = max((value for value in values if value is not None), default=0.0)
    if highest <= least:
        return least
    power = 10.0 ** math.floor(math.log10(highest))
    for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if step * power >= highest * 0.9999:
            return float(step * power)
    return 10 * power


def heights(values: Sequence[float | None], top: float, rows: int) -> list[int]:
    """Eighths of a row for each value. What is there at all, but small, still shows as one eighth."""
    limit = rows * EIGHTHS
    return [
        0 if not value or value < 0 else max(1, min(limit, round(value / top * limit))) for value in values
    ]


def plot(look: Look, series: Sequence[Series], rows: int, top: float) -> list[list[Segment]]:
    """Rows of segments, top row first. The series lie upon each other, the first one in front.

    Where a column of one ends inside a cell, the next one behind it fills the rest of the cell as its ground.
    """
    if not series:
        return [[] for _ in range(rows)]
    tall = [heights(curve.values, top, rows) for curve in series]
    width = len(tall[0])
    lines: list[list[Segment]] = []
    for row in range(rows - 1, -1, -1):
        cells = [
            _cell(look, series, [curve[x] - row * EIGHTHS for curve in tall], row, rows) for x in range(width)
        ]
        lines.append(_runs(cells))
    return lines


def _cell(look: Look, series: Sequence[Series], levels: list[int], row: int, rows: int) -> tuple[str, Style]:
    palette, signs = look.palette, look.signs
    fade = 0.55 + 0.45 * (row + 1) / rows
    blends = look.color and not look.is_ascii
    for index, level in enumerate(levels):
        if level <= 0:
            continue
        share = fade if len(series) == 1 else DEPTH[min(index, len(DEPTH) - 1)]
        style = palette.shade(series[index].color, share)
        if index and not blends:
            # A series behind another is told by its shade, which only whole cells have.
            if level < EIGHTHS // 2:
                continue
            return signs.shades[index], style
        if level >= EIGHTHS:
            return signs.levels[-1], style
        if blends:
            for behind in range(index + 1, len(levels)):
                if levels[behind] >= EIGHTHS:
                    ground = palette.shade(series[behind].color, DEPTH[min(behind, len(DEPTH) - 1)])
                    style += Style(bgcolor=ground.color)
                    break
        return signs.levels[level], style
    return " ", palette.style("text")


def _runs(cells: list[tuple[str, Style]]) -> list[Segment]:
    """Neighbouring cells of one style become one segment: fewer bytes for the terminal."""
    segments: list[Segment] = []
    text, style = "", None
    for character, own in cells:
        if style is not None and own != style:
            segments.append(Segment(text, style))
            text = ""
        text += character
        style = own
    if text:
        segments.append(Segment(text, style))
    return segments


def spark(
    look: Look, values: Sequence[float | None], color: str, *, top: float | None = None
) -> list[Segment]:
    """A graph one row high."""
    return plot(look, [Series(values, color)], 1, top or ceiling(values))[0]


def picked(
    items: Iterable[T], at: Callable[[T], float], value: Callable[[T], float | None]
) -> list[tuple[float, float | None]]:
    """The samples of one figure, as :func:`columns` wants them."""
    return [(at(item), value(item)) for item in items]
