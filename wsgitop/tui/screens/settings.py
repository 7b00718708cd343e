"""The settings in force: what each is, where its value comes from, and what it would be otherwise.

They are asked for when the page is opened and again when the server has loaded its configuration anew; a
question each second would bring the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from wsgitop.control.messages import SettingShown
from wsgitop.errors import WsgitopError
from wsgitop.snapshot import Snapshot
from wsgitop.tui import figures
from wsgitop.tui.lists import ListModel, Order
from wsgitop.tui.model import View
from wsgitop.tui.screens.page import ListPage
from wsgitop.tui.source import Source
from wsgitop.tui.widgets.footer import Hint
from wsgitop.tui.widgets.listing import Cell, ListColumn, Listing
from wsgitop.tui.widgets.text_pane import Pieces, TextPane, labelled, line_of

DEFAULT = "default"


def order_of(setting: SettingShown) -> str:
    """Changed ones first, by where they come from."""
    return f"0{setting.source}" if setting.source else "1"


def chosen(settings: Iterable[SettingShown], *, changed: bool) -> tuple[SettingShown, ...]:
    """All, or those that are not at their default."""
    return tuple(one for one in settings if one.source or not changed)


def _value(setting: SettingShown) -> Cell:
    if not setting.value:
        return Cell("(empty)" if setting.source else figures.UNKNOWN, "faint")
    return Cell(setting.value, "accent" if setting.source else "muted", bool(setting.source))


COLUMNS: tuple[ListColumn[SettingShown], ...] = (
    ListColumn(
        "name", "SETTING", 24, 99, lambda s: Cell(s.name, "text" if s.source else "muted"), left=True
    ),
    ListColumn("", "VALUE", 16, 98, _value, left=True, flexible=True),
    ListColumn(
        "source", "COMES FROM", 26, 80,
        lambda s: Cell(s.source or DEFAULT, "text" if s.source else "faint"), left=True,
    ),
    ListColumn("section", "SECTION", 12, 50, lambda s: Cell(s.section, "muted"), left=True),
)  # fmt: skip
ORDERS: tuple[Order[SettingShown], ...] = (
    Order("source", order_of, largest_first=False),
    Order("section", lambda s: s.section, largest_first=False),
    Order("name", lambda s: s.name, largest_first=False),
)


def details(setting: SettingShown) -> list[Pieces]:
    """All about a setting."""
    lines = [line_of(setting.help, "text", bold=True)] if setting.help else []
    return [
        *lines,
        line_of(""),
        *labelled(
            (
                ("value", setting.value or "(empty)", "accent" if setting.source else "text"),
                ("default", setting.default or "(empty)", "muted"),
                ("comes from", setting.source or "its default", "text" if setting.source else "muted"),
                ("flags", ", ".join(setting.flags) or "none", "text"),
                ("section", setting.section or figures.UNKNOWN, "text"),
            )
        ),
    ]


class SettingsPage(ListPage):
    """The settings above, all about the selected one below."""

    SUBJECT = "settings"
    HINTS = (
        Hint("Esc", "back", "screen.back", 99),
        Hint("/", "filter", "screen.filter", 80),
        Hint("C", "changed only", "screen.changed_only", 75),
        Hint("s", "sort", "screen.step_sort(1)", 70),
        Hint("Tab", "text", "app.focus_next", 60),
        Hint("y", "copy", "screen.copy", 50),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("C", "changed_only", "changed only", tooltip="only settings that are not at their default"),
        Binding("y", "copy", "copy", tooltip="copy all about the selected setting"),
    ]
    DEFAULT_CSS = """
    SettingsPage Listing { height: 1fr; }
    SettingsPage TextPane { height: 10; }
    SettingsPage.-short TextPane { height: 5; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-high")]  # noqa: RUF012 - Textual's instance variable

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListModel[SettingShown] = ListModel(
            identity=lambda setting: setting.name,
            words=lambda s: (
                f"{s.name} {s.value} {s.source or DEFAULT} {s.section} {' '.join(s.flags)} {s.help}"
            ),
            orders=ORDERS,
        )
        self.changed_only = False
        self._known: tuple[SettingShown, ...] | None = None
        self._asked_of: tuple[Source, int] | None = None
        self._asked_at: Snapshot | None = None
        self._shown: SettingShown | None = None

    def body(self) -> ComposeResult:
        yield Listing(
            COLUMNS,
            title="settings",
            empty="asking the server…",
            sign=lambda one: Cell("*" if one.source else " ", "accent"),
        )
        yield TextPane(title="the selected setting")

    @work(exclusive=True, group="page", exit_on_error=False)
    async def _ask_once(self, source: Source) -> None:
        try:
            self._known = await source.settings()
        except WsgitopError as fault:
            self.trouble = fault.cause
        else:
            self.trouble = ""
            self._take()
        if self.is_attached:
            self.refresh_view()

    def _take(self) -> None:
        self.rows.take(chosen(self._known or (), changed=self.changed_only))

    def update(self, view: View) -> None:
        source = self.main.feed.source
        if source is not None and view.snapshot is not None and view.paused_s is None:
            # Another connection may be to another server; a reload brings another generation.
            asked_of = (source, view.snapshot.master.generation)
            again = self.trouble and view.snapshot is not self._asked_at
            if asked_of != self._asked_of or again:
                self._asked_of, self._asked_at = asked_of, view.snapshot
                self._ask_once(source)
        listed = self.rows.listed()
        changed = sum(bool(one.source) for one in self._known or ())
        note = self.trouble or (f"{changed} changed" if self._known is not None else "")
        self.query_one(Listing).show(listed, f"{note}, only these" if self.changed_only else note)
        setting, pane = listed.selected, self.query_one(TextPane)
        if setting is None:
            pane.show((), title="the selected setting")
        elif setting != self._shown:
            pane.show(details(setting), title=setting.name)
            pane.scroll_home(animate=False)
        self._shown = setting

    def open_row(self, row: SettingShown) -> None:
        self.query_one(TextPane).focus()

    def action_changed_only(self) -> None:
        self.changed_only = not self.changed_only
        self._take()
        self.refresh_view()

    def action_copy(self) -> None:
        self.main.copy(self.query_one(TextPane).plain, "all about the selected setting")
