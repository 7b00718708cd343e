"""The drawn parts of the worker page: figures, how long requests took, the last minute."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rich.segment import Segment
from textual.strip import Strip

from wsgitop.tui import figures
from wsgitop.tui.model import WINDOW_S, Trail, View
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets import plot
from wsgitop.tui.widgets.canvas import Drawn, Line, frame_bottom, frame_top, framed
from wsgitop.tui.widgets.table import STATE_COLORS, state_word
from wsgitop.tui.worker_page import Bin, Picture, bin_of, bins

ITEM_CELLS = 19
"""A figure with its label takes at least so much room."""
SHORT_ROWS = 3
"""Below this height the figures have no frame."""
AXIS_CELLS = 5
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Part(Drawn):
    """Draws a picture of a worker; the page sets ``picture`` before the view."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.id = name
        self.picture: Picture | None = None

    def on_focus(self) -> None:
        self.redraw(everything=True)

    def on_blur(self) -> None:
        self.redraw(everything=True)

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view.snapshot, self.picture)


class Item(NamedTuple):
    """A figure with its label."""

    label: str
    text: str
    color: str = "text"
    bold: bool = False


def items(picture: Picture) -> list[Item]:
    """All figures, the most important first: those that find no room are left out from the end."""
    worker = picture.worker
    state = (
        Item("state", "ended", "error", True)
        if picture.ended
        else Item("state", state_word(worker), STATE_COLORS[worker.state], True)
    )
    full = worker.threads_busy >= worker.threads
    hot = worker.cpu_percent is not None and worker.cpu_percent >= 90
    return [
        state,
        Item("req/s", figures.rate(worker.rps), "rps", True),
        Item("p95 ms", figures.milliseconds(worker.p95_ms), "p95", True),
        Item("cpu %", figures.percent(worker.cpu_percent), "warning" if hot else "cpu", True),
        Item("memory", figures.size(worker.rss_bytes), "memory", True),
        Item("threads", f"{worker.threads_busy} of {worker.threads}", "warning" if full else "busy", True),
        Item(
            "errors", figures.count(worker.errors), "error" if worker.errors else "muted", worker.errors > 0
        ),
        Item("age", figures.age(worker.age_s)),
        Item("gen", str(worker.generation)),
        Item("requests", figures.count(worker.requests)),
        Item("p50 ms", figures.milliseconds(worker.p50_ms), "p50"),
        Item("p99 ms", figures.milliseconds(worker.p99_ms), "p99"),
        Item("own", figures.size(worker.pss_bytes)),
        Item("conns", str(worker.connections)),
        Item("beat", figures.beat(worker.heartbeat_age_s)),
        Item("since", figures.moment(worker.started_at, "%m-%d" if worker.age_s > 86_400 else "%H:%M:%S")),
    ]  # fmt: skip


def how_it_ended(picture: Picture) -> str:
    """One line for a worker that is not there any more."""
    death = picture.death
    how = f": {death.cause} at {figures.clock(death.at)}" if death is not None else ""
    successor = picture.successor
    then = f"; n goes to pid {successor.pid}, which has its slot" if successor is not None else ""
    return f"ended{how}: see deaths (d){then}"


ITEMS = 16
"""How many :func:`items` are."""


def grid_rows(width: int) -> int:
    """How many lines all figures take in ``width`` cells."""
    return math.ceil(ITEMS / _across(width))


