"""A simulated machine under the real supervisor: processes, signals and a clock that the test moves.

The supervisor, its workers and its zygotes are the real ones, with real channels, pipes and scoreboards; what
they would get from the kernel (children, wait, pidfds, time) comes from here. So a life of hours, with
deaths at any moment, takes milliseconds and always happens in the same order.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast
from unittest import mock

from wsgitop import __version__
from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, ChannelClosed, pair
from wsgitop.master import deaths, oom, processes, scaling, supervisor, workers, zygotes
from wsgitop.master import plan as plan_module
from wsgitop.master.configuration import Configuration
from wsgitop.master.events import LOGGER, EventLog
from wsgitop.master.listeners import Listener
from wsgitop.master.recycling import Usage, worn
from wsgitop.master.roster import Roster, WorkerRecord
from wsgitop.master.states import WorkerPhase
from wsgitop.settings.addresses import parse_address
from wsgitop.settings.load import Layer, resolve
from wsgitop.snapshot import Death, InFlight

ADDRESS = "unix:the-world"
"""Where the server listens, as far as its configuration knows."""

Fate = Literal["well", "fails", "dies", "hangs"]
"""What becomes of a process: it comes up, says that it cannot, dies without a word, or never gets there."""


Make = Callable[..., "World"]
"""Makes a world; arguments as for :class:`World`."""


class Clock:
    """Stands for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of an event loop as the master uses. An exception in a callback reaches the test."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readers: dict[int, Callable[[], object]] = {}
        self._timers: list[tuple[float, int, Timer, Callable[..., object], tuple[object, ...]]] = []
        self._soon: deque[Callable[[], object]] = deque()
        self._count = itertools.count()
        self.fired = 0
        self.backwards = False  # who became readable last is heard first

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self._readers[fd] = callback

    def remove_reader(self, fd: int) -> bool:
        return self._readers.pop(fd, None) is not None

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        timer = Timer()
        heapq.heappush(self._timers, (self._clock.now + delay, next(self._count), timer, callback, args))
        return timer

    def run(self) -> bool:
        """Until nothing is readable; false if nothing was. Fails if that never comes."""
        for turn in range(5000):
            while self._soon:
                self._soon.popleft()()
            poll = select.poll()
            for fd in self._readers:
                poll.register(fd, select.POLLIN)
            ready = poll.poll(0)
            for fd, events in reversed(ready) if self.backwards else ready:
                assert not events & select.POLLNVAL, f"a closed descriptor is still watched: {fd}"
                callback = self._readers.get(fd)
                if callback is not None:
                    callback()
            if not ready and not self._soon:
                return turn > 0
        raise AssertionError("the loop spins")

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self._clock.now + seconds
        fired_limit = self.fired + 200 + 40 * seconds
        self.run()
        while self._timers and self._timers[0][0] <= end:
            at, _, timer, callback, args = heapq.heappop(self._timers)
            self._clock.now = max(self._clock.now, at)
            if not timer.cancelled:
                self.fired += 1
                assert self.fired < fired_limit, f"timers spin: {callback}"
                callback(*args)
                self.run()
        self._clock.now = max(self._clock.now, end)


class Process:
    """A process of the simulation. ``stopped``: it does nothing and sees no signal but SIGKILL."""

    def __init__(self, world: World, stderr: int) -> None:
        self.world = world
        self.pid = next(world.pids)
        self.stderr = stderr
        self.fate: Fate = "well"
        self.alive = True
        self.stopped = False
        world.processes[self.pid] = self

    def close(self) -> None:
        raise NotImplementedError

    def die(self, status: int) -> None:
        """End with a wait status; the master has to reap it."""
        if self.alive:
            self.alive = False
            self.close()
            os.close(self.stderr)
            self.world.zombies.append((self.pid, status))

    def step(self) -> bool:
        """Do one thing; false if there is nothing to do."""
        raise NotImplementedError

    def take(self, number: int) -> None:
        """Receive a signal."""
        if number == signal.SIGKILL or (number == signal.SIGABRT and not self.stopped):
            self.die(number)
        elif not self.stopped and number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGINT):
            self.die(0)


