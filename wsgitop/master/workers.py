"""The workers as the master knows them: forked, heard, retired, killed, mourned.

Who runs this: the loop of the master. It owns the workers' channels, outputs and pidfds. Decisions are the
plan's; what a failed boot means for a reload is the supervisor's (``context.give_up``).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import OrderedDict
from collections.abc import Mapping

from wsgitop.channel import messages as m
from wsgitop.master.causes import Verdict, is_crash
from wsgitop.master.context import Context
from wsgitop.master.deaths import describe_serving, one_line
from wsgitop.master.processes import (
    Output,
    Peer,
    WorkerProcess,
    ZygoteProcess,
    child_ends,
    close_all,
    descends,
    describe_status,
)
from wsgitop.master.progress import step
from wsgitop.master.recycling import draw_limits
from wsgitop.master.roster import WorkerRecord
from wsgitop.master.slowest import slow_request
from wsgitop.master.states import WorkerEvent, WorkerPhase
from wsgitop.settings.hidden import shown_app
from wsgitop.snapshot import printable

DEATH_NEWS_S = 1.0
"""Between the end of a worker's channel and the news of its death; more means that it lives."""
ZYGOTE_NEWS_S = 0.1
"""Between the end of a zygote's channel and the news of its death."""
NO_ROOM_S = 1.0
"""Before the next try when the machine has no room for another worker."""
BOOT_KILLS_BORNE = 2
"""Workers of a generation that may be killed from outside before they are ready; more are failed boots."""
UNCLAIMED_LIMIT = 64
"""Ends of children that nobody has told the master about yet; more than a few are orphans of the application.
"""


