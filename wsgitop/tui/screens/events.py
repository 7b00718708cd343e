"""All that happened, as far as it is remembered, and who caused it: what the server did by itself, what it
was told to do, and what this interface noticed. Orders that went well are here, too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from wsgitop.snapshot import Event, Severity
from wsgitop.tui import figures
from wsgitop.tui.lists import ListModel, Order
from wsgitop.tui.model import View
from wsgitop.tui.screens.page import ListPage
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.footer import Hint
from wsgitop.tui.widgets.listing import Cell, ListColumn, Listing
from wsgitop.tui.widgets.text_pane import Pieces, TextPane, labelled, line_of

RANK: dict[Severity, int] = {"info": 0, "good": 1, "warning": 2, "error": 3}
LEAST: tuple[Severity, ...] = ("info", "warning", "error")
"""What ``v`` steps through."""


def key_of(event: Event) -> Hashable:
    """What tells events apart: those of the interface have no number, and another master counts anew."""
    return (event.sequence, event.at, event.kind, event.text)


def chosen(events: Iterable[Event], least: Severity, *, by_somebody: bool) -> tuple[Event, ...]:
    """Those that are at least so severe and, if it is asked for, that somebody caused."""
    return tuple(
        event for event in events if RANK[event.severity] >= RANK[least] and (event.actor or not by_somebody)
    )


def _color(event: Event) -> str:
    return "muted" if event.severity == "info" else event.severity


def _text(event: Event) -> Cell:
    text = " ".join(event.text.split())
    return Cell(text, "text" if event.severity in ("info", "good") else event.severity)


def _who(event: Event) -> Cell:
    """Who it was, without the process: that is among the details."""
    who = event.actor.partition(" (pid ")[0]
    return Cell(who or figures.UNKNOWN, "accent" if who else "faint")


COLUMNS: tuple[ListColumn[Event], ...] = (
    ListColumn(
        "at", "WHEN", 14, 95, lambda e: Cell(figures.moment(e.at, "%m-%d %H:%M:%S"), "muted"), left=True
    ),
    ListColumn("kind", "KIND", 13, 60, lambda e: Cell(e.kind, _color(e)), left=True),
    ListColumn("actor", "WHO", 10, 97, _who, left=True),
    ListColumn("", "WHAT", 20, 98, _text, left=True, flexible=True),
)
ORDERS: tuple[Order[Event], ...] = (
    Order("at", lambda e: e.at),
    Order("severity", lambda e: RANK[e.severity]),
    Order("kind", lambda e: e.kind, largest_first=False),
    Order("actor", lambda e: e.actor or None, largest_first=False),
)


def details(event: Event) -> list[Pieces]:
    """All that is known about an event."""
    lines = [line_of(event.text, "text" if event.severity == "info" else event.severity, bold=True)]
    lines.append(line_of(""))
    number = f", number {event.sequence}" if event.sequence else ""
    lines += labelled(
        (
            ("when", figures.moment(event.at, "%Y-%m-%d %H:%M:%S"), "text"),
            ("kind", f"{event.kind} ({event.severity}){number}", "text"),
            ("who", event.actor or _nobody(event), "accent" if event.actor else "muted"),
        )
    )
    if event.detail:
        lines += [line_of("")]
        lines += [line_of(text) for text in event.detail.rstrip().split("\n")]
    return lines


def _nobody(event: Event) -> str:
    return "this interface noticed it" if event.kind == "interface" else "the master by itself"


class Events(ListPage):
    """The events above, all about the selected one below."""

    SUBJECT = "events"
    HINTS = (
        Hint("Esc", "back", "screen.back", 99),
        Hint("/", "filter", "screen.filter", 80),
        Hint("v", "level", "screen.level", 75),
        Hint("w", "by whom", "screen.by_somebody", 78),
        Hint("s", "sort", "screen.step_sort(1)", 70),
        Hint("Tab", "text", "app.focus_next", 60),
        Hint("y", "copy", "screen.copy", 50),
        Hint("p", "pause", "app.pause", 40),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "level", "level", tooltip="least severity: all, warnings, errors"),
        Binding("w", "by_somebody", "by whom", tooltip="only what somebody caused"),
        Binding("y", "copy", "copy", tooltip="copy all about the selected event"),
    ]
    DEFAULT_CSS = """
    Events Listing { height: 3fr; }
    Events TextPane { height: 2fr; min-height: 5; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListModel[Event] = ListModel(
            identity=key_of,
            words=lambda e: f"{e.kind} {e.severity} {e.actor} {e.text} {e.detail}",
            orders=ORDERS,
        )
        self.least: Severity = "info"
        self.by_somebody = False
        self._taken: tuple[object, ...] = ()
        self._shown: Event | None = None

    def body(self) -> ComposeResult:
        yield Listing(
            COLUMNS,
            title="events",
            empty="nothing of this kind has happened",
            sign=lambda event: Cell(look_of(self).signs.severity(event.severity), _color(event)),
        )
        yield TextPane(title="the selected event")

    def update(self, view: View) -> None:
        wanted = (view.audit, self.least, self.by_somebody)
        if wanted != self._taken:
            at_top = self.rows.listed().cursor <= 0
            self._taken = wanted
            self.rows.take(chosen(view.audit, self.least, by_somebody=self.by_somebody))
            if at_top:
                self.rows.move_to(0)  # who looks at the newest one goes on to the next
        listed = self.rows.listed()
        notes = (
            [f"{self.least}s only" if self.least == "error" else "warnings and errors"]
            if RANK[self.least]
            else []
        )
        notes += ["caused by somebody"] if self.by_somebody else []
        self.query_one(Listing).show(listed, ", ".join(notes))
        event, pane = listed.selected, self.query_one(TextPane)
        if event is None:
            pane.show((), title="the selected event")
        elif event != self._shown:
            pane.show(details(event), title=event.kind)
            pane.scroll_home(animate=False)
        self._shown = event

    def open_row(self, row: Event) -> None:
        self.query_one(TextPane).focus()

    def action_level(self) -> None:
        self.least = LEAST[(LEAST.index(self.least) + 1) % len(LEAST)]
        self.refresh_view()

    def action_by_somebody(self) -> None:
        self.by_somebody = not self.by_somebody
        self.refresh_view()

    def action_copy(self) -> None:
        self.main.copy(self.query_one(TextPane).plain, "all about the selected event")
