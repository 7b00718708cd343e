"""Lists of things other than workers: sorted, filtered, with a cursor that stays on its thing. No Textual.

A list is told its rows anew whenever there is news. Rows are known by their identity, so the cursor follows
its row when the order changes, and stays at its place when the row goes. After a key press the order rests
for a moment, so that nothing moves under the user's hand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from wsgitop.tui.filtering import Filter
from wsgitop.tui.model import REST_S

Row = TypeVar("Row")
Key = float | str
"""What a column sorts by."""


class Order(NamedTuple, Generic[Row]):
    """A column that rows can be sorted by. ``value`` gives None for "not known", which comes last in either
    direction. ``largest_first``: the direction it begins with.
    """

    name: str
    value: Callable[[Row], Key | None]
    largest_first: bool = True


@dataclass(frozen=True)
class Listed(Generic[Row]):
    """What there is to draw: the rows that pass the filter, in order, and the row of the cursor, -1 for none.
    ``total`` counts those that do not pass as well.
    """

    rows: tuple[Row, ...] = ()
    cursor: int = -1
    sort: str = ""
    descending: bool = False
    filter: str = ""
    total: int = 0

    @property
    def selected(self) -> Row | None:
        """The row of the cursor."""
        return self.rows[self.cursor] if self.cursor >= 0 else None


class ListModel(Generic[Row]):
    """``identity`` tells rows apart, ``words`` is the text that the filter looks in, ``orders`` are the
    columns; the first of them sorts at first, and rows that are equal in it keep the order they came in.
    """

    def __init__(
        self,
        *,
        identity: Callable[[Row], Hashable],
        words: Callable[[Row], str],
        orders: Sequence[Order[Row]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._words = words
        self._orders = {order.name: order for order in orders}
        self._clock = clock
        self._rows: tuple[Row, ...] = ()
        self._sort = orders[0].name
        self._descending = orders[0].largest_first
        self._filter = ""
        self._selected: Hashable | None = None
        self._cursor = 0
        self._rest_until = -math.inf
        self._shown: tuple[Hashable, ...] = ()

    # -- what the server sends -------------------------------------------------------------------------------

    def take(self, rows: Iterable[Row]) -> None:
        """These are the rows now."""
        self._rows = tuple(rows)

    # -- what the user does ----------------------------------------------------------------------------------

    def touch(self) -> None:
        """A key was pressed: the rows stay where they are for a moment."""
        self._rest_until = self._clock() + REST_S

    def sort_by(self, name: str) -> None:
        """Sort by a column; by the same one again: the other way round."""
        if name not in self._orders:
            return
        if name == self._sort:
            self._descending = not self._descending
        else:
            self._sort = name
            self._descending = self._orders[name].largest_first
        self._rest_until = -math.inf

    def step_sort(self, step: int) -> None:
        """Sort by the next (+1) or previous (-1) column."""
        names = list(self._orders)
        self.sort_by(names[(names.index(self._sort) + step) % len(names)])

    def invert_sort(self) -> None:
        """The other way round."""
        self.sort_by(self._sort)

    def set_filter(self, text: str) -> None:
        """Only rows with every word of ``text`` in them; with a leading ``!`` all the others."""
        self._filter = text
        self._rest_until = -math.inf

    def move(self, rows: int) -> None:
        """Move the cursor, stopping at the first and the last row."""
        listed = self.listed()
        self._select(listed.rows, listed.cursor + rows)

    def move_to(self, row: int) -> None:
        """Put the cursor on a row; -1 is the last one."""
        rows = self.listed().rows
        self._select(rows, len(rows) - 1 if row < 0 else row)

    def select(self, identity: Hashable) -> None:
        """Put the cursor on the row with this identity, as soon as there is one."""
        self._selected = identity

    def _select(self, rows: tuple[Row, ...], row: int) -> None:
        if rows:
            self._cursor = max(0, min(row, len(rows) - 1))
            self._selected = self._identity(rows[self._cursor])

    # -- what is shown ---------------------------------------------------------------------------------------

    def listed(self) -> Listed[Row]:
        """What there is to draw now."""
        chosen = Filter.parse(self._filter)
        kept = (
            [row for row in self._rows if chosen.passes(self._words(row))]
            if chosen.words
            else list(self._rows)
        )
        ordered = self._ordered(kept)
        if self._clock() < self._rest_until:
            ordered = self._kept_in_place(ordered)
        self._shown = tuple(self._identity(row) for row in ordered)
        cursor = self._cursor_in(self._shown)
        if ordered:
            self._cursor = cursor
            self._selected = self._shown[cursor]
        return Listed(
            tuple(ordered), cursor if ordered else -1, self._sort, self._descending, self._filter,
            len(self._rows),
        )  # fmt: skip

    def _ordered(self, rows: list[Row]) -> list[Row]:
        value = self._orders[self._sort].value
        keyed = [(value(row), row) for row in rows]
        known = [pair for pair in keyed if pair[0] is not None]
        # Text and numbers do not mix within a column. sorted() is stable in either direction: equals stay as
        # they came.
        known.sort(key=lambda pair: _comparable(pair[0]), reverse=self._descending)
        return [row for _, row in known] + [row for figure, row in keyed if figure is None]

    def _kept_in_place(self, ordered: list[Row]) -> list[Row]:
        newcomers = {self._identity(row): row for row in ordered}
        placed = [newcomers.pop(key) for key in self._shown if key in newcomers]
        return [*placed, *newcomers.values()]

    def _cursor_in(self, shown: tuple[Hashable, ...]) -> int:
        if self._selected in shown:
            return shown.index(self._selected)
        return max(0, min(self._cursor, len(shown) - 1))


def _comparable(value: Key | None) -> tuple[bool, float, str]:
    if isinstance(value, str):
        return True, 0.0, value.casefold()
    return False, float(value or 0.0), ""
