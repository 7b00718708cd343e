"""Reloads as the interface understands them: from a recorded run, and from pictures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.tui.fake import EPOCH, snapshot, worker
from wsgitop.snapshot import Event, GenerationSnapshot, ReloadSnapshot, WorkerState
from wsgitop.tui.reloads import (
    LEAST_BOOT,
    chosen_generations,
    overall,
    past_reloads,
    slot_rows,
    target_of,
    typical_boot_s,
    typical_load_s,
)

RECORDED = Path(__file__).parent / "recorded" / "reloads.jsonl"


def recorded(at: float = EPOCH) -> tuple[Event, ...]:
    """The events of a real server: good reloads, bad ones, one superseded, a zygote lost; ``at`` is when the
    first of them was."""
    events = (msgspec.json.decode(line, type=Event) for line in RECORDED.read_bytes().splitlines())
    return tuple(msgspec.structs.replace(event, at=at + event.at) for event in events)


# -- the past -----------------------------------------------------------------------------------------------


def test_the_recorded_run() -> None:
    found = past_reloads(recorded())
    assert [(one.number, one.ending, one.workers, len(one.boots_s)) for one in found] == [
        (10, "failed", 0, 0),
        (9, "done", 3, 3),
        (7, "done", 3, 3),
        (6, "failed", 0, 1),
        (5, "done", 3, 3),
        (4, "superseded", 0, 2),
        (3, "failed", 0, 0),
        (2, "done", 3, 3),
    ]
    assert [one.took_s and round(one.took_s, 1) for one in found] == [0.4, 1.8, 1.5, 0.9, 1.7, 1.2, 0.3, 1.5]
    half_way, bad = found[3], found[6]
    assert bad.detail.endswith("RuntimeError: bad deploy\n")
    assert bad.text.startswith("The module 'app' cannot be imported") and "2 serves on" in bad.text
    assert "generation 5 replaces the 1 worker that generation 6 had replaced" in half_way.text
    assert found[5].text == "by a newer one, to generation 5"
    assert {one.actor for one in found} == {
        "deploy (pid 3995)", "deploy (bash, pid 3653)", "deploy (kill, pid 3030)", "deploy (pid 3237)",
        "deploy (pid 3189)", "deploy (pid 3140)", "deploy (pid 3125)", "deploy (pid 3083)",
    }  # fmt: skip
    assert typical_boot_s(found) == pytest.approx(0.32)
    assert typical_load_s(found) == pytest.approx(0.41, abs=0.01)


def test_at_every_moment_of_the_run_something_can_be_said() -> None:
    events = recorded()
    for number in range(len(events) + 1):
        found = past_reloads(events[:number])
        assert sum(one.ending == "under way" for one in found) <= 1
        assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)


def test_a_run_of_which_the_beginning_is_not_known() -> None:
    events = recorded()
    for number in range(len(events)):
        for one in past_reloads(events[number:]):
            assert one.ending != "under way"
            assert (one.took_s is None) is not one.begin_known
            assert one.number >= 2


def test_the_order_of_the_events_does_not_matter() -> None:
    assert past_reloads(reversed(recorded())) == past_reloads(recorded())


def test_a_server_that_came_back_has_no_reload_under_way() -> None:
    events = recorded()
    begun = events[4:7]
    assert past_reloads(begun)[0].ending == "under way"
    again = [msgspec.structs.replace(event, at=event.at + 900) for event in events[:4]]
    (one,) = past_reloads([*begun, *again])
    assert (one.ending, one.text) == ("broken off", "the server ended")


def test_generations_by_the_master_itself_are_told_only_if_they_fail() -> None:
    text = "generation 8 failed: The module 'app' cannot be imported; existing workers serve on"
    failed = Event(
        sequence=1, at=EPOCH, severity="error", kind="reload-failed", text=text, detail="Traceback"
    )
    (one,) = past_reloads([failed])
    assert (one.number, one.ending, one.begin_known, one.took_s) == (8, "failed", False, None)
    texts = ("HUP: generation 9 has read nothing yet and will load what is there now", "nonsense")
    for kind in ("reload", "loaded", "ready", "serving", "reloaded", "reload-failed", "back", "superseded"):
        for text in texts:
            assert not past_reloads([Event(sequence=1, at=EPOCH, severity="info", kind=kind, text=text)])


# -- the present --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "age_s", "boot_s", "shown"),
    [
        ("busy", None, 0, 1.0, ("waiting", 0)),
        ("retiring", None, 0, 1.0, ("leaving", 0)),
        ("busy", "booting", 0, 1.0, ("booting", LEAST_BOOT)),
        ("busy", "booting", 0.5, 1.0, ("booting", 0.3)),
        ("busy", "booting", 9, 1.0, ("booting", 0.57)),
        ("busy", "booting", 9, None, ("booting", 0.3)),
        (None, "booting", 0.5, 1.0, ("booting", 0.3)),
        ("retiring", "idle", 0, 1.0, ("handing over", 0.8)),
        ("busy", "stuck", 0, 1.0, ("handing over", 0.8)),
        (None, "idle", 0, 1.0, ("done", 1)),
        (None, "busy", 0, 1.0, ("done", 1)),
        (None, "retiring", 0, 1.0, ("leaving", 0)),
    ],
)
def test_steps_of_a_slot(
    old: WorkerState | None,
    new: WorkerState | None,
    age_s: float,
    boot_s: float | None,
    shown: tuple[str, float],
) -> None:
    present = []
    if old is not None:
        present.append(worker(1, old, generation=7))
    if new is not None:
        present.append(worker(1, new, generation=8, pid=5001, age_s=age_s, started_at=EPOCH))
    (row,) = slot_rows(present, 8, boot_s=boot_s)
    assert (row.slot, row.step, row.share) == (1, shown[0], pytest.approx(shown[1]))
    assert (row.old is not None, row.new is not None) == (old is not None, new is not None)


def test_bars_go_on_between_two_pictures() -> None:
    booting = worker(1, "booting", generation=8, age_s=0.2)
    (row,) = slot_rows([booting], 8, boot_s=1.0, later_s=0.3)
    assert row.share == pytest.approx(0.3)


def test_several_processes_in_a_slot() -> None:
    present = (
        worker(1, "busy", generation=6, pid=1, started_at=EPOCH - 9),
        worker(1, "retiring", generation=7, pid=2, started_at=EPOCH - 5),
        worker(1, "retiring", generation=8, pid=3, started_at=EPOCH - 3),
        worker(1, "idle", generation=8, pid=4, started_at=EPOCH - 2),
        worker(2, "busy", generation=7, pid=5),
    )
    first, second = slot_rows(reversed(present), 8, boot_s=None)
    assert (first.old, first.new, first.more) == (present[1], present[3], 2)
    assert (second.old, second.new, second.more, second.step) == (present[4], None, 0, "waiting")


def test_the_whole_way() -> None:
    rows = slot_rows(
        (
            worker(1, "idle", generation=8),
            worker(2, "idle", generation=8, pid=9), worker(2, "retiring", generation=7),
            worker(3, "busy", generation=7),
        ),
        8,
        boot_s=1.0,
    )  # fmt: skip
    assert overall(rows, 3) == (pytest.approx(1 / 3), pytest.approx(0.8 / 3))
    assert overall(rows, 6) == (pytest.approx(1 / 6), pytest.approx(0.8 / 6)), "three more are to come"
    assert overall((), 0) == (0, 0)


def test_what_a_reload_leads_to() -> None:
    one = snapshot(these=(worker(1, "idle"),))
    assert target_of(one) is None
    mixed = snapshot(these=(worker(1, "idle"), worker(2, "idle", generation=6)))
    assert target_of(mixed) == 7
    assert target_of(snapshot(state="reloading")) == 8
    under_way = ReloadSnapshot(
        from_generation=8, to_generation=7, stage="going back", ready=1, workers=2, old=1, elapsed_s=1
    )
    master = msgspec.structs.replace(one.master, reload=under_way)
    assert target_of(msgspec.structs.replace(one, master=master)) == 7


@pytest.mark.parametrize(
    ("room", "chosen"), [(1, [4]), (2, [4, 6]), (3, [4, 5, 6]), (4, [3, 4, 5, 6]), (9, [1, 2, 3, 4, 5, 6])]
)
def test_generations_that_are_shown_where_there_is_little_room(room: int, chosen: list[int]) -> None:
    generations = (
        GenerationSnapshot(number=1, state="ended"),
        GenerationSnapshot(number=2, state="failed", error="old news"),
        GenerationSnapshot(number=3, state="ended"),
        GenerationSnapshot(number=4, state="ready", zygote_pid=9, workers=3),
        GenerationSnapshot(number=5, state="failed", error="news"),
        GenerationSnapshot(number=6, state="loading", zygote_pid=10),
    )
    assert [one.number for one in chosen_generations(generations, 4, room)] == chosen
