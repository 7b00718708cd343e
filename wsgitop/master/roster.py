"""Who is there: the records of generations and workers, and what has been decided about them. Pure: no
process, no clock.

A record is not the process; the supervisor keeps channels and descriptors elsewhere, under the same numbers.
All times are seconds of one monotonic clock, given by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from wsgitop.master.states import (
    GenerationEvent,
    GenerationPhase,
    WorkerEvent,
    WorkerPhase,
    next_generation_phase,
    next_worker_phase,
)

STABLE_S = 10.0
"""A worker that dies by itself sooner after it was ready counts like one that could not boot."""
BACKOFF_FIRST_S = 0.5
BACKOFF_LIMIT_S = 60.0
TRIES = 10
TRIES_S = 60.0
"""While workers fail, at most TRIES are forked in TRIES_S: the delay alone bounds how often one tries, and as
many may come and die each time as are wanted.
"""


@dataclass(slots=True)
class WorkerRecord:
    """One worker process. ``worker`` is its number, never used again; ``slot`` is its place on the screen."""

    worker: int
    slot: int
    row: int
    generation: int
    asked_at: float
    phase: WorkerPhase = WorkerPhase.STARTING
    pid: int | None = None
    ready_at: float | None = None
    retire_at: float | None = None
    graceful_s: float = 0.0
    lost: bool = (
        False  # it gave itself up (a request exceeded --timeout): its replacement need not wait for its end
    )
    told_to_stop: bool = False  # it knows, if it retires, that no other worker takes its connections over
    abort_at: float | None = None  # when SIGABRT was sent
    kill_at: float | None = None  # when SIGKILL was sent
    boot_failed: bool = False  # it has said that it cannot load the application
    releasing: bool = False  # it is in quarantine and has been told to serve again
    recycled: bool = False  # it retires because it was worn, and another serves in its place
    ordered: str = ""  # by whom it is to be replaced, in words; '' if by nobody
    max_requests: int = 0  # its own limits, jitter included; 0: none (see recycling.py)
    max_lifetime_s: float = 0.0
    max_rss_bytes: int = 0

    def see(self, event: WorkerEvent) -> None:
        """Take a step of the state table. Raises IllegalTransition."""
        self.phase = next_worker_phase(self.phase, event)

    @property
    def active(self) -> bool:
        """It serves or will: neither retiring nor gone."""
        return self.phase in (WorkerPhase.STARTING, WorkerPhase.BOOTING, WorkerPhase.READY)

    @property
    def coming(self) -> bool:
        """It does not serve yet."""
        return self.phase in (WorkerPhase.STARTING, WorkerPhase.BOOTING)


@dataclass(slots=True)
class GenerationRecord:
    """One generation. ``roll``: when it is loaded, the workers of the others are to be replaced by its own;
    ``commanded``: somebody asked for it by a reload, rather than the plan for want of a zygote."""

    number: int
    started_at: float
    roll: bool
    commanded: bool = False
    ready_at: float | None = None
    reads: bool = False  # its zygote has been told to read configuration and code
    phase: GenerationPhase = GenerationPhase.LOADING
    zygote_pid: int | None = None
    error: str = ""
    detail: str = ""
    import_error: bool = False
    killed_booting: int = 0  # workers in a row that were killed from outside before they were ready

    def see(self, event: GenerationEvent) -> None:
        """Take a step of the state table. Raises IllegalTransition."""
        self.phase = next_generation_phase(self.phase, event)

    @property
    def forks(self) -> bool:
        """Its zygote can fork workers."""
        return self.phase is GenerationPhase.READY


@dataclass(slots=True)
class Roster:
    """All records, and the decisions so far.

    ``target`` is the generation that new workers come from, ``rolling`` that workers of other generations are
    being replaced, ``good`` the last generation that a reload was completed with: the one to go back to.
    """

    wanted: int
    generations: dict[int, GenerationRecord] = field(default_factory=dict)
    workers: dict[int, WorkerRecord] = field(default_factory=dict)
    target: int = 0
    good: int = 0
    rolling: bool = False
    stopping: bool = False
    quick: bool = False
    boot_failures: int = 0  # in a row
    boot_failed_at: float = 0.0
    fork_not_before: float = 0.0
    tries: deque[float] = field(default_factory=lambda: deque(maxlen=TRIES))
    """When workers were forked since the first of these failures."""
    zygote_failures: int = 0
    zygote_not_before: float = 0.0
    ever_ready: bool = False
    next_worker: int = 1
    next_generation: int = 1

    # -- looking ------------------------------------------------

    def live(self) -> Iterator[WorkerRecord]:
        """Every worker process that exists or has been asked for."""
        return (w for w in self.workers.values() if w.phase is not WorkerPhase.GONE)

    def active(self) -> list[WorkerRecord]:
        """Workers that serve or will."""
        return [w for w in self.workers.values() if w.active]

    def ready(self) -> list[WorkerRecord]:
        """Workers that accept connections."""
        return [w for w in self.workers.values() if w.phase is WorkerPhase.READY]

    def quarantined(self) -> list[WorkerRecord]:
        """Workers that are kept to be looked at."""
        return [w for w in self.workers.values() if w.phase is WorkerPhase.QUARANTINED]

    def loading(self) -> GenerationRecord | None:
        """The generation that is being loaded, if any (there is at most one)."""
        return next((g for g in self.generations.values() if g.phase is GenerationPhase.LOADING), None)

    def target_generation(self) -> GenerationRecord | None:
        """The generation that workers are forked from."""
        return self.generations.get(self.target)

    def mixed(self) -> bool:
        """Workers of several generations serve at once."""
        return len({w.generation for w in self.active()}) > 1

    def mixed_with(self, generation: int) -> bool:
        """Workers of other generations than this serve."""
        return any(w.generation != generation for w in self.active())

    def tries_left(self, now: float) -> int | None:
        """How many workers may be forked now although some have failed; None: as many as one likes, because
        one that was ready after the last failure has lasted.
        """
        if any(w.ready_at is not None and w.ready_at > self.boot_failed_at and _stable(w.ready_at, now)
               for w in self.ready()):  # fmt: skip
            return None
        return TRIES - sum(1 for at in self.tries if now - at < TRIES_S)

    def next_try_at(self, now: float) -> float:
        """When a worker may be forked again after failures."""
        exhausted = self.boot_failures and self.tries_left(now) == 0
        return max(self.fork_not_before, self.tries[0] + TRIES_S if exhausted else 0.0)

    # -- changing ------------------------------------------------

    def add_generation(self, now: float, *, roll: bool, commanded: bool = False) -> GenerationRecord:
        """A new generation, loading."""
        record = GenerationRecord(self.next_generation, now, roll, commanded)
        self.next_generation += 1
        self.generations[record.number] = record
        return record

    def add_worker(self, slot: int, row: int, generation: int, now: float) -> WorkerRecord:
        """A new worker, starting."""
        record = WorkerRecord(self.next_worker, slot, row, generation, now)
        self.next_worker += 1
        self.workers[record.worker] = record
        if self.boot_failures:
            self.tries.append(now)
        return record

    def count_boot_failure(self, now: float) -> None:
        """A worker could not boot, or died by itself soon after: wait longer before the next try."""
        self.boot_failures += 1
        self.boot_failed_at = now
        delay = min(BACKOFF_LIMIT_S, BACKOFF_FIRST_S * 2 ** min(20, self.boot_failures - 1))
        self.fork_not_before = max(self.fork_not_before, now + delay)

    def acquit(self, worker: WorkerRecord) -> None:
        """A worker that served has ended by no fault of its own: forking it is no failed try."""
        if worker.asked_at in self.tries:
            self.tries.remove(worker.asked_at)

    def count_zygote_failure(self, now: float) -> None:
        """A zygote died or could not load while it was needed: wait longer before the next one."""
        self.zygote_failures += 1
        delay = min(BACKOFF_LIMIT_S, BACKOFF_FIRST_S * 2 ** min(20, self.zygote_failures - 1))
        self.zygote_not_before = now + delay

    def forgive(self, now: float) -> None:
        """Forget failures of zygotes once that of the target has run for STABLE_S, and of workers once as
        many as are wanted have served for so long and none has failed.

        That one old worker serves on says nothing: it has loaded the code that its successors cannot load.
        """
        target = self.target_generation()
        if self.zygote_failures and target is not None and target.forks and _stable(target.ready_at, now):
            self.zygote_failures = 0
            self.zygote_not_before = 0.0
        if self.boot_failures and _stable(self.boot_failed_at, now):
            stable = [worker for worker in self.ready() if _stable(worker.ready_at, now)]
            if len(stable) >= self.wanted:
                self.forget_boot_failures()

    def forget_boot_failures(self) -> None:
        """Try again at once, and with all that are wanted."""
        self.boot_failures = 0
        self.fork_not_before = 0.0
        self.tries.clear()


def _stable(since: float | None, now: float) -> bool:
    return since is not None and now - since >= STABLE_S
