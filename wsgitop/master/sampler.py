"""Makes snapshots: reads the scoreboards, asks the kernel about processes and queues, keeps fifteen minutes
of seconds.

Who runs this: the master's loop, once a second, or as often as the fastest subscriber asks for. It owns the
gauges. A sample must stay cheap at a thousand workers, so processes are asked in turn, PROCESSES_PER_SAMPLE
at a time, and PSS (about a millisecond each) for one process a second and only while somebody watches.
"""

from __future__ import annotations

import contextlib
import operator
import os
import platform
import pwd
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping

import psutil

from wsgitop import __version__
from wsgitop.master.cgroup import MemoryFigures, cpu_limit, memory_figures
from wsgitop.master.condition import condition, reloading_to
from wsgitop.master.forecast import Memory
from wsgitop.master.gauge import Percentiles, Rate, WorkerGauge
from wsgitop.master.listeners import Listener
from wsgitop.master.processes import WorkerProcess, ZygoteProcess
from wsgitop.master.progress import progress
from wsgitop.master.pss import ProportionalMemory
from wsgitop.master.recycling import Usage
from wsgitop.master.roster import Roster, WorkerRecord
from wsgitop.master.states import GenerationPhase, WorkerPhase
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board
from wsgitop.snapshot import (
    GenerationSnapshot,
    GenerationState,
    InFlight,
    ListenerSnapshot,
    MasterSnapshot,
    Second,
    Snapshot,
    Totals,
    WorkerSnapshot,
    WorkerState,
    printable,
)
from wsgitop.transport.queue_depth import queue_depth

HISTORY_SECONDS = 900
PROCESSES_PER_SAMPLE = 64
STUCK_HEARTBEAT_S = 3.0
"""A worker that serves and whose watchdog has been silent for this long is shown as stuck."""
LATE_S = 2.0
"""A sample that comes this much too late means that the master itself slept: heartbeats are not to blame."""
SILENT_GRACE_S = 3.0
"""Beyond --timeout, before the master takes a silent worker for one whose interpreter does not answer."""

_GENERATION_STATES: dict[GenerationPhase, GenerationState] = {
    GenerationPhase.LOADING: "loading",
    GenerationPhase.READY: "ready",
    GenerationPhase.FAILED: "failed",
    GenerationPhase.ENDING: "retiring",
    GenerationPhase.ENDED: "ended",
}