class Workers:
    """Every worker process, by worker number."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._processes: dict[int, WorkerProcess] = {}
        self._by_pid: dict[int, int] = {}
        self._unclaimed: OrderedDict[int, int] = OrderedDict()
        self._rng = random.Random()

    def by_pid(self, pid: int) -> tuple[WorkerRecord, WorkerProcess] | None:
        """The worker that runs as ``pid``."""
        worker = self._by_pid.get(pid)
        return None if worker is None else (self._context.roster.workers[worker], self._processes[worker])

    def signal(self, worker: WorkerRecord, number: signal.Signals, actor: str) -> bool:
        """Send a signal to one worker; false if it is gone."""
        sent = self._processes[worker.worker].signal(number)
        if sent:
            self._context.deaths.sent(worker.worker, number, "", actor or "an operator")
            text = f"{number.name} sent to worker {worker.slot} (pid {worker.pid})"
            self._context.events.add("warning", "signal", text, actor=actor)
        return sent

    def tell(self, worker: WorkerRecord, message: m.ToWorker) -> bool:
        """Send a message to one worker; false if it is gone or does not read."""
        return self._processes[worker.worker].peer.send(message)

    def fork(self, number: int, slot: int, zygote: ZygoteProcess) -> None:
        """Have ``zygote``, of generation ``number``, fork a worker for ``slot``."""
        if time.monotonic() < self._context.roster.fork_not_before:
            return  # one before it in the same turn could not be started
        generation = self._context.generations[number]
        if not generation.free_rows:
            self._context.roster.fork_not_before = time.monotonic() + NO_ROOM_S
            self._context.events.add(
                "error",
                "fork",
                f"the scoreboard is full ({generation.board.rows} workers): no more can be started",
            )
            return
        try:
            ours, theirs, output, errors = child_ends()
        except OSError as error:
            self._context.roster.fork_not_before = time.monotonic() + NO_ROOM_S
            why = f"no descriptors for another worker: {error.strerror} (see ulimit -n)"
            self._context.events.add("error", "fork", why)
            return
        row = generation.free_rows.pop()
        generation.board.clear(row)
        record = self._context.roster.add_worker(slot, row, number, time.monotonic())
        worker = record.worker
        peer: Peer[m.FromWorker] = Peer(
            self._context.loop,
            ours,
            m.FromWorker,
            lambda message, descriptors: self._receive(worker, message, descriptors),
            lambda fault: self._lost(worker, fault),
        )
        process = WorkerProcess(peer, Output(self._context.loop, output, self._context.sink))
        self._processes[worker] = process
        self._context.sampler.add_worker(worker, generation.board, row, process)
        order = m.Fork(worker, slot, row, self._context.hooks.state_at_fork(number))
        sent = zygote.peer.send(order, [theirs.fileno(), errors])
        theirs.close()
        os.close(errors)
        if not sent:
            # The zygote is gone and its death is about to be told; it is no fault of the application's.
            self._context.roster.fork_not_before = time.monotonic() + ZYGOTE_NEWS_S
            self._gone(record)

    def fork_failed(self, worker: int, error: str) -> None:
        """A worker that was asked for does not exist."""
        record = self._context.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE:
            return
        self._count_boot_failure(record)
        self._context.events.add("error", "fork", f"worker {record.slot} could not be started: {error}")
        self._gone(record)

    def known(self, worker: int, pid: int) -> None:
        """The pid of a worker has been told, by the zygote or by itself."""
        record = self._context.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE or record.pid is not None:
            return
        if not descends(pid):
            # What runs the application has said it, and the master may be root: it signals none but its own.
            text = f"worker {record.slot} names process {pid}, which is none of this server's: not believed"
            self._context.events.add("error", "worker", text)
            return
        record.pid = pid
        record.see(WorkerEvent.FORKED)
        self._by_pid[pid] = worker
        self._processes[worker].known(pid)
        status = self._unclaimed.pop(pid, None)
        if status is not None:
            self._died(record, status)
        elif record.phase is WorkerPhase.RETIRING:
            self._tell_retire(record)

    def _receive(  # noqa: PLR0912 - a row for each message
        self, worker: int, message: m.FromWorker, descriptors: list[int]
    ) -> None:
        close_all(descriptors)
        record = self._context.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE:
            return
        match message:
            case m.WorkerReady(pid):
                self.known(worker, pid)
                # Its death may have been told first; and a worker is ready once.
                if worker in self._context.roster.workers and record.ready_at is None:
                    record.see(WorkerEvent.READY)
                    record.ready_at = time.monotonic()
                    if record.phase is WorkerPhase.READY:
                        self._ready(record)
                elif record.releasing and record.phase is WorkerPhase.QUARANTINED:
                    record.see(WorkerEvent.RELEASE)
                    record.releasing = False
                    record.asked_at = time.monotonic()  # it begins anew: it is not the one to go
            case m.BootFailed(error, traceback, import_error):
                self._boot_failed(record, error, traceback, import_error=import_error)
            case m.Retiring(reason):
                self._context.deaths.of(worker).given_up = reason
                # One that is not ready ends at once, and its death decides what becomes of its place.
                if not record.coming and record.phase is not WorkerPhase.RETIRING:
                    record.lost = True
                    self._begin_retirement(record)
                    text = f"worker {record.slot} (pid {record.pid}) retires: {reason}"
                    self._context.events.add("warning", "retire", text)
            case m.Stacks():
                self._context.inquiries.answered(worker, message)
            case m.RequestCancelled(_, _, cut):
                # Who gave the order was told that it would be cut as soon as the worker answers.
                if not self._context.inquiries.answered(worker, message) and cut:
                    what = printable(f"{message.method} {message.path}", 220)
                    text = f"worker {record.slot} (pid {record.pid}) answers again, and {what} was cut"
                    self._context.events.add("warning", "cancel", text)
            case m.SlowestFinished(requests):
                self._context.slowest.add((slow_request(record, one) for one in requests), time.time())
            case m.ModuleFiles() | m.SourceFiles():
                self._context.add_files(record.generation, message)
            case m.RequestTimeout():
                self._context.deaths.of(worker).timeout = message
                answer = "answered 504" if message.answered else "cut"
                text = (
                    f"TIMEOUT {message.elapsed_s:.1f} s in worker {record.slot} (pid {record.pid}): "
                    f"{message.method} {message.path}, {answer}"
                )
                self._context.events.add("error", "timeout", text, detail=message.stack)
        self._context.reconcile()

    def _ready(self, record: WorkerRecord) -> None:
        first = not self._context.roster.ever_ready
        self._context.roster.ever_ready = True
        self._context.roster.generations[record.generation].killed_booting = 0
        draw_limits(record, self._context.generations[record.generation].settings, self._rng)
        took_s = time.monotonic() - record.asked_at
        who = f"worker {record.slot} (pid {record.pid}) of generation {record.generation}"
        text = f"{who} is ready after {took_s:.2f} s{step(self._context.roster, record.generation)}"
        self._context.events.add("info", "ready", text)
        if first:
            app = shown_app(self._context.settings.wsgi_app)
            self._context.events.add("good", "serving", f"serving {app} at {self._addresses()}")

    def _addresses(self) -> str:
        return ", ".join(
            str(listener.address) if listener.address.kind == "unix" else f"http://{listener.address}"
            for listener in self._context.listeners
        )

    def _boot_failed(self, record: WorkerRecord, error: str, traceback: str, *, import_error: bool) -> None:
        generation = self._context.roster.generations[record.generation]
        record.boot_failed = True
        notes = self._context.deaths.of(record.worker)
        notes.boot_error, notes.boot_traceback = error, traceback
        self._begin_retirement(record)
        generation.import_error = import_error
        generation.detail = traceback
        if not self._context.roster.ever_ready or (
            self._context.roster.rolling
            and record.generation == self._context.roster.target != self._context.roster.good
        ):
            self._context.give_up(generation, error)
        else:
            self._count_boot_failure(record)
            # Cause and remedy are lines of their own.
            text = f"worker {record.slot} could not boot: {'. '.join(error.splitlines())}"
            self._context.events.add("error", "boot-failed", text, detail=traceback)

    def _lost(self, worker: int, fault: str) -> None:
        """The worker's channel has ended; its death is told by SIGCHLD, unless its pid was never known."""
        record = self._context.roster.workers.get(worker)
        if record is None or record.phase is WorkerPhase.GONE:
            return
        if fault:
            self._context.events.add(
                "error",
                "worker",
                f"worker {record.slot} (pid {record.pid}) sent nonsense and is ended: {fault}",
            )
            self._send(record, signal.SIGKILL, f"it sent nonsense: {fault}")
        elif record.pid is None and self._context.roster.generations[record.generation].zygote_pid is None:
            self.fork_failed(worker, "its zygote was killed")
        else:
            self._context.loop.call_later(DEATH_NEWS_S, self._end_mute, worker)
        self._context.reconcile()

    def _end_mute(self, worker: int) -> None:
        """A worker that has closed its channel and lives: the application has closed descriptors that are not
        its own. Nobody can tell it to retire any more but by a signal.
        """
        record = self._context.roster.workers.get(worker)
        if record is None or record.lost or record.pid is None:
            return
        record.lost = True
        self._begin_retirement(record)
        self._context.deaths.ordered(worker, "it had closed its channel to the master")
        self._send(record, signal.SIGTERM, "it had closed its channel to the master")
        text = f"worker {record.slot} (pid {record.pid}) has closed its channel to the master and is replaced"
        self._context.events.add("error", "worker", text)
        self._context.reconcile()

    def _begin_retirement(self, record: WorkerRecord) -> None:
        if record.phase is not WorkerPhase.RETIRING:
            record.see(WorkerEvent.RETIRE)
            record.retire_at = time.monotonic()
            record.graceful_s = self._context.settings.graceful_timeout

    def retire(self, record: WorkerRecord, why: str, *, quick: bool) -> None:
        """Have a worker finish and end; ``quick``: end now."""
        self._begin_retirement(record)
        self._context.deaths.ordered(record.worker, why)
        if quick:
            record.graceful_s = 0.0
            record.retire_at = time.monotonic()
        if not self._context.roster.stopping:
            self._context.events.add(
                "info", "retire", f"worker {record.slot} (pid {record.pid}) retires: {why}"
            )
        self._tell_retire(record)

    def _tell_retire(self, record: WorkerRecord) -> None:
        quick, stopping = record.graceful_s <= 0, self._context.roster.stopping
        record.told_to_stop = stopping
        last = stopping and not self._context.taken_over  # nobody is there for their clients to come back to
        idle_s = 0.0 if last else self._context.settings.keepalive
        others = any(other.worker != record.worker for other in self._context.roster.ready())
        pass_on = self._context.hands_on or (not stopping and others)
        self._processes[record.worker].peer.send(
            m.Quit() if quick else m.Retire(record.graceful_s, idle_s, pass_on, last)
        )
        if quick and stopping:
            # A worker whose watchdog hangs does not read its channel; the signal reaches it all the same.
            self._send(record, signal.SIGQUIT, "the server stops")

    def abort(self, record: WorkerRecord, why: str) -> None:
        """SIGABRT, so that the worker's stacks go to the log."""
        record.abort_at = time.monotonic()
        self._context.events.add(
            "error",
            "abort",
            f"SIGABRT to worker {record.slot} (pid {record.pid}): {why}{self._serving(record)}",
        )
        if not self._send(record, signal.SIGABRT, why) and record.pid is None:
            self.fork_failed(record.worker, why)
        else:
            self._context.hooks.watch_abort(record, self._processes[record.worker])

    def kill(self, record: WorkerRecord, why: str) -> None:
        """SIGKILL."""
        record.kill_at = time.monotonic()
        self._context.events.add(
            "error",
            "kill",
            f"SIGKILL to worker {record.slot} (pid {record.pid}): {why}{self._serving(record)}",
        )
        if not self._send(record, signal.SIGKILL, why) and record.pid is None:
            self.fork_failed(record.worker, why)

    def _send(self, record: WorkerRecord, number: int, why: str) -> bool:
        """A signal by the master's own decision; false if the worker is gone or its pid not known."""
        sent = self._processes[record.worker].signal(number)
        if sent:
            self._context.deaths.sent(record.worker, number, why)
        return sent

    def _serving(self, record: WorkerRecord) -> str:
        return describe_serving(self._context.sampler.in_flight(record.worker))

    def died(self, pid: int, status: int) -> None:
        """A child that is no zygote has ended: a worker, one whose pid is not known yet, or an orphan of the
        application.
        """
        worker = self._by_pid.get(pid)
        if worker is not None:
            self._died(self._context.roster.workers[worker], status)
            return
        if all(record.pid is not None for record in self._context.roster.live()):
            return  # nobody is awaited: it was an orphan, and its number may soon be a worker's
        self._unclaimed[pid] = status
        while len(self._unclaimed) > UNCLAIMED_LIMIT:
            self._unclaimed.popitem(last=False)

    def zygote_gone(self, generation: int) -> None:
        """Workers that this generation's zygote was asked for and has not forked will not come."""
        for record in [
            w for w in self._context.roster.live() if w.generation == generation and w.pid is None
        ]:
            if record.phase is not WorkerPhase.GONE:
                self._processes[record.worker].peer.drain()
            if record.pid is None and record.phase is not WorkerPhase.GONE:
                # If it was forked all the same, it sees the end of its channel and goes. No failed boot: that
                # the zygote has died is counted elsewhere.
                self._gone(record)

    def _died(self, record: WorkerRecord, status: int) -> None:
        process = self._processes[record.worker]
        process.peer.drain()
        process.output.read_rest()
        before, serving = record.phase, self._serving(record)
        sampler = self._context.sampler
        found, death = self._context.deaths.worker_ended(
            record, status, process, sampler.in_flight(record.worker), sampler.counts(record.worker)
        )
        last_lines = "\n".join(process.output.last_lines)
        ordered = bool(self._context.deaths.of(record.worker).order)
        self._gone(record)
        if record.boot_failed or (self._context.roster.stopping and not serving):
            return
        text = one_line(death, serving)
        if before is WorkerPhase.RETIRING:
            clean = status == 0 and not serving
            self._context.events.add("info" if clean else "warning", "retired" if clean else "died", text)
            if ordered or found.cause != "killed":
                return
        else:
            self._context.events.add("error", "died", text, detail="" if status == 0 else last_lines)
        if record.ready_at is None:
            self._died_booting(record, status, found, last_lines)
        elif record.abort_at is None and is_crash(found, time.monotonic() - record.ready_at):
            self._count_boot_failure(record)
        elif found.cause == "killed":
            self._context.roster.acquit(record)

    def _died_booting(self, record: WorkerRecord, status: int, found: Verdict, last_lines: str) -> None:
        # Where the kernel does not count its kills for want of memory, a kill may be one.
        known = status != signal.SIGKILL or self._context.deaths.oom.known
        if found.cause == "killed" and known and self._bears(record, found.actor):
            return
        how = found.how if found.cause == "out of memory" else describe_status(status)
        because = found.how.partition(", sent by the master")[2]  # ": it did not boot within …"
        why = f"a worker {how} while it loaded the application{because}"
        self._did_not_boot(record, why, last_lines)

    def _bears(self, record: WorkerRecord, actor: str) -> bool:
        """A signal has ended a worker before it was ready: is that to be taken for no fault of the code?

        Who ends whatever boots, such as an OOM killer outside of the kernel or the code itself, must not make
        this a loop.
        """
        generation = self._context.roster.generations[record.generation]
        generation.killed_booting += 1
        return bool(actor) or generation.killed_booting <= BOOT_KILLS_BORNE

    def _did_not_boot(self, record: WorkerRecord, why: str, detail: str) -> None:
        generation = self._context.roster.generations[record.generation]
        if not self._context.roster.ever_ready or (
            self._context.roster.rolling
            and record.generation == self._context.roster.target != self._context.roster.good
        ):
            generation.detail = generation.detail or detail
            self._context.give_up(generation, why)
        else:
            self._count_boot_failure(record)

    def _count_boot_failure(self, record: WorkerRecord) -> None:
        # What an abandoned generation's workers die of is no reason to wait with those of the target.
        if record.generation == self._context.roster.target:
            self._context.roster.count_boot_failure(time.monotonic())

    def _gone(self, record: WorkerRecord) -> None:
        record.see(WorkerEvent.DIED)
        process = self._processes.pop(record.worker)
        gauge = self._context.sampler.remove_worker(record.worker)
        process.close()
        if record.pid is not None:
            self._by_pid.pop(record.pid, None)
        del self._context.roster.workers[record.worker]
        self._context.deaths.forget(record.worker)
        self._context.inquiries.gone(record.worker)
        generation = self._context.generations[record.generation]
        # Siblings look at each other's rows: a dead worker must not look idle.
        generation.board.clear(record.row)
        generation.free_rows.append(record.row)
        self._context.hooks.child_exit(record, gauge)

    def reopen(self, access_logs: Mapping[int, int]) -> None:
        """Hand on the newly opened access logs, given by generation."""
        for worker, process in self._processes.items():
            number = self._context.roster.workers[worker].generation
            if number in access_logs:
                process.peer.send(m.Reopen(), [access_logs[number]])

    def set_log_level(self, level: str) -> None:
        """Have all of them log from this severity on."""
        for process in self._processes.values():
            process.peer.send(m.SetLogLevel(level))
