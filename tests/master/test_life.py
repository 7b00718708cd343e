"""Lives of a server, told in a simulated world: the supervisor is real, the kernel under it is not."""

from __future__ import annotations

import signal

import pytest

from tests.master.world import ADDRESS, Make, World
from wsgitop.channel import messages as m
from wsgitop.errors import ActionFailed
from wsgitop.master.condition import condition
from wsgitop.master.quarantine import QUARANTINE_LIMIT
from wsgitop.master.recycling import Usage
from wsgitop.master.states import GenerationPhase, WorkerPhase
from wsgitop.settings.load import Layer


def state(world: World) -> tuple[str, str]:
    return condition(world.roster, world.clock.now)


# -- starting


def test_first_start(make: Make) -> None:
    world = make(3).start()
    assert world.ready() == [1, 1, 1]
    assert [w.slot for w in world.roster.ready()] == [1, 2, 3]
    assert state(world) == ("serving", "")
    assert world.converged()


@pytest.mark.parametrize(
    ("zygote", "worker", "status", "words"),
    [
        ("fails", "well", 4, "it is broken"),
        ("dies", "well", 3, "was killed by SIGSEGV"),
        ("hangs", "well", 3, "did not load within 20 s"),
        ("well", "fails", 4, "no module named gone"),
        ("well", "dies", 3, "was killed by SIGSEGV while it loaded"),
        ("well", "hangs", 3, "loaded the application: it did not boot within 20 s (--boot-timeout)"),
    ],
)
def test_first_start_that_fails_ends_the_server(
    make: Make, zygote: str, worker: str, status: int, words: str
) -> None:
    world = make(2)
    world.zygote_fate = zygote  # type: ignore[assignment] # from the table
    world.worker_fates[1] = worker  # type: ignore[assignment] # from the table
    world.start()
    world.advance_until(world.supervisor.finished.is_set, 40)
    assert world.supervisor.fatal is not None
    assert world.supervisor.fatal.exit_status == status
    assert words in str(world.supervisor.fatal)


# -- reloading


@pytest.mark.parametrize("surge", [1, 2, 8])
def test_rolling_reload(make: Make, surge: int) -> None:
    world = make(4, reload_surge=surge).start()
    most = 0
    world.supervisor.reload("test")
    for _ in range(200):
        world.loop.run()
        world.reap()
        most = max(most, len(world.workers()))
        assert len(world.roster.ready()) >= 4, "as many as wanted serve at every moment"
        if not world.step() and not world.zombies:
            break
    assert world.ready() == [2, 2, 2, 2]
    assert 5 <= most <= 4 + min(surge, 4)
    assert world.reloads == {2: ""}
    assert sorted(w.slot for w in world.roster.ready()) == [1, 2, 3, 4]
    assert world.converged() and world.roster.good == 2


def test_workers_that_are_busy_delay_a_reload_but_do_not_stop_it(make: Make) -> None:
    world = make(2)
    world.busy = True
    world.start()
    world.busy = False
    world.supervisor.reload("test")
    world.advance(5)
    assert state(world)[0] == "reloading"
    assert world.reloads == {}
    # Each is killed after its grace of 10 s, one after the other, because a retiring one counts as surge.
    assert 15 < world.advance_until(world.converged, 60) < 25
    assert world.reloads == {2: ""}
    assert "did not finish within 10 s" in world.texts()


def test_reload_while_scaled_keeps_the_scale(make: Make) -> None:
    world = make(2).start()
    world.supervisor.set_wanted(4, "test", "TTIN")
    world.settle()
    world.supervisor.reload("test")
    world.supervisor.set_wanted(3, "test", "TTOU")
    world.settle()
    assert world.ready() == [2, 2, 2]
    assert world.converged()


def test_scaling_in_the_middle_of_a_reload(make: Make) -> None:
    world = make(2).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.supervisor.set_wanted(5, "test", "TTIN")
    world.settle()
    assert world.ready() == [2] * 5


def test_second_reload_supersedes_the_first(make: Make) -> None:
    world = make(2).start()
    world.zygote_fate = "hangs"
    world.supervisor.reload("first")
    world.advance(1)
    world.zygote_fate = "well"
    world.supervisor.reload("second")
    world.settle()
    assert world.ready() == [3, 3]
    assert world.reloads == {2: "superseded by a newer reload, to generation 3", 3: ""}


