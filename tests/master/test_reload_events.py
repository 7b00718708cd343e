"""What the interface reads from the events of reloads is what has happened: with the master's own texts."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.master.world import Make, World
from wsgitop.tui.reloads import past_reloads


def _good(world: World) -> None:
    world.supervisor.reload("alice (pid 9)")
    world.settle()


def _fails(world: World) -> None:
    world.worker_fates[2] = "fails"
    world.supervisor.reload("alice (pid 9)")
    world.advance_until(lambda: world.reloads, 60)
    world.advance_until(world.converged, 60)


def _fails_half_way(world: World) -> None:
    world.supervisor.reload("alice (pid 9)")
    world.step_until(lambda: world.ready().count(2) == 2)
    world.worker_fates[2] = "fails"
    world.settle()


def _superseded(world: World) -> None:
    world.supervisor.reload("alice (pid 9)")
    world.step_until(lambda: world.roster.generations[2].reads)
    for _ in range(3):
        world.supervisor.reload("alice (pid 9)")
    world.settle()


def _zygote_lost(world: World) -> None:
    world.supervisor.reload("alice (pid 9)")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.zygote(2).die(signal.SIGKILL)
    world.advance(3)


def _zygote_lost_and_broken_code(world: World) -> None:
    world.supervisor.reload("alice (pid 9)")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.zygote_fate = "fails"
    world.zygote(2).die(signal.SIGKILL)
    world.advance_until(lambda: world.reloads, 60)
    world.advance_until(world.converged, 60)


@pytest.mark.parametrize(
    ("scenario", "endings"),
    [
        (_good, {2: "done"}),
        (_fails, {2: "failed"}),
        (_fails_half_way, {2: "failed"}),
        (_superseded, {2: "superseded", 3: "done"}),
        (_zygote_lost, {2: "done"}),
        (_zygote_lost_and_broken_code, {2: "failed"}),
    ],
    ids=["good", "fails", "fails half way", "superseded", "zygote lost", "zygote lost, broken code"],
)
def test_reloads_are_read_from_events(
    make: Make, scenario: Callable[[World], None], endings: dict[int, str]
) -> None:
    world = make(3).start()
    scenario(world)
    found = past_reloads(world.events.after(0, 1000))
    assert {reload.number: reload.ending for reload in found} == endings
    assert not [reload for reload in found if reload.ending == "under way"]
    assert {number for number, error in world.reloads.items() if not error} == {
        reload.number for reload in found if reload.ending == "done"
    }
    assert all(reload.actor == "alice (pid 9)" for reload in found if reload.begin_known)


def test_what_is_known_of_one_that_went_well(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("alice (pid 9)")
    world.step_until(lambda: world.ready().count(2) == 1)
    (running,) = past_reloads(world.events.after(0, 1000))
    assert (running.ending, running.took_s, len(running.boots_s)) == ("under way", None, 1)
    world.settle()
    (reload,) = past_reloads(world.events.after(0, 1000))
    assert (reload.ending, reload.what, reload.workers, len(reload.boots_s)) == ("done", "HUP", 3, 3)
    assert reload.loaded_s is not None and reload.serving_s is not None and reload.took_s is not None
    assert 0 < reload.loaded_s <= reload.serving_s <= reload.took_s


def test_a_server_that_stops_in_the_middle(make: Make) -> None:
    world = make(2).start()
    world.supervisor.reload("alice (pid 9)")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.supervisor.stop("alice (pid 9)", quick=False)
    (reload,) = past_reloads(world.events.after(0, 1000))
    assert reload.ending == "broken off"