class FakeZygote(Process):
    """Answers as a zygote does."""

    def __init__(self, world: World, sock: Any, stderr: int) -> None:
        super().__init__(world, stderr)
        self.channel: Channel[m.ToZygote] = Channel(sock, m.ToZygote, blocking=False)
        self.fate = world.zygote_fate
        self.generation = 0
        self.stuck = False  # within a hook that does not come back
        self.channel.send(m.ZygoteHello(m.PROTOCOL, __version__, self.pid))

    def close(self) -> None:
        self.channel.close()

    def step(self) -> bool:
        if not self.alive or self.stopped or self.stuck:
            return False
        try:
            received = self.channel.receive()
        except ChannelClosed:
            self.die(0)
            return True
        if received is None:
            return False
        message, descriptors = received
        match message:
            case m.LoadConfig():
                self.generation = message.generation
                self.say(m.ConfigLoaded("", "{}", (), self.world.hooks.get(self.generation, ())))
            case m.Prepare():
                self.load()
            case m.RunHook():
                self.run_hook(message)
            case m.Fork():
                worker = FakeWorker(self.world, message.worker, self.generation, *descriptors)
                self.say(m.Forked(message.worker, worker.pid))
                return True
            case m.EndZygote():
                self.die(0)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def load(self) -> None:
        match self.fate:
            case "well":
                self.say(m.ZygoteReady(False))
            case "fails":
                self.say(m.ZygoteFailed("app", "it is broken\n  Mend it.", "Traceback…", import_error=True))
            case "dies":
                self.die(signal.SIGSEGV)

    def run_hook(self, message: m.RunHook) -> None:
        self.world.hooked.append((self.generation, message))
        self.say(m.HookBegun(message.name, 10.0))
        match self.world.hook_fates.get(message.name, "well"):
            case "well":
                self.say(m.HookDone(message.name))
            case "fails":
                self.say(
                    m.HookDone(message.name, f"hook {message.name} failed: ValueError: no", "Traceback…")
                )
            case "hangs":
                self.stuck = True
            case "dies":
                self.die(signal.SIGSEGV)

    def say(self, message: m.Message) -> None:
        try:
            self.channel.send(message)
        except ChannelClosed:
            self.die(0)


class FakeWorker(Process):
    """Boots, serves and retires as a worker does. ``busy``: it does not end when it is told to retire."""

    def __init__(self, world: World, worker: int, generation: int, channel: int, stderr: int) -> None:
        super().__init__(world, stderr)
        self.channel: Channel[m.ToWorker] = Channel(socket.socket(fileno=channel), m.ToWorker, blocking=False)
        self.worker = worker
        self.generation = generation
        self.fate = world.worker_fates.get(generation, "well")
        self.booted = False
        self.busy = world.busy
        self.retirements: list[m.Retire] = []
        self.mute = False  # it has closed its channel and serves on

    def close(self) -> None:
        self.channel.close()

    def step(self) -> bool:
        if not self.alive or self.stopped:
            return False
        if not self.booted:
            return self.boot()
        if self.mute:
            return False
        try:
            received = self.channel.receive()
        except ChannelClosed:
            self.die(0)
            return True
        if received is None:
            return False
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        match message:
            case m.Retire():
                self.retirements.append(message)
                if not self.busy:
                    self.die(0)
            case m.Quarantine(on):
                if not on:
                    self.say(m.WorkerReady(self.pid))
            case m.Quit():
                self.die(0)
        return True

    def retire(self, reason: str) -> None:
        """Give up by itself."""
        self.say(m.Retiring(reason))

    def close_channel(self) -> None:
        """What an application does that closes all descriptors to become a daemon."""
        self.channel.close()
        self.mute = True

    def boot(self) -> bool:
        match self.fate:
            case "hangs":
                return False
            case "dies":
                self.die(signal.SIGSEGV)
            case "fails":
                self.say(m.BootFailed("no module named gone\n  Install it.", "Traceback…", True))
                self.die(4 << 8)
            case "well":
                self.booted = True
                self.say(m.WorkerReady(self.pid))
        return True

    def say(self, message: m.Message) -> None:
        try:
            self.channel.send(message)
        except ChannelClosed:
            self.die(0)


