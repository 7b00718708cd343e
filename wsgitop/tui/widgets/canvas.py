"""Drawing by whole lines: text that came from outside, cut to cells, on strips of an exact width.

A widget made of :class:`Drawn` computes all its lines from one :class:`~wsgitop.tui.model.View` and repaints
only those that differ from the last ones, so a tick costs the terminal what has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from wsgitop.snapshot import printable
from wsgitop.tui.model import View
from wsgitop.tui.theme import Look, look_of

if TYPE_CHECKING:
    from textual import events

CLIP_INPUT = 512
"""No line is longer; cutting first keeps a path of megabytes from costing anything."""


VARIATIONS = {0xFE0E: None, 0xFE0F: None}
"""Say whether the character before them is an emoji. Terminals do not agree on how wide that makes it."""


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """Text safe to draw, in at most ``width`` cells; what is cut off is marked. Control characters are
    escaped here again, whoever may have done it before: this is the last place before the terminal."""
    if width <= 0:
        return ""
    text = printable(text[:CLIP_INPUT])
    if not text.isascii():
        text = text.translate(VARIATIONS)
    elif len(text) <= width:
        return text
    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    taken = 0
    for index, character in enumerate(text):
        taken += cell_len(character)
        if taken > room:
            return text[:index] + ellipsis
    return text


class Line:
    """One line under construction. Every piece is clipped to what is left of the width.

    Neighbours that look alike become one segment: each costs the terminal some forty bytes of colours.
    """

    def __init__(self, look: Look, width: int) -> None:
        self.look = look
        self.width = width
        self.used = 0
        self._segments: list[Segment] = []

    @property
    def room(self) -> int:
        return self.width - self.used

    def add(self, text: str, style: Style) -> Line:
        """Append text, cut to the room that is left."""
        text = clip(self.look.plain(text), self.room, self.look.signs.ellipsis)
        if text:
            last = self._segments[-1] if self._segments else None
            if last is not None and last.style == style:
                self._segments[-1] = Segment(last.text + text, style)
            else:
                self._segments.append(Segment(text, style))
            self.used += cell_len(text)
        return self

    def put(self, text: str, color: str = "text", *, bold: bool = False, on: str = "background") -> Line:
        """Append text in a colour of the palette."""
        return self.add(text, self.look.palette.style(color, bold=bold, on=on))

    def gap(self, cells: int, style: Style | None = None) -> Line:
        """Append blanks."""
        cells = min(cells, self.room)
        if cells > 0:
            style = style or self.look.palette.style("text")
            last = self._segments[-1] if self._segments else None
            if last is not None and last.style is not None and _same_blanks(last.style, style):
                self._segments[-1] = Segment(last.text + " " * cells, last.style)
            else:
                self._segments.append(Segment(" " * cells, style))
            self.used += cells
        return self

    def to(self, column: int, style: Style | None = None) -> Line:
        """Fill with blanks up to a column."""
        return self.gap(column - self.used, style)

    def extend(self, segments: list[Segment], cells: int) -> Line:
        """Append finished segments that take ``cells`` cells."""
        if cells <= self.room:
            self._segments.extend(segments)
            self.used += cells
        return self

    def strip(self, style: Style | None = None) -> Strip:
        """The finished line, filled up to its width."""
        self.gap(self.room, style)
        return Strip(self._segments, self.width)


def _same_blanks(left: Style, right: Style) -> bool:
    """Whether blanks look the same in both: of a blank only the ground can be seen, unless a line goes
    through it or its colours are reversed."""
    if left == right:
        return True
    lined = any(style.reverse or style.underline or style.strike for style in (left, right))
    return not lined and left.bgcolor == right.bgcolor


def frame_top(look: Look, width: int, title: str, right: str = "", edge: str = "rule") -> Strip:
    """The upper edge of a frame with its title, and a word at the right; ``edge`` is its colour."""
    corner, end, rule = look.signs.frame[0], look.signs.frame[1], look.signs.frame[4]
    line = Line(look, width).put(corner + rule, edge)
    if title:
        line.put(f" {title} ", "muted", bold=True)
    tail = f" {right} " if right and width - line.used > len(right) + 5 else ""
    line.put(rule * (width - line.used - len(tail) - (2 if tail else 1)), edge)
    if tail:
        line.put(tail, "faint").put(rule, edge)
    return line.put(end, edge).strip()


def frame_bottom(look: Look, width: int, edge: str = "rule") -> Strip:
    """The lower edge of a frame."""
    corner, end, rule = look.signs.frame[2], look.signs.frame[3], look.signs.frame[4]
    return Line(look, width).put(corner + rule * (width - 2) + end, edge).strip()


def framed(look: Look, width: int, content: Strip, edge: str = "rule") -> Strip:
    """One line of content, ``width - 2`` cells wide, between the sides of a frame."""
    side = Segment(look.signs.frame[5], look.palette.style(edge))
    return Strip([side, *content, side], width)


class Drawn(Widget):
    """A widget that draws lines out of a view. Subclasses give :meth:`draw`; it must return strips of the
    full width."""

    view: var[View | None] = var[View | None](None, init=False)

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._lines: list[Strip] = []
        self._inputs: tuple[object, ...] = ()

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        raise NotImplementedError

    def inputs(self, view: View) -> tuple[object, ...]:
        """What the drawing depends on. While these are the same objects, it is not done again: a key that
        moves the cursor does not cost four graphs."""
        return (view,)

    def watch_view(self, _: View | None) -> None:
        self.redraw()

    def on_resize(self, event: events.Resize) -> None:
        self.redraw(everything=True)

    def redraw(self, *, everything: bool = False) -> None:
        """Draw again, and repaint the lines that differ."""
        width, height = self.size
        if self.view is None or not width or not height:
            return
        inputs = self.inputs(self.view)
        same = len(self._inputs) == len(inputs) and all(
            old is new for old, new in zip(self._inputs, inputs, strict=True)
        )
        if same and not everything:
            return
        self._inputs = inputs
        lines = self.draw(self.view, look_of(self), width, height)[:height]
        before, self._lines = self._lines, lines
        repaint(self, [] if everything else before, lines)

    def render_line(self, y: int) -> Strip:
        if y < len(self._lines):
            return self._lines[y]
        return Strip.blank(self.size.width, look_of(self).palette.style("text"))


def repaint(widget: Widget, before: list[Strip], after: list[Strip]) -> None:
    """Have those lines of a widget drawn again that differ; all of them, if there are more or fewer."""
    if len(before) != len(after):
        widget.refresh()
        return
    changed = changed_regions(before, after, widget.size.width)
    if changed:
        widget.refresh(*changed)


def changed_regions(before: list[Strip], after: list[Strip], width: int) -> list[Region]:
    """The lines that differ, each as a region from its first to its last differing segment."""
    regions = []
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        if old is new:
            continue
        start = _common_cells(list(old), list(new))
        if start >= width:
            continue
        end = width - _common_cells(list(reversed(list(old))), list(reversed(list(new))))
        regions.append(Region(start, y, max(1, end - start), 1))
    return regions


def _common_cells(old: list[Segment], new: list[Segment]) -> int:
    cells = 0
    for left, right in zip(old, new, strict=False):
        if left != right:
            return cells
        cells += right.cell_length
    return cells
