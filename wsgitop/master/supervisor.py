"""The master's centre: takes what happens, asks the plan what to do, and does it.

Who runs this: the loop of the master, one thread. It owns the roster, the processes and the scoreboards;
nobody else changes them. Everything that happens (a message, a death, a signal, a command, a deadline) ends
in :meth:`reconcile`, which performs the plan's actions until there are none. Nothing here waits or sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from setproctitle import setproctitle

from wsgitop import __version__
from wsgitop.channel import messages as m
from wsgitop.channel.channel import pair
from wsgitop.errors import AppImportError, ConfigError, WorkerBootError, WsgitopError
from wsgitop.logs.sink import Sink
from wsgitop.master import plan as p
from wsgitop.master.configuration import Configuration
from wsgitop.master.events import EventLog
from wsgitop.master.listeners import Listener
from wsgitop.master.processes import (
    Output,
    Peer,
    WorkerProcess,
    ZygoteProcess,
    describe_status,
    is_self_inflicted,
    spawn_zygote,
)
from wsgitop.master.roster import STABLE_S, GenerationRecord, Roster, WorkerRecord
from wsgitop.master.sampler import Sampler
from wsgitop.master.states import GenerationEvent, GenerationPhase, WorkerEvent, WorkerPhase
from wsgitop.scoreboard.board import Board
from wsgitop.settings.table import Settings

UNCLAIMED_LIMIT = 64
ZYGOTE_GRACE_S = 2.0
ACTIONS_PER_TURN = 100


@dataclass(slots=True)
class Generation:
    """What belongs to a generation besides its record: settings, scoreboard, free rows."""

    settings: Settings
    board: Board
    free_rows: list[int]


class Supervisor:
    """Keeps the server as it is wanted to be."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        configuration: Configuration,
        listeners: list[Listener],
        roster: Roster,
        sampler: Sampler,
        events: EventLog,
        sink: Sink,
        access_log_fd: int,
        control_socket: str,
    ) -> None:
        self._loop = loop
        self.configuration = configuration
        self.settings = configuration.settings
        self._listeners = listeners
        self.roster = roster
        self._sampler = sampler
        self.events = events
        self._sink = sink
        self._access_log_fd = access_log_fd
        self._control_socket = control_socket
        self._environment = dict(os.environ)
        self._zygotes: dict[int, ZygoteProcess] = {}
        self._generations: dict[int, Generation] = {}
        self._processes: dict[int, WorkerProcess] = {}
        self._by_pid: dict[int, int] = {}
        self._unclaimed: OrderedDict[int, int] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._reconciling = False
        self._config_workers = configuration.workers
        self._title = ""
        self.fatal: WsgitopError | None = None
        self.finished: asyncio.Event = asyncio.Event()
        self.on_change: list[Callable[[], None]] = []
        self.on_reload_end: Callable[[int, str, str], None] | None = None
        sampler.set_zygotes(self._zygotes)
        self._apply_settings(self.settings)

    # -- commands ------------------------------------------------

    def start(self) -> None:
        """Begin with the first generation."""
        self._spawn(roll=False)
        self.reconcile()

    def reload(self, actor: str) -> int:
        """Begin a reload; it supersedes one that is under way. The number of the new generation."""
        loading = self.roster.loading()
        if loading is not None:
            self._give_up(loading, "superseded by a newer reload", by_plan=False)
        elif self.roster.rolling:
            self._end_of_reload(self.roster.target, "superseded by a newer reload", "")
        self.events.add(
            "info", "reload", f"HUP: reload, loading generation {self.roster.next_generation}", actor=actor
        )
        number = self._spawn(roll=True, commanded=True)
        self.reconcile()
        return number

    def set_wanted(self, wanted: int, actor: str, what: str) -> None:
        """Change the number of workers (at least 1)."""
        before = self.roster.wanted
        self.roster.wanted = max(1, wanted)
        self.events.add("info", "scale", f"{what}: workers {before} → {self.roster.wanted}", actor=actor)
        self.reconcile()

    def stop(self, actor: str, *, quick: bool) -> None:
        """Stop the server; a second call with ``quick`` hurries the first."""
        if self.roster.stopping and (self.roster.quick or not quick):
            return
        self.roster.stopping = True
        self.roster.quick = quick
        how = "quickly" if quick else f"gracefully, at most {self.settings.graceful_timeout:g} s"
        self.events.add("info", "stop", f"the server stops {how}", actor=actor)
        for listener in self._listeners:
            # Workers keep their copies until they have seen Retire; nobody new is let in by the master's own.
            self._loop.call_soon(listener.close)
        self.reconcile()

    def reopen_logs(self, actor: str, access_log_fd: int) -> None:
        """Hand the newly opened access log to everybody; the caller has reopened the error log."""
        self._access_log_fd = access_log_fd
        for process in [*self._zygotes.values(), *self._processes.values()]:
            process.peer.send(m.Reopen(), [access_log_fd])
        self.events.add("info", "reopen", "log files reopened", actor=actor)

    def signal_worker(self, worker: WorkerRecord, number: signal.Signals, actor: str) -> bool:
        """Send a signal to one worker; false if it is gone."""
        sent = self._processes[worker.worker].signal(number)
        if sent:
            text = f"{number.name} sent to worker {worker.slot} (pid {worker.pid})"
            self.events.add("warning", "signal", text, actor=actor)
        return sent

    def worker_by_pid(self, pid: int) -> tuple[WorkerRecord, WorkerProcess] | None:
        """The worker that runs as ``pid``."""
        worker = self._by_pid.get(pid)
        return None if worker is None else (self.roster.workers[worker], self._processes[worker])

    # -- the plan ------------------------------------------------

    def reconcile(self) -> None:
        """Compare what is with what is wanted and act, until there is nothing left to do now."""
        if self._reconciling:
            return  # an action has led here; the loop below looks again anyway
        self._reconciling = True
        try:
            for _ in range(ACTIONS_PER_TURN):
                now = time.monotonic()
                self.roster.forgive(now)
                actions = p.plan(self.roster, self._limits(), now, self._sampler.silent())
                for action in actions:
                    self._perform(action)
                if not actions or self.finished.is_set():
                    break
            else:
                self._loop.call_later(0.1, self.reconcile)
        finally:
            self._reconciling = False
        self._set_timer()
        self._show_title()
        for callback in list(self.on_change):
            callback()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        deadline = p.next_deadline(self.roster, self._limits(), now)
        if deadline is not None and not self.finished.is_set():
            self._timer = self._loop.call_later(max(0.01, deadline - now + 0.005), self.reconcile)

    def _limits(self) -> p.Limits:
        return p.Limits(
            surge=self.settings.reload_surge,
            boot_timeout_s=self.settings.boot_timeout,
            graceful_timeout_s=self.settings.graceful_timeout,
        )

    def _perform(self, action: p.Action) -> None:
        match action:
            case p.SpawnZygote():
                self._spawn(roll=self.roster.rolling)
            case p.EndZygote(generation):
                self._end_zygote(self.roster.generations[generation])
            case p.Fork(generation, slot):
                self._fork(generation, slot)
            case p.Retire(worker, why, quick):
                self._retire(self.roster.workers[worker], why, quick=quick)
            case p.Abort(worker, why):
                self._abort(self.roster.workers[worker], why)
            case p.Kill(worker, why):
                self._kill(self.roster.workers[worker], why)
            case p.FailGeneration(number, why):
                self._give_up(self.roster.generations[number], why)
            case p.ReloadDone(number):
                self.roster.rolling = False
                self.roster.good = number
                self.events.add(
                    "good", "reloaded", f"generation {number} serves with {self.roster.wanted} workers"
                )
                self._end_of_reload(number, "", "")
            case p.Finished():
                self.finished.set()

    # -- zygotes ------------------------------------------------

    def _spawn(self, *, roll: bool, commanded: bool = False) -> int:
        record = self.roster.add_generation(time.monotonic(), roll=roll, commanded=commanded)
        try:
            pid, sock, errors = spawn_zygote(self._environment)
        except WsgitopError as error:
            self._give_up(record, error.cause)
            return record.number
        number = record.number
        peer: Peer[m.FromZygote] = Peer(
            self._loop,
            sock,
            m.FromZygote,
            lambda message, descriptors: self._from_zygote(number, message, descriptors),
            lambda fault: self._zygote_lost(number, fault),
        )
        record.zygote_pid = pid
        self._zygotes[number] = ZygoteProcess(pid, peer, Output(self._loop, errors, self._sink))
        self._by_pid[pid] = -number
        return number

    def _from_zygote(self, number: int, message: m.FromZygote, descriptors: list[int]) -> None:
        _close_all(descriptors)
        record = self.roster.generations[number]
        match message:
            case m.ZygoteHello():
                self._welcome(record, message)
            case m.ConfigLoaded():
                self._prepare(record, message)
            case m.ZygoteReady():
                self._zygote_ready(record, message)
            case m.ZygoteFailed():
                record.import_error = message.import_error
                record.detail = message.traceback
                self._give_up(record, message.error)
            case m.Forked():
                self._worker_known(message.worker, message.pid)
            case m.ForkFailed():
                self._fork_failed(message.worker, message.error)
        self.reconcile()

    def _welcome(self, record: GenerationRecord, hello: m.ZygoteHello) -> None:
        if hello.protocol != m.PROTOCOL or hello.version != __version__:
            why = f"wsgitop {hello.version} is on disk and this master is {__version__}: restart the server to upgrade it"
            self._give_up(record, why)
            return
        config = self.configuration.python_file
        directory = self.configuration.app_directory()
        self._zygotes[record.number].peer.send(m.LoadConfig(record.number, directory, config))

    def _prepare(self, record: GenerationRecord, loaded: m.ConfigLoaded) -> None:
        if record.phase is not GenerationPhase.LOADING:
            return
        try:
            settings, notes = self.configuration.resolve_again(loaded.path, loaded.values_json)
            board = Board.create(settings.threads)
        except (ConfigError, OSError) as error:
            self._give_up(record, str(error))
            return
        if record.number > 1:
            for note in (*loaded.notes, *notes):
                self.events.add("warning", "config", note)
        self._generations[record.number] = Generation(settings, board, list(range(board.rows - 1, -1, -1)))
        descriptors = [
            board.fd,
            self._access_log_fd,
            *(listener.socket.fileno() for listener in self._listeners),
        ]
        message = m.Prepare(
            generation=record.number,
            settings_json=msgspec.json.encode(settings).decode(),
            chdir=self.configuration.app_directory(settings),
            board_rows=board.rows,
            board_threads=board.threads,
            access_log=bool(settings.accesslog),
            addresses=tuple(str(listener.address) for listener in self._listeners),
            control_socket=self._control_socket,
        )
        self._zygotes[record.number].peer.send(message, descriptors)

    def _zygote_ready(self, record: GenerationRecord, ready: m.ZygoteReady) -> None:
        if record.phase is not GenerationPhase.LOADING:
            return
        record.see(GenerationEvent.LOADED)
        self.roster.zygote_failures = 0
        self._apply_settings(self._generations[record.number].settings)
        first = self.roster.target == 0
        self.roster.target = record.number
        if first or not self.roster.good:
            self.roster.good = record.number
        self.roster.rolling = record.roll
        if not record.roll and self.roster.mixed_with(record.number):
            text = f"generation {record.number} replaces a lost zygote; existing workers stay (mixed generations)"
            self.events.add("warning", "mixed", text)
            self.roster.good = record.number
        if ready.threads:
            names = ", ".join(ready.threads)
            text = f"--preload: threads started at import do not exist in the workers: {names}"
            self.events.add("warning", "preload", text)

    def _apply_settings(self, settings: Settings) -> None:
        self.settings = settings
        self._sampler.timeout_s = settings.timeout
        self._sampler.threads = settings.threads
        configured = self.configuration.workers
        if configured != self._config_workers:
            # The scale set by TTIN and TTOU survives a reload unless the configuration's own number has
            # changed.
            self._config_workers = configured
            self.roster.wanted = configured

    def _zygote_lost(self, number: int, fault: str) -> None:
        """Its channel has ended. What matters is its death, which SIGCHLD tells; a fault on the channel ends
        it.
        """
        if fault:
            self.events.add(
                "error", "zygote", f"zygote of generation {number} sent nonsense and is ended: {fault}"
            )
        if number in self._zygotes:
            self._zygotes[number].kill()

    def _end_zygote(self, record: GenerationRecord) -> None:
        loading = record.phase is GenerationPhase.LOADING
        record.see(GenerationEvent.END)
        zygote = self._zygotes.get(record.number)
        if zygote is None:
            record.phase = GenerationPhase.ENDED if record.phase is GenerationPhase.ENDING else record.phase
        elif loading or not zygote.peer.send(m.EndZygote()):
            zygote.kill()
        else:
            self._loop.call_later(ZYGOTE_GRACE_S, self._kill_zygote, record.number)

    def _kill_zygote(self, number: int) -> None:
        if number in self._zygotes:
            self._zygotes[number].kill()

    def _give_up(self, record: GenerationRecord, why: str, *, by_plan: bool = True) -> None:
        """A generation cannot serve: end its zygote and go back to the last good one."""
        was_target = self.roster.target == record.number
        record.error = why
        record.see(GenerationEvent.FAIL)
        if record.number in self._zygotes:
            self._zygotes[record.number].kill()
        if not self.roster.ever_ready and by_plan:
            self._fail_start(record)
            return
        if was_target and self.roster.good != record.number:
            self.roster.target = self.roster.good
            # Back: what the failed generation has started is replaced by the good one.
            self.roster.rolling = any(w.generation != self.roster.good for w in self.roster.active())
        if by_plan:
            if record.commanded:
                text = f"reload to generation {record.number} failed: {why}; generation {self.roster.target} serves on"
            else:
                self.roster.count_zygote_failure(time.monotonic())
                text = f"generation {record.number} failed: {why}; existing workers serve on"
            self.events.add("error", "reload-failed", text, detail=record.detail)
        if record.commanded:
            self._end_of_reload(record.number, why, record.detail)

    def _fail_start(self, record: GenerationRecord) -> None:
        """The very first generation cannot serve: say why and end."""
        if self.fatal is None:
            cause, _, remedy = record.error.partition("\n")
            if record.import_error:
                self.fatal = AppImportError(cause, remedy.strip(), traceback=record.detail)
            elif record.detail or not remedy:
                self.fatal = WorkerBootError(cause, remedy.strip() or "The log above tells more.")
            else:
                self.fatal = ConfigError(cause, remedy.strip())
        self.roster.stopping = self.roster.quick = True

    def _end_of_reload(self, number: int, error: str, detail: str) -> None:
        if self.on_reload_end is not None:
            self.on_reload_end(number, error, detail)

    # -- workers ------------------------------------------------

    def _fork(self, number: int, slot: int) -> None:
        generation = self._generations[number]
        if not generation.free_rows:
            self.roster.fork_not_before = time.monotonic() + 1.0
            self.events.add(
                "error",
                "fork",
                f"the scoreboard is full ({generation.board.rows} workers): no more can be started",
            )
            return
        row = generation.free_rows.pop()
        generation.board.clear(row)
        record = self.roster.add_worker(slot, row, number, time.monotonic())
        ours, theirs = pair()
        output, errors = os.pipe()
        worker = record.worker
        peer: Peer[m.FromWorker] = Peer(
            self._loop,
            ours,
            m.FromWorker,
            lambda message, descriptors: self._from_worker(worker, message, descriptors),
            lambda fault: self._worker_lost(worker, fault),
        )
        process = WorkerProcess(peer, Output(self._loop, output, self._sink))
        self._processes[worker] = process
        self._sampler.add_worker(worker, generation.board, row, process)
        sent = self._zygotes[number].peer.send(m.Fork(worker, slot, row), [theirs.fileno(), errors])
        theirs.close()
        os.close(errors)
        if not sent:
            self._fork_failed(worker, "the zygote does not answer")

    def _fork_failed(self, worker: int, error: str) -> None:
        record = self.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE:
            return
        self.roster.count_boot_failure(time.monotonic())
        self.events.add("error", "fork", f"worker {record.slot} could not be started: {error}")
        self._worker_gone(record)

    def _worker_known(self, worker: int, pid: int) -> None:
        record = self.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE or record.pid is not None:
            return
        record.pid = pid
        record.see(WorkerEvent.FORKED)
        self._by_pid[pid] = worker
        self._processes[worker].known(pid)
        status = self._unclaimed.pop(pid, None)
        if status is not None:
            self._died(pid, status)
        elif record.phase is WorkerPhase.RETIRING:
            self._tell_retire(record)

    def _from_worker(self, worker: int, message: m.FromWorker, descriptors: list[int]) -> None:
        _close_all(descriptors)
        record = self.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE:
            return
        match message:
            case m.WorkerReady(pid):
                self._worker_known(worker, pid)
                record.see(WorkerEvent.READY)
                record.ready_at = time.monotonic()
                if record.phase is WorkerPhase.READY:
                    self._worker_ready(record)
            case m.BootFailed(error, traceback, import_error):
                self._boot_failed(record, error, traceback, import_error=import_error)
            case m.Retiring(reason):
                if record.phase is not WorkerPhase.RETIRING:
                    record.lost = True
                    self._begin_retirement(record)
                    text = f"worker {record.slot} (pid {record.pid}) retires: {reason}"
                    self.events.add("warning", "retire", text)
            case m.RequestTimeout():
                answer = "answered 504" if message.answered else "cut"
                text = (
                    f"TIMEOUT {message.elapsed_s:.1f} s in worker {record.slot} (pid {record.pid}): "
                    f"{message.method} {message.path}, {answer}"
                )
                self.events.add("error", "timeout", text, detail=message.stack)
        self.reconcile()

    def _worker_ready(self, record: WorkerRecord) -> None:
        first = not self.roster.ever_ready
        self.roster.ever_ready = True
        took_s = time.monotonic() - record.asked_at
        text = f"worker {record.slot} (pid {record.pid}) of generation {record.generation} is ready after {took_s:.2f} s"
        self.events.add("info", "ready", text)
        if first:
            self.events.add("good", "serving", f"serving {self.settings.wsgi_app} at {self._addresses()}")

    def _addresses(self) -> str:
        return ", ".join(
            str(listener.address) if listener.address.kind == "unix" else f"http://{listener.address}"
            for listener in self._listeners
        )

    def _boot_failed(self, record: WorkerRecord, error: str, traceback: str, *, import_error: bool) -> None:
        generation = self.roster.generations[record.generation]
        record.boot_failed = True
        self._begin_retirement(record)
        generation.import_error = import_error
        generation.detail = traceback
        if not self.roster.ever_ready or (
            self.roster.rolling and record.generation == self.roster.target != self.roster.good
        ):
            self._give_up(generation, error)
        else:
            self.roster.count_boot_failure(time.monotonic())
            self.events.add(
                "error", "boot-failed", f"worker {record.slot} could not boot: {error}", detail=traceback
            )

    def _worker_lost(self, worker: int, fault: str) -> None:
        """The worker's channel has ended; its death is told by SIGCHLD, except when its pid was never known."""
        record = self.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE:
            return
        if fault:
            self.events.add(
                "error",
                "worker",
                f"worker {record.slot} (pid {record.pid}) sent nonsense and is ended: {fault}",
            )
            self._processes[worker].signal(signal.SIGKILL)
        elif record.pid is None and record.generation not in self._zygotes:
            self._fork_failed(worker, "its zygote was killed")
        self.reconcile()

    def _begin_retirement(self, record: WorkerRecord) -> None:
        if record.phase is not WorkerPhase.RETIRING:
            record.see(WorkerEvent.RETIRE)
            record.retire_at = time.monotonic()
            record.graceful_s = self.settings.graceful_timeout

    def _retire(self, record: WorkerRecord, why: str, *, quick: bool) -> None:
        self._begin_retirement(record)
        if quick:
            record.graceful_s = 0.0
            record.retire_at = time.monotonic()
        if not self.roster.stopping:
            self.events.add("info", "retire", f"worker {record.slot} (pid {record.pid}) retires: {why}")
        self._tell_retire(record)

    def _tell_retire(self, record: WorkerRecord) -> None:
        quick = record.graceful_s <= 0
        self._processes[record.worker].peer.send(m.Quit() if quick else m.Retire(record.graceful_s))
        if quick and self.roster.stopping:
            # A worker whose watchdog hangs does not read its channel; the signal reaches it all the same.
            self._processes[record.worker].signal(signal.SIGQUIT)

    def _abort(self, record: WorkerRecord, why: str) -> None:
        record.abort_at = time.monotonic()
        self.events.add(
            "error",
            "abort",
            f"SIGABRT to worker {record.slot} (pid {record.pid}): {why}{self._serving(record)}",
        )
        if not self._processes[record.worker].signal(signal.SIGABRT) and record.pid is None:
            self._fork_failed(record.worker, why)

    def _kill(self, record: WorkerRecord, why: str) -> None:
        record.kill_at = time.monotonic()
        self.events.add(
            "error",
            "kill",
            f"SIGKILL to worker {record.slot} (pid {record.pid}): {why}{self._serving(record)}",
        )
        if not self._processes[record.worker].signal(signal.SIGKILL) and record.pid is None:
            self._fork_failed(record.worker, why)

    def _serving(self, record: WorkerRecord) -> str:
        requests = self._sampler.in_flight(record.worker)
        return "".join(f"; it was serving {r.method} {r.path} for {r.elapsed_s:.1f} s" for r in requests)

    # -- deaths ------------------------------------------------

    def reap(self) -> None:
        """Collect every child that has ended, known or not (PID 1 duty)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._died(pid, status)
        self.reconcile()

    def _died(self, pid: int, status: int) -> None:
        key = self._by_pid.pop(pid, None)
        if key is None:
            # A worker that died before the zygote's message came, or an orphan of the application.
            self._unclaimed[pid] = status
            while len(self._unclaimed) > UNCLAIMED_LIMIT:
                self._unclaimed.popitem(last=False)
        elif key < 0:
            self._zygote_died(self.roster.generations[-key], status)
        else:
            self._worker_died(self.roster.workers[key], status)

    def _zygote_died(self, record: GenerationRecord, status: int) -> None:
        zygote = self._zygotes[record.number]
        zygote.peer.drain()
        zygote.close()
        del self._zygotes[record.number]
        record.zygote_pid = None
        before = record.phase
        text = f"zygote of generation {record.number} (pid {zygote.pid}) {describe_status(status)}"
        if before is GenerationPhase.LOADING:
            if not record.detail:
                record.detail = "\n".join(zygote.output.last_lines)
            self._give_up(record, f"the application does not load: {text}")
            return
        record.see(GenerationEvent.ZYGOTE_DIED)
        if before is GenerationPhase.READY and not self.roster.stopping:
            self.events.add(
                "error", "zygote-died", f"{text}; workers serve on, a new generation is being loaded"
            )
            self.roster.count_zygote_failure(time.monotonic())
            if self.roster.zygote_failures == 1:
                self.roster.zygote_not_before = 0.0
        for worker in [w for w in self.roster.live() if w.generation == record.number and w.pid is None]:
            self._processes[worker.worker].peer.drain()
            if worker.pid is None and worker.phase is WorkerPhase.STARTING:
                self._fork_failed(worker.worker, "its zygote was killed")

    def _worker_died(self, record: WorkerRecord, status: int) -> None:
        self._processes[record.worker].peer.drain()
        serving = self._serving(record)
        before = record.phase
        now = time.monotonic()
        text = f"worker {record.slot} (pid {record.pid}) {describe_status(status)}"
        last_lines = "\n".join(self._processes[record.worker].output.last_lines)
        self._worker_gone(record)
        if record.boot_failed or (self.roster.stopping and not serving):
            return
        if before is WorkerPhase.RETIRING:
            clean = status == 0 and not serving
            self.events.add(
                "info" if clean else "warning", "retired" if clean else "died", f"{text}{serving}"
            )
            return
        self.events.add("error", "died", f"{text}{serving}", detail="" if status == 0 else last_lines)
        if before in (WorkerPhase.STARTING, WorkerPhase.BOOTING):
            generation = self.roster.generations[record.generation]
            why = f"a worker {describe_status(status)} while it loaded the application"
            if not self.roster.ever_ready or (
                self.roster.rolling and record.generation == self.roster.target != self.roster.good
            ):
                generation.detail = generation.detail or last_lines
                self._give_up(generation, why)
            else:
                self.roster.count_boot_failure(now)
        elif is_self_inflicted(status) and record.ready_at is not None and now - record.ready_at < STABLE_S:
            self.roster.count_boot_failure(now)

    def _worker_gone(self, record: WorkerRecord) -> None:
        record.see(WorkerEvent.DIED)
        process = self._processes.pop(record.worker)
        self._sampler.remove_worker(record.worker)
        process.close()
        if record.pid is not None:
            self._by_pid.pop(record.pid, None)
        del self.roster.workers[record.worker]
        generation = self._generations[record.generation]
        generation.free_rows.append(record.row)
        self._forget_generations()

    def _forget_generations(self) -> None:
        """Give up the scoreboards of generations that have neither zygote nor workers."""
        used = {w.generation for w in self.roster.live()} | set(self._zygotes) | {self.roster.target}
        for number in [n for n in self._generations if n not in used]:
            with contextlib.suppress(BufferError):
                self._generations.pop(number).board.close()
        keep = used | {self.roster.good} | set(sorted(self.roster.generations)[-8:])
        for number in [n for n in self.roster.generations if n not in keep]:
            del self.roster.generations[number]

    # -- appearance ------------------------------------------------

    def _show_title(self) -> None:
        state, _ = self._sampler.state()
        behind = "" if state == "serving" else f" {state}"
        name = self.settings.proc_name or self.settings.wsgi_app.partition(":")[0]
        title = f"wsgitop: master [{name}] gen {self.roster.target}{behind}"
        if title != self._title:
            self._title = title
            setproctitle(title)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
