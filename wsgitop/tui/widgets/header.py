"""The first line: whose server this is, whether the picture is live, what is wrong, who is looking."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.style import Style
from textual.strip import Strip

from wsgitop.tui import figures
from wsgitop.tui.alarms import Alarm
from wsgitop.tui.model import View
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets.canvas import Drawn, Line, clip

Part = tuple[str, str, bool]
"""Text, colour, bold."""

CLOCK = 11
"""Cells of the clock at the right, with its gaps."""


class Header(Drawn):
    """Brand, liveness and alarms always show; the rest gives way from the least to the most important."""

    def __init__(self, target_label: str, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.target_label = target_label
        self._wall = wall

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        palette = look.palette
        ground = palette.style("text", on="raised")
        line = Line(look, width)
        line.add(" wsgitop ", palette.chip("accent")).gap(1, ground)
        word, color = liveness(view, look)
        line.put(word, color, bold=True, on="raised")
        self._put_alarms(line, view.alarms, ground)
        right = self._right(view)
        left = self._left(view)
        # What does not fit goes, the least important first; the clock is the last to leave the right side.
        while (left or right) and line.used + _cells(left) + _cells(right) + 2 > width:
            if len(right) > 1 and len(left) <= 2:
                right.pop(0)
            elif left:
                left.pop()
            else:
                right.pop(0)
        for text, own, bold in left:
            line.gap(2, ground).put(text, own, bold=bold, on="raised")
        line.to(width - _cells(right) - 1, ground)
        for text, own, bold in right:
            line.gap(2, ground).put(text, own, bold=bold, on="raised")
        return [line.strip(ground)]

    @staticmethod
    def _put_alarms(line: Line, alarms: tuple[Alarm, ...], ground: Style) -> None:
        """The worst first; those that do not fit are counted."""
        palette = line.look.palette
        for index, alarm in enumerate(alarms):
            left = len(alarms) - index
            needed = len(alarm.text) + 3 + (4 if left > 1 else 0)
            if index and line.room < needed + CLOCK:
                line.gap(1, ground).put(f"+{left}", alarm.severity, bold=True, on="raised")
                return
            color = palette.severity(alarm.severity) if alarm.severity != "info" else "info"
            line.gap(1, ground).add(f" {alarm.text} ", palette.chip(color))

    def _left(self, view: View) -> list[Part]:
        snapshot = view.snapshot
        if snapshot is None:
            return [(clip(self.target_label, 40), "text", True)]
        master = snapshot.master
        name = master.name or master.app
        title = f"{name}@{master.host}" if master.host else name
        parts: list[Part] = [(clip(title, 28), "text", True)]
        parts.append((f"gen {master.generation}", "text", False))
        parts.append((f"up {figures.age(master.uptime_s)}", "muted", False))
        parts.append((f"master {master.pid}", "muted", False))
        if master.bind:
            parts.append((clip(" ".join(master.bind), 34), "muted", False))
        # Where it is now: a server that was started again may have another socket than the target given.
        parts.append((clip(master.control or self.target_label, 40), "faint", False))
        return parts

    def _right(self, view: View) -> list[Part]:
        parts: list[Part] = []
        if view.role is not None:
            parts.append((view.role, "muted" if view.role == "operator" else "warning", False))
        parts.append((f"every {view.interval_s:g} s", "muted", False))
        parts.append((figures.clock(self._wall()), "text", False))
        return parts


def _cells(parts: list[Part]) -> int:
    return sum(len(text) + 2 for text, _, _ in parts)


def liveness(view: View, look: Look) -> tuple[str, str]:
    """One word (with a sign) for how fresh the picture is."""
    signs = look.signs
    if view.stale_s is not None:
        return f"{signs.stale} STALE {figures.age(view.stale_s)}", "error"
    if view.paused_s is not None:
        return f"{signs.paused} PAUSED {figures.age(view.paused_s)}", "warning"
    if view.snapshot is None:
        return f"{signs.stale} CONNECTING", "warning"
    return f"{signs.live} LIVE", "good"


class Banner(Drawn):
    """Shown only while the server does not answer: since when, what is being done about it, and why."""

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        style = look.palette.chip("error")
        line = Line(look, width)
        line.add(f" stale {figures.age(view.stale_s)} ", style)
        dot = look.signs.dot
        if not view.ended:
            line.add(f"{dot} trying again ", style)
        # Last, because it is what may be cut: the events tell it as well.
        line.add(f"{dot} {view.stale_reason}", style)
        return [line.strip(style)]