def _across(width: int) -> int:
    """How many figures stand side by side: no more than it takes, so that the last line is as long as the
    others."""
    most = max(1, (width - 1) // ITEM_CELLS)
    return math.ceil(ITEMS / math.ceil(ITEMS / most))


class WorkerFigures(Part):
    """Who it is and how it does: a title and a grid of figures. Figures stand at fixed places."""

    next_part = ""
    """The part that Tab goes to, where one is seen at a time."""

    def inputs(self, view: View) -> tuple[object, ...]:
        return (*super().inputs(view), self.next_part)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        picture = self.picture
        further = f"Tab {look.signs.arrow} {self.next_part}" if self.next_part else ""
        if picture is None:
            title = " worker: nobody is selected" if view.snapshot is not None else " waiting for the server"
            return [Line(look, width).put(title, "muted").strip()]
        name = f"worker {picture.worker.slot} {look.signs.dot} pid {picture.worker.pid}"
        if height <= SHORT_ROWS:
            head = Line(look, width).put(f" {name}", "text", bold=True)
            if picture.ended:
                head.put(f"  {how_it_ended(picture)}", "error", bold=True)
            elif head.room > len(further) + 3:
                head.to(width - len(further) - 1).put(further, "faint")
            return [head.strip(), *self._grid(picture, look, width, height - 1)]
        inner = width - 2
        lines = self._grid(picture, look, inner, height - 2)
        if picture.ended:
            said = Line(look, inner).gap(1).put(how_it_ended(picture), "error", bold=True)
            lines = [said.strip(), *lines[: height - 3]]
        body = [framed(look, width, line) for line in lines]
        return [frame_top(look, width, name, further), *body, frame_bottom(look, width)]

    @staticmethod
    def _grid(picture: Picture, look: Look, width: int, rows: int) -> list[Strip]:
        found = items(picture)
        across = _across(width)
        shown = found[: across * rows]
        edges = [1 + (width - 1) * column // across for column in range(across + 1)]
        labels = [
            max((len(item.label) for item in shown[column::across]), default=0) for column in range(across)
        ]
        lines = []
        for row in range(rows):
            line = Line(look, width)
            for column, item in enumerate(shown[row * across : (row + 1) * across]):
                room = edges[column + 1] - edges[column] - 1
                line.to(edges[column]).put(f"{item.label:<{labels[column]}} ", "faint")
                line.put(item.text[: max(room - labels[column] - 1, 0)], item.color, bold=item.bold)
            lines.append(line.strip())
        return lines


# -- how long requests took ----------------------------------------------------------------------------------


def _bound(value_ms: float) -> str:
    if value_ms >= 1000:
        return f"{value_ms / 1000:g}s"
    return f"{value_ms:g}" if value_ms >= 0.01 else f"{value_ms:.3f}"


class Latencies(Part, can_focus=True):
    """Bars for the requests of the last ten seconds, by how long they took; p50, p95 and p99 are marked."""

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        picture, inner, rows = self.picture, width - 2, height - 2
        edge = "accent" if self.has_focus else "rule"
        lines: list[Strip] = []
        total = 0
        if picture is not None and picture.histogram is not None:
            found = bins(picture.histogram.buckets, rows)
            total = sum(one.number for one in found)
            lines = self._bars(picture, found, look, inner)
        if not lines:
            known = picture is not None and picture.histogram is not None
            text = "no request has finished lately" if known else "not known yet"
            if picture is not None and picture.histogram_fault and not known:
                text = picture.histogram_fault
            lines = [Line(look, inner).gap(1).put(text, "muted").strip()]
        lines = [*lines[:rows], *(Line(look, inner).strip() for _ in range(rows - len(lines)))]
        seconds = picture.histogram.seconds if picture is not None and picture.histogram is not None else 10
        right = f"{figures.plural(total, 'request')}, {seconds} s" if total else f"{seconds} s"
        body = [framed(look, width, line, edge) for line in lines]
        return [
            frame_top(look, width, "latency", right, edge), *body, frame_bottom(look, width, edge),
        ]  # fmt: skip

    @staticmethod
    def _bars(picture: Picture, found: tuple[Bin, ...], look: Look, width: int) -> list[Strip]:
        worker = picture.worker
        marks: dict[int, list[tuple[str, str]]] = {}
        for name, value in (("p50", worker.p50_ms), ("p95", worker.p95_ms), ("p99", worker.p99_ms)):
            place = bin_of(value, found)
            if place is not None:
                marks.setdefault(place, []).append((name, name))
        labels = [(_bound(one.low_ms), _bound(one.high_ms)) for one in found]
        low_cells = max((len(low) for low, _ in labels), default=0)
        high_cells = max((len(high) for _, high in labels), default=0)
        most = max((one.number for one in found), default=1) or 1
        number_cells = max(4, len(figures.count(most)))
        room = width - 1 - low_cells - 1 - high_cells - 1 - 1 - number_cells - 13
        lines = []
        for index, one in enumerate(found):
            low, high = labels[index]
            line = Line(look, width).gap(1)
            line.put(f"{low:>{low_cells}}–{high:>{high_cells}} ", "muted")
            start = line.used
            if room > 0:
                line.extend(*_bar(look, one.number / most, room, "p50"))
                line.to(start + room)
            text = figures.count(one.number) if one.number else ""
            line.gap(1).put(f"{text:>{number_cells}}", "text")
            for name, color in marks.get(index, ()):
                line.put(f" {name}", color, bold=True)
            lines.append(line.strip())
        return lines


def _bar(look: Look, share: float, width: int, color: str) -> tuple[list[Segment], int]:
    """A horizontal bar of at most ``width`` cells, and how many it takes. What is there at all shows."""
    if share <= 0 or width <= 0:
        return [], 0
    style = look.palette.style(color)
    if look.is_ascii:
        text = look.signs.shades[0] * max(1, round(share * width))
    else:
        eighths = max(1, round(share * width * 8))
        text = EIGHTHS[8] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    return [Segment(text, style)], len(text)


# -- the last minute -----------------------------------------------------------------------------------------

Pick = Callable[[Trail], float | None]


@dataclass(frozen=True)
class Curve:
    """A graph of its own: the front curve first."""

    title: str
    curves: tuple[tuple[Pick, str], ...]
    scale: Callable[[float], str]
    least: float
    text: Callable[[Picture], tuple[Item, ...]]
    alone: int = 0
    """The curve that stands for all where the graph is one row high."""


def _percentiles(picture: Picture) -> tuple[Item, ...]:
    worker = picture.worker
    return (
        Item("p50", figures.milliseconds(worker.p50_ms), "p50", True),
        Item("p95", figures.milliseconds(worker.p95_ms), "p95", True),
        Item("p99", figures.milliseconds(worker.p99_ms), "p99", True),
    )


def _memory(picture: Picture) -> tuple[Item, ...]:
    worker = picture.worker
    own = (Item("own", figures.size(worker.pss_bytes), "muted"),) if worker.pss_bytes is not None else ()
    return (Item("", figures.size(worker.rss_bytes), "memory", True), *own)


CURVES = (
    Curve(
        "req/s", ((lambda trail: trail.rps, "rps"),), figures.scale, 5,
        lambda picture: (Item("", figures.rate(picture.worker.rps), "rps", True),),
    ),
    Curve(
        "latency ms",
        (
            (lambda trail: trail.p50_ms, "p50"),
            (lambda trail: trail.p95_ms, "p95"),
            (lambda trail: trail.p99_ms, "p99"),
        ),
        figures.milliseconds, 10, _percentiles, alone=1,
    ),
    Curve(
        "cpu %", ((lambda trail: trail.cpu_percent, "cpu"),), lambda top: f"{top:.0f}", 100,
        lambda picture: (Item("", figures.percent(picture.worker.cpu_percent), "cpu", True),),
    ),
    Curve(
        "memory", ((lambda trail: trail.rss_bytes, "memory"),), lambda top: figures.size(int(top)), 1 << 20,
        _memory,
    ),
)  # fmt: skip


class LastMinute(Part, can_focus=True):
    """Four graphs of the worker's last minute: side by side, or two by two where that is too narrow. Those of
    a worker that has ended stand still."""

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        across = 4 if width >= 100 or height < 6 else 2
        shares = [height] if across == 4 else [height - height // 2, height // 2]
        edges = [round(width * index / across) for index in range(across + 1)]
        lines: list[Strip] = []
        for row, share in enumerate(shares):
            curves = CURVES[row * across : (row + 1) * across]
            drawn = [
                self._panel(curve, view, look, edges[index + 1] - edges[index], share)
                for index, curve in enumerate(curves)
            ]
            lines += [Strip.join(parts) for parts in zip(*drawn, strict=True)]
        return lines

    def _panel(self, curve: Curve, view: View, look: Look, width: int, height: int) -> list[Strip]:
        inner, rows = width - 2, height - 3
        edge = "accent" if self.has_focus else "rule"
        head = Line(look, inner).gap(1)
        for index, item in enumerate(curve.text(self.picture) if self.picture is not None else ()):
            head.put(("  " if index else "") + (f"{item.label} " if item.label else ""), "faint")
            head.put(item.text, item.color, bold=item.bold)
        lines = [frame_top(look, width, curve.title, f"{WINDOW_S} s", edge)]
        if rows < 1 and self.picture is not None:
            start = max(head.used + 2, inner - 24)
            head.to(start)
            if inner - start >= 6:
                head.extend(self._plot(curve, view, look, inner - start - 1, 1)[0][0], inner - start - 1)
        lines.append(framed(look, width, head.strip(), edge))
        if rows >= 1:
            cells = inner - AXIS_CELLS - 2
            drawn, top = self._plot(curve, view, look, cells, rows) if self.picture else ([], 0.0)
            for row in range(rows):
                line = Line(look, inner)
                if drawn:
                    label = curve.scale(top) if row == 0 else "0" if row == rows - 1 else ""
                    line.put(f"{label:>{AXIS_CELLS}}", "faint").gap(1).extend(drawn[row], cells)
                lines.append(framed(look, width, line.strip(), edge))
        return [*lines, frame_bottom(look, width, edge)]

    def _plot(
        self, curve: Curve, view: View, look: Look, cells: int, rows: int
    ) -> tuple[list[list[Segment]], float]:
        assert self.picture is not None
        hold_s = max(2.5, view.interval_s * 1.5)
        picks = curve.curves if rows > 1 else curve.curves[curve.alone : curve.alone + 1]
        series = [
            plot.Series(
                plot.columns(
                    plot.picked(self.picture.trail, lambda trail: trail.at, pick), self.picture.at, cells,
                    window_s=WINDOW_S, hold_s=hold_s,
                ),
                color,
            )
            for pick, color in picks
        ]  # fmt: skip
        unit = curve.least if curve.least >= 1 << 20 else 1.0
        highest = max((value for one in series for value in one.values if value is not None), default=0.0)
        top = plot.ceiling([highest / unit], curve.least / unit) * unit
        return plot.plot(look, series, rows, top), top
