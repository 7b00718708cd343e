"""Deaths of children in the simulated world: what the ledger says of them, and how crash loops are slowed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.master.world import FakeWorker, Make, World
from wsgitop.channel import messages as m
from wsgitop.master.condition import condition
from wsgitop.master.workers import BOOT_KILLS_BORNE
from wsgitop.snapshot import Death, InFlight

FORKS_A_MINUTE = 10


def last(world: World) -> Death:
    return world.deaths()[-1]


def victim(world: World) -> FakeWorker:
    return world.workers()[0]


def an_operator_sends(world: World, pid: int, number: signal.Signals) -> None:
    found = world.supervisor.workers.by_pid(pid)
    assert found is not None
    assert world.supervisor.workers.signal(found[0], number, "alice (pid 4711)")
    world.settle()


# -- what is filed


def test_who_is_killed_from_outside(make: Make) -> None:
    world = make(2).start()
    world.advance(30)
    worker = victim(world)
    os.write(worker.stderr, b"".join(b"line %d\n" % n for n in range(30)) + b"no end \x1b[2J")
    worker.die(signal.SIGKILL)
    world.settle()
    death = last(world)
    assert (death.cause, death.signal, death.status, death.actor) == ("killed", "SIGKILL", None, "")
    assert (death.process, death.pid, death.slot, death.generation) == ("worker", worker.pid, 1, 1)
    assert death.uptime_s == death.served_s == 30
    assert (death.requests, death.errors, death.peak_rss_bytes) == (7, 1, 50 * 1024 * 1024)
    assert death.lines == (*(f"line {n}" for n in range(11, 30)), "no end \\x1b[2J"), "also what was unread"
    assert "from outside. Nobody here sent that" in world.texts()
    assert world.roster.boot_failures == 0 and len(world.ready()) == 2


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGABRT, signal.SIGQUIT, signal.SIGINT, signal.SIGTERM]
)
def test_who_sent_it_from_here_is_named(make: Make, number: signal.Signals) -> None:
    world = make(2).start()
    an_operator_sends(world, victim(world).pid, number)
    assert (last(world).cause, last(world).actor) == ("killed", "alice (pid 4711)")
    assert f"{number.name}, sent by" in last(world).text or f"after {number.name} sent by" in last(world).text
    assert world.roster.boot_failures == 0, "that was no fault of the application's"
    assert len(world.ready()) == 2


def test_the_master_says_what_it_has_killed_for(make: Make) -> None:
    world = make(2).start()
    record = world.roster.ready()[0]
    world.sampler.quiet.add(record.worker)
    world.advance(1)
    assert (last(world).cause, last(world).actor) == ("timeout", "master")
    assert "sent by the master: its interpreter does not answer any more (--timeout)" in last(world).text
    for worker in world.workers():
        worker.busy = True
    world.supervisor.set_wanted(1, "test", "TTOU")
    world.advance(15)
    assert (last(world).cause, last(world).signal) == ("aborted", "SIGKILL")
    assert "did not finish within 10 s" in last(world).text
    assert "raise --graceful-timeout" in last(world).next_step


def test_ends_that_were_wanted(make: Make) -> None:
    world = make(2).start()
    world.supervisor.set_wanted(1, "test", "TTOU")
    world.settle()
    assert last(world).cause == "scaled down"
    world.supervisor.reload("test")
    world.settle()
    assert {(d.process, d.cause) for d in world.deaths()[1:]} == {
        ("worker", "replaced"),
        ("zygote", "replaced"),
    }
    worker = victim(world)
    worker.retire("it was told to by SIGTERM")
    world.settle()
    worker.die(0)
    world.settle()
    assert (last(world).cause, last(world).status) == ("killed", 0)
    world.supervisor.stop("bob", quick=False)
    world.advance_until(world.supervisor.finished.is_set)
    assert {(d.process, d.cause, d.actor) for d in world.deaths()[-2:]} == {
        ("worker", "stopped", "bob"),
        ("zygote", "stopped", "bob"),
    }
    assert not any(death.next_step for death in world.deaths() if death.cause != "killed")


def test_a_request_that_took_too_long(make: Make) -> None:
    world = make(2).start()
    worker = victim(world)
    worker.say(m.RequestTimeout(3, "GET", "/report", 30.2, "Stack\n  in report", answered=True))
    worker.retire("a request took longer than 30 s")
    world.settle()
    worker.die(0)
    world.settle()
    death = last(world)
    assert (death.cause, death.stack) == ("timeout", "Stack\n  in report")
    assert [(r.thread, r.method, r.path, r.elapsed_s) for r in death.serving] == [(3, "GET", "/report", 30.2)]
    assert "raise --timeout" in death.next_step


def test_stacks_of_a_crash_are_found_in_what_it_wrote(make: Make) -> None:
    world = make(2).start()
    worker = victim(world)
    os.write(worker.stderr, b"hello\nFatal Python error: Segmentation fault\n\nThread 0x1:\n  File x\n")
    worker.die(signal.SIGSEGV)
    world.settle()
    assert (last(world).cause, last(world).lines) == ("crashed", ("hello",))
    assert last(world).stack == "Fatal Python error: Segmentation fault\n\nThread 0x1:\n  File x"


def test_workers_that_cannot_boot(make: Make) -> None:
    world = make(2).start()
    world.advance(1)
    world.worker_fates[1] = "fails"
    victim(world).die(signal.SIGKILL)
    world.settle()
    death = last(world)
    assert (death.cause, death.status, death.served_s) == ("boot failed", 4, None)
    assert death.text.endswith("could not load the application: no module named gone")
    assert (death.next_step, death.stack) == ("Install it.", "Traceback…")


def test_zygotes(make: Make) -> None:
    world = make(1).start()
    world.kill(world.zygote(1).pid, signal.SIGKILL)
    world.advance_until(world.converged)
    assert (last(world).process, last(world).cause, last(world).slot) == ("zygote", "killed", None)
    assert "workers serve on, a new generation is being loaded. Nobody here sent that" in world.texts()
    for fate, cause in (("fails", "boot failed"), ("dies", "crashed"), ("hangs", "boot failed")):
        world.zygote_fate = fate  # type: ignore[assignment] # from the table
        world.supervisor.reload("test")
        world.advance(25)
        assert (last(world).process, last(world).cause) == ("zygote", cause)


def test_a_zygote_that_has_closed_its_channel_is_ended_and_says_so(make: Make) -> None:
    world = make(1).start()
    zygote = world.zygote(1)
    zygote.channel.close()
    zygote.stopped = True
    world.advance(2)
    assert (last(world).process, last(world).cause, last(world).actor) == ("zygote", "aborted", "master")
    assert "had closed its channel" in last(world).text
    world.advance_until(world.converged)


def test_out_of_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    mib = 1024 * 1024
    monkeypatch.setattr("wsgitop.master.cgroup.memory_limit_bytes", lambda: 600 * mib)
    monkeypatch.setattr("wsgitop.master.cgroup.memory_current_bytes", lambda: 90 * mib)
    world = make(3).start()
    world.advance(60)
    world.peak_kib = 512 * 1024
    world.oom_kills = 1
    first, second, _ = world.workers()
    first.die(signal.SIGKILL)
    second.die(signal.SIGKILL)
    world.settle()
    by_kernel, by_hand = world.deaths()[-2:]
    assert (by_kernel.cause, by_hand.cause) == ("out of memory", "killed")
    assert "it had 512 MiB at most; the limit of its control group is 600 MiB" in by_kernel.text
    assert "90 MiB of that are in use" in by_kernel.text
    assert "Raise the limit, run fewer workers" in world.texts()
    # What an operator has killed explains itself.
    world.advance_until(world.converged)
    world.oom_kills = 2
    an_operator_sends(world, victim(world).pid, signal.SIGKILL)
    assert last(world).cause == "killed"


def test_deaths_of_a_stopping_server_are_filed_quietly(make: Make) -> None:
    world = make(4).start()
    for worker in world.workers():
        worker.stopped = True
    world.supervisor.stop("bob", quick=True)
    world.advance_until(world.supervisor.finished.is_set, 30)
    workers = [death for death in world.deaths() if death.process == "worker"]
    assert [(d.cause, d.signal) for d in workers] == [("aborted", "SIGKILL")] * 4
    assert "died" not in world.kinds()


def test_the_event_has_room_for_the_next_step_whatever_was_being_served(make: Make) -> None:
    world = make(1).start()
    requests = tuple(InFlight(n, "OPTIONS", "/" + 199 * "x", "::1", 12.0) for n in range(32))
    world.sampler.requests[world.roster.ready()[0].worker] = requests
    victim(world).die(signal.SIGSEGV)
    world.settle()
    (event,) = (event for event in world.events.after(0, 100) if event.kind == "died")
    assert "…" in event.text and "for 12.0 s and 30 more. Native code" in event.text
    assert last(world).next_step in event.text and event.text.endswith(f"--pid {last(world).pid}")
    assert len(last(world).serving) == 16


# -- crash loops


def forks_in_a_minute(
    world: World, fault: Callable[[FakeWorker, float], None], minutes: int = 3
) -> list[int]:
    """Every worker that is ready is shown to ``fault`` each quarter of a second, with its age."""
    counts, births = [], dict[int, float]()
    for _ in range(minutes):
        before, end = len(world.forks), world.clock.now + 60
        while world.clock.now < end:
            for worker in world.workers():
                if worker.booted:
                    fault(worker, world.clock.now - births.setdefault(worker.pid, world.clock.now))
            world.advance(0.25)
        counts.append(len(world.forks) - before)
    return counts


def dies_at(age_s: float, status: int, slots: frozenset[int]) -> Callable[[FakeWorker, float], None]:
    def fault(worker: FakeWorker, lived_s: float) -> None:
        record = worker.world.roster.workers.get(worker.worker)
        if lived_s >= age_s and record is not None and record.slot in slots:
            worker.die(status)

    return fault


ALL = frozenset({1, 2, 3, 4})


@pytest.mark.parametrize(
    ("age_s", "status", "slots"),
    [
        (0, 0, ALL),
        (0, 1 << 8, ALL),
        (1, signal.SIGSEGV, ALL),
        (9, signal.SIGABRT, ALL),
        (0, signal.SIGKILL, ALL),
        (0, 3 << 8, frozenset({2})),
        (1, signal.SIGSEGV, frozenset({4})),
    ],
    ids=[
        "exit 0 at once",
        "exit 1 at once",
        "segfault after 1 s",
        "abort after 9 s",
        "kills itself at once",
        "1 of 4 exits",
        "1 of 4 crashes",
    ],
)
def test_workers_that_die_soon_after_they_are_ready(
    make: Make, age_s: float, status: int, slots: frozenset[int]
) -> None:
    world = make(4).start()
    counts = forks_in_a_minute(world, dies_at(age_s, status, slots))
    assert all(count <= FORKS_A_MINUTE for count in counts), counts
    state, why = condition(world.roster, world.clock.now)
    assert state == "degraded" and "next try in" in why
    assert len(world.ready()) >= 4 - len(slots)
    assert world.deaths()[-1].cause in ("exited", "crashed", "killed")
    world.advance_until(world.converged, 70)
    world.advance(15)
    assert condition(world.roster, world.clock.now)[0] == "serving", "it is over when they live"


@pytest.mark.parametrize("wanted", [12, 40])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGALRM])
def test_many_workers_that_die_soon_after_they_are_ready(
    make: Make, wanted: int, number: signal.Signals
) -> None:
    """Each try is ready at once, so that the next one follows at once: the delay alone bounds nothing."""
    world = make(wanted).start()
    counts = forks_in_a_minute(world, dies_at(1, number, frozenset(range(1, wanted + 1))), 4)
    assert all(count <= FORKS_A_MINUTE for count in counts), counts
    assert world.deaths()[-1].cause == "crashed"
    # It is over: the first that lasts is followed by all the others.
    assert world.advance_until(world.converged, 120) < 75


def test_kills_from_outside_use_up_no_tries(make: Make) -> None:
    """Somebody kills one worker after the other, and the first was so young that it counts as a failure."""
    world = make(4).start()
    world.workers()[0].die(signal.SIGKILL)
    world.settle()
    assert world.roster.boot_failures == 1
    for number in range(120):
        world.advance(0.5)
        living = world.workers()
        assert len(living) >= 3, f"after {number} kills: {condition(world.roster, world.clock.now)}"
        living[0].die(signal.SIGKILL)
    world.advance_until(world.converged, 3)


@pytest.mark.parametrize("fate", ["fails", "dies", "hangs"])
@pytest.mark.parametrize("dead", [1, 4])
def test_workers_that_cannot_boot_any_more(make: Make, fate: str, dead: int) -> None:
    world = make(4, boot_timeout=1).start()
    world.worker_fates[1] = fate  # type: ignore[assignment] # from the table
    for worker in world.workers()[:dead]:
        worker.die(signal.SIGKILL)
    counts = forks_in_a_minute(world, lambda worker, age_s: None)
    assert all(count <= FORKS_A_MINUTE for count in counts), counts
    assert condition(world.roster, world.clock.now)[0] == "degraded"
    assert len(world.ready()) == 4 - dead
    # A reload with code that works waits for nothing.
    world.worker_fates[world.roster.next_generation] = "well"
    world.supervisor.reload("test")
    world.advance_until(world.converged, 10)


def test_workers_that_the_kernel_kills_for_want_of_memory(make: Make) -> None:
    world = make(4).start()

    def fault(worker: FakeWorker, lived_s: float) -> None:
        if lived_s >= 2:
            world.oom_kills = (world.oom_kills or 0) + 1
            worker.die(signal.SIGKILL)

    counts = forks_in_a_minute(world, fault)
    assert all(count <= FORKS_A_MINUTE for count in counts), counts
    assert {death.cause for death in world.deaths()} == {"out of memory"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_signals_from_outside_slow_nothing_down(make: Make, number: signal.Signals) -> None:
    """kill -9 every half second: each is replaced at once, however young it was."""
    world = make(4).start()
    for _ in range(120):
        world.advance(0.5)
        victim(world).die(number)
        world.settle()
        assert len(world.ready()) == 4
    assert world.roster.boot_failures == 0
    assert condition(world.roster, world.clock.now) == ("serving", "")


def test_a_kill_while_it_boots_is_no_fault_of_the_code_but_no_loop_either(make: Make) -> None:
    world = make(2).start()
    world.advance(1)
    world.worker_fates[1] = "hangs"
    victim(world).die(signal.SIGKILL)
    world.settle()
    booting = next(w for w in world.workers() if not w.booted)
    booting.die(signal.SIGKILL)
    world.settle()
    assert world.roster.boot_failures == 0
    before = len(world.forks)
    for _ in range(240):
        for worker in world.workers():
            if not worker.booted:
                worker.die(signal.SIGKILL)
        world.advance(0.25)
    assert len(world.forks) - before <= FORKS_A_MINUTE
    world.worker_fates[1] = "well"
    world.advance_until(world.converged, 70)


def test_code_that_tells_its_worker_to_end_is_no_loop(make: Make) -> None:
    """os.kill(os.getpid(), SIGTERM) at import cannot be told from a kill(1); not for ever, though."""
    world = make(2).start()
    world.worker_fates[1] = "hangs"
    victim(world).die(signal.SIGKILL)
    before = len(world.forks)
    for _ in range(240):
        for worker in world.workers():
            if not worker.booted:
                worker.retire("it was told to by SIGTERM")
                worker.die(0)
        world.advance(0.25)
    assert len(world.forks) - before <= FORKS_A_MINUTE
    assert last(world).text.endswith("exited with status 0 after SIGTERM from outside")
    assert condition(world.roster, world.clock.now)[0] == "degraded"
    world.worker_fates[1] = "well"
    world.advance_until(world.converged, 70)


def test_code_that_tells_its_worker_to_end_ends_a_first_start(make: Make) -> None:
    world = make(1)
    world.worker_fates[1] = "hangs"
    world.start()
    for _ in range(BOOT_KILLS_BORNE + 1):
        victim(world).retire("it was told to by SIGTERM")
        victim(world).die(0)
        world.settle()
    world.advance_until(world.supervisor.finished.is_set, 5)
    assert world.supervisor.fatal is not None and world.supervisor.fatal.exit_status == 3


@pytest.mark.parametrize("boots", [False, True])
def test_workers_that_end_themselves_by_a_signal_that_they_obey(make: Make, boots: bool) -> None:
    """SIGTERM or SIGINT of the application's own, while it is imported or at once when it is ready."""
    world = make(2).start()
    world.advance(30)
    if not boots:
        world.worker_fates[1] = "hangs"

    def obey(worker: FakeWorker) -> None:
        worker.retire("it was told to by SIGTERM")
        world.loop.run()
        worker.die(0)

    for worker in world.workers():
        worker.die(signal.SIGKILL)
    world.settle()
    before = len(world.forks)
    for _ in range(300):
        for worker in world.workers():
            obey(worker)
        world.advance(0.2)
    assert len(world.forks) - before <= FORKS_A_MINUTE
    assert condition(world.roster, world.clock.now)[0] == "degraded"


