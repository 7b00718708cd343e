"""The last line: the keys that matter. ``? help`` and ``q quit`` are always there; the others as far as
there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from textual.strip import Strip

from wsgitop.tui.model import View
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets.canvas import Drawn, Line

if TYPE_CHECKING:
    from textual import events


class Hint(NamedTuple):
    """One key in the footer. ``operator``: greyed for those who may only look. ``keep``: the lowest goes
    first."""

    key: str
    text: str
    action: str
    keep: int
    operator: bool = False


HINTS = (
    Hint("⏎", "worker", "app.open('worker')", 89),
    Hint("r", "requests", "app.open('requests')", 86),
    Hint("l", "log", "app.open('log')", 84),
    Hint("d", "deaths", "app.open('deaths')", 82),
    Hint("g", "reloads", "app.open('reload')", 68),
    Hint("a", "events", "app.open('events')", 66),
    Hint("o", "settings", "app.open('settings')", 40),
    Hint("/", "filter", "screen.filter", 80),
    Hint("s", "sort", "screen.step_sort(1)", 70),
    Hint("p", "pause", "app.pause", 65),
    Hint("H", "reload", "app.reload", 95, operator=True),
    Hint("+", "add", "app.scale(1)", 90, operator=True),
    Hint("-", "remove", "app.scale(-1)", 90, operator=True),
    Hint("u", "undo", "app.undo_scale", 20, operator=True),
    Hint("x", "signal", "screen.signal_menu", 60, operator=True),
    Hint("m", "menu", "app.menu", 55, operator=True),
    Hint("y", "copy pid", "screen.copy_pid", 10),
    Hint("[ ]", "rate", "app.interval(1)", 30),
    Hint(":", "palette", "app.command_palette", 50),
)
ALWAYS = (Hint("?", "help", "app.help", 100), Hint("q", "quit", "app.leave", 100))


class KeyHints(Drawn):
    """The footer. A click on a hint does what its key does."""

    _places: tuple[tuple[int, int, str], ...] = ()

    def __init__(self, hints: tuple[Hint, ...] = HINTS) -> None:
        super().__init__()
        self._hints = hints

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view.role, view.paused_s is None)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        palette = look.palette
        ground = palette.style("text", on="raised")
        always = sum(_cells(hint) for hint in ALWAYS)
        chosen = [
            hint._replace(text="resume", keep=99)
            if hint.action == "app.pause" and view.paused_s is not None
            else hint
            for hint in self._hints
        ]
        while chosen and 1 + sum(_cells(hint) for hint in chosen) + always > width:
            chosen.remove(min(chosen, key=lambda hint: hint.keep))
        places = []
        line = Line(look, width).gap(1, ground)
        for hint in (*chosen, *ALWAYS):
            if hint is ALWAYS[0]:
                line.to(width - always, ground)
            start = line.used
            greyed = hint.operator and view.role == "viewer"
            line.put(hint.key, "faint" if greyed else "accent", bold=not greyed, on="raised").gap(1, ground)
            line.put(hint.text, "faint" if greyed else "muted", on="raised")
            places.append((start, line.used, hint.action))
            line.gap(2, ground)
        self._places = tuple(places)
        return [line.strip(ground)]

    async def on_click(self, event: events.Click) -> None:
        for start, end, action in self._places:
            if start <= event.x < end:
                await self.run_action(action)


def _cells(hint: Hint) -> int:
    return len(hint.key) + 1 + len(hint.text) + 2
