"""Single workers, recycled by the plan or ordered about by operators, in the simulated world."""

from __future__ import annotations

import pytest

from tests.master.world import FakeWorker, Make, World
from wsgitop.channel import messages as m
from wsgitop.errors import ActionFailed
from wsgitop.master.quarantine import QUARANTINE_LIMIT
from wsgitop.master.recycling import Usage
from wsgitop.master.roster import WorkerRecord


@pytest.fixture
def make(make: Make) -> Make:
    """Worlds that serve already."""
    return lambda *wanted, **settings: make(*wanted, **settings).start()


def record(world: World, process: FakeWorker) -> WorkerRecord:
    return world.roster.workers[process.worker]


def use(world: World, process: FakeWorker, requests: int, rss_bytes: int | None = None) -> None:
    """What the sampler has seen of a worker."""
    world.sampler.used[process.worker] = Usage(requests, rss_bytes)


# -- recycling


def test_all_pass_the_limit_at_once_and_go_one_by_one(make: Make) -> None:
    world = make(4, max_requests=1000)
    old = {worker.worker for worker in world.workers()}
    for worker in world.workers():
        use(world, worker, 1043)
    most = 0

    def renewed() -> bool:
        nonlocal most
        most = max(most, len(world.workers()))
        assert len(world.roster.ready()) >= 4, "replaced first"
        return not old & set(world.roster.workers)

    world.loop.advance(1)
    for _ in range(400):
        world.loop.run()
        world.reap()
        if renewed():
            break
        if not any(process.step() for process in list(world.processes.values())):
            world.loop.advance(1)
    assert renewed() and most == 5
    assert world.texts().count("retires: recycled after 1,043 requests (--max-requests)") == 4
    world.advance_until(world.converged)


def test_a_lifetime_ends_without_anything_happening(make: Make) -> None:
    world = make(2, max_lifetime=100, max_lifetime_jitter=50)
    first = {worker.worker for worker in world.workers()}
    assert len({worker.max_lifetime_s for worker in world.roster.ready()}) == 2, "each has its own"
    world.advance(95)
    assert {worker.worker for worker in world.workers()} == first
    world.advance(60)
    assert not first & {worker.worker for worker in world.workers()}
    assert "s (--max-lifetime)" in world.texts()


def test_code_that_does_not_boot_any_more_is_tried_now_and_then(make: Make) -> None:
    world = make(2, max_rss="100M")
    world.advance(20)
    world.worker_fates[1] = "fails"
    (worker, other) = world.workers()
    use(world, worker, 0, 200 << 20)
    forks = len(world.forks)
    world.advance(600)
    assert {worker.worker, other.worker} == {w.worker for w in world.workers()}, "the old ones serve on"
    assert 5 <= len(world.forks) - forks <= 100, "at most ten a minute"
    world.worker_fates[1] = "well"
    world.advance_until(lambda: worker.worker not in world.roster.workers, 120)
    assert "recycled at 200 MiB of memory, above 100 MiB (--max-rss)" in world.texts()


def test_a_successor_that_dies_is_no_reason_to_retire(make: Make) -> None:
    world = make(1, max_requests=10)
    (worker,) = world.workers()
    world.worker_fates[1] = "hangs"
    use(world, worker, 10)
    world.advance(2)
    assert len(world.workers()) == 2
    assert [w.worker for w in world.roster.ready()] == [worker.worker]
    world.advance(40)  # the boot timeout
    assert [w.worker for w in world.roster.ready()] == [worker.worker]
    world.worker_fates.clear()
    world.advance_until(lambda: worker.worker not in world.roster.workers, 150)


def test_a_reload_replaces_who_was_due(make: Make) -> None:
    world = make(2, max_requests=10)
    world.worker_fates[1] = "hangs"
    worker = world.workers()[0]
    use(world, worker, 10)
    world.advance(1)
    world.supervisor.reload("test")
    world.advance_until(world.converged)
    assert world.ready() == [2, 2]


def test_scaled_while_one_is_due(make: Make) -> None:
    world = make(2, max_requests=10)
    world.worker_fates[1] = "hangs"
    use(world, world.workers()[0], 10)
    world.advance(1)
    world.worker_fates.clear()
    world.supervisor.set_wanted(4, "test", "scale")
    world.advance(30)
    world.supervisor.set_wanted(1, "test", "scale")
    world.advance_until(world.converged)


# -- quarantine


def test_quarantine_and_release(make: Make) -> None:
    world = make(2)
    worker, other = world.workers()
    world.supervisor.quarantine.begin(record(world, worker), "alice")
    assert len(world.roster.ready()) == 1, "it stops at once"
    world.settle()
    assert world.converged()
    stand_in = next(w for w in world.workers() if w not in (worker, other))
    assert record(world, stand_in).slot == record(world, worker).slot
    world.supervisor.reload("test")
    world.advance_until(world.converged)
    assert worker.alive and world.ready() == [2, 2], "HUP leaves it"
    world.supervisor.quarantine.end(record(world, worker), "alice")
    world.advance_until(world.converged)
    assert not worker.alive and world.ready() == [2, 2], "its generation is an old one"


