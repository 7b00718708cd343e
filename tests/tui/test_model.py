"""The model: order, filter, selection, pause and what it makes of a server that comes and goes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.fake import EVENTS, Clock, second, snapshot, worker, workers
from wsgitop.control.messages import Hello
from wsgitop.snapshot import Event, WorkerSnapshot
from wsgitop.tui import arrange
from wsgitop.tui.arrange import identity
from wsgitop.tui.model import INTERVALS_S, Model

optional = st.none() | st.floats(min_value=0, max_value=1e6)


@st.composite
def any_worker(draw: st.DrawFn) -> WorkerSnapshot:
    return worker(
        draw(st.integers(1, 40)),
        draw(st.sampled_from(["busy", "idle", "stuck", "retiring", "booting"])),
        pid=draw(st.integers(1, 60)),
        started_at=draw(st.sampled_from([1.0, 2.0, 3.0])),
        rps=draw(optional),
        p95_ms=draw(optional),
        cpu_percent=draw(optional),
        requests=draw(st.integers(0, 1000)),
    )


some_workers = st.lists(any_worker(), max_size=25, unique_by=identity).map(tuple)


def hello(pid: int = 4242) -> Hello:
    return Hello(protocol=1, version="0", pid=pid, role="operator", app="shop.wsgi")


def a_model(number: int = 8) -> tuple[Model, Clock]:
    clock = Clock()
    model = Model(clock=clock, wall=clock)
    model.connected(hello())
    model.take_snapshot(snapshot(1, clock.now, number))
    return model, clock


# -- order and filter ---------------------------------------------------------------------------------------


@given(some_workers, st.sampled_from(sorted(arrange.COLUMNS)), st.booleans())
def test_sorting_keeps_everyone_and_puts_unknown_last(
    present: tuple[WorkerSnapshot, ...], column: str, descending: bool
) -> None:
    rows = arrange.ordered(present, column, descending)
    assert sorted(map(identity, rows)) == sorted(map(identity, present))
    value = arrange.COLUMNS[column].value
    figures = [value(row) for row in rows]
    known = [figure for figure in figures if figure is not None]
    assert figures[: len(known)] == known, "what is not known comes last, in either direction"
    assert known == sorted(known, reverse=descending)


@given(some_workers, st.sampled_from(sorted(arrange.COLUMNS)), st.booleans())
def test_the_order_does_not_depend_on_the_order_of_arrival(
    present: tuple[WorkerSnapshot, ...], column: str, descending: bool
) -> None:
    shuffled = list(present)
    random.Random(7).shuffle(shuffled)
    assert arrange.ordered(present, column, descending) == arrange.ordered(shuffled, column, descending)


@given(some_workers, st.text(max_size=6))
def test_an_inverted_filter_shows_exactly_the_others(present: tuple[WorkerSnapshot, ...], text: str) -> None:
    text = text.strip().lstrip("!").strip()
    chosen, others = arrange.filtered(present, text), arrange.filtered(present, "!" + text)
    if text.split():
        assert sorted(map(identity, chosen + others)) == sorted(map(identity, present))
    else:
        assert chosen == others == present


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("stuck", [3]),
        ("gen6", [4]),
        ("4252", [2]),
        ("#5", [5]),
        ("!busy", [2, 3, 4, 5, 7]),
        ("GET report", [3]),
        ("!", None),
    ],
)
def test_filters(text: str, slots: list[int] | None) -> None:
    found = [row.slot for row in arrange.filtered(workers(8), text)]
    assert found == (slots if slots is not None else list(range(1, 9)))


# -- selection ----------------------------------------------------------------------------------------------


def test_the_cursor_stays_on_its_worker_when_the_order_changes() -> None:
    model, clock = a_model()
    model.sort_by("rps")
    model.move_to(3)
    chosen = model.view().selected
    assert chosen is not None
    clock.pass_s(5)
    changed = tuple(worker(row.slot, row.state, rps=float(-row.slot % 7)) for row in workers(8))
    model.take_snapshot(snapshot(2, clock.now, these=changed))
    view = model.view()
    assert view.selected is not None
    assert identity(view.selected) == identity(chosen)
    assert view.rows[view.cursor] is view.selected


def test_no_wrong_target_in_ten_thousand_reorderings() -> None:
    """Whatever is sorted, born and dead: what is marked is what was chosen, and no heir of its pid."""
    random_ = random.Random(42)
    model, clock = a_model(12)
    slots = {slot: (4250 + slot, 0.0) for slot in range(1, 13)}
    rest: dict[str, Any] = {"generation": 7, "state": "idle", "age_s": 1.0}
    for trial in range(10_000):
        chosen = model.view().selected
        if random_.random() < 0.3:  # a worker dies; its successor may well get the same pid
            slot = random_.choice(list(slots))
            slots[slot] = (slots[slot][0] if random_.random() < 0.5 else 5000 + trial, float(trial + 1))
        present = tuple(
            WorkerSnapshot(slot=slot, pid=pid, started_at=born, rps=random_.random(), **rest)
            for slot, (pid, born) in slots.items()
        )
        if random_.random() < 0.2:
            model.sort_by(random_.choice(list(arrange.COLUMNS)))
        clock.pass_s(random_.random())
        model.take_snapshot(snapshot(trial + 2, clock.now, these=present))
        view = model.view()
        assert view.selected is not None
        alive = {identity(row) for row in present}
        if chosen is not None and identity(chosen) in alive:
            assert identity(view.selected) == identity(chosen)
        if random_.random() < 0.3:
            model.move(random_.choice((-1, 1)))


def test_when_the_selected_worker_is_gone_the_cursor_stays_at_its_row() -> None:
    model, clock = a_model()
    model.move_to(2)
    model.view()
    model.take_snapshot(snapshot(2, clock.now, these=tuple(row for row in workers(8) if row.slot != 3)))
    assert model.view().cursor == 2


def test_the_cursor_stops_at_both_ends() -> None:
    model, _ = a_model(3)
    model.move(-5)
    assert model.view().cursor == 0
    model.move(50)
    assert model.view().cursor == 2
    model.move_to(0)
    model.move_to_end()
    assert model.view().cursor == 2


def test_the_order_rests_for_a_second_after_a_key() -> None:
    model, clock = a_model(4)
    model.sort_by("rps")
    before = [row.slot for row in model.view().rows]
    model.touch()
    clock.pass_s(0.9)
    upside_down = tuple(worker(slot, rps=float(index)) for index, slot in enumerate(before))
    newcomer = worker(9, rps=99.0)
    model.take_snapshot(snapshot(2, clock.now, these=(*upside_down, newcomer)))
    assert [row.slot for row in model.view().rows] == [*before, 9], "newcomers go behind those in place"
    clock.pass_s(0.2)
    assert [row.slot for row in model.view().rows] == [9, *reversed(before)]


# -- pause, history -----------------------------------------------------------------------------------------


def test_pause_freezes_the_picture_and_loses_nothing() -> None:
    model, clock = a_model(4)
    model.take_events(EVENTS[:2])
    assert model.toggle_pause()
    clock.pass_s(3)
    model.take_snapshot(snapshot(2, clock.now, 6))
    model.take_events(EVENTS)
    frozen = model.view()
    assert len(frozen.rows) == 4
    assert frozen.paused_s == 3
    assert len(frozen.events) == 2
    model.sort_by("pid")
    model.invert_sort()
    assert [row.slot for row in model.view().rows] == [4, 3, 2, 1], "it still sorts"
    model.set_filter("stuck")
    assert len(model.view().rows) == 1, "and filters"
    model.set_filter("")
    assert not model.toggle_pause()
    going = model.view()
    assert len(going.rows) == 6
    assert len(going.events) == len(EVENTS)
    assert going.paused_s is None


def test_the_newest_picture_decides_about_actions_even_while_paused() -> None:
    model, clock = a_model(4)
    model.toggle_pause()
    model.take_snapshot(snapshot(2, clock.now, 6))
    assert model.snapshot is not None
    assert len(model.snapshot.workers) == 6


def test_a_picture_that_was_overtaken_changes_nothing() -> None:
    model, clock = a_model(4)
    model.take_snapshot(snapshot(9, clock.now, 5))
    model.take_snapshot(snapshot(8, clock.now, 6))
    assert len(model.view().rows) == 5
    model.take_snapshot(snapshot(1, clock.now, 2, pid=5151))
    assert len(model.view().rows) == 2, "another master counts from one again"


@given(st.lists(st.floats(0, 200), min_size=1, max_size=60))
@settings(max_examples=50)
def test_one_sample_a_second_whatever_the_rate(steps: list[float]) -> None:
    clock = Clock()
    model = Model(clock=clock, wall=clock)
    for index, step in enumerate(steps):
        clock.pass_s(step)
        model.take_snapshot(snapshot(index + 1, clock.now, 1))
    kept = model.view().seconds
    assert len({int(one.at) for one in kept}) == len(kept) <= 62
    assert [one.at for one in kept] == sorted(one.at for one in kept)
    assert kept[-1].at == clock.now


def test_history_fills_the_past_at_once() -> None:
    model, clock = a_model()
    model.take_history(second(clock.now - ago) for ago in range(60, 0, -1))
    assert len(model.view().seconds) == 61


# -- the server comes and goes ------------------------------------------------------------------------------


def test_events_are_taken_once_and_newest_first() -> None:
    model, _ = a_model()
    model.take_events(EVENTS[2:4])
    model.take_events(EVENTS)
    model.take_events(EVENTS[5:])
    assert [event.sequence for event in model.view().events] == [6, 5, 4, 3], (
        "older ones than the last are known"
    )


def test_orders_that_went_well_are_told_by_what_they_did() -> None:
    model, _ = a_model()
    model.take_events(
        [
            Event(1, 1.0, "info", "order", "scale change=1: done"),
            Event(2, 1.0, "warning", "order", "reload: failed: broken"),
            Event(3, 1.0, "info", "scale", "TTIN"),
        ]
    )
    assert [event.sequence for event in model.view().events] == [3, 2]
    assert model.last_sequence == 3


def test_stale_since_the_first_loss() -> None:
    model, clock = a_model()
    model.lost("the master closed the connection")
    clock.pass_s(4)
    model.lost("no master listens")
    view = model.view()
    assert view.stale_s == 4
    assert view.stale_reason == "no master listens"
    assert view.snapshot is not None, "the last picture stays"
    assert not model.is_connected
    model.connected(hello())
    assert model.view().stale_s is None
    assert "connected again after 4 s" in model.view().events[0].text


def test_another_server_counts_its_events_from_one() -> None:
    model, _ = a_model()
    model.take_events(EVENTS)
    model.lost("gone")
    model.connected(hello(5151))
    model.take_events((Event(sequence=1, at=0.0, severity="info", kind="start", text="serving again"),))
    texts = [event.text for event in model.view().events[:2]]
    assert texts == ["serving again", "the server came back as pid 5151 (was 4242)"]


def test_answers_go_away_and_failures_stay_longer() -> None:
    model, clock = a_model()
    model.say("good", "done")
    clock.pass_s(7)
    assert [saying.text for saying in model.view().sayings] == ["done"]
    clock.pass_s(2)
    assert model.view().sayings == ()
    model.say("error", "not done")
    clock.pass_s(15)
    assert model.view().sayings
    token = model.begin("reloading")
    clock.pass_s(3)
    assert model.view().sayings[-1].text == "reloading… 3 s"
    model.end(token)
    model.end(token)
    assert model.view().sayings == ()


def test_the_refresh_rate_stays_within_its_bounds() -> None:
    model, _ = a_model()
    for _ in range(10):
        slowest = model.step_interval(1)
    for _ in range(10):
        fastest = model.step_interval(-1)
    assert (fastest, slowest) == (INTERVALS_S[0], INTERVALS_S[-1]) == (0.25, 10.0)
