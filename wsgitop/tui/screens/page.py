"""What the screens beside the overview have in common: frame, keys, questions while they are open.

A page shows the newest view of the model and, if it needs more than that, what it asks the server for at the
pace of the pictures: :meth:`Page.ask`, then :meth:`Page.take`. Paused, it asks nothing and stands still. A
question that fails is said in the page's title; the page keeps what it had.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.reactive import var
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Input, Static

from wsgitop.errors import WsgitopError
from wsgitop.tui.lists import ListModel
from wsgitop.tui.model import View
from wsgitop.tui.source import Source
from wsgitop.tui.theme import Look, look_of
from wsgitop.tui.widgets.canvas import Drawn, Line
from wsgitop.tui.widgets.events import saying_strip
from wsgitop.tui.widgets.footer import Hint, KeyHints
from wsgitop.tui.widgets.header import Banner, Header
from wsgitop.tui.widgets.listing import Listing
from wsgitop.tui.widgets.text_pane import TextPane

if TYPE_CHECKING:
    from wsgitop.tui.app import WsgitopApp


class Page(Screen[None]):
    """One subject. Subclasses compose :meth:`body`, show what there is in :meth:`update`, and may ask for
    more.
    """

    SUBJECT: ClassVar[str] = ""
    """What it is called on tabs and in the help."""
    HINTS: ClassVar[tuple[Hint, ...]] = ()
    ASKS: ClassVar[bool] = False
    """Whether it asks the server for more than the pictures tell."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", key_display="Esc", tooltip="back to where you came from"),
    ]
    DEFAULT_CSS = """
    Page { layout: vertical; background: $background; }
    Page Header, Page KeyHints, Page Banner, Page SayingLine { height: 1; }
    Page Banner { display: none; }
    Page.-stale Banner { display: block; }
    Page.-ascii Listing, Page.-ascii TextPane, Page.-ascii TextPane:focus { border: ascii $rule; }
    Page .page-body { height: 1fr; }
    Page .filter-line { display: none; height: 1; background: $raised; }
    Page.-filtering .filter-line { display: block; }
    Page .filter-mark { width: 10; color: $accent; text-style: bold; }
    Page .filter-input { height: 1; border: none; padding: 0; background: $raised; width: 1fr; }
    """

    view: var[View] = var(View, init=False)

    def __init__(self) -> None:
        super().__init__()
        self.trouble = ""
        """Why the last question was not answered, '' if it was."""
        self._ask_now = asyncio.Event()

    @property
    def main(self) -> WsgitopApp:
        return cast("WsgitopApp", self.app)

    # -- to be given by subclasses ---------------------------------------------------------------------------

    def body(self) -> ComposeResult:
        """What is between header and footer."""
        raise NotImplementedError

    def update(self, view: View) -> None:
        """Show the newest view, and what was taken."""
        raise NotImplementedError

    async def ask(self, source: Source) -> Any:
        """Ask the server. May raise WsgitopError."""
        raise NotImplementedError

    def take(self, answer: Any) -> None:
        """Keep what :meth:`ask` has brought."""
        raise NotImplementedError

    def hear(self, message: Message) -> None:
        """Lines of the logs, and what became of following them. For whoever shows them."""

    # -- frame -----------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Header(self.main.target_label, wall=self.main.wall).data_bind(Page.view)
        yield Banner().data_bind(Page.view)
        with Vertical(classes="page-body"):
            yield from self.body()
        yield SayingLine().data_bind(Page.view)
        with Horizontal(classes="filter-line"):
            yield Static(" filter / ", classes="filter-mark", markup=False)
            yield PageFilter(select_on_focus=False, compact=True, classes="filter-input")
        yield KeyHints(self.HINTS).data_bind(Page.view)

    def on_mount(self) -> None:
        self.set_class(look_of(self).is_ascii, "-ascii")
        self.query_one(PageFilter).cursor_blink = False
        self.refresh_view()
        if self.ASKS:
            self._keep_asking()

    def refresh_view(self) -> None:
        """Take a new view of the model and show it."""
        if not self.children:  # not composed yet, or taken apart already: news may come at any moment
            return
        self.view = self.main.model.view()
        self.update(self.view)

    def refresh_ages(self) -> None:
        """No news, but time has passed."""
        self.refresh_view()

    def watch_view(self, view: View) -> None:
        self.set_class(view.stale_s is not None, "-stale")

    def redraw(self) -> None:
        """Everything again, in new colours."""
        for drawn in self.query(Drawn):
            drawn.redraw(everything=True)
        for listing in self.query(Listing):
            listing.redraw()
        for pane in self.query(TextPane):
            pane.redraw()

    def on_key(self, event: events.Key) -> None:
        self.main.explain_key(event.key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if self.main.is_greyed(action) else True

    def action_back(self) -> None:
        self.main.pop_screen()

    # -- asking ----------------------------------------------------------------------------------------------

    def ask_soon(self) -> None:
        """Ask now, and not only when the next picture is due."""
        self._ask_now.set()

    @work(exclusive=True, group="page", exit_on_error=False)
    async def _keep_asking(self) -> None:
        while True:
            self._ask_now.clear()
            source = self.main.feed.source
            if source is not None and not self.main.model.is_paused:
                try:
                    answer = await self.ask(source)
                except WsgitopError as fault:
                    self.trouble = fault.cause
                else:
                    self.trouble = ""
                    self.take(answer)
                if self.is_attached:
                    self.refresh_view()
            # Without a connection it is tried again as soon as there is one.
            pause_s = self.main.model.interval_s if source is not None else 0.25
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._ask_now.wait()

    # -- filter ----------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one(PageFilter).focus()

    def action_leave_filter(self) -> None:
        self.remove_class("-filtering")
        self.focus_body()

    def focus_body(self) -> None:
        """Give the keys back to what is listed."""
        for listing in self.query(Listing):
            listing.focus()
            return

    @on(Input.Submitted)
    def _filter_submitted(self) -> None:
        self.action_leave_filter()


class ListPage(Page):
    """A page that is a list. ``rows`` is its model, which the subclass makes before :meth:`body`."""

    AUTO_FOCUS = "Listing"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash", "filter", "filter", key_display="/", tooltip="filter as you type; a leading ! inverts"
        ),
        Binding("escape", "back", "back", key_display="Esc", tooltip="clear the filter, or go back"),
        Binding("s,greater_than_sign", "step_sort(1)", "sort by the next column", key_display="s >"),
        Binding("less_than_sign", "step_sort(-1)", "sort by the previous column", key_display="<"),
        Binding("I", "invert_sort", "sort the other way round"),
    ]
    rows: ListModel[Any]

    @on(Listing.Moved)
    def _moved(self, event: Listing.Moved) -> None:
        self.rows.touch()
        self.rows.move(event.rows)
        self.refresh_view()

    @on(Listing.RowAsked)
    def _row_asked(self, event: Listing.RowAsked) -> None:
        self.rows.touch()
        self.rows.move_to(event.row)
        self.refresh_view()

    @on(Listing.SortAsked)
    def _sort_asked(self, event: Listing.SortAsked) -> None:
        self.rows.sort_by(event.name)
        self.refresh_view()

    @on(Listing.Chosen)
    def _chosen(self) -> None:
        row = self.rows.listed().selected
        if row is not None:
            self.open_row(row)

    def open_row(self, row: Any) -> None:
        """Enter on a row."""

    def action_step_sort(self, step: int) -> None:
        self.rows.step_sort(step)
        self.refresh_view()

    def action_invert_sort(self) -> None:
        self.rows.invert_sort()
        self.refresh_view()

    @on(Input.Changed)
    def _filter_changed(self, event: Input.Changed) -> None:
        self.rows.set_filter(event.value)
        self.refresh_view()

    def action_back(self) -> None:
        """Escape: first the filter goes, then the page."""
        if self.has_class("-filtering") or self.rows.listed().filter:
            self.query_one(PageFilter).value = ""
            self.rows.set_filter("")
            self.action_leave_filter()
            self.refresh_view()
            return
        super().action_back()


class PageFilter(Input):
    """Up and down leave the filter as it is and go on in the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,up", "screen.leave_filter", show=False),
        Binding("escape", "screen.back", show=False),
    ]


class SayingLine(Drawn):
    """The answer to what the user just did, or what is under way."""

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        if view.sayings:
            return [saying_strip(look, width, view.sayings[0])]
        return [Line(look, width).strip()]
