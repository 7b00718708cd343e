"""Lists: order, filter, and a cursor that stays on its row."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.tui.filtering import Filter
from wsgitop.tui.lists import ListModel, Order


class Thing(NamedTuple):
    number: int
    size: float | None
    name: str


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_list(clock: Clock | None = None) -> ListModel[Thing]:
    return ListModel(
        identity=lambda thing: thing.number,
        words=lambda thing: thing.name,
        orders=(
            Order("size", lambda thing: thing.size),
            Order("name", lambda thing: thing.name, largest_first=False),
        ),
        clock=clock or Clock(),
    )


THINGS = (Thing(1, 5.0, "Pear"), Thing(2, None, "apple"), Thing(3, 9.0, "fig"), Thing(4, 5.0, "kiwi"))


def numbers(model: ListModel[Thing]) -> list[int]:
    return [thing.number for thing in model.listed().rows]


def test_order() -> None:
    model = a_list()
    assert model.listed().cursor == -1 and model.listed().selected is None
    model.take(THINGS)
    assert numbers(model) == [3, 1, 4, 2], "equals as they came, unknown last"
    model.invert_sort()
    assert numbers(model) == [1, 4, 3, 2], "unknown last either way"
    model.sort_by("name")
    assert numbers(model) == [2, 3, 4, 1], "whatever the case"
    model.step_sort(1)
    assert (model.listed().sort, model.listed().descending) == ("size", True)
    model.step_sort(-1)
    model.sort_by("no such column")
    assert model.listed().sort == "name"


def test_the_cursor_stays_on_its_row() -> None:
    model = a_list()
    model.take(THINGS)
    model.move(1)
    assert model.listed().selected == THINGS[0]
    model.take((Thing(1, 50.0, "Pear"), *THINGS[1:]))
    assert model.listed().cursor == 0 and model.listed().rows[0].number == 1
    model.take(THINGS[2:])
    assert model.listed().cursor == 0, "its row is gone: the place stays"
    model.move(100)
    assert model.listed().selected == THINGS[3]
    model.move_to(0)
    model.move(-100)
    assert model.listed().cursor == 0
    model.move_to(-1)
    assert model.listed().cursor == 1
    model.select(1)
    model.take(THINGS)
    assert model.listed().selected == THINGS[0]


def test_the_order_rests_behind_a_key() -> None:
    clock = Clock()
    model = a_list(clock)
    model.take(THINGS)
    before = numbers(model)
    model.touch()
    model.take((Thing(4, 90.0, "kiwi"), *THINGS[:3], Thing(5, 100.0, "plum")))
    assert numbers(model) == [*before, 5]
    clock.now += 1.1
    assert numbers(model) == [5, 4, 3, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("", True), (" get  CART ", True), ("get pay", False), ("!get", False), ("!pay", True), ("!", True)],
)
def test_filter(wanted: str, found: bool) -> None:
    assert Filter.parse(wanted).passes("GET /cart") is found


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("take"),
                st.lists(
                    st.tuples(st.integers(0, 9), st.none() | st.floats(0, 9)), unique_by=lambda pair: pair[0]
                ),
            ),
            st.tuples(st.sampled_from(["move", "move_to"]), st.integers(-12, 12)),
            st.tuples(st.just("filter"), st.sampled_from(["", "1", "!1", "no"])),
            st.tuples(st.sampled_from(["touch", "invert", "pass"]), st.just(0)),
        )
    )
)
def test_whatever_happens_the_cursor_is_on_a_row_that_is_shown(steps: list[tuple[str, object]]) -> None:
    clock = Clock()
    model = a_list(clock)
    present: set[int] = set()
    selected: Thing | None = None
    for what, value in steps:
        if what == "take":
            assert isinstance(value, list)
            model.take(Thing(number, size, str(number)) for number, size in value)
            present = {number for number, _ in value}
        elif what == "filter":
            model.set_filter(str(value))
        elif what == "move":
            model.move(int(str(value)))
        elif what == "move_to":
            model.move_to(max(-1, int(str(value))))
        elif what == "touch":
            model.touch()
        elif what == "invert":
            model.invert_sort()
        else:
            clock.now += 0.6
        listed = model.listed()
        assert {thing.number for thing in listed.rows} <= present
        assert listed.total == len(present)
        assert (listed.cursor == -1) == (not listed.rows)
        if what in ("take", "touch", "invert", "pass") and selected in listed.rows:
            assert listed.selected == selected, "nothing but the user moves the cursor"
        selected = listed.selected
