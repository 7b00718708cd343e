"""When hooks are due and what becomes of those that do not come back, in the simulated world."""

from __future__ import annotations

import signal

import pytest

from tests.master.world import Make, World
from wsgitop.channel import messages as m
from wsgitop.settings.hooks import BY_ZYGOTE

ALL = tuple(sorted(BY_ZYGOTE))


@pytest.fixture
def make(make: Make) -> Make:
    """Worlds whose config files have ``hooks``, in each generation."""

    def build(wanted: int = 2, hooks: tuple[str, ...] = ALL, **settings: object) -> World:
        world = make(wanted, **settings)
        world.hooks = dict.fromkeys(range(20), hooks)
        return world

    return build


def names(world: World) -> list[tuple[int, str]]:
    return [(generation, message.name) for generation, message in world.hooked]


def messages(world: World, name: str) -> list[m.RunHook]:
    return [message for _, message in world.hooked if message.name == name]


def stop(world: World) -> None:
    world.supervisor.stop("test", quick=False)
    world.advance_until(world.supervisor.finished.is_set, 60)


def test_a_life(make: Make) -> None:
    world = make(2).start()
    assert names(world) == [(1, "when_ready")]
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.settle()
    world.supervisor.set_wanted(2, "test", "TTOU")
    world.settle()
    assert names(world)[1:] == [(1, "nworkers_changed"), (1, "nworkers_changed"), (1, "child_exit")]
    up, down = messages(world, "nworkers_changed")
    assert (up.before, up.server.num_workers) == (2, 3)
    assert (down.before, down.server.num_workers) == (3, 2)
    world.hooked.clear()
    world.supervisor.reload("test")
    world.advance_until(world.converged)
    assert names(world) == [(2, "on_reload"), (2, "child_exit"), (2, "child_exit")]
    world.hooked.clear()
    stop(world)
    assert names(world) == [(2, "child_exit"), (2, "child_exit"), (2, "on_exit")]


def test_child_exit_says_who(make: Make) -> None:
    world = make(1).start()
    (worker,) = world.workers()
    world.kill(worker.pid, signal.SIGKILL)
    world.advance_until(world.converged)
    (message,) = messages(world, "child_exit")
    assert message.worker == m.DeadWorker(worker.pid, worker.worker, 7)
    assert worker.pid not in dict(message.server.workers)


def test_the_server_as_hooks_see_it(make: Make) -> None:
    world = make(2).start()
    world.supervisor.reload("test")
    world.settle()
    (ready,), (reload,) = messages(world, "when_ready"), messages(world, "on_reload")
    assert ready.server == m.ServerState(2, ())
    assert [age for _, age in reload.server.workers] == [1, 2]


def test_the_new_generations_hooks_count_after_a_reload(make: Make) -> None:
    world = make(1)
    world.hooks = {1: ("on_reload", "on_exit"), 2: ("nworkers_changed",)}
    world.start()
    world.supervisor.reload("test")
    world.advance_until(world.converged)
    world.supervisor.set_wanted(2, "test", "TTIN")
    world.settle()
    stop(world)
    assert names(world) == [(2, "nworkers_changed")]


def test_a_lost_zygote_is_no_reload(make: Make) -> None:
    world = make(1).start()
    world.hooked.clear()
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.advance_until(world.converged)
    assert names(world) == []


def test_what_is_due_while_there_is_no_zygote_waits_for_the_next(make: Make) -> None:
    world = make(2).start()
    world.hooked.clear()
    world.zygote_fate = "hangs"
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.kill(world.workers()[0].pid, signal.SIGKILL)
    world.settle()
    assert names(world) == []
    world.zygote_fate = "well"
    world.advance_until(world.converged)
    assert [name for _, name in names(world)] == ["child_exit"]


@pytest.mark.parametrize("name", ["when_ready", "nworkers_changed", "child_exit"])
def test_a_hook_that_does_not_come_back_costs_the_zygote(make: Make, name: str) -> None:
    world = make(2)
    world.hook_fates[name] = "hangs"
    world.start()
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.settle()
    if name == "child_exit":
        world.kill(world.workers()[0].pid, signal.SIGKILL)
        world.settle()
    world.advance(11)
    assert world.zygotes()[0].generation == 1, "it has its time"
    world.hook_fates.clear()
    took_s = world.advance_until(world.converged)
    assert took_s < 5
    assert f"hook {name} does not come back" in world.texts()
    assert len(world.ready()) == 3


def test_a_hook_that_fails_is_told_and_nothing_else_happens(make: Make) -> None:
    world = make(2)
    world.hook_fates = dict.fromkeys(ALL, "fails")
    world.start()
    assert world.converged()
    (event,) = [event for event in world.events.after(0, 100) if event.kind == "hook"]
    assert event.text == "hook when_ready failed: ValueError: no (generation 1)"
    assert event.detail == "Traceback…"
    stop(world)


@pytest.mark.parametrize("fate", ["fails", "hangs", "dies"])
def test_the_end_comes_whatever_on_exit_does(make: Make, fate: str) -> None:
    world = make(1)
    world.hook_fates["on_exit"] = fate  # type: ignore[assignment] # from the table
    world.start()
    world.supervisor.stop("test", quick=True)
    assert world.advance_until(world.supervisor.finished.is_set, 60) < 15
    assert "hook on_exit" in world.texts()


def test_the_end_without_a_zygote(make: Make) -> None:
    world = make(1).start()
    world.zygote_fate = "hangs"
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.settle()
    stop(world)
    assert "hook on_exit was not run: there is no zygote that could" in world.texts()