def test_a_reload_survives_kill_9_of_a_worker_that_boots(make: Make) -> None:
    world = make(2).start()
    world.worker_fates[2] = "hangs"
    world.supervisor.reload("test")
    world.settle()
    world.worker_fates[2] = "well"
    next(w for w in world.workers(2)).die(signal.SIGKILL)
    world.advance_until(world.converged, 5)
    assert world.reloads == {2: ""}


@pytest.mark.parametrize("kills", [None, 1])
def test_at_the_first_boot_a_kill_ends_the_server_if_memory_may_be_the_cause(
    make: Make, kills: int | None
) -> None:
    """Where the kernel does not count, a kill counts as want of memory."""
    world = make(1)
    world.worker_fates[1] = "hangs"
    world.oom_kills = kills and 0
    if kills is None:
        world.supervisor._context.deaths.oom._last = None
    world.start()
    world.oom_kills = kills
    victim(world).die(signal.SIGKILL)
    world.advance_until(world.supervisor.finished.is_set, 20)
    assert world.supervisor.fatal is not None and world.supervisor.fatal.exit_status == 3


def test_a_worker_in_quarantine(make: Make) -> None:
    world = make(2).start()
    record = world.roster.ready()[0]
    world.supervisor.quarantine.begin(record, "alice (pid 4711)")
    world.settle()
    world.advance(1)
    assert record.pid is not None
    world.kill(record.pid, signal.SIGKILL)
    world.settle()
    assert (last(world).cause, last(world).pid) == ("quarantined", record.pid)
    assert len(world.ready()) == 2
