"""A page of several lists: keys go to the one that has the focus, the filter is for all of them."""

from __future__ import annotations

from typing import Any

from textual import events, on
from textual.widgets import Input

from wsgitop.tui.lists import ListModel
from wsgitop.tui.screens.page import ListPage
from wsgitop.tui.widgets.listing import Listing


class ListsPage(ListPage):
    """``lists`` are the models by the id of the widget that shows them; ``rows``, which the subclass sets at
    first, is the one that the keys go to."""

    DEFAULT_CSS = """
    ListsPage Listing:focus { border: round $accent; }
    ListsPage.-ascii Listing:focus { border: ascii $accent; }
    """
    lists: dict[str, ListModel[Any]]

    def show_list(self, name: str, note: str = "") -> None:
        """Draw one of the lists; only the one that the keys go to shows its cursor."""
        rows = self.lists[name]
        self.query_one(f"#{name}", Listing).show(rows.listed(), note, active=rows is self.rows)

    def focus_body(self) -> None:
        for name, rows in self.lists.items():
            if rows is self.rows:
                self.query_one(f"#{name}", Listing).focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        rows = self.lists.get(event.widget.id or "")
        if rows is not None and rows is not self.rows:
            self.rows = rows
            self.refresh_view()

    @on(Input.Changed)
    def _filter_all(self, event: Input.Changed) -> None:
        for rows in self.lists.values():
            rows.set_filter(event.value)
