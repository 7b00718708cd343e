"""Random lives: whatever dies, hangs or is commanded, and when, the server comes to what is wanted."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.master.world import FakeWorker, FakeZygote, Process, World
from wsgitop.channel import messages as m
from wsgitop.errors import ActionFailed
from wsgitop.master.quarantine import QUARANTINE_LIMIT
from wsgitop.master.recycling import Usage
from wsgitop.settings.hooks import BY_ZYGOTE

LIMITS: list[dict[str, object]] = [
    {"max_requests": 100, "max_requests_jitter": 20},
    {"max_rss": "100M", "max_requests": 500},
    {"max_lifetime": 60, "max_lifetime_jitter": 20},
]
FATES = st.sampled_from(["well", "well", "fails", "dies", "hangs"])
PICK = st.integers(0, 50)
HOOKS = tuple(sorted(BY_ZYGOTE))


class Lives(RuleBasedStateMachine):
    """Rules let one process do one thing, so that messages, deaths and commands meet in any order."""

    world: World

    @initialize(
        wanted=st.integers(1, 4),
        surge=st.integers(1, 3),
        hooked=st.sets(st.integers(1, 6)),
        limits=st.sampled_from(LIMITS),
    )
    def begin(self, wanted: int, surge: int, hooked: set[int], limits: dict[str, object]) -> None:
        self.world = World(wanted, reload_surge=surge, **limits)
        self.world.hooks = dict.fromkeys(hooked, HOOKS)
        self.world.start()
        assert self.world.converged()

    def _pick(self, number: int, kind: type[Process] = Process) -> Any:
        found = [p for p in self.world.processes.values() if isinstance(p, kind) and p.alive]
        return found[number % len(found)] if found else None

    # -- what happens by itself

    @rule(number=PICK)
    def act(self, number: int) -> None:
        process = self._pick(number)
        if process is not None:
            process.step()

    @rule()
    def listen(self) -> None:
        self.world.loop.run()

    @rule()
    def listen_in_another_order(self) -> None:
        self.world.loop.backwards = not self.world.loop.backwards
        self.world.loop.run()

    @rule()
    def reap(self) -> None:
        self.world.reap()

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0, 12.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.world.loop.advance(seconds)

    @rule(seconds=st.sampled_from([0.5, 11.0, 40.0]))
    def live(self, seconds: float) -> None:
        self.world.advance(seconds)

    # -- faults

    @rule(number=PICK, how=st.sampled_from([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, 0, 3 << 8]))
    def die(self, number: int, how: int) -> None:
        process = self._pick(number)
        if process is not None:
            process.die(how)

    @rule(number=PICK)
    def stop_or_continue(self, number: int) -> None:
        process = self._pick(number)
        if process is not None:
            process.stopped = not process.stopped

    @rule(fate=FATES)
    def code_changes(self, fate: Any) -> None:
        for generation in range(1, self.world.roster.next_generation + 2):
            self.world.worker_fates[generation] = fate

    @rule(fate=FATES)
    def import_changes(self, fate: Any) -> None:
        self.world.zygote_fate = fate

    @rule(fate=FATES, name=st.sampled_from(HOOKS))
    def hook_changes(self, fate: Any, name: str) -> None:
        self.world.hook_fates[name] = fate

    @rule(number=PICK)
    def heartbeat_stops(self, number: int) -> None:
        worker = self._pick(number, FakeWorker)
        if worker is not None and worker.booted:
            self.world.sampler.quiet.add(worker.worker)

    @rule(number=PICK)
    def worker_gives_up(self, number: int) -> None:
        worker = self._pick(number, FakeWorker)
        if worker is not None and worker.booted and not worker.stopped:
            worker.retire("a request took too long")
            worker.busy = True

    @rule(number=PICK)
    def worker_is_busy(self, number: int) -> None:
        worker = self._pick(number, FakeWorker)
        if worker is not None:
            worker.busy = not worker.busy

    @rule(number=PICK)
    def worker_closes_its_channel(self, number: int) -> None:
        worker = self._pick(number, FakeWorker)
        if worker is not None:
            worker.close_channel()

    @rule(number=PICK, twice=st.booleans())
    def worker_says_it_again(self, number: int, twice: bool) -> None:
        worker = self._pick(number, FakeWorker)
        if worker is not None and worker.booted:
            worker.say(m.WorkerReady(worker.pid) if twice else m.BootFailed("late", "", False))

    @rule(number=PICK, data=st.sampled_from([b"\xc1", b"garbage", b"\x81\xa4type\xa5Forge"]))
    def send_garbage(self, number: int, data: bytes) -> None:
        process = self._pick(number)
        if isinstance(process, FakeWorker | FakeZygote):
            with contextlib.suppress(OSError):  # the master may have hung up already
                process.channel.socket.send(data)

    # -- commands

    @rule()
    def reload(self) -> None:
        self.world.supervisor.reload("test")

    @rule(wanted=st.integers(1, 6))
    def scale(self, wanted: int) -> None:
        self.world.supervisor.set_wanted(wanted, "test", "scale")

    @rule(number=PICK, requests=st.integers(20, 90))
    def worker_serves(self, number: int, requests: int) -> None:
        worker = self._pick(number, FakeWorker)
        if worker is not None and worker.booted:
            before = self.world.sampler.used.get(worker.worker, Usage(0, None))
            self.world.sampler.used[worker.worker] = Usage(before.requests + requests, before.rss_bytes)

    @rule(requests=st.integers(20, 200))
    def all_have_served(self, requests: int) -> None:
        for worker in self.world.workers():
            self.world.sampler.used[worker.worker] = Usage(requests, None)

    @rule(number=PICK, mebibytes=st.integers(50, 200))
    def memory_changes(self, number: int, mebibytes: int) -> None:
        worker = self._pick(number, FakeWorker)
        if worker is not None:
            before = self.world.sampler.used.get(worker.worker, Usage(0, None))
            self.world.sampler.used[worker.worker] = Usage(before.requests, mebibytes << 20)

    @rule(number=PICK, what=st.sampled_from(["begin", "begin", "end", "retire"]))
    def operator_picks_a_worker(self, number: int, what: str) -> None:
        known = [w for w in self.world.roster.live() if w.pid is not None]
        if known:
            with contextlib.suppress(ActionFailed):
                getattr(self.world.supervisor.quarantine, what)(known[number % len(known)], "test")

    # -- always

    @invariant()
    def nothing_forbidden_has_happened(self) -> None:
        if hasattr(self, "world"):
            self.world.check()
            assert len(self.world.roster.quarantined()) <= QUARANTINE_LIMIT

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        # Faults stop. Who hangs and is not watched (an idle process that was stopped) goes on.
        world.zygote_fate = "well"
        world.hook_fates.clear()
        world.worker_fates.clear()
        world.sampler.quiet.clear()
        world.sampler.used.clear()
        for record in world.roster.quarantined()[:2]:
            with contextlib.suppress(ActionFailed):  # it has closed its channel
                world.supervisor.quarantine.end(record, "test")
        for process in world.processes.values():
            process.stopped = False
            process.fate = "well"
        world.advance_until(world.converged, 240)
        assert world.supervisor._reload is None, "who waits for a reload has heard of its end"
        mute = {worker.worker for worker in world.workers() if worker.mute}
        held = {record.worker for record in world.roster.quarantined()} - mute
        world.advance(15)
        assert held <= {record.worker for record in world.roster.quarantined()}, "nobody touches them"
        assert world.roster.boot_failures == world.roster.zygote_failures == 0
        world.advance_until(world.converged, 30)  # at once, unless a lifetime has just ended
        world.close()


Lives.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLives = Lives.TestCase