def test_who_is_released_serves_and_its_stand_in_goes(make: Make) -> None:
    world = make(2)
    worker, other = world.workers()
    world.supervisor.quarantine.begin(record(world, worker), "")
    worker.stopped = True  # under a debugger
    world.supervisor.quarantine.end(record(world, worker), "")
    world.advance(20)
    assert len(world.workers()) == 3 and len(world.roster.ready()) == 2, "nobody goes before it serves"
    worker.stopped = False
    world.advance_until(world.converged)
    assert world.workers() == [worker, other], "its stand-in has gone"
    assert {w.slot for w in world.roster.ready()} == {1, 2}


def test_what_is_refused(make: Make) -> None:
    world = make(1)
    orders = world.supervisor.quarantine
    (worker,) = world.workers()
    with pytest.raises(ActionFailed, match="the only one that serves"):
        orders.begin(record(world, worker), "")
    with pytest.raises(ActionFailed, match="not in quarantine, but ready"):
        orders.end(record(world, worker), "")
    world.supervisor.set_wanted(2, "", "TTIN")
    booting = next(w for w in world.roster.live() if w.coming)
    with pytest.raises(ActionFailed, match="is starting: only one that serves"):
        orders.begin(booting, "")
    for _ in range(QUARANTINE_LIMIT):
        world.settle()
        orders.begin(world.roster.ready()[0], "")
    world.settle()
    with pytest.raises(ActionFailed, match="are in quarantine already"):
        orders.begin(world.roster.ready()[0], "")
    with pytest.raises(ActionFailed, match="in quarantine already"):
        orders.begin(world.roster.quarantined()[0], "")
    assert len(world.workers()) == 2 + QUARANTINE_LIMIT
    assert world.converged()
    orders.retire(world.roster.quarantined()[0], "")
    world.roster.count_boot_failure(world.clock.now)
    with pytest.raises(ActionFailed, match="nobody would take its place"):
        orders.begin(world.roster.ready()[0], "")


def test_a_silent_one_is_left_to_its_debugger_and_one_that_is_killed_is_buried(make: Make) -> None:
    world = make(2)
    worker = world.workers()[0]
    world.supervisor.quarantine.begin(record(world, worker), "")
    world.sampler.quiet.add(worker.worker)
    worker.stopped = True
    world.advance(300)
    assert worker.alive and world.converged()
    world.kill(worker.pid, 9)
    world.advance_until(world.converged)
    assert not world.roster.quarantined()
    assert f"(pid {worker.pid}) was killed by SIGKILL" in world.texts()


def test_stopping_ends_those_in_quarantine(make: Make) -> None:
    world = make(2)
    worker = world.workers()[0]
    world.supervisor.quarantine.begin(record(world, worker), "")
    world.settle()
    world.supervisor.stop("", quick=False)
    world.advance_until(world.supervisor.finished.is_set)
    assert [type(message) for message in worker.retirements] == [m.Retire]


# -- retiring one


def test_retire_replaces_first(make: Make) -> None:
    world = make(1)
    (worker,) = world.workers()
    world.supervisor.quarantine.retire(record(world, worker), "alice")
    assert [w.worker for w in world.roster.ready()] == [worker.worker]
    world.advance_until(world.converged)
    assert not worker.alive
    assert "retires: an operator asked for it (alice)" in world.texts()


def test_an_order_that_failed_is_not_carried_out_later(make: Make) -> None:
    world = make(1)
    (worker,) = world.workers()
    world.worker_fates[1] = "fails"
    world.supervisor.quarantine.retire(record(world, worker), "")
    world.settle()
    assert world.roster.boot_failures == 1
    world.supervisor.quarantine.forget(record(world, worker))
    world.worker_fates.clear()
    world.advance(120)
    assert worker.alive and world.converged()


def test_one_in_quarantine_retires_at_once(make: Make) -> None:
    world = make(2)
    worker = world.workers()[0]
    world.supervisor.quarantine.begin(record(world, worker), "")
    world.settle()
    forks = len(world.forks)
    world.supervisor.quarantine.retire(record(world, worker), "")
    world.settle()
    assert not worker.alive and len(world.forks) == forks


# -- scale


def test_a_change_of_scale_says_when_it_is_done(make: Make) -> None:
    world = make(2)
    world.supervisor.set_wanted(4, "bob", "TTIN")
    world.advance_until(world.converged)
    assert [event.text for event in world.events.after(0, 100) if event.kind == "scaled"] == [
        "4 workers serve after 0.00 s"
    ]
    world.supervisor.set_wanted(1, "bob", "TTOU")
    world.advance_until(world.converged)
    assert "1 worker serves after" in world.texts()