def test_the_end_during_a_reload(make: Make) -> None:
    world = make(1).start()
    world.zygote_fate = "hangs"
    world.supervisor.reload("test")
    world.settle()
    world.hooked.clear()
    stop(world)
    assert names(world) == [(1, "child_exit"), (1, "on_exit")]


@pytest.mark.parametrize(("zygote", "worker"), [("fails", "well"), ("well", "fails"), ("well", "dies")])
def test_on_exit_of_a_start_that_fails(make: Make, zygote: str, worker: str) -> None:
    world = make(1)
    world.zygote_fate = zygote  # type: ignore[assignment] # from the table
    world.worker_fates[1] = worker  # type: ignore[assignment] # from the table
    world.start()
    world.advance_until(world.supervisor.finished.is_set, 30)
    assert world.supervisor.fatal is not None
    assert names(world)[-1] == (1, "on_exit")


@pytest.mark.parametrize("zygote", ["hangs", "dies"])
def test_no_on_exit_where_there_is_nobody_to_ask(make: Make, zygote: str) -> None:
    world = make(1)
    world.zygote_fate = zygote  # type: ignore[assignment] # from the table
    world.start()
    world.advance_until(world.supervisor.finished.is_set, 40)
    assert names(world) == []


def test_on_starting_that_fails(make: Make) -> None:
    world = make(1)
    world.zygote_fate = "hangs"
    world.start()
    world.zygotes()[0].say(m.HookBegun("on_starting", 18.0))
    world.zygotes()[0].say(m.ZygoteFailed("hook", "hook on_starting failed: ValueError: no", "Traceback…"))
    world.advance_until(world.supervisor.finished.is_set, 10)
    assert world.supervisor.fatal is not None
    assert world.supervisor.fatal.exit_status == 1
    assert names(world) == []


def test_on_starting_that_cannot_be_ended(make: Make) -> None:
    world = make(1)
    world.zygote_fate = "hangs"
    world.start()
    world.zygotes()[0].say(m.HookBegun("on_starting", 18.0))
    world.advance_until(world.supervisor.finished.is_set, 25)
    assert world.supervisor.fatal is not None
    assert world.supervisor.fatal.exit_status == 1
    assert "hook on_starting does not come back" in world.supervisor.fatal.cause


@pytest.mark.parametrize("fate", ["well", "fails", "hangs", "dies"])
def test_before_exec(make: Make, fate: str) -> None:
    world = make(1).start()
    world.hook_fates["pre_exec"] = fate  # type: ignore[assignment] # from the table
    done: list[float] = []
    world.supervisor.hooks.before_exec(lambda: done.append(world.clock.now))
    assert done == [], "not before it is over"
    world.advance(14)
    assert len(done) == 1
    assert [name for _, name in names(world)].count("pre_exec") == 1


def test_before_exec_without_a_zygote_that_could(make: Make) -> None:
    world = make(1).start()
    world.zygote_fate = "hangs"
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.settle()
    done: list[float] = []
    world.supervisor.hooks.before_exec(lambda: done.append(world.clock.now))
    assert done == []
    world.advance(16)
    assert len(done) == 1, "a server without a zygote may need just that: a new master"
    (event,) = [each for each in world.events.after(0, 1000) if "hook pre_exec was not run" in each.text]
    assert "started all the same" in event.detail and "mend" in event.detail, "what to do"
    world.hooked.clear()
    world.zygote_fate = "well"
    world.advance_until(world.converged, 120)
    assert "pre_exec" not in [name for _, name in names(world)], "it is not run behind"


def test_an_earlier_wait_for_a_zygote_does_not_shorten_a_later_one(make: Make) -> None:
    world = make(1).start()

    def lose_the_zygote() -> None:
        world.zygote_fate = "hangs"
        world.kill(world.zygotes()[-1].pid, signal.SIGKILL)
        world.settle()

    lose_the_zygote()
    done: list[str] = []
    world.supervisor.hooks.before_exec(lambda: done.append("first"))
    began = world.clock.now
    world.zygote_fate = "well"
    world.kill(world.zygotes()[-1].pid, signal.SIGKILL)
    world.advance_until(lambda: done, 12)
    lose_the_zygote()
    world.supervisor.hooks.before_exec(lambda: done.append("second"))
    again = world.clock.now
    world.advance(began + 15.5 - again)
    assert done == ["first"] and world.clock.now < again + 15
    world.advance(15)
    assert done == ["first", "second"]


def test_before_exec_without_such_a_hook(make: Make) -> None:
    world = make(1, hooks=("on_exit",)).start()
    done: list[bool] = []
    world.supervisor.hooks.before_exec(lambda: done.append(True))
    assert done == [True]


def test_many_deaths_do_not_fill_the_channel(make: Make) -> None:
    world = make(30).start()
    world.hooked.clear()
    for worker in world.workers():
        world.kill(worker.pid, signal.SIGKILL)
    world.advance_until(world.converged)
    assert len(messages(world, "child_exit")) == 30
    ages = [message.worker.age for message in messages(world, "child_exit") if message.worker is not None]
    assert len(set(ages)) == 30


def test_nothing_is_sent_to_a_generation_without_hooks(make: Make) -> None:
    world = make(2, hooks=()).start()
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.supervisor.reload("test")
    world.advance_until(world.converged)
    stop(world)
    assert names(world) == []
