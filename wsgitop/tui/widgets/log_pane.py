"""The lines of the logs on the screen: it draws what can be seen, and tells its model where the user goes.

No line behind the edges of the screen costs anything but in the model, so it does not matter how many there
are; what was drawn of a line is kept for as long as it can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from wsgitop.snapshot import printable
from wsgitop.tui.figures import plural
from wsgitop.tui.log_model import LogEntry, LogModel, parts_of
from wsgitop.tui.theme import Look, look_of
from wsgitop.tui.widgets.canvas import Line, clip, repaint
from wsgitop.tui.widgets.text_pane import Pieces, broken

CLOCK_CELLS, LEVEL_CELLS, STATUS_CELLS, PID_CELLS = 8, 8, 3, 7
PID_FROM = 100
"""From this width on the process is shown."""
PAN_CELLS = 20
WHEEL_ROWS = 3

COLORS = {
    "": "text", "DEBUG": "faint", "INFO": "text", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error",
}  # fmt: skip
WORD_COLORS = {**COLORS, "": "muted", "INFO": "muted"}


class LogPane(Widget, can_focus=True):
    """``model`` is asked for what there is, and told where to scroll."""

    DEFAULT_CSS = """
    LogPane {
        height: 1fr; border: round $rule; background: $background; padding: 0;
        border-title-background: $background; border-subtitle-background: $background;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_rows(-1)", "older", key_display="↑ k", show=False),
        Binding("down,j", "scroll_rows(1)", "newer", key_display="↓ j", show=False),
        Binding("pageup", "scroll_page(-1)", "one page up", key_display="PgUp", show=False),
        Binding("pagedown", "scroll_page(1)", "one page down", key_display="PgDn", show=False),
        Binding("home", "oldest", "the oldest line", key_display="Home", show=False),
        Binding("end", "screen.follow", "the newest line", key_display="End", show=False),
        Binding("left", "pan(-1)", "to the left", key_display="←", show=False),
        Binding("right", "pan(1)", "to the right", key_display="→", show=False),
    ]

    class Scrolled(Message):
        """The user has gone elsewhere."""

    def __init__(self, model: LogModel) -> None:
        super().__init__(markup=False)
        self.model = model
        self.wraps = False
        self.notice: tuple[Pieces, ...] = ()
        """Stands above the lines."""
        self._pan = 0
        self._rows: dict[int, tuple[LogEntry, list[Pieces]]] = {}
        self._strips: dict[tuple[int, int], tuple[LogEntry, Strip]] = {}
        self._layout: tuple[object, ...] = ()
        self._seen: list[Strip] = []
        self._titled = ("", "")

    # -- what there is to draw -------------------------------------------------------------------------------

    def show(self, title: str) -> None:
        """Draw what the model holds now, under this title."""
        self._set_titles(title)
        self._repaint()

    def redraw(self) -> None:
        """Forget what was drawn and draw all of it again."""
        self._layout, self._seen, (title, _) = (), [], self._titled
        self._titled = ("", "")
        self._set_titles(title)
        self.refresh()

    def on_resize(self, _event: events.Resize) -> None:
        self.redraw()

    def _set_titles(self, title: str) -> None:
        look, model = look_of(self), self.model
        tail = "follows"
        if not model.is_following:
            fresh = plural(model.fresh, "new line") if model.fresh else "stands still"
            tail = f"{fresh} {look.signs.dot} f follows"
        if model.is_paused:
            tail = f"paused {look.signs.dot} {plural(model.fresh, 'line')} since"
        if (title, tail) == self._titled:
            return
        self._titled = (title, tail)
        stands = model.is_paused or not model.is_following
        palette = look.palette
        self.border_title = Text(clip(look.plain(title), 120), palette.style("muted", bold=True))
        self.border_subtitle = Text(
            look.plain(tail), palette.style("accent" if stands else "faint", bold=stands)
        )

    @property
    def page(self) -> int:
        """Rows for lines."""
        return max(1, self.size.height - len(self._notice_rows()))

    def _notice_rows(self) -> list[Pieces]:
        return broken(self.notice, self.size.width - 2)

    def entries_seen(self) -> list[LogEntry]:
        """The lines that can be seen, in part at least."""
        top, row = self.model.position(self.page, self.height_of)
        found, left = [], self.page + row
        for entry in self.model.lines[top : top + self.page + 1]:
            if left <= 0:
                break
            found.append(entry)
            left -= self.height_of(entry)
        return found

    def height_of(self, entry: LogEntry) -> int:
        """How many rows an entry takes."""
        return len(self._rows_of(entry)) if self.wraps else 1

    # -- drawing ---------------------------------------------------------------------------------------------

    def _repaint(self) -> None:
        lines = self._lines()
        before, self._seen = self._seen, lines
        repaint(self, before, lines)

    def render_line(self, y: int) -> Strip:
        if len(self._seen) != self.size.height:
            self._seen = self._lines()
        return self._seen[y]

    def _lines(self) -> list[Strip]:
        look, (width, height) = look_of(self), self.size
        layout = (look, width, self.wraps, self._pan, self.model.shown, self.model.filter)
        if layout != self._layout:
            self._layout = layout
            self._rows.clear()
            self._strips.clear()
        lines = [self._strip(look, width, pieces) for pieces in self._notice_rows()]
        top, row = self.model.position(self.page, self.height_of)
        kept: dict[tuple[int, int], tuple[LogEntry, Strip]] = {}
        shown = self.model.lines
        while len(lines) < height and top < len(shown):
            entry = shown[top]
            rows = self._rows_of(entry)
            while row < len(rows) and len(lines) < height:
                key = (id(entry), row)
                kept[key] = self._strips.get(key) or (entry, self._strip(look, width, rows[row]))
                lines.append(kept[key][1])
                row += 1
            top, row = top + 1, 0
        # By the entry itself: a strip holds on to its entry, so no other can have its number.
        self._strips = kept
        if len(self._rows) > 4 * height:
            present = {key[0] for key in kept}
            self._rows = {number: rows for number, rows in self._rows.items() if number in present}
        blank = Strip.blank(width, look.palette.style("text"))
        return lines[:height] + [blank] * (height - len(lines))

    @staticmethod
    def _strip(look: Look, width: int, pieces: Pieces) -> Strip:
        line = Line(look, width).gap(1)
        for text, color, bold in pieces:
            line.put(text, color, bold=bold)
        return line.strip()

    def _rows_of(self, entry: LogEntry) -> list[Pieces]:
        found = self._rows.get(id(entry))
        if found is None:
            found = self._rows[id(entry)] = (entry, self._made(entry))
        return found[1]

    def _made(self, entry: LogEntry) -> list[Pieces]:
        """The rows of an entry: time, level, process, text; without the first three where it has none, but at
        the same place."""
        look, width = look_of(self), self.size.width - 2
        if entry.is_mark:
            return [((f"{look.signs.ellipsis} {entry.text} {look.signs.ellipsis}", "warning", True),)]
        parts = parts_of(entry)
        color = COLORS[entry.level]
        word_cells = STATUS_CELLS if self.model.shown == "access" else LEVEL_CELLS
        bold = entry.level in ("WARNING", "ERROR", "CRITICAL")
        head: Pieces = (
            (f"{parts.clock:<{CLOCK_CELLS}} ", "faint", False),
            (f"{parts.word:<{word_cells}} ", WORD_COLORS[entry.level], bold),
        )
        if width >= PID_FROM and self.model.shown != "access":
            head = (*head, (f"{parts.pid:>{PID_CELLS}} ", "faint", False))
        cells = sum(len(text) for text, _, _ in head)
        text = printable(parts.text)
        if not self.wraps:
            return [(*head, *marked(text[self._pan :], color, self.model.filter))]
        rows = _wrapped(text, max(width - cells, 10))
        blank: Pieces = ((" " * cells, "text", False),)
        filtered = self.model.filter
        return [
            (*(blank if index else head), *marked(row, color, filtered)) for index, row in enumerate(rows)
        ]

    # -- keys and mouse --------------------------------------------------------------------------------------

    def action_scroll_rows(self, rows: int) -> None:
        self.model.scroll(rows, self.page, self.height_of)
        self.post_message(self.Scrolled())

    def action_scroll_page(self, pages: int) -> None:
        self.action_scroll_rows(pages * max(1, self.page - 1))

    def action_oldest(self) -> None:
        self.model.to_start(self.page, self.height_of)
        self.post_message(self.Scrolled())

    def action_pan(self, steps: int) -> None:
        """Move the text sideways; broken lines have nothing there."""
        pan = max(0, self._pan + steps * PAN_CELLS)
        longest = max((len(entry.text) for entry in self.entries_seen()), default=0)
        if not self.wraps and (steps < 0 or pan < longest):
            self._pan = pan
            self.post_message(self.Scrolled())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_scroll_rows(-WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_scroll_rows(WHEEL_ROWS)


def _wrapped(text: str, width: int) -> list[str]:
    """``text`` in pieces of at most ``width`` cells."""
    if text.isascii():
        return [text[start : start + width] for start in range(0, len(text), width)] or [""]
    rows, current, used = [], "", 0
    for character in text:
        cells = cell_len(character)
        if used + cells > width:
            rows.append(current)
            current, used = "", 0
        current += character
        used += cells
    return [*rows, current]


def marked(text: str, color: str, wanted: str) -> Sequence[tuple[str, str, bool]]:
    """``text`` in pieces, the words of the filter ``wanted`` set off; of an inverted one there are none."""
    wanted = wanted.strip()
    words = [] if wanted.startswith("!") else wanted.split()
    if not words:
        return ((text, color, False),)
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    pieces = []
    for index, piece in enumerate(re.split(f"({pattern})", text, flags=re.IGNORECASE)):
        if piece:
            pieces.append((piece, "accent" if index % 2 else color, bool(index % 2)))
    return pieces
