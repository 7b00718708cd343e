"""A framed text that scrolls: lines made of coloured pieces, broken at the width, drawn as far as seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.strip import Strip

from wsgitop.snapshot import printable
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.canvas import Line, clip
from wsgitop.tui.widgets.line_scroll import LineScroll

LEAST_WIDTH = 10
"""Below this nothing is broken."""

Piece = tuple[str, str, bool]
"""Text, a colour of the palette, bold."""
Pieces = tuple[Piece, ...]
"""One line."""


def line_of(text: str, color: str = "text", *, bold: bool = False) -> Pieces:
    """A line of one piece."""
    return ((text, color, bold),)


def labelled(rows: Iterable[tuple[str, str, str]], width: int = 12) -> list[Pieces]:
    """Lines ``label  value``: (label, value, colour of the value)."""
    return [((f"{label:<{width}}", "muted", False), (value, color, False)) for label, value, color in rows]


def broken(text: Sequence[Pieces], width: int) -> list[Pieces]:
    """The lines of ``text`` in at most ``width`` cells each; what goes on on the next line is set in as far
    as its beginning, and two cells more.
    """
    lines: list[Pieces] = []
    for pieces in text:
        if width < LEAST_WIDTH or sum(cell_len(piece[0]) for piece in pieces) <= width:
            lines.append(pieces)
            continue
        first = pieces[0][0]
        indent = " " * min(len(first) - len(first.lstrip()) + 2, width // 3)
        current: list[Piece] = []
        used = 0
        for words, color, bold in pieces:
            rest = printable(words)
            while rest:
                taken = _fitting(rest, width - used)
                if taken:
                    current.append((rest[:taken], color, bold))
                    used += cell_len(rest[:taken])
                    rest = rest[taken:]
                if rest:
                    lines.append(tuple(current))
                    current, used = [(indent, color, False)], len(indent)
                    rest = rest.lstrip(" ")
        lines.append(tuple(current))
    return lines


def _fitting(text: str, width: int) -> int:
    """How many characters of ``text`` go on a line of ``width`` cells: up to a blank if there is one not too
    far from its end."""
    if cell_len(text) <= width:
        return len(text)
    cells = taken = 0
    for character in text:
        cells += cell_len(character)
        if cells > width:
            break
        taken += 1
    blank = text.rfind(" ", taken * 2 // 3, taken)
    return blank + 1 if blank > 0 else taken


class TextPane(LineScroll, can_focus=True):
    """Shows what :meth:`show` was given last. It stays where it was scrolled to while the text changes."""

    DEFAULT_CSS = """
    TextPane {
        height: 1fr; border: round $rule; background: $background; padding: 0;
        border-title-background: $background; scrollbar-size-vertical: 1; overflow-x: hidden;
    }
    TextPane:focus { border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
    ]

    def __init__(self, *, title: str = "", id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._word = title
        self._text: tuple[Pieces, ...] = ()
        self._broken: list[Pieces] = []
        self._titled = ""
        self._at_end = False

    @property
    def plain(self) -> str:
        """The text without its colours, to be copied."""
        return "\n".join("".join(text for text, _, _ in pieces).rstrip() for pieces in self._text)

    def show(self, text: Sequence[Pieces], *, title: str = "", at_end: bool = False) -> None:
        """Show this text under this title (otherwise the pane's own); ``at_end``: scrolled to its end."""
        self._text = tuple(text)
        self._broken = broken(self._text, self.size.width - 2)
        self._set_title(title or self._word)
        size = Size(self.size.width, len(self._broken))
        if self.virtual_size != size:
            self.virtual_size = size
        self._at_end = at_end
        if at_end:
            # By force: a text that has just grown has no scroll bar yet.
            self.scroll_end(animate=False, immediate=True, force=True)
        self.repaint()

    def redraw(self) -> None:
        """Draw all of it again."""
        titled, self._titled = self._titled, ""
        self._set_title(titled)
        self.forget()

    def on_resize(self, _event: events.Resize) -> None:
        self._broken = broken(self._text, self.size.width - 2)
        self.virtual_size = Size(self.size.width, len(self._broken))
        if self._at_end:
            self.scroll_end(animate=False, immediate=True, force=True)
        self.redraw()

    def _set_title(self, title: str) -> None:
        if title != self._titled:
            self._titled = title
            look = look_of(self)
            self.border_title = Text(clip(look.plain(title), 100), look.palette.style("muted", bold=True))

    def line(self, y: int) -> Strip:
        look, width = look_of(self), self.size.width
        number = y + self.scroll_offset.y
        line = Line(look, width)
        if number < len(self._broken):
            line.gap(1)
            for text, color, bold in self._broken[number]:
                line.put(text, color, bold=bold)
        return line.strip()
