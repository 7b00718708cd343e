"""The event strip: what happened lately, above it the answer to what the user just did."""

from __future__ import annotations

from textual.strip import Strip

from wsgitop.snapshot import Event
from wsgitop.tui import figures
from wsgitop.tui.model import Saying, View
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets.canvas import Drawn, Line, frame_bottom, frame_top, framed


class EventStrip(Drawn):
    """One line where there is little room, a framed list where there is more."""

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view,) if view.sayings else (view.events, None)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        if height < 3:
            return self._lines_of(view, look, width, height)
        inner = [framed(look, width, strip) for strip in self._lines_of(view, look, width - 2, height - 2)]
        return [frame_top(look, width, "events"), *inner, frame_bottom(look, width)]

    @staticmethod
    def _lines_of(view: View, look: Look, width: int, height: int) -> list[Strip]:
        lines = [saying_strip(look, width, saying) for saying in view.sayings]
        lines += [event_strip(look, width, event) for event in view.events[:height]]
        lines += [Line(look, width).strip() for _ in range(height - len(lines))]
        return lines[:height]


def event_strip(look: Look, width: int, event: Event) -> Strip:
    """One event: when, how serious (sign and colour), what, and by whom."""
    color = look.palette.severity(event.severity)
    line = Line(look, width).gap(1)
    line.put(figures.clock(event.at), "faint").gap(1)
    line.put(look.signs.severity(event.severity), color, bold=True).gap(1)
    line.put(" ".join(event.text.split()), "text" if event.severity in ("info", "good") else color)
    if event.actor and event.actor not in event.text:
        line.put(f" by {event.actor}", "muted")
    if event.detail:
        line.put(" (v: why)", "faint")
    return line.strip()


def saying_strip(look: Look, width: int, saying: Saying) -> Strip:
    """The interface's own answer, set apart from the events by weight and sign."""
    sign = look.signs.running if saying.running else look.signs.severity(saying.severity)
    color = "accent" if saying.severity == "info" else saying.severity
    line = Line(look, width).gap(1)
    line.put(sign, color, bold=True).gap(1)
    line.put(" ".join(saying.text.split()), color, bold=True)
    return line.strip()