class Sampler:
    """Keeps a gauge per worker and the server's history. The supervisor tells it of workers' births and
    deaths.
    """

    def __init__(
        self, roster: Roster, listeners: list[Listener], *, app: str, name: str, control: str, log: str
    ) -> None:
        self._roster = roster
        self._listeners = listeners
        self._identity = (app, name, control)
        self.log = log
        self.control_shared = ""
        self._gauges: dict[int, WorkerGauge] = {}
        self._processes: dict[int, WorkerProcess] = {}
        self._zygotes: dict[int, ZygoteProcess] = {}
        self._own = psutil.Process()
        self._started_at = time.time()
        self._started = time.monotonic()
        self._sequence = 0
        self._folded_requests = 0
        self._folded_errors = 0
        self._requests = Rate()
        self._errors = Rate()
        self._cpu = Rate()
        self._own_cpu = Rate()
        self._percentiles = Percentiles()
        self._zygote_rss: dict[int, int] = {}
        self._turn = 0
        self._pss = ProportionalMemory()
        self._last_second = 0.0
        self._last_sample = 0.0
        self._heartbeat_floor_ns = 0
        self._folded_cpu_s = 0.0
        self._cpu_s: dict[int, float] = {}
        self._folded_zygote_cpu_s = 0.0
        self._zygote_cpu_s: dict[int, float] = {}
        self._master_rss: int | None = None
        self._memory_figures = MemoryFigures(None, None, None)
        self._cpu_limit: float | None = None
        self._host = socket.gethostname()
        try:
            self._user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            self._user = str(os.getuid())
        self.history: deque[Second] = deque(maxlen=HISTORY_SECONDS)
        self.timeout_s = 0.0
        self.threads = 1
        self.stale: Mapping[int, str] = {}
        """By generation, which of its files have changed; a live view."""
        self.on_removed: list[Callable[[int, WorkerGauge], None]] = []

    @property
    def gauges(self) -> Mapping[int, WorkerGauge]:
        """The gauges by worker, a live view."""
        return self._gauges

    # -- births and deaths ------------------------------------------------

    def add_worker(self, worker: int, board: Board, row: int, process: WorkerProcess) -> None:
        """A worker has been asked for; its row has been cleared."""
        self._gauges[worker] = WorkerGauge(board, row)
        self._processes[worker] = process

    def remove_worker(self, worker: int) -> WorkerGauge:
        """A worker is gone: fold its counters into the server's totals. The gauge is handed out for a last
        look.
        """
        gauge = self._gauges.pop(worker)
        del self._processes[worker]
        gauge.read(time.monotonic())
        gauge.second()
        for callback in self.on_removed:
            callback(worker, gauge)
        self._folded_requests += gauge.requests
        self._folded_errors += gauge.errors
        self._folded_cpu_s += self._cpu_s.pop(worker, 0.0)
        return gauge

    def set_zygotes(self, zygotes: dict[int, ZygoteProcess]) -> None:
        """The zygotes by generation, a live view."""
        self._zygotes = zygotes

    def silent(self) -> frozenset[int]:
        """Workers that serve and whose watchdog has been silent for longer than --timeout allows."""
        if self.timeout_s <= 0 or time.monotonic() - self._last_sample > LATE_S:
            return frozenset()  # nobody is judged before the master itself is awake again
        now_ns = time.monotonic_ns()
        found = set()
        for worker, gauge in self._gauges.items():
            record = self._roster.workers.get(worker)
            if record is None or record.phase not in (WorkerPhase.READY, WorkerPhase.RETIRING) or record.lost:
                continue
            age = gauge.heartbeat_age_s(now_ns, self._heartbeat_floor_ns)
            if age is not None and age > self.timeout_s + SILENT_GRACE_S:
                found.add(worker)
        return frozenset(found)

    def usage(self) -> dict[int, Usage]:
        """What each worker had served and held when it was last looked at."""
        return {worker: Usage(gauge.requests, gauge.rss_bytes) for worker, gauge in self._gauges.items()}

    def memory(self) -> list[Memory]:
        """PSS and RSS of each worker that serves, as far as they are known.

        Nobody may have been watching: the PSS of some is asked for now, a millisecond each.
        """
        self._pss.ask(self._all_processes())
        return [
            (self._pss.of(record.pid), self._gauges[record.worker].rss_bytes)
            for record in self._roster.ready()
            if record.pid is not None
        ]

    def in_flight(self, worker: int) -> tuple[InFlight, ...]:
        """What a worker is serving at this moment, by its row: readable also when it has just died."""
        gauge = self._gauges.get(worker)
        return () if gauge is None else gauge.in_flight(time.monotonic_ns())

    def counts(self, worker: int) -> tuple[int, int]:
        """Requests and errors of a worker so far, by its row, as above."""
        gauge = self._gauges[worker]
        gauge.read(time.monotonic())
        return gauge.requests, gauge.errors

    def cpu_s(self, worker: int) -> float:
        """CPU time of a worker, user and system, as of the last sample."""
        return self._cpu_s.get(worker, 0.0)

    def zygotes_cpu_s(self) -> float:
        """CPU time of all zygotes that live or lived, as of the last sample that met them."""
        return self._folded_zygote_cpu_s + sum(self._zygote_cpu_s.values())

    # -- sampling ------------------------------------------------

    def sample(self, *, watched: bool) -> Snapshot:
        """Read everything, make the next snapshot. ``watched``: somebody looks, so PSS is worth its price."""
        now = time.monotonic()
        if self._last_sample and now - self._last_sample > LATE_S:
            self._heartbeat_floor_ns = time.monotonic_ns()
        self._last_sample = now
        for gauge in self._gauges.values():
            gauge.read(now)
        self._ask_processes(now)
        new_second = now - self._last_second >= 0.95
        if new_second:
            self._last_second = now
            self._memory_figures, self._cpu_limit = memory_figures(), cpu_limit()
            if watched:
                self._pss.ask(self._all_processes())
            recent = [gauge.second() for gauge in self._gauges.values()]
            self._merge(recent)
        snapshot = self._snapshot(now)
        if new_second:
            self._remember(snapshot)
        return snapshot

    def look(self) -> Snapshot:
        """As :meth:`sample`, but what the kernel says about processes is as of the last sample."""
        now = time.monotonic()
        for gauge in self._gauges.values():
            gauge.read(now)
        return self._snapshot(now)

    def _merge(self, recent: list[list[int]]) -> None:
        total = [0] * at.BUCKETS
        for counts in recent:
            total = list(map(operator.add, total, counts))
        self._percentiles.recent = total

    def _ask_processes(self, now: float) -> None:
        # Besides its own errors psutil lets OSError through: no descriptor is left to read with. The picture
        # then shows what was known before.
        workers = list(self._gauges)
        if len(workers) > PROCESSES_PER_SAMPLE:
            start = self._turn % len(workers)
            self._turn += PROCESSES_PER_SAMPLE
            workers = (workers + workers)[start : start + PROCESSES_PER_SAMPLE]
        for worker in workers:
            process = self._processes[worker].process
            if process is None:
                continue
            with contextlib.suppress(psutil.Error, OSError), process.oneshot():
                times = process.cpu_times()
                self._cpu_s[worker] = times.user + times.system
                gauge = self._gauges[worker]
                gauge.cpu(now, times.user + times.system)
                gauge.rss_bytes = process.memory_info().rss
                self._processes[worker].memory.add(now, gauge.rss_bytes)
        for generation in self._zygote_cpu_s.keys() - self._zygotes.keys():
            self._folded_zygote_cpu_s += self._zygote_cpu_s.pop(generation)
        self._zygote_rss.clear()
        for generation, zygote in self._zygotes.items():
            if zygote.process is None:
                continue
            with contextlib.suppress(psutil.Error, OSError), zygote.process.oneshot():
                times = zygote.process.cpu_times()
                self._zygote_cpu_s[generation] = times.user + times.system
                self._zygote_rss[generation] = zygote.process.memory_info().rss
                zygote.memory.add(now, self._zygote_rss[generation])
        with contextlib.suppress(psutil.Error, OSError):
            self._master_rss = self._own.memory_info().rss

    def _all_processes(self) -> list[psutil.Process]:
        """Master, zygotes and workers."""
        workers = [worker.process for worker in self._processes.values() if worker.process is not None]
        zygotes = [zygote.process for zygote in self._zygotes.values() if zygote.process is not None]
        return [self._own, *zygotes, *workers]

    def _snapshot(self, now: float) -> Snapshot:
        self._sequence += 1
        now_ns = time.monotonic_ns()
        workers = tuple(
            self._worker(record, now_ns)
            for record in sorted(self._roster.live(), key=lambda w: (w.slot, w.worker))
            if record.pid is not None
        )
        listeners = tuple(
            ListenerSnapshot(
                address=str(listener.address), backlog=listener.backlog, queue=queue_depth(listener.socket)
            )
            for listener in self._listeners
        )
        return Snapshot(
            sequence=self._sequence,
            at=round(time.time(), 3),
            master=self._master(now),
            totals=self._totals(now, workers, listeners),
            workers=workers,
            generations=self._generations(),
            listeners=listeners,
        )

    def _worker(self, record: WorkerRecord, now_ns: int) -> WorkerSnapshot:
        gauge = self._gauges[record.worker]
        process = self._processes[record.worker]
        assert record.pid is not None
        beat = gauge.heartbeat_age_s(now_ns, self._heartbeat_floor_ns)
        p50, p95, p99 = gauge.percentiles
        return WorkerSnapshot(
            slot=record.slot,
            pid=record.pid,
            generation=record.generation,
            state=self._state(record, gauge, beat, now_ns),
            started_at=process.started_at,
            age_s=round(now_ns / 1e9 - process.since_s, 1),
            requests=gauge.requests,
            errors=gauge.errors,
            rps=_rounded(gauge.rps, 1),
            p50_ms=_rounded(p50, 2),
            p95_ms=_rounded(p95, 2),
            p99_ms=_rounded(p99, 2),
            cpu_percent=_rounded(gauge.cpu_percent, 1),
            rss_bytes=gauge.rss_bytes,
            pss_bytes=self._pss.of(record.pid),
            threads=gauge.threads,
            threads_busy=gauge.busy,
            connections=gauge.connections,
            heartbeat_age_s=_rounded(beat, 2),
            in_flight=gauge.in_flight(now_ns),
            rps_history=tuple(gauge.history),
        )

    def _state(
        self, record: WorkerRecord, gauge: WorkerGauge, beat: float | None, now_ns: int
    ) -> WorkerState:
        if record.coming:
            return "booting"
        if record.phase is WorkerPhase.QUARANTINED:
            return "quarantined"
        if beat is not None and beat > STUCK_HEARTBEAT_S:
            return "stuck"
        if self.timeout_s > 0 and gauge.longest_s(now_ns) > self.timeout_s:
            return "stuck"
        if record.phase is WorkerPhase.RETIRING:
            return "retiring"
        return "busy" if gauge.busy else "idle"

    def _master(self, now: float) -> MasterSnapshot:
        app, name, control = self._identity
        roster = self._roster
        state, reason = condition(roster, now)
        times = os.times()
        own_cpu = self._own_cpu.add(now, times.user + times.system)
        return MasterSnapshot(
            pid=os.getpid(),
            generation=roster.target,
            state=state,
            state_reason=printable(reason, 300),
            started_at=round(self._started_at, 3),
            uptime_s=round(now - self._started, 1),
            bind=tuple(str(listener.address) for listener in self._listeners),
            control=control,
            app=printable(app, 200),
            name=printable(name, 100),
            host=self._host,
            user=self._user,
            version=__version__,
            python=platform.python_version(),
            workers_wanted=roster.wanted,
            threads=self.threads,
            cpu_percent=None if own_cpu is None else round(own_cpu * 100, 1),
            rss_bytes=self._master_rss,
            reloading_to=reloading_to(roster),
            log=self.log,
            reload=progress(roster, now),
            memory_limit_bytes=self._memory_figures.limit_bytes,
            memory_used_bytes=self._memory_figures.current_bytes,
            memory_room_bytes=self._memory_figures.room_bytes,
            cpu_limit=self._cpu_limit,
            control_shared=self.control_shared,
        )

    def _generations(self) -> tuple[GenerationSnapshot, ...]:
        counts: dict[int, int] = {}
        for record in self._roster.live():
            counts[record.generation] = counts.get(record.generation, 0) + 1
        newest = sorted(self._roster.generations)[-8:]
        return tuple(
            GenerationSnapshot(
                number=generation.number,
                state=_GENERATION_STATES[generation.phase],
                zygote_pid=generation.zygote_pid,
                zygote_rss_bytes=self._zygote_rss.get(generation.number),
                workers=counts.get(generation.number, 0),
                error=printable(" ".join(line.strip() for line in generation.error.split("\n")), 500),
                stale=printable(self.stale.get(generation.number, ""), 300),
            )
            for generation in self._roster.generations.values()
            if generation.number in newest or generation.number in counts
        )

    def _totals(
        self, now: float, workers: tuple[WorkerSnapshot, ...], listeners: tuple[ListenerSnapshot, ...]
    ) -> Totals:
        requests = self._folded_requests + sum(w.requests for w in workers)
        errors = self._folded_errors + sum(w.errors for w in workers)
        times = os.times()
        cpu = self._cpu.add(now, self._folded_cpu_s + sum(self._cpu_s.values()) + times.user + times.system)
        p50, p95, p99 = self._percentiles.values()
        queues = [listener.queue for listener in listeners if listener.queue is not None]
        rss = (
            sum(w.rss_bytes or 0 for w in workers) + sum(self._zygote_rss.values()) + (self._master_rss or 0)
        )
        return Totals(
            requests=requests,
            errors=errors,
            rps=_rounded(self._requests.add(now, requests), 1),
            errors_per_s=_rounded(self._errors.add(now, errors), 2),
            p50_ms=_rounded(p50, 2),
            p95_ms=_rounded(p95, 2),
            p99_ms=_rounded(p99, 2),
            threads=sum(w.threads for w in workers if w.state not in ("booting", "quarantined")),
            threads_busy=sum(w.threads_busy for w in workers),
            queue=sum(queues) if queues else None,
            backlog=sum(listener.backlog for listener in listeners),
            cpu_percent=None if cpu is None else round(cpu * 100, 1),
            rss_bytes=rss,
            pss_bytes=self._pss.total(process.pid for process in self._all_processes()),
        )

    def _remember(self, snapshot: Snapshot) -> None:
        totals = snapshot.totals
        self.history.append(
            Second(
                at=snapshot.at,
                rps=totals.rps or 0.0,
                p50_ms=totals.p50_ms,
                p95_ms=totals.p95_ms,
                p99_ms=totals.p99_ms,
                threads=totals.threads,
                threads_busy=totals.threads_busy,
                queue=totals.queue,
                cpu_percent=totals.cpu_percent,
                rss_bytes=totals.rss_bytes,
                pss_bytes=totals.pss_bytes,
                errors_per_s=totals.errors_per_s or 0.0,
            )
        )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