def test_reload_supersedes_one_that_is_rolling(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("first")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.supervisor.reload("second")
    world.settle()
    assert world.ready() == [3, 3, 3]
    assert world.reloads == {2: "superseded by a newer reload, to generation 3", 3: ""}
    assert world.converged()


@pytest.mark.parametrize("zygote", ["fails", "dies", "hangs"])
def test_reload_whose_zygote_does_not_load(make: Make, zygote: str) -> None:
    world = make(2).start()
    before = {w.pid for w in world.workers()}
    world.zygote_fate = zygote  # type: ignore[assignment] # from the table
    world.supervisor.reload("test")
    world.advance_until(lambda: world.reloads, 30)
    assert list(world.reloads) == [2] and world.reloads[2]
    world.settle()
    assert {w.pid for w in world.workers()} == before
    assert state(world) == ("serving", "the reload to generation 2 failed")
    assert world.converged() and world.roster.target == world.roster.good == 1
    assert world.roster.generations[2].phase is GenerationPhase.FAILED


@pytest.mark.parametrize("worker", ["fails", "dies", "hangs"])
@pytest.mark.parametrize("surge", [1, 3])
def test_reload_whose_workers_do_not_boot_goes_back(make: Make, worker: str, surge: int) -> None:
    world = make(3, reload_surge=surge).start()
    world.worker_fates[2] = worker  # type: ignore[assignment] # from the table
    world.supervisor.reload("test")
    world.advance_until(lambda: world.reloads, 30)
    assert list(world.reloads) == [2] and world.reloads[2]
    world.advance_until(world.converged, 30)
    assert world.ready() == [1, 1, 1]
    assert state(world) == ("serving", "the reload to generation 2 failed")
    assert world.roster.boot_failures == 0, "the good generation is not to blame"


def test_reload_that_breaks_in_the_middle_goes_back(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.worker_fates[2] = "fails"
    world.settle()
    assert world.ready() == [1, 1, 1]
    assert world.reloads[2].startswith("no module named gone")
    assert world.converged()


def test_reload_with_mended_code_does_not_wait_for_the_back_off_of_the_broken(make: Make) -> None:
    world = make(3).start()
    world.worker_fates[1] = "fails"
    for worker in world.workers():
        worker.die(signal.SIGKILL)
    world.advance_until(lambda: world.roster.fork_not_before > world.clock.now + 20)
    world.supervisor.reload("test")
    world.settle()
    assert world.ready() == [2, 2, 2]
    assert state(world) == ("serving", "")


def test_failed_reload_leaves_the_settings_in_force(make: Make) -> None:
    world = make(2).start()
    values = {"wsgi_app": "site:app", "workers": 5, "chdir": "elsewhere", "timeout": 7, "bind": [ADDRESS]}
    world.configuration._layers = (Layer("file", values),)
    world.zygote_fate = "fails"
    world.supervisor.reload("test")
    world.settle()
    assert world.roster.wanted == 2
    assert world.configuration.app_directory() == "/"
    world.zygote_fate = "well"
    world.worker_fates[3] = "fails"
    world.supervisor.reload("test")
    world.advance_until(world.converged, 30)
    assert world.ready() == [1, 1]
    assert world.configuration.app_directory() == "/"
    assert world.sampler.timeout_s == 30
    world.worker_fates.clear()
    world.supervisor.reload("test")
    world.settle()
    assert world.ready() == [4] * 5
    assert world.configuration.app_directory() == "/elsewhere"
    assert world.sampler.timeout_s == 7


# -- scaling and dying


def test_scaling(make: Make) -> None:
    world = make(2).start()
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.settle()
    assert [w.slot for w in world.roster.ready()] == [1, 2, 3]
    oldest = min(w.pid for w in world.workers())
    world.supervisor.set_wanted(2, "test", "TTOU")
    world.settle()
    assert len(world.ready()) == 2
    assert oldest not in {w.pid for w in world.workers()}
    world.supervisor.set_wanted(0, "test", "TTOU")
    world.settle()
    assert len(world.ready()) == 1, "one always stays"


def test_scaling_down_takes_who_does_not_serve_yet(make: Make) -> None:
    world = make(2).start()
    world.worker_fates[1] = "hangs"
    world.supervisor.set_wanted(4, "test", "scale")
    world.settle()
    world.supervisor.set_wanted(2, "test", "scale")
    world.settle()
    assert len(world.ready()) == 2


def test_a_large_scale_does_not_flood_the_zygote(make: Make) -> None:
    world = make(1).start()
    world.supervisor.set_wanted(600, "test", "scale")
    assert len(world.roster.workers) <= 1 + 32
    world.supervisor.set_wanted(100, "test", "scale")
    world.settle()
    assert len(world.ready()) == 100
    assert world.roster.boot_failures == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, 0], ids=["kill", "crash", "exit"])
