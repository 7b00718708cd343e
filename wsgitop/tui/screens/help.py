"""The help, made from the tables themselves: what is written here is what keys, actions and alarms do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from wsgitop.tui.actions import ACTIONS
from wsgitop.tui.alarms import KINDS
from wsgitop.tui.screens.dialogs import Dialog
from wsgitop.tui.theme import Look, look_of
from wsgitop.tui.widgets.table import STATE_COLORS, STATE_SIGNS

if TYPE_CHECKING:
    from wsgitop.tui.app import WsgitopApp
    from wsgitop.tui.screens.page import Page

DISPLAY = {"ctrl+p": "^p", "ctrl+z": "^z", "ctrl+c": "^c", "escape": "Esc", "colon": ":", "slash": "/"}
SERVER_ACTIONS = frozenset({"reload", "scale", "scale_to", "undo_scale", "menu"})
WIDE = 150
"""From here on two columns."""

STATES = {
    "idle": "waits for requests",
    "busy": "serves; so many of its threads",
    "stuck": "a request has run for so long, or it does not beat",
    "booting": "loads the application",
    "retiring": "finishes its requests, then ends",
    "quarantined": "accepts nothing: put aside to be looked at",
}
SEVERITIES = {
    "good": "done",
    "info": "happened",
    "warning": "may need a look",
    "error": "needs one",
}


class Section(NamedTuple):
    """Bindings under a heading. ``namespace``: where their actions are run by name, '' for those that are
    not.
    """

    title: str
    bindings: tuple[Binding, ...]
    namespace: str = ""


class Row(NamedTuple):
    """What is explained, and how. ``chip``: upon a ground of its colour, as on the screen."""

    word: str
    text: str
    color: str = "text"
    chip: bool = False


class Topic(NamedTuple):
    """Rows under a heading; their words take ``width`` cells."""

    title: str
    rows: tuple[Row, ...]
    width: int = 10


# -- bindings -----------------------------------------------------------------------------------------------


def described(bindings: Iterable[BindingType]) -> tuple[Binding, ...]:
    """Those that describe themselves. Bindings without a description are not for people."""
    return tuple(one for one in bindings if isinstance(one, Binding) and one.description)


def bindings_of(cls: type[Widget], *, inherited: bool = True) -> tuple[Binding, ...]:
    """What a class of ours binds; a key that a subclass binds anew counts once. ``inherited``: with what its
    bases do.
    """
    found: list[Binding] = []
    taken: set[str] = set()
    for base in cls.__mro__ if inherited else (cls,):
        if not base.__module__.startswith("wsgitop."):
            continue
        for binding in described(base.__dict__.get("BINDINGS", ())):
            keys = set(binding.key.split(","))
            if not keys & taken:
                taken |= keys
                found.append(binding)
    return tuple(found)


def key_text(binding: Binding) -> str:
    """How the keys of a binding are written."""
    if binding.key_display:
        return binding.key_display
    return " ".join(DISPLAY.get(key.strip(), key.strip()) for key in binding.key.split(","))


def sections(app: WsgitopApp) -> tuple[Section, ...]:
    """All keys that work now: of the screen one is on, of what can be moved in there, of all screens."""
    seen = app.seen
    found = [Section(f"Here: {seen.SUBJECT}", bindings_of(type(seen)), "screen")]
    moving: dict[str, Binding] = {}
    for widget in seen.query("*"):
        if widget.can_focus:
            moving.update({binding.key: binding for binding in bindings_of(type(widget))})
    found.append(Section("Moving", tuple(moving.values())))
    groups: dict[str, list[Binding]] = {"Server": [], "Pages": [], "Interface": []}
    for binding in described(app.BINDINGS):
        action = binding.action.partition("(")[0]
        opens = action.startswith("open")
        groups["Server" if action in SERVER_ACTIONS else "Pages" if opens else "Interface"].append(binding)
    found += [Section(title, tuple(bindings), "app") for title, bindings in groups.items()]
    return tuple(section for section in found if section.bindings)


def topics(app: WsgitopApp) -> tuple[list[Topic], list[Topic]]:
    """What there is to explain: what can be done, and what the signs mean."""
    from wsgitop.tui.app import pages
    from wsgitop.tui.screens.overview import Overview

    todo = [Topic(one.title, _key_rows(one.bindings)) for one in sections(app)]
    rows = [
        Row(f"m {action.key}", f"{action.name}: {action.summary}")
        for action in ACTIONS.values()
        if not action.keys
    ]
    todo.append(Topic("Actions of the menu", tuple(rows)))
    others: list[type[Overview | Page]] = [Overview, *pages().values()]
    for page in others:
        own = bindings_of(page, inherited=False)
        if own and page is not type(app.seen):
            todo.append(Topic(f"On the page {page.SUBJECT}", _key_rows(own)))
    signs = app.look.signs
    states = [
        Row(
            f"{STATE_SIGNS.get(state, ' ')} {state if state != 'stuck' else 'STUCK'}",
            text,
            STATE_COLORS[state],
        )
        for state, text in STATES.items()
    ]
    states.append(Row(f"{signs.cursor}", "the selected worker", "accent"))
    states.append(Row(f"{signs.marked}", "marked: orders are for all of these", "warning"))
    told = [
        Row(signs.severity(severity), text, app.look.palette.severity(severity))  # type: ignore[arg-type]  # keys
        for severity, text in SEVERITIES.items()
    ]
    told.append(Row(signs.running, "under way", "accent"))
    alarms = [Row(kind.word, kind.help, kind.severity, chip=True) for kind in KINDS.values()]
    meanings = [
        Topic("Alarms, the worst first", tuple(alarms), 18),
        Topic("Workers", tuple(states), 14),
        Topic("Events and answers", tuple(told), 4),
    ]
    return todo, meanings


def _key_rows(bindings: Sequence[Binding]) -> tuple[Row, ...]:
    return tuple(Row(key_text(one), one.tooltip or one.description) for one in bindings)


# -- on the screen ------------------------------------------------------------------------------------------


class Help(Dialog[None]):
    """All of it. Any of the keys that open or close things closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,q,enter", "give_up", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]
    DEFAULT_CSS = """
    Help > .box { width: 80; }
    Help VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
    Help .columns { height: auto; }
    Help .columns > Static { width: 1fr; height: auto; }
    Help.-two > .box { width: 148; }
    Help.-two .columns > Static { padding-right: 2; }
    """

    def __init__(self, todo: Sequence[Topic], meanings: Sequence[Topic], *, viewer: bool) -> None:
        super().__init__("Help")
        self._todo, self._meanings, self._viewer = tuple(todo), tuple(meanings), viewer

    def compose(self) -> ComposeResult:
        look = look_of(self)
        two = self.app.size.width >= WIDE
        self.set_class(two, "-two")
        with self.box() as box:
            box.border_subtitle = Text(look.plain("↑ ↓ PgUp PgDn scroll  Esc back"))
            with VerticalScroll():
                if self._viewer:
                    yield self.paragraph(VIEWER).add_class("trouble")
                if two:
                    with Horizontal(classes="columns"):
                        yield Static(help_table(self._todo, look), markup=False)
                        yield Static(help_table(self._meanings, look), markup=False)
                else:
                    yield Static(help_table((*self._todo, *self._meanings), look), markup=False)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(VerticalScroll).focus()

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False, immediate=True)


VIEWER = "You are a viewer here: what changes the server is for operators.\n"


def help_table(found: Sequence[Topic], look: Look) -> Table:
    """Words and what they mean, a heading above each group; what is long goes on below itself."""
    palette = look.palette
    grid = Table.grid(padding=0)
    grid.add_column(ratio=1)
    for index, topic in enumerate(found):
        if index:
            grid.add_row("")
        grid.add_row(Text(look.plain(topic.title), palette.style("accent", bold=True)))
        rows = Table.grid(padding=(0, 1, 0, 2))
        rows.add_column(width=topic.width, no_wrap=True)
        rows.add_column(ratio=1)
        for row in topic.rows:
            color = palette.chip(row.color) if row.chip else palette.style(row.color, bold=True)
            word = f" {row.word} " if row.chip else row.word
            rows.add_row(Text(look.plain(word), color), Text(look.plain(row.text), palette.style("muted")))
        grid.add_row(rows)
    return grid
