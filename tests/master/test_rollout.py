"""Reloads in the simulated world: what they announce, how they fail, what survives a failure."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.master.world import ADDRESS, Make, World
from wsgitop.master.condition import condition
from wsgitop.master.progress import progress
from wsgitop.settings.load import Layer
from wsgitop.snapshot import ReloadSnapshot


def configure(world: World, **values: object) -> None:
    """What the configuration says from now on."""
    given: dict[str, object] = {"wsgi_app": "site:app", "bind": [ADDRESS], "workers": 2}
    given |= {"boot_timeout": 20, "graceful_timeout": 10} | values
    world.configuration._layers = (Layer("file", given),)


def steps(world: World) -> list[ReloadSnapshot]:
    """Let everything happen, one thing at a time; each different state of the reload."""
    seen: list[ReloadSnapshot] = []
    for _ in range(500):
        world.loop.run()
        world.reap()
        now = progress(world.roster, world.clock.now)
        if now is not None and (not seen or seen[-1] != now):
            seen.append(now)
        if not world.step() and not world.zombies:
            return seen
    raise AssertionError("it does not end")


# -- progress


def test_progress_and_events(make: Make) -> None:
    world = make(3).start()
    assert progress(world.roster, world.clock.now) is None
    world.supervisor.reload("test")
    seen = steps(world)
    assert seen[0].stage == "loading"
    assert (seen[0].from_generation, seen[0].to_generation, seen[0].ready, seen[0].workers) == (1, 2, 0, 3)
    assert {s.stage for s in seen} == {"loading", "replacing"}
    assert sorted({s.ready for s in seen}) == [0, 1, 2, 3]
    assert progress(world.roster, world.clock.now) is None
    texts = [event.text for event in world.events.after(0, 1000)]
    wanted = ["loading generation 2", "generation 2 is loaded", "(1 of 3)", "(2 of 3)", "(3 of 3)",
              "generation 2 serves with 3 workers; 1 worker of generation 1 still to go",
              "generation 2 serves with 3 workers"]  # fmt: skip
    at = 0
    for words in wanted:
        at = next(i for i in range(at, len(texts)) if words in texts[i]) + 1
    assert world.kinds().count("reloaded") == 1
    assert "(1 of" not in "".join(t for t in texts if "generation 1 is ready" in t)


def test_going_back_is_told(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 2)
    world.worker_fates[2] = "fails"
    seen = steps(world)
    back = [s for s in seen if s.stage == "going back"]
    assert back and (back[0].from_generation, back[0].to_generation) == (2, 1)
    assert "generation 1 replaces the" in world.texts() and "that generation 2 had replaced" in world.texts()
    assert world.ready() == [1, 1, 1] and world.converged()


def test_the_old_zygote_lives_until_as_many_new_ones_serve_as_are_wanted(make: Make) -> None:
    world = make(2).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    assert {z.generation for z in world.zygotes()} == {1, 2}
    world.step_until(lambda: world.ready().count(2) == 2)
    assert world.roster.good == 2, "from here on there is no way back, and no need for one"
    world.settle()
    assert world.converged()


# -- superseding


def test_storm_of_signals(make: Make) -> None:
    world = make(2).start()
    for _ in range(20):
        world.supervisor.reload("storm")
    assert world.roster.next_generation == 3, "one zygote that has read nothing yet is as good as twenty"
    world.settle()
    assert world.ready() == [2, 2]
    assert world.reloads == {2: ""}


def test_storm_of_signals_while_it_loads(make: Make) -> None:
    world = make(2).start()
    world.supervisor.reload("storm")
    world.step_until(lambda: world.roster.generations[2].reads)
    for _ in range(20):
        world.supervisor.reload("storm")
    world.settle()
    assert world.ready() == [3, 3]
    assert world.reloads == {2: "superseded by a newer reload, to generation 3", 3: ""}
    assert "the reload to generation 2 is superseded" in world.texts()


# -- in the first boot


def test_reload_in_the_first_boot(make: Make) -> None:
    world = make(2)
    world.supervisor.start()
    world.step_until(world.workers)
    world.supervisor.reload("early")
    world.settle()
    assert world.ready() == [2, 2] and world.converged()


def test_broken_reload_in_the_first_boot_does_not_end_the_server(make: Make) -> None:
    world = make(2)
    world.worker_fates[1] = "hangs"
    world.supervisor.start()
    world.step_until(lambda: len(world.workers()) == 2)
    world.zygote_fate = "fails"
    world.supervisor.reload("early")
    world.settle()
    for worker in world.workers():
        worker.fate = "well"
    world.settle()
    assert world.supervisor.fatal is None
    assert world.ready() == [1, 1]


def test_reload_that_mends_a_first_boot_that_fails(make: Make) -> None:
    world = make(2)
    world.worker_fates[1] = "hangs"
    world.supervisor.start()
    world.step_until(lambda: len(world.workers()) == 2)
    world.supervisor.reload("early")
    world.step_until(lambda: world.roster.target == 2)
    for worker in world.workers(1):
        worker.fate = "dies"
    world.advance(3)
    assert world.supervisor.fatal is None
    assert world.ready() == [2, 2]


def test_a_first_boot_and_a_reload_that_both_fail_end_the_server(make: Make) -> None:
    world = make(2)
    world.worker_fates |= {1: "hangs", 2: "hangs"}
    world.supervisor.start()
    world.step_until(lambda: len(world.workers()) == 2)
    world.supervisor.reload("early")
    world.advance_until(world.supervisor.finished.is_set, 60)
    assert world.supervisor.fatal is not None


# -- the time that it may take


@pytest.mark.parametrize("limit_s", [1, 60])
def test_the_new_configuration_says_how_long_its_application_may_load(make: Make, limit_s: int) -> None:
    """A deploy that makes the application slower to load raises the limit along with it."""
    world = make(2, boot_timeout=20).start()
    configure(world, boot_timeout=limit_s)
    world.zygote_fate = "hangs"
    world.supervisor.reload("test")
    world.advance(limit_s - 0.5)
    assert not world.reloads
    world.advance(1)
    assert f"the application did not load within {limit_s} s" in world.reloads[2]
    configure(world, boot_timeout=20)
    world.zygote_fate = "well"
    world.supervisor.reload("test")
    world.advance_until(world.converged, 60)
    assert world.ready() == [3, 3]


# -- the scale


def test_scale_survives_a_reload(make: Make) -> None:
    world = make(2).start()
    world.supervisor.set_wanted(4, "test", "TTIN")
    configure(world, workers=2)
    world.supervisor.reload("test")
    world.settle()
    assert world.ready() == [2] * 4
    configure(world, workers=3)
    world.supervisor.reload("test")
    world.settle()
    assert world.ready() == [3] * 3, "the configuration's own number has changed"


@pytest.mark.parametrize("fate", ["fails", "dies", "hangs"])
def test_scale_survives_a_reload_that_fails(make: Make, fate: str) -> None:
    """Although the configuration that failed had another number."""
    world = make(2).start()
    world.supervisor.set_wanted(4, "test", "TTIN")
    world.settle()
    configure(world, workers=6)
    world.worker_fates[2] = fate  # type: ignore[assignment] # from the table
    world.supervisor.reload("test")
    world.advance_until(lambda: world.reloads, 60)
    world.advance_until(world.converged, 60)
    assert world.ready() == [1] * 4
    world.supervisor.reload("test")
    world.settle()
    assert world.ready() == [3] * 6, "mended, its number counts"


def test_scale_changed_during_a_reload_that_fails_stays(make: Make) -> None:
    world = make(2).start()
    configure(world, workers=6)
    world.worker_fates[2] = "hangs"
    world.supervisor.reload("test")
    world.settle()
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.advance_until(lambda: world.reloads, 60)
    world.advance_until(world.converged, 60)
    assert world.ready() == [1] * 3


# -- zygotes that die


def test_new_zygote_dies_in_the_middle(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.zygote(2).die(signal.SIGKILL)
    world.advance(3)
    assert world.ready() == [3] * 3 and world.converged()
    assert world.reloads == {2: ""}


@pytest.mark.parametrize("fate", ["fails", "dies", "hangs"])
def test_new_zygote_dies_in_the_middle_and_the_code_is_broken_by_then(make: Make, fate: str) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.zygote_fate = fate  # type: ignore[assignment] # from the table
    world.zygote(2).die(signal.SIGKILL)
    world.advance_until(lambda: world.reloads, 60)
    assert world.reloads[2], "it is told that it has failed"
    world.advance_until(world.converged, 60)
    assert world.ready() == [1] * 3
    assert condition(world.roster, world.clock.now)[0] == "serving"


def test_old_zygote_dies_in_the_middle(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.zygote(1).die(signal.SIGKILL)
    world.settle()
    assert world.ready() == [2] * 3 and world.converged()
    assert world.reloads == {2: ""}
    assert "the reload goes on without it" in world.texts()
    assert world.roster.zygote_failures == 0


@pytest.mark.parametrize("fresh", [0, 1])
def test_stop_in_the_middle(make: Make, fresh: int) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == fresh)
    world.supervisor.stop("test", quick=False)
    world.advance_until(world.supervisor.finished.is_set, 30)


# -- addresses


def test_addresses_of_a_reload(make: Make, tmp_path: Path) -> None:
    world = make(2).start()
    first, second = f"unix:{tmp_path}/a", f"unix:{tmp_path}/b"
    configure(world, bind=[first])
    world.supervisor.reload("test")
    world.settle()
    configure(world, bind=[first, second])
    world.worker_fates[3] = "fails"
    inode = (tmp_path / "a").stat().st_ino
    world.supervisor.reload("test")
    world.settle()
    assert world.ready() == [2, 2]
    assert (tmp_path / "a").stat().st_ino == inode
    assert not (tmp_path / "b").exists(), "what a failed reload has opened is closed again"
    world.worker_fates.clear()
    configure(world, bind=[second])
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(4) == 1)
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()
    world.settle()
    assert not (tmp_path / "a").exists() and (tmp_path / "b").exists()
    assert f"listening at {second}, too" in world.texts()
    assert f"{first} is not listened at any more" in world.texts()


def test_address_that_is_taken(make: Make, tmp_path: Path) -> None:
    world = make(2).start()
    before = {w.pid for w in world.workers()}
    (tmp_path / "taken").write_text("no socket")
    configure(world, bind=[f"unix:{tmp_path}/free", f"unix:{tmp_path}/taken"])
    world.supervisor.reload("test")
    world.settle()
    assert "exists and is not a socket" in world.reloads[2]
    assert {w.pid for w in world.workers()} == before
    assert not (tmp_path / "free").exists()


def test_zygote_that_replaces_a_lost_one_changes_no_address(make: Make, tmp_path: Path) -> None:
    world = make(2).start()
    configure(world, bind=[f"unix:{tmp_path}/a"])
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.settle()
    assert not (tmp_path / "a").exists()
    assert "bind has changed" in world.texts()