def test_a_dead_worker_is_replaced_in_its_slot(make: Make, number: int) -> None:
    world = make(3).start()
    world.advance(60)
    victim = world.roster.ready()[1]
    assert victim.pid is not None
    world.processes[victim.pid].die(number)
    world.advance(2)
    assert sorted(w.slot for w in world.roster.ready()) == [1, 2, 3]
    assert state(world) == ("serving", "")


def test_lost_workers_do_not_starve_the_site(make: Make) -> None:
    world = make(2).start()
    for worker in world.workers():
        worker.busy = True
        worker.retire("a request took too long")
    world.settle()
    assert len(world.ready()) == 2
    assert len(world.workers()) == 4
    world.advance(15)  # the others are killed after their grace
    assert world.converged()


def test_retiring_workers_do_not_starve_the_site(make: Make) -> None:
    world = make(4)
    world.busy = True
    world.start()
    world.busy = False
    world.supervisor.set_wanted(1, "test", "scale")
    world.settle()
    (last,) = world.roster.ready()
    assert last.pid is not None
    world.kill(last.pid, signal.SIGKILL)
    world.advance(1)
    assert len(world.ready()) == 1, "three that retire must not keep the only one away"


def test_silent_worker_is_aborted_then_killed(make: Make) -> None:
    world = make(2).start()
    record = world.roster.ready()[0]
    assert record.pid is not None
    world.processes[record.pid].stopped = True
    world.sampler.quiet.add(record.worker)
    world.advance(1.5)
    assert record.pid in world.processes
    world.advance(1.5)
    assert record.pid not in world.processes
    assert [k for k in world.kinds() if k in ("abort", "kill")] == ["abort", "kill"]
    world.advance_until(world.converged, 10)


def test_abort_of_a_silent_worker_is_no_crash(make: Make) -> None:
    world = make(1).start()
    record = world.roster.ready()[0]
    world.sampler.quiet.add(record.worker)
    world.settle()
    world.advance(0.25)
    assert world.roster.boot_failures == 0
    assert world.converged()


def test_worker_that_dies_before_it_is_heard(make: Make) -> None:
    """Its death is told before its own messages and those of its zygote."""
    world = make(1).start()
    world.advance(30)
    world.supervisor.set_wanted(2, "test", "TTIN")
    while len(world.workers()) < 2:
        world.zygote(1).step()
    late = world.workers()[-1]
    late.step()
    late.die(signal.SIGKILL)
    world.loop.backwards = True
    world.reap()
    world.settle()
    world.advance(1)
    assert world.converged()


def test_worker_that_closes_its_channel_is_replaced(make: Make) -> None:
    world = make(2).start()
    mute = world.workers()[0]
    mute.close_channel()
    world.advance(3)
    assert world.ready() == [1, 1]
    assert not mute.alive


def test_ends_of_orphans_are_not_taken_for_those_of_workers(make: Make) -> None:
    world = make(1).start()
    next_pid = max(world.processes) + 1
    world.supervisor.workers.died(next_pid, 0)  # a grandchild of the application
    world.supervisor.set_wanted(2, "test", "TTIN")
    world.settle()
    assert world.workers()[-1].pid == next_pid
    assert world.ready() == [1, 1]


@pytest.mark.parametrize("message", [m.WorkerReady(2), m.BootFailed("late", "", False)])
def test_worker_that_says_what_it_should_not(make: Make, message: m.Message) -> None:
    world = make(2).start()
    world.workers()[0].say(message)
    world.advance(30)
    assert world.converged()


def test_a_process_of_somebody_else_is_not_taken_for_a_worker(make: Make) -> None:
    world = make(1)
    world.strangers.add(4711)
    world.supervisor.start()
    world.loop.backwards = True  # what the worker says is heard before the zygote's word
    while not world.workers():
        world.loop.run()
        world.step()
    worker = world.workers()[0]
    worker.booted = True
    worker.say(m.WorkerReady(4711))
    world.settle()
    assert "names process 4711, which is none of this server's" in world.texts()
    assert [w.pid for w in world.roster.live()] == [worker.pid]


