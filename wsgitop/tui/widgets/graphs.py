"""The server's last minute: four framed graphs where there is room, two lines of figures where there is
not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.strip import Strip

from wsgitop.snapshot import Second, Totals
from wsgitop.tui import figures
from wsgitop.tui.model import WINDOW_S, View
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets import plot
from wsgitop.tui.widgets.canvas import Drawn, Line, frame_bottom, frame_top, framed

GRAPH_CELLS = 12
"""How wide a graph beside figures is, at most; it is left out below half of that."""

AXIS_CELLS = 5
"""Room for the scale at the left of a graph."""

Pick = Callable[[Second], float | None]


@dataclass(frozen=True)
class Band:
    """One graph inside a panel: its curves, the front one first, and how its scale reads."""

    curves: tuple[tuple[Pick, str], ...]
    scale: Callable[[float], str]
    least: float = 1.0
    capacity: Callable[[Totals], float] = lambda totals: 0.0
    """The scale reaches at least this far: a half empty server looks half empty."""
    alone: int = 0
    """The curve that stands for all of them where the graph is one row high."""


@dataclass(frozen=True)
class Panel:
    title: str
    figures: Callable[[Line, View, Totals], None]
    bands: tuple[Band, ...]


def _peak(view: View) -> float | None:
    return max((second.rps for second in view.seconds), default=None)


def _requests_figures(line: Line, view: View, totals: Totals) -> None:
    line.put(figures.rate(totals.rps), "rps", bold=True)
    if totals.errors_per_s:
        line.put("  errors ", "faint").put(f"{figures.rate(totals.errors_per_s)}/s", "error", bold=True)
    peak = figures.rate(_peak(view))
    if line.room >= len("  peak ") + len(peak):  # half a number says something else
        line.put("  peak ", "faint").put(peak, "muted")


def _latency_figures(line: Line, view: View, totals: Totals) -> None:
    line.put("p50 ", "faint").put(figures.milliseconds(totals.p50_ms), "p50", bold=True)
    line.put("  p95 ", "faint").put(figures.milliseconds(totals.p95_ms), "p95", bold=True)
    line.put("  p99 ", "faint").put(figures.milliseconds(totals.p99_ms), "p99", bold=True)


def _saturation_figures(line: Line, view: View, totals: Totals) -> None:
    full = totals.threads > 0 and totals.threads_busy >= totals.threads
    line.put("busy ", "faint")
    line.put(f"{totals.threads_busy}/{totals.threads}", "warning" if full else "busy", bold=True)
    queue = figures.UNKNOWN if totals.queue is None else str(totals.queue)
    line.put("  queue ", "faint").put(queue, "error" if totals.queue else "muted", bold=bool(totals.queue))
    if totals.backlog is not None:
        line.put(f"/{totals.backlog}", "faint")


def _machine_figures(line: Line, view: View, totals: Totals) -> None:
    line.put(f"{figures.percent(totals.cpu_percent)}%", "cpu", bold=True)
    line.put("  ").put(figures.size(totals.rss_bytes), "memory", bold=True)
    if totals.pss_bytes is not None:
        line.put("  pss ", "faint").put(figures.size(totals.pss_bytes), "muted")


def _demand(second: Second) -> float | None:
    """Connections that wait stand upon those that are served: above the capacity, somebody waits."""
    return second.threads_busy + second.queue if second.queue else None


PANELS = (
    Panel("req/s", _requests_figures, (Band(((lambda second: second.rps, "rps"),), figures.scale, 10),)),
    Panel(
        "latency ms",
        _latency_figures,
        (
            Band(
                (
                    (lambda second: second.p50_ms, "p50"),
                    (lambda second: second.p95_ms, "p95"),
                    (lambda second: second.p99_ms, "p99"),
                ),
                figures.milliseconds,
                10,
                alone=1,
            ),
        ),
    ),
    Panel(
        "threads",
        _saturation_figures,
        (
            Band(
                ((lambda second: second.threads_busy, "busy"), (_demand, "queue")),
                lambda top: f"{top:.0f}",
                1,
                lambda totals: float(totals.threads),
            ),
        ),
    ),
    Panel(
        "cpu · memory",
        _machine_figures,
        (
            Band(((lambda second: second.cpu_percent, "cpu"),), lambda top: f"{top:.0f}%", 100),
            Band(((lambda second: second.rss_bytes, "memory"),), lambda top: figures.size(int(top)), 1 << 20),
        ),
    ),
)


def _values(view: View, pick: Pick, width: int) -> list[float | None]:
    now = view.snapshot.at if view.snapshot is not None else 0.0
    return plot.columns(
        plot.picked(view.seconds, lambda second: second.at, pick),
        now,
        width,
        window_s=WINDOW_S,
        hold_s=max(2.5, view.interval_s * 1.5),
    )


def _series(band: Band, view: View, width: int, rows: int) -> list[plot.Series]:
    curves = band.curves if rows > 1 else band.curves[band.alone : band.alone + 1]
    return [plot.Series(_values(view, pick, width), color) for pick, color in curves]


def _top(band: Band, totals: Totals, series: list[plot.Series]) -> float:
    capacity = band.capacity(totals)
    highest = max((value for curve in series for value in curve.values if value is not None), default=0.0)
    if capacity and highest <= capacity:
        return capacity
    if band.least >= 1 << 20:  # bytes: round in the unit they are shown in
        unit = float(1 << 20) if highest < 1 << 30 else float(1 << 30)
        return plot.ceiling([highest / unit]) * unit
    return plot.ceiling([highest], band.least)


def panel_lines(panel: Panel, view: View, look: Look, width: int, height: int) -> list[Strip]:
    """One panel with its frame: figures in the first line, the graphs in the others."""
    totals = view.snapshot.totals if view.snapshot is not None else Totals()
    inner = width - 2
    head = Line(look, inner).gap(1)
    panel.figures(head, view, totals)
    lines = [frame_top(look, width, panel.title, f"{WINDOW_S} s"), framed(look, width, head.strip())]
    rows = height - 3
    bands = panel.bands[: max(1, rows)]
    for index, band in enumerate(bands):
        share = rows // len(bands) + (1 if index < rows % len(bands) else 0)
        series = _series(band, view, inner - AXIS_CELLS - 2, share)
        top = _top(band, totals, series)
        for row, segments in enumerate(plot.plot(look, series, share, top)):
            line = Line(look, inner)
            label = band.scale(top) if row == 0 else "0" if row == share - 1 else ""
            line.put(f"{label:>{AXIS_CELLS}}", "faint")
            line.gap(1).extend(segments, inner - AXIS_CELLS - 2)
            lines.append(framed(look, width, line.strip()))
    lines.append(frame_bottom(look, width))
    return lines


class Graphs(Drawn):
    """Four panels side by side over the whole width."""

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view.snapshot, view.seconds, view.interval_s)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        edges = [round(width * index / len(PANELS)) for index in range(len(PANELS) + 1)]
        drawn = [
            panel_lines(panel, view, look, right - left, height)
            for panel, left, right in zip(PANELS, edges, edges[1:], strict=False)
        ]
        return [Strip.join(parts) for parts in zip(*drawn, strict=True)]


class Figures(Drawn):
    """The same in two lines: name, figures and a small graph, two to a line."""

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view.snapshot, view.seconds, view.interval_s)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        middle = (width + 1) // 2
        left = self._column(PANELS[0::2], view, look, middle)
        right = self._column(PANELS[1::2], view, look, width - middle)
        return [Strip.join(pair) for pair in zip(left, right, strict=True)]

    @staticmethod
    def _column(panels: tuple[Panel, ...], view: View, look: Look, width: int) -> list[Strip]:
        totals = view.snapshot.totals if view.snapshot is not None else Totals()
        lines = []
        for panel in panels:
            line = Line(look, width).gap(1)
            if panel.title == "req/s":
                line.put("req/s ", "faint")
            panel.figures(line, view, totals)
            if panel.title == "latency ms":
                line.put(" ms", "faint")
            lines.append(line)
        # The graphs of a column begin at one place, and figures that grow by a digit do not push them about.
        used = max(line.used for line in lines) + 1
        start = max(used, width - GRAPH_CELLS - 1)
        cells = width - start - 1
        if cells >= GRAPH_CELLS // 2:
            for panel, line in zip(panels, lines, strict=True):
                band = panel.bands[0]
                series = _series(band, view, cells, 1)
                segments = plot.plot(look, series, 1, _top(band, totals, series))[0]
                line.to(start).extend(segments, cells)
        return [line.strip() for line in lines]
