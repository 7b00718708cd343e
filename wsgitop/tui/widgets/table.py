"""The workers, one to a row. What a tick costs depends on the rows that can be seen, not on how many there
are.

The widget draws its lines itself (``render_line`` of a ``ScrollView``): Textual's DataTable would draw every
visible cell again when one of them changes, and keeps its cursor on a row number instead of on a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from wsgitop.snapshot import WorkerSnapshot
from wsgitop.tui import figures
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.model import View
from wsgitop.tui.theme import Look, look_of
from wsgitop.tui.widgets import plot
from wsgitop.tui.widgets.canvas import Line, clip
from wsgitop.tui.widgets.line_scroll import LineScroll

if TYPE_CHECKING:
    from textual import events

REVERSED = Style(reverse=True)
GUTTER = 2
"""The cursor, and a sign for the state."""

FLEXIBLE = "in_flight"
FLEXIBLE_LEAST = 15


class Field(NamedTuple):
    """A column. ``keep`` says how long it stays when the screen gets narrow: the lowest goes first."""

    name: str
    title: str
    width: int
    keep: int
    text: Callable[[WorkerSnapshot], str]
    left: bool = False


def _errors(worker: WorkerSnapshot) -> str:
    return figures.count(worker.errors) if worker.errors < 100_000 else ">99k"


def state_word(worker: WorkerSnapshot) -> str:
    """The state as a word, with what makes it urgent: how long stuck, how many threads of all are busy."""
    if worker.state == "stuck":
        since = max((request.elapsed_s for request in worker.in_flight), default=worker.heartbeat_age_s)
        return f"STUCK {figures.age(since)}" if since is not None else "STUCK"
    if worker.state == "busy" and worker.threads > 1:
        return f"busy {worker.threads_busy}/{worker.threads}"
    if worker.state == "quarantined":
        return "quarantine"  # as wide as the column
    return worker.state


def in_flight(worker: WorkerSnapshot) -> str:
    """The oldest request: first how long it runs, at a fixed place, then what it is, then how many others
    there are."""
    if not worker.in_flight:
        return ""
    oldest = max(worker.in_flight, key=lambda request: request.elapsed_s)
    others = f" +{len(worker.in_flight) - 1}" if len(worker.in_flight) > 1 else ""
    return f"{figures.elapsed(oldest.elapsed_s):>5}{others} {oldest.method} {oldest.path}"


FIELDS = (
    Field("slot", "#", 3, 60, lambda worker: str(worker.slot)),
    Field("pid", "PID", 7, 99, lambda worker: str(worker.pid)),
    Field("generation", "GEN", 4, 70, lambda worker: str(worker.generation)),
    Field("state", "STATE", 10, 99, state_word, left=True),
    Field("requests", "REQ", 6, 55, lambda worker: figures.count(worker.requests)),
    Field("rps", "RPS", 5, 95, lambda worker: figures.rate(worker.rps)),
    Field("p50", "p50", 5, 20, lambda worker: figures.milliseconds(worker.p50_ms)),
    Field("p95", "p95", 5, 80, lambda worker: figures.milliseconds(worker.p95_ms)),
    Field("errors", "ERR", 4, 75, _errors),
    Field("cpu", "CPU%", 5, 65, lambda worker: figures.percent(worker.cpu_percent)),
    Field("rss", "RSS", 5, 85, lambda worker: figures.size(worker.rss_bytes)),
    Field("age", "AGE", 6, 40, lambda worker: figures.age(worker.age_s)),
    Field("beat", "BEAT", 5, 15, lambda worker: figures.beat(worker.heartbeat_age_s)),
    Field(FLEXIBLE, "IN FLIGHT", FLEXIBLE_LEAST, 90, in_flight, left=True),
    Field("history", "RPS 30s", 12, 10, lambda worker: "", left=True),
)

STATE_COLORS = {
    "idle": "muted",
    "busy": "accent",
    "booting": "info",
    "retiring": "warning",
    "stuck": "error",
    "quarantined": "warning",
}
STATE_SIGNS = {"stuck": "!", "retiring": "~", "booting": "+", "quarantined": "="}


class Placed(NamedTuple):
    """A column with its place on the line."""

    field: Field
    start: int
    width: int


def placed_fields(width: int) -> list[Placed]:
    """The columns that fit into ``width`` cells, with one cell between them (two where there is plenty)."""
    fields = list(FIELDS)
    while len(fields) > 1 and GUTTER + sum(field.width + 1 for field in fields) > width:
        fields.remove(min(fields, key=lambda field: field.keep))
    spare = width - GUTTER - sum(field.width + 1 for field in fields)
    gap = 2 if len(fields) == len(FIELDS) and spare >= len(fields) + 10 else 1
    spare -= len(fields) * (gap - 1)
    placed = []
    start = GUTTER
    for field in fields:
        cells = field.width + (max(spare, 0) if field.name == FLEXIBLE else 0)
        placed.append(Placed(field, start, cells))
        start += cells + gap
    return placed


class WorkerTable(LineScroll, can_focus=True):
    """The table with its cursor. It says what the user wants (:class:`Moved`, :class:`SortAsked`); the
    model answers."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "next worker", key_display="↓ j", show=False),
        Binding("up,k", "move(-1)", "previous worker", key_display="↑ k", show=False),
        Binding("pagedown", "page(1)", "one page down", key_display="PgDn", show=False),
        Binding("pageup", "page(-1)", "one page up", key_display="PgUp", show=False),
        Binding("home", "first", "first worker", key_display="Home", show=False),
        Binding("end", "last", "last worker", key_display="End", show=False),
        Binding("enter", "choose", "all about the worker", key_display="⏎", show=False),
    ]

    class Moved(Message):
        """The cursor is to move by so many rows."""

        def __init__(self, rows: int) -> None:
            super().__init__()
            self.rows = rows

    class RowAsked(Message):
        """The cursor is to go to a row; -1 is the last one."""

        def __init__(self, row: int) -> None:
            super().__init__()
            self.row = row

    class SortAsked(Message):
        """The heading of a column was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    class Chosen(Message):
        """Enter, or a click upon the row of the cursor."""

    view: var[View | None] = var[View | None](None, init=False)

    def __init__(self) -> None:
        super().__init__(heading=1)
        self._strips: dict[tuple[Identity, bool, bool], Strip] = {}
        self._fields: list[Placed] = []
        self._title = ""
        self._shown: Identity | None = None

    # -- data in ---------------------------------------------------------------------------------------------

    def watch_view(self, old: View | None, view: View | None) -> None:
        if view is None:
            return
        if old is None or old.snapshot is not view.snapshot:
            self._strips.clear()
        self._set_title(view)
        size = Size(self.size.width, len(view.rows) + 1)
        if self.virtual_size != size:
            self.virtual_size = size
        selected = identity(view.selected) if view.selected is not None else None
        if selected != self._shown or old is None or old.cursor != view.cursor:
            self._shown = selected
            self.reveal(view.cursor)
        self.repaint()

    def on_resize(self, event: events.Resize) -> None:
        self._strips.clear()
        if self.view is not None:
            self.virtual_size = Size(self.size.width, len(self.view.rows) + 1)
            self._set_title(self.view)
            self.reveal(self.view.cursor)
        self.redraw()

    def redraw(self) -> None:
        """Forget what was drawn and draw all of it again."""
        self._strips.clear()
        if self.view is not None:
            self._set_title(self.view)
        self.forget()

    def _set_title(self, view: View) -> None:
        look = look_of(self)
        style = look.palette.style("muted", bold=True)
        faint = look.palette.style("faint")
        parts: list[tuple[str, Style]] = [("workers", style)]
        if view.snapshot is not None:
            shown, present = len(view.rows), len(view.snapshot.workers)
            wanted = view.snapshot.master.workers_wanted
            ready = sum(worker.state in ("idle", "busy", "stuck") for worker in view.snapshot.workers)
            parts.append(
                (
                    f" {ready}/{wanted}",
                    look.palette.style("good" if ready >= wanted else "warning", bold=True),
                )
            )
            if shown != present:
                parts.append((f" {look.signs.dot} {shown} of {present} shown", style))
        if view.marked:
            marked = f" {look.signs.dot} {len(view.marked)} marked"
            parts.append((marked, look.palette.style("warning", bold=True)))
        heading = next(field.title for field in FIELDS if field.name == view.sort)
        arrow = look.signs.down if view.descending else look.signs.up
        parts += [(f" {look.signs.dot} sort ", faint), (f"{heading}{arrow}", style)]
        if view.filter:
            parts += [
                (f" {look.signs.dot} filter ", faint),
                (clip(view.filter, 30), look.palette.style("warning", bold=True)),
            ]
        title = Text.assemble(*((look.plain(text), own) for text, own in parts))
        key = f"{title.plain}{title.spans}"
        if key != self._title:
            self._title = key
            self.border_title = title

    # -- drawing ---------------------------------------------------------------------------------------------

    def line(self, y: int) -> Strip:
        look, width = look_of(self), self.size.width
        view = self.view
        if not self._fields or self._fields_width != width:
            self._fields, self._fields_width = placed_fields(width), width
        if view is None:
            return Strip.blank(width, look.palette.style("text"))
        if y == 0:
            return heading_strip(look, width, self._fields, view)
        row = y - 1 + self.scroll_offset.y
        if row >= len(view.rows):
            if y == 2 and not view.rows:
                return self._nothing(look, width, view)
            return Strip.blank(width, look.palette.style("text"))
        worker = view.rows[row]
        known = identity(worker)
        key = (known, row == view.cursor, known in view.marked)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._strips[key] = row_strip(
                look, width, self._fields, worker, selected=key[1], marked=key[2]
            )
        return strip

    _fields_width = -1

    @staticmethod
    def _nothing(look: Look, width: int, view: View) -> Strip:
        if view.snapshot is None:
            text = "waiting for the server" + look.signs.ellipsis
        elif view.filter:
            text = "no worker matches the filter; Esc clears it"
        else:
            text = "no workers"
        return Line(look, width).gap(GUTTER).put(text, "muted").strip()

    # -- keys and mouse --------------------------------------------------------------------------------------

    def action_move(self, rows: int) -> None:
        self.post_message(self.Moved(rows))

    def action_page(self, pages: int) -> None:
        self.post_message(self.Moved(pages * max(1, self.size.height - 2)))

    def action_first(self) -> None:
        self.post_message(self.RowAsked(0))

    def action_last(self) -> None:
        self.post_message(self.RowAsked(-1))

    def action_choose(self) -> None:
        self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self.view is None:
            return
        if offset.y == 0:
            for field, start, width in self._fields:
                if start <= offset.x <= start + width and field.name != "history":
                    self.post_message(self.SortAsked(field.name))
            return
        row = offset.y - 1 + self.scroll_offset.y
        if row < len(self.view.rows):
            self.post_message(self.Chosen() if row == self.view.cursor else self.RowAsked(row))


def heading_strip(look: Look, width: int, fields: list[Placed], view: View) -> Strip:
    """The line of headings; the column that sorts is marked by an arrow."""
    line = Line(look, width)
    style = look.palette.style("faint", bold=True)
    for field, start, cells in fields:
        line.to(start)
        title = field.title
        own = style
        if field.name == view.sort:
            title = (title + (look.signs.down if view.descending else look.signs.up))[:cells]
            own = look.palette.style("accent", bold=True)
        line.add(f"{title:<{cells}}" if field.left else f"{title:>{cells}}", own)
    return line.strip()


def row_strip(
    look: Look,
    width: int,
    fields: list[Placed],
    worker: WorkerSnapshot,
    *,
    selected: bool,
    marked: bool = False,
) -> Strip:
    """One worker. The selected row has a sign and a ground of its own (reversed where there are no
    colours); the sign of one that is ``marked`` stands in the same place."""
    palette, signs = look.palette, look.signs
    reverse = selected and (not look.color or not palette.cursor)
    on = "cursor" if selected and not reverse else "background"

    def style(color: str, *, bold: bool = False) -> Style:
        if reverse:  # one colour for the whole row: reversed colours would be a patchwork
            return palette.style("text", bold=bold) + REVERSED
        return palette.style(color, bold=bold, on=on)

    state_color = STATE_COLORS[worker.state]
    line = Line(look, width)
    sign = signs.marked if marked else signs.cursor if selected else " "
    line.add(sign, style("warning" if marked else "accent", bold=True))
    line.add(STATE_SIGNS.get(worker.state, " "), style(state_color, bold=True))
    quiet = worker.state == "idle"
    for field, start, cells in fields:
        line.to(start, style("text"))
        if field.name == "history":
            known = worker.rps_history[-30:]
            values: list[float | None] = [*([None] * (30 - len(known))), *known]
            samples = [(float(index), value) for index, value in enumerate(values)]
            points = plot.columns(samples, 29.5, cells, window_s=30, hold_s=1)
            ground = style("text") if reverse else Style(bgcolor=style("text").bgcolor)
            drawn = plot.spark(look, points, "rps", top=plot.ceiling(points, 5))
            segments = [Segment(part.text, (part.style or ground) + ground) for part in drawn]
            line.extend(segments, cells)
            continue
        text = clip(field.text(worker), cells, signs.ellipsis)
        color, bold = _field_color(field.name, worker, quiet), field.name == "state" and not quiet
        if field.name == "state":
            color = state_color
        line.add(text if field.left else f"{text:>{cells}}", style(color, bold=bold))
    return line.strip(style("text"))


def _field_color(name: str, worker: WorkerSnapshot, quiet: bool) -> str:
    if name == "errors":
        return "error" if worker.errors else "faint"
    if name in ("slot", "age", "beat", "generation"):
        return "muted"
    if name == "cpu" and worker.cpu_percent is not None and worker.cpu_percent >= 90:
        return "warning"
    if name == FLEXIBLE:
        slow = any(request.elapsed_s >= 5 for request in worker.in_flight)
        return "error" if worker.state == "stuck" else "warning" if slow else "text"
    return "text" if not quiet or name in ("pid", "requests", "rss") else "muted"