@pytest.mark.parametrize("pid", [-1, 0, 1, 1 << 40])
def test_pid_that_cannot_be_is_nonsense(make: Make, pid: int) -> None:
    world = make(1).start()
    world.worker_fates[1] = "hangs"
    world.supervisor.set_wanted(2, "test", "TTIN")
    world.settle()
    world.workers()[-1].say(m.WorkerReady(pid))
    world.settle()
    assert "sent nonsense" in world.texts()
    world.worker_fates[1] = "well"
    world.advance_until(world.converged, 60)


# -- failing again and again


def forks_per_minute(world: World, minutes: int = 3) -> list[int]:
    counts = []
    for _ in range(minutes):
        before = len(world.forks)
        world.advance(60)
        counts.append(len(world.forks) - before)
    return counts


@pytest.mark.parametrize("fate", ["fails", "dies"])
@pytest.mark.parametrize("survivors", [0, 1, 3])
def test_workers_that_cannot_boot_any_more_are_tried_ever_less(make: Make, fate: str, survivors: int) -> None:
    """The code on disk breaks while the server runs: who is forked from now on cannot load it."""
    world = make(4).start()
    world.advance(60)
    world.worker_fates[1] = fate  # type: ignore[assignment] # from the table
    for worker in world.workers()[survivors:]:
        worker.die(signal.SIGKILL)
    first, second, third = forks_per_minute(world)
    assert first <= 10
    assert second <= 2 and third <= 2
    assert len(world.ready()) == survivors
    assert state(world)[0] == "degraded"
    world.worker_fates[1] = "well"
    world.advance_until(world.converged, 120)
    world.advance(15)
    assert state(world) == ("serving", "")
    assert world.roster.boot_failures == 0


@pytest.mark.parametrize("status", [0, 1 << 8, signal.SIGSEGV], ids=["exit 0", "exit 1", "crash"])
@pytest.mark.parametrize("lives_s", [0.25, 3.0, 9.0])
def test_crash_loop_is_slowed_down_beside_a_healthy_worker(make: Make, status: int, lives_s: float) -> None:
    world = make(2).start()
    world.advance(60)
    healthy = world.workers()[0].pid
    before = len(world.forks)
    begin = world.clock.now
    while world.clock.now - begin < 60:
        sick = [w for w in world.workers() if w.pid != healthy and w.booted]
        world.advance(lives_s)
        for worker in sick:
            worker.die(status)
    assert len(world.forks) - before <= 10


def test_one_failure_is_forgiven_although_nobody_is_forked_again(make: Make) -> None:
    world = make(2).start()
    world.worker_fates[1] = "fails"
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.advance(1)
    assert state(world)[0] == "degraded"
    world.supervisor.set_wanted(2, "test", "TTOU")
    world.advance(15)
    assert state(world) == ("serving", "")


def test_full_scoreboard_is_said_once_a_second_at_most(make: Make) -> None:
    world = make(1, threads=1).start()
    world.supervisor._context.generations[1].free_rows[:] = []
    before = len(world.events.after(0, 1000))
    world.supervisor.set_wanted(20, "test", "scale")
    world.settle()
    assert len(world.events.after(0, 1000)) - before == 2  # the command, and the complaint


# -- zygotes


def test_lost_zygote_is_replaced_and_nothing_rolls(make: Make) -> None:
    world = make(2).start()
    before = {w.pid for w in world.workers()}
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.settle()
    assert {w.pid for w in world.workers()} == before
    assert [z.generation for z in world.zygotes()] == [2]
    assert state(world) == ("serving", "")
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.settle()
    assert world.ready() == [1, 1, 2]
    assert state(world) == ("serving", "generations are mixed")
    assert world.roster.good == 2


def test_generation_of_a_lost_zygote_is_the_good_one_though_no_worker_was_left(make: Make) -> None:
    world = make(2).start()
    world.advance(60)
    for process in [*world.zygotes(), *world.workers()]:
        process.die(signal.SIGKILL)
    world.advance_until(world.converged, 10)
    assert world.ready() == [2, 2]
    zygote = world.zygote(2).pid
    world.worker_fates[3] = "fails"
    world.supervisor.reload("test")
    world.advance_until(world.converged, 30)
    assert world.ready() == [2, 2]
    assert world.zygote(2).pid == zygote, "the good generation's zygote is still there to go back to"


