"""A table of anything that costs what its visible rows cost, with a cursor that the list's model moves.

It draws what a :class:`~wsgitop.tui.lists.ListModel` lists, and says by messages what the user wants; the
page that holds it asks the model. Each line is drawn once for as long as its row stays the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from wsgitop.tui.lists import Listed
from wsgitop.tui.theme import Look, look_of
from wsgitop.tui.widgets.canvas import Line, clip
from wsgitop.tui.widgets.line_scroll import LineScroll

Row = TypeVar("Row")
GUTTER = 3
REVERSED = Style(reverse=True)


class Cell(NamedTuple):
    """What stands in one place: text, in a colour of the palette."""

    text: str
    color: str = "text"
    bold: bool = False


class ListColumn(NamedTuple, Generic[Row]):
    """A column. ``name`` is that of its order, '' if one cannot sort by it; ``keep`` says how long it stays
    when the screen gets narrow (the lowest goes first); one column with ``flexible`` takes what room is left.
    """

    name: str
    title: str
    width: int
    keep: int
    cell: Callable[[Row], Cell]
    left: bool = False
    flexible: bool = False


class Placed(NamedTuple, Generic[Row]):
    """A column with its place on the line."""

    column: ListColumn[Row]
    start: int
    width: int


def place(columns: Sequence[ListColumn[Row]], width: int) -> list[Placed[Row]]:
    """The columns that fit into ``width`` cells, with a cell between them, two where there is plenty."""
    kept = list(columns)
    while len(kept) > 1 and GUTTER + sum(column.width + 1 for column in kept) > width:
        kept.remove(min(kept, key=lambda column: column.keep))
    spare = width - GUTTER - sum(column.width + 1 for column in kept)
    gap = 2 if spare >= len(kept) + 10 else 1
    spare -= len(kept) * (gap - 1)
    placed, start = [], GUTTER
    for column in kept:
        cells = column.width + (max(spare, 0) if column.flexible else 0)
        placed.append(Placed(column, start, cells))
        start += cells + gap
    return placed


class Listing(LineScroll, Generic[Row], can_focus=True):
    """``title`` gives the words in its frame; ``empty`` what to say when there is no row, for a list that is
    filtered and one that is not. ``sign`` marks a row at its left.
    """

    DEFAULT_CSS = """
    Listing {
        height: 1fr; border: round $rule; background: $background; padding: 0;
        border-title-background: $background; scrollbar-size-vertical: 1; overflow-x: hidden;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "next", key_display="↓ j", show=False),
        Binding("up,k", "move(-1)", "previous", key_display="↑ k", show=False),
        Binding("pagedown", "page(1)", "one page down", key_display="PgDn", show=False),
        Binding("pageup", "page(-1)", "one page up", key_display="PgUp", show=False),
        Binding("home", "goto(0)", "first", key_display="Home", show=False),
        Binding("end", "goto(-1)", "last", key_display="End", show=False),
        Binding("enter", "choose", "open", key_display="⏎", show=False),
    ]

    class Wish(Message):
        """What the user wants of this list; a page with several tells them apart by ``control``."""

        def __init__(self, listing: Listing[Any]) -> None:
            super().__init__()
            self.listing = listing

        @property
        def control(self) -> Listing[Any]:
            return self.listing

    class Moved(Wish):
        """The cursor is to move by so many rows."""

        def __init__(self, listing: Listing[Any], rows: int) -> None:
            super().__init__(listing)
            self.rows = rows

    class RowAsked(Wish):
        """The cursor is to go to a row; -1 is the last one."""

        def __init__(self, listing: Listing[Any], row: int) -> None:
            super().__init__(listing)
            self.row = row

    class SortAsked(Wish):
        """The heading of a column was clicked."""

        def __init__(self, listing: Listing[Any], name: str) -> None:
            super().__init__(listing)
            self.name = name

    class Chosen(Wish):
        """Enter, or a click upon the row of the cursor."""

    def __init__(
        self,
        columns: Sequence[ListColumn[Row]],
        *,
        title: str,
        empty: str,
        sign: Callable[[Row], Cell] = lambda _row: Cell(" "),
        heading: bool = True,
        id: str | None = None,  # noqa: A002 - Textual's word
    ) -> None:
        super().__init__(heading=int(heading), id=id)
        self._columns = tuple(columns)
        self._word, self._empty, self._sign = title, empty, sign
        self.listed: Listed[Row] = Listed()
        self._strips: dict[tuple[int, bool], tuple[Row, Strip]] = {}
        self._placed: list[Placed[Row]] = []
        self._placed_width = -1
        self._titled = ""
        self._note = ""
        self._active = True

    # -- data in ---------------------------------------------------------------------------------------------

    def show(self, listed: Listed[Row], note: str = "", *, active: bool = True) -> None:
        """Draw this; ``note`` stands in the title behind the count. ``active``: the cursor is seen."""
        before, self.listed, self._note, self._active = self.listed, listed, note, active
        # By the row object itself: the strips hold on to their rows, so no other can have its number.
        present = {id(row) for row in listed.rows}
        self._strips = {key: kept for key, kept in self._strips.items() if key[0] in present}
        self._set_title()
        size = Size(self.size.width, len(listed.rows) + self.heading)
        if self.virtual_size != size:
            self.virtual_size = size
        if listed.cursor != before.cursor or len(listed.rows) != len(before.rows):
            self.reveal(listed.cursor)
        self.repaint()

    def on_resize(self, _event: events.Resize) -> None:
        self.virtual_size = Size(self.size.width, len(self.listed.rows) + self.heading)
        self.reveal(self.listed.cursor)
        self.redraw()

    def redraw(self) -> None:
        """Forget what was drawn and draw all of it again."""
        self._strips.clear()
        self._titled = ""
        self._set_title()
        self.forget()

    def _set_title(self) -> None:
        look, listed = look_of(self), self.listed
        strong, faint = look.palette.style("muted", bold=True), look.palette.style("faint")
        parts: list[tuple[str, Style]] = [(self._word, strong)]
        count = (
            str(listed.total) if len(listed.rows) == listed.total else f"{len(listed.rows)} of {listed.total}"
        )
        parts.append((f" {count}", strong))
        if self._note:
            parts.append((f" {look.signs.dot} {clip(self._note, 60)}", faint))
        titles = {column.name: column.title for column in self._columns if column.name}
        if listed.sort in titles:
            arrow = look.signs.down if listed.descending else look.signs.up
            parts += [(f" {look.signs.dot} sort ", faint), (f"{titles[listed.sort]}{arrow}", strong)]
        if listed.filter:
            warning = look.palette.style("warning", bold=True)
            parts += [(f" {look.signs.dot} filter ", faint), (clip(listed.filter, 30), warning)]
        title = Text.assemble(*((look.plain(text), style) for text, style in parts))
        key = f"{title.plain}{title.spans}"
        if key != self._titled:
            self._titled = key
            self.border_title = title

    # -- drawing ---------------------------------------------------------------------------------------------

    def line(self, y: int) -> Strip:
        look, width = look_of(self), self.size.width
        if self._placed_width != width:
            self._placed, self._placed_width = place(self._columns, width), width
            self._strips.clear()
        if y == 0 and self.heading:
            return self._head_strip(look, width)
        number = y - self.heading + self.scroll_offset.y
        if number >= len(self.listed.rows):
            if y == self.heading + 1 and not self.listed.rows:
                text = "nothing matches the filter; Esc clears it" if self.listed.filter else self._empty
                return Line(look, width).gap(GUTTER).put(text, "muted").strip()
            return Strip.blank(width, look.palette.style("text"))
        row, selected = self.listed.rows[number], self._active and number == self.listed.cursor
        key = (id(row), selected)
        kept = self._strips.get(key)
        if kept is None:
            kept = self._strips[key] = (row, self._row_strip(look, width, row, selected=selected))
        return kept[1]

    def _head_strip(self, look: Look, width: int) -> Strip:
        line = Line(look, width)
        for column, start, cells in self._placed:
            line.to(start)
            title, style = column.title, look.palette.style("faint", bold=True)
            if column.name and column.name == self.listed.sort:
                title = (title + (look.signs.down if self.listed.descending else look.signs.up))[:cells]
                style = look.palette.style("accent", bold=True)
            line.add(f"{title:<{cells}}" if column.left else f"{title:>{cells}}", style)
        return line.strip()

    def _row_strip(self, look: Look, width: int, row: Row, *, selected: bool) -> Strip:
        palette, signs = look.palette, look.signs
        reverse = selected and (not look.color or not palette.cursor)
        on = "cursor" if selected and not reverse else "background"

        def style(color: str, *, bold: bool = False) -> Style:
            if reverse:  # one colour for the whole row: reversed colours would be a patchwork
                return palette.style("text", bold=bold) + REVERSED
            return palette.style(color, bold=bold, on=on)

        line = Line(look, width)
        line.add(signs.cursor if selected else " ", style("accent", bold=True))
        mark = self._sign(row)
        line.add(mark.text[:1] or " ", style(mark.color, bold=True))
        for column, start, cells in self._placed:
            line.to(start, style("text"))
            cell = column.cell(row)
            text = clip(look.plain(cell.text), cells, signs.ellipsis)
            line.add(text if column.left else f"{text:>{cells}}", style(cell.color, bold=cell.bold))
        return line.strip(style("text"))

    # -- keys and mouse --------------------------------------------------------------------------------------

    def action_move(self, rows: int) -> None:
        self.post_message(self.Moved(self, rows))

    def action_page(self, pages: int) -> None:
        self.post_message(self.Moved(self, pages * max(1, self.size.height - self.heading - 1)))

    def action_goto(self, row: int) -> None:
        self.post_message(self.RowAsked(self, row))

    def action_choose(self) -> None:
        self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0 and self.heading:
            for column, start, width in self._placed:
                if column.name and start <= offset.x <= start + width:
                    self.post_message(self.SortAsked(self, column.name))
            return
        row = offset.y - self.heading + self.scroll_offset.y
        if row < len(self.listed.rows):
            again = row == self.listed.cursor
            self.post_message(self.Chosen(self) if again else self.RowAsked(self, row))