class Shim:
    """A module with some of its names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class FakeSampler:
    """``quiet`` are the workers whose heartbeat is missing."""

    def __init__(self) -> None:
        self.quiet: set[int] = set()
        self.used: dict[int, Usage] = {}
        self.known: set[int] = set()
        self.requests: dict[int, tuple[InFlight, ...]] = {}
        self.timeout_s = 0.0
        self.threads = 1

    def set_zygotes(self, zygotes: object) -> None:
        pass

    def add_worker(self, worker: int, *_: object) -> None:
        self.known.add(worker)

    def remove_worker(self, worker: int) -> SimpleNamespace:
        self.known.remove(worker)
        self.quiet.discard(worker)
        return SimpleNamespace(requests=7)

    def silent(self) -> frozenset[int]:
        return frozenset(self.quiet & self.known)

    def memory(self) -> list[tuple[int | None, int | None]]:
        return []

    def usage(self) -> dict[int, Usage]:
        return {worker: used for worker, used in self.used.items() if worker in self.known}

    def in_flight(self, worker: int) -> tuple[InFlight, ...]:
        return self.requests.get(worker, ())

    def counts(self, worker: int) -> tuple[int, int]:
        return 7, 1


class World:
    """One server. ``run`` lets everybody do what there is to do, ``advance`` also lets time pass."""

    def __init__(self, wanted: int = 2, **settings: object) -> None:
        self.stack = ExitStack()
        self.descriptors_before = count_descriptors()
        self.pids = itertools.count(100)
        self.processes: dict[int, Process] = {}
        self.zombies: deque[tuple[int, int]] = deque()
        self.pidfds: dict[int, int] = {}
        self.strangers: set[int] = set()  # processes of the machine that are not the server's
        self.zygote_fate: Fate = "well"
        self.worker_fates: dict[int, Fate] = {}
        self.busy = False
        self.hooks: dict[int, tuple[str, ...]] = {}
        self.hooked: list[tuple[int, m.RunHook]] = []
        self.hook_fates: dict[str, Fate] = {}
        self.forks: list[float] = []
        self.complaints: list[str] = []
        self.oom_kills: int | None = 0
        self.peak_kib = 50 * 1024
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self._patch()
        values = {
            "wsgi_app": "site:app",
            "bind": [ADDRESS],
            "workers": wanted,
            "boot_timeout": 20,
            "graceful_timeout": 10,
        }
        layers = (Layer("command line", values | settings, "command line"),)
        self.configuration = Configuration(resolve(layers), layers, "/")
        self.events = EventLog()
        self.roster = Roster(self.configuration.workers)
        self.sampler = FakeSampler()
        self.reloads: dict[int, str] = {}
        self.access_log = os.open(os.devnull, os.O_WRONLY)
        self.stack.callback(os.close, self.access_log)
        self.supervisor = supervisor.Supervisor(
            cast(asyncio.AbstractEventLoop, self.loop),
            configuration=self.configuration,
            listeners=[self._listener()],
            roster=self.roster,
            sampler=cast(Any, self.sampler),
            events=self.events,
            sink=cast(Any, SimpleNamespace(write=lambda data: None)),
            access_log_fd=self.access_log,
            control_socket="",
        )
        self.supervisor.on_reload_end = self._reload_ended
        self._watch()

    def _listener(self) -> Listener:
        sock = socket.socket(socket.AF_UNIX)
        self.stack.callback(sock.close)
        return Listener(parse_address(ADDRESS), sock, 2048, given=ADDRESS)

    def _patch(self) -> None:
        def replace(module: object, name: str, value: object) -> None:
            self.stack.enter_context(mock.patch.object(module, name, value))

        for module in (supervisor, workers, zygotes, processes, scaling):
            replace(module, "time", self.clock)
        for module in (deaths, oom):
            replace(module, "time", self.clock)
        replace(supervisor, "OomWatch", lambda: oom.OomWatch(lambda: self.oom_kills))
        replace(supervisor, "os", Shim(os, wait4=self._wait4))
        replace(supervisor, "setproctitle", lambda title: None)
        replace(zygotes, "spawn_zygote", self._spawn)
        replace(workers, "descends", lambda pid: pid in self.processes or pid not in self.strangers)
        replace(processes, "os", Shim(os, kill=self.kill, pidfd_open=self._pidfd_open, close=self._close))
        replace(processes, "signal", Shim(signal, pidfd_send_signal=self._pidfd_send))
        clock = self.clock
        replace(
            processes,
            "psutil",
            SimpleNamespace(Process=lambda pid: SimpleNamespace(create_time=clock.time), Error=OSError),
        )
        level = LOGGER.level
        LOGGER.setLevel(logging.CRITICAL + 1)
        self.stack.callback(LOGGER.setLevel, level)

    def _watch(self) -> None:
        """Complain of whatever the plan must never do, at the moment when it does it."""
        fork, retire = self.supervisor.workers.fork, self.supervisor.workers.retire
        plan = plan_module.plan

        def watched_fork(number: int, slot: int, zygote: Any) -> None:
            there = sum(1 for w in self.roster.live() if not w.lost) - len(self.roster.quarantined())
            room = self.roster.wanted + self.configuration.settings.reload_surge
            if there >= room and self.roster.active():
                self.complaints.append(f"fork with {there} of {room} there")
            self.forks.append(self.clock.now)
            fork(number, slot, zygote)

        def watched_retire(record: WorkerRecord, why: str, *, quick: bool) -> None:
            was_ready = record.phase is WorkerPhase.READY
            retire(record, why, quick=quick)
            left = len(self.roster.ready())
            if was_ready and not self.roster.stopping and left < self.roster.wanted:
                self.complaints.append(f"retired ({why}), and {left} of {self.roster.wanted} are left")

        def watched_plan(roster: Roster, *args: Any) -> list[plan_module.Action]:
            bound = 2 * (roster.wanted + len(list(roster.live())) + len(roster.generations)) + 2
            actions = plan(roster, *args)
            if len(actions) > bound:
                self.complaints.append(f"{len(actions)} actions at once")
            return actions

        self.supervisor.workers.fork = watched_fork  # type: ignore[method-assign] # watched from outside
        self.supervisor.workers.retire = watched_retire  # type: ignore[method-assign] # the same
        self.stack.enter_context(mock.patch.object(plan_module, "plan", watched_plan))

    def _reload_ended(self, number: int, error: str, _detail: str) -> None:
        assert number not in self.reloads, "a reload ends once"
        self.reloads[number] = error

    # -- what the kernel does

    def _spawn(self, _environment: dict[str, str]) -> tuple[int, Any, int]:
        ours, theirs = pair()
        output, errors = os.pipe()
        return FakeZygote(self, theirs, errors).pid, ours, output

    def _waitpid(self, _pid: int, _options: int) -> tuple[int, int]:
        if self.zombies:
            pid, status = self.zombies.popleft()
            del self.processes[pid]
            return pid, status
        if not self.processes:
            raise ChildProcessError
        return 0, 0

    def _wait4(self, pid: int, options: int) -> tuple[int, int, Any]:
        return *self._waitpid(pid, options), SimpleNamespace(ru_maxrss=self.peak_kib)

    def _pidfd_open(self, pid: int) -> int:
        if pid not in self.processes:
            raise ProcessLookupError
        fd = os.open(os.devnull, os.O_RDONLY)
        self.pidfds[fd] = pid
        return fd

    def _close(self, fd: int) -> None:
        self.pidfds.pop(fd, None)
        os.close(fd)

    def _pidfd_send(self, fd: int, number: int) -> None:
        process = self.processes.get(self.pidfds[fd])
        if process is None or not process.alive:
            raise ProcessLookupError
        process.take(number)

    def kill(self, pid: int, number: int) -> None:
        """kill(2)."""
        if pid not in self.processes:
            raise ProcessLookupError
        self.processes[pid].take(number)

    # -- driving

    def reap(self) -> None:
        """Deliver SIGCHLD, if a child has ended."""
        if self.zombies:
            self.supervisor.reap()

    def step(self) -> bool:
        """Every process does one thing; false if none had anything to do."""
        acted = False
        for process in list(self.processes.values()):
            acted = process.step() or acted
        return acted

    def settle(self) -> None:
        """Everybody does what there is to do now."""
        for _ in range(3000):
            self.loop.run()
            self.reap()
            if not self.step() and not self.zombies and not self.loop.run():
                return
        raise AssertionError("the world does not come to rest")

    def step_until(self, condition: Callable[[], object]) -> None:
        """Let one process after another do one thing, until something is so."""
        for _ in range(3000):
            self.loop.run()
            self.reap()
            if condition():
                return
            if not any(process.step() for process in list(self.processes.values())):
                break
        raise AssertionError(f"it did not come: {self.describe()}")

    def start(self) -> World:
        """Start the server and let it come up."""
        self.supervisor.start()
        self._tick()
        self.settle()
        return self

    def _tick(self) -> None:
        """The sample of every second ends in a look at the plan."""
        if not self.supervisor.finished.is_set():
            self.supervisor.reconcile()
            self.loop.call_later(1.0, self._tick)

    def advance(self, seconds: float, step_s: float = 0.25) -> None:
        """Let time pass, and everybody act meanwhile."""
        end = self.clock.now + seconds
        self.settle()
        while self.clock.now < end:
            self.loop.advance(min(step_s, end - self.clock.now))
            self.settle()

    def advance_until(self, condition: Callable[[], object], limit_s: float = 300.0) -> float:
        """Let time pass until something is so; how long it took. Fails after ``limit_s``."""
        begin = self.clock.now
        self.settle()
        while not condition():
            assert self.clock.now - begin < limit_s, f"not within {limit_s:g} s: {self.describe()}"
            self.loop.advance(0.25)
            self.settle()
        return self.clock.now - begin

    # -- looking

    def zygotes(self) -> list[FakeZygote]:
        return [p for p in self.processes.values() if isinstance(p, FakeZygote) and p.alive]

    def workers(self, generation: int | None = None) -> list[FakeWorker]:
        return [
            p
            for p in self.processes.values()
            if isinstance(p, FakeWorker) and p.alive and generation in (None, p.generation)
        ]

    def zygote(self, generation: int) -> FakeZygote:
        return next(z for z in self.zygotes() if z.generation == generation)

    def ready(self) -> list[int]:
        """The generations of the workers that serve, sorted."""
        return sorted(w.generation for w in self.roster.ready())

    def deaths(self) -> list[Death]:
        return list(self.supervisor.ledger.after(0, 1000))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events.after(0, 1000)]

    def texts(self) -> str:
        return "\n".join(event.text for event in self.events.after(0, 1000))

    def converged(self) -> bool:
        """As many workers as wanted serve, nobody else is there, and there is nothing left to do."""
        roster = self.roster
        target = roster.target_generation()
        return (
            len(roster.ready()) == roster.wanted == len(list(roster.live())) - len(roster.quarantined())
            and target is not None
            and target.forks
            and [z.generation for z in self.zygotes()] == [roster.target]
            and not roster.rolling
            and not plan_module.plan(
                roster,
                self.supervisor._limits(),
                self.clock.now,
                frozenset(),
                worn(roster, self.sampler.usage(), self.clock.now),
            )
        )

    def describe(self) -> str:
        return (
            f"{self.roster}\nfaults: {self.zygote_fate} {self.worker_fates}\n"
            f"{[vars(p) | {'world': None} for p in self.processes.values()]}\n{self.texts()[-2000:]}"
        )

    def check(self) -> None:
        assert not self.complaints, self.complaints
        assert self.sampler.known == set(self.roster.workers), "the sampler watches who is there"

    def close(self) -> None:
        """Stop the server, see that it ends and that nothing is left open."""
        try:
            self.check()
            for process in self.processes.values():
                process.stopped = False
            if not self.supervisor.finished.is_set():
                self.supervisor.stop("test", quick=True)
                self.advance_until(self.supervisor.finished.is_set, 60)
            assert not self.processes, f"left running: {self.processes}"
            self.supervisor.reconcile()
            assert self.loop._readers == {}, "descriptors are still watched"
            boards = [generation.board for generation in self.supervisor._context.generations.values()]
            for board in boards:
                board.close()
        finally:
            self.stack.close()
        left = count_descriptors() - self.descriptors_before
        assert left == 0, f"{left} descriptors are left open"


def count_descriptors() -> int:
    """Open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))