@pytest.mark.parametrize("fate", ["fails", "dies"])
def test_zygote_that_cannot_be_replaced_is_tried_ever_less(make: Make, fate: str) -> None:
    world = make(2).start()
    world.zygote_fate = fate  # type: ignore[assignment] # from the table
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    counts = []
    for _ in range(3):
        before = world.roster.next_generation
        world.advance(60)
        counts.append(world.roster.next_generation - before)
    assert counts[0] <= 10 and counts[1] <= 2 and counts[2] <= 2
    assert state(world)[0] == "degraded"
    assert world.ready() == [1, 1]
    world.zygote_fate = "well"
    world.advance_until(world.converged, 120)
    assert state(world) == ("serving", "")


def test_zygote_that_dies_whenever_it_is_ready_is_tried_ever_less(make: Make) -> None:
    world = make(1).start()
    before = world.roster.next_generation
    begin = world.clock.now
    while world.clock.now - begin < 60:
        for zygote in world.zygotes():
            zygote.die(signal.SIGSEGV)
        world.advance(0.5)
    assert world.roster.next_generation - before <= 10


def test_zygote_that_does_not_answer_is_replaced(make: Make) -> None:
    world = make(2).start()
    world.zygote(1).stopped = True
    world.supervisor.set_wanted(3, "test", "TTIN")
    world.advance_until(world.converged, 60)
    assert [z.generation for z in world.zygotes()] == [2]


def test_workers_that_a_lost_zygote_was_asked_for_are_asked_of_the_next(make: Make) -> None:
    world = make(1).start()
    world.supervisor.set_wanted(4, "test", "scale")
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.settle()
    assert world.ready() == [1, 2, 2, 2]
    assert world.roster.boot_failures == 0, "no application has failed to boot"


def test_zygote_lost_in_the_middle_of_a_reload(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.kill(world.zygote(2).pid, signal.SIGKILL)
    world.advance_until(world.converged, 60)
    assert world.ready() == [3, 3, 3]
    assert world.reloads[2] == "", "who waits for the reload hears of its end"


def test_broken_code_behind_a_zygote_lost_in_the_middle_of_a_reload(make: Make) -> None:
    world = make(3).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.worker_fates[3] = "fails"
    world.kill(world.zygote(2).pid, signal.SIGKILL)
    world.advance_until(world.converged, 120)
    assert world.ready() == [1, 1, 1]
    assert world.reloads[2].startswith("no module named gone")


@pytest.mark.parametrize(("number", "serving"), [(signal.SIGSEGV, 1), (signal.SIGKILL, 3)])
def test_zygote_and_its_booting_worker_die_together_in_a_reload(
    make: Make, number: signal.Signals, serving: int
) -> None:
    """By themselves: the new code is bad. By kill -9: it is no worse than before, and is loaded again."""
    world = make(2).start()
    world.worker_fates[2] = "hangs"
    world.supervisor.reload("test")
    world.settle()
    for process in [world.zygote(2), *world.workers(2)]:
        process.die(number)
    world.worker_fates.clear()
    world.advance_until(world.converged, 30)
    assert world.ready() == [serving, serving]
    assert ("SIGSEGV" in world.reloads[2]) == (number == signal.SIGSEGV)


# -- stopping


def test_graceful_stop_waits_and_then_kills(make: Make) -> None:
    world = make(2)
    world.busy = True
    world.start()
    world.supervisor.stop("test", quick=False)
    world.advance(9)
    assert len(world.workers()) == 2
    assert {w.phase for w in world.roster.live()} == {WorkerPhase.RETIRING}
    assert 1 < world.advance_until(world.supervisor.finished.is_set, 10) < 5


def test_graceful_stop_ends_at_once_when_nothing_is_in_flight(make: Make) -> None:
    world = make(2).start()
    world.supervisor.stop("test", quick=False)
    world.settle()
    assert world.supervisor.finished.is_set()


def test_quick_stop_hurries_a_graceful_one(make: Make) -> None:
    world = make(2)
    world.busy = True
    world.start()
    world.supervisor.stop("test", quick=False)
    world.settle()
    world.supervisor.stop("test", quick=True)
    world.settle()
    assert world.supervisor.finished.is_set()


def test_quick_stop_kills_who_does_not_react(make: Make) -> None:
    world = make(2).start()
    for process in world.processes.values():
        process.stopped = True
    world.supervisor.stop("test", quick=True)
    assert world.advance_until(world.supervisor.finished.is_set, 10) < 4


def test_stop_in_the_middle_of_a_reload(make: Make) -> None:
    world = make(2).start()
    world.supervisor.reload("test")
    world.step_until(lambda: world.ready().count(2) == 1)
    world.supervisor.stop("test", quick=False)
    world.settle()
    assert world.supervisor.finished.is_set()


def test_stop_in_the_middle_of_a_reload_is_told_to_who_retires_already(make: Make) -> None:
    world = make(2, keepalive=0)
    world.busy = True
    world.start()
    world.supervisor.reload("test")
    world.advance_until(lambda: any(w.retire_at for w in world.roster.live()), 10)
    world.settle()
    (leaving,) = (w for w in world.roster.live() if w.phase is WorkerPhase.RETIRING)
    (process,) = (process for process in world.workers() if process.pid == leaving.pid)
    told = process.retirements
    assert [(message.pass_on, message.last) for message in told] == [(True, False)]
    world.advance(3)
    world.supervisor.stop("test", quick=False)
    world.settle()
    assert [(message.idle_s, message.pass_on, message.last) for message in told[1:]] == [(0.0, False, True)]
    assert world.advance_until(lambda: leaving.phase is WorkerPhase.GONE, 20) < 10, "its time goes on"


# -- recycling and quarantine


def test_workers_that_served_enough_are_replaced_one_by_one(make: Make) -> None:
    world = make(3, max_requests=100).start()
    first = {w.worker for w in world.roster.ready()}
    world.sampler.used = dict.fromkeys(first, Usage(100, None))
    world.advance(5)
    assert {w.worker for w in world.roster.ready()}.isdisjoint(first) and world.converged()
    assert sorted(w.slot for w in world.roster.ready()) == [1, 2, 3]
    assert world.texts().count("retires: recycled after 100 requests (--max-requests)") == 3
    world.check()  # never too many at once, never too few


def test_a_worker_in_quarantine_stays_while_all_else_changes(make: Make) -> None:
    world = make(2).start()
    aside = world.roster.ready()[0]
    world.supervisor.quarantine.begin(aside, "alice")
    world.advance(1)
    assert aside.phase is WorkerPhase.QUARANTINED and len(world.roster.ready()) == 2 and world.converged()
    world.supervisor.reload("alice")
    world.advance(5)
    assert world.ready() == [2, 2] and world.reloads == {2: ""} and world.converged()
    world.supervisor.quarantine.end(aside, "alice")
    world.advance(1)
    assert len(world.roster.ready()) == 2 and world.ready() == [2, 2], "the plan retires who is of old code"
    world.supervisor.quarantine.begin(world.roster.ready()[0], "alice")
    world.supervisor.stop("alice", quick=False)
    world.advance(1)
    assert world.supervisor.finished.is_set()


def test_who_is_released_is_not_the_one_to_go(make: Make) -> None:
    world = make(2).start()
    aside, other = world.roster.ready()
    world.supervisor.quarantine.begin(aside, "alice")
    world.advance(1)
    world.supervisor.quarantine.end(aside, "alice")
    world.advance(1)
    assert world.roster.ready() == [aside, other] and world.converged(), "its stand-in has gone"


def test_no_more_than_a_few_are_put_aside(make: Make) -> None:
    world = make(2).start()
    for _ in range(QUARANTINE_LIMIT):
        world.supervisor.quarantine.begin(world.roster.ready()[0], "alice")
        world.advance(1)
    with pytest.raises(ActionFailed, match="are in quarantine already"):
        world.supervisor.quarantine.begin(world.roster.ready()[0], "alice")
    with pytest.raises(ActionFailed, match="is not in quarantine, but ready"):
        world.supervisor.quarantine.end(world.roster.ready()[0], "alice")
    aside = world.roster.quarantined()[0]
    with pytest.raises(ActionFailed, match="in quarantine already"):
        world.supervisor.quarantine.begin(aside, "alice")
    world.supervisor.quarantine.retire(aside, "alice")
    world.advance(1)
    assert len(world.roster.quarantined()) == QUARANTINE_LIMIT - 1 and world.converged()
