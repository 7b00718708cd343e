"""What to do next: a pure function of settings, roster and clock.

Rolling reload, scaling, replacing the dead, back-off and stopping are one comparison of what is with what is
wanted, and its answer is a short list of actions that the supervisor performs. Performing them changes the
roster; asking again then gives the next step, until there is nothing left to do. A script of steps would have
to foresee every death in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wsgitop.master.roster import GenerationRecord, Roster, WorkerRecord
from wsgitop.master.states import GenerationPhase, WorkerPhase

ABORT_GRACE_S = 2.0
"""Between SIGABRT, which makes a worker dump its stacks, and SIGKILL."""
FORKS_AT_ONCE = 32
"""Workers that the zygote may be asked for and has not forked yet: its channel must never be full."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that the plan depends on; durations in seconds."""

    surge: int = 1
    boot_timeout_s: float = 60.0
    graceful_timeout_s: float = 30.0
    load_timeout_s: float = 60.0
    """--boot-timeout for the zygote that loads now: its own configuration's, as soon as that is known."""


@dataclass(frozen=True, slots=True)
class SpawnZygote:
    """Start a new generation because the zygote of the current one is gone."""


@dataclass(frozen=True, slots=True)
class EndZygote:
    generation: int


@dataclass(frozen=True, slots=True)
class Fork:
    generation: int
    slot: int


@dataclass(frozen=True, slots=True)
class Retire:
    worker: int
    why: str
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Abort:
    """SIGABRT: the worker does not answer any more; its stacks go to the log."""

    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class Kill:
    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class FailGeneration:
    """Give this generation up; the supervisor goes back to the last good one."""

    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class ReloadDone:
    generation: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Stopping, and nobody is left."""


NOBODY: Mapping[int, str] = MappingProxyType({})

Action = SpawnZygote | EndZygote | Fork | Retire | Abort | Kill | FailGeneration | ReloadDone | Finished


def plan(
    roster: Roster,
    limits: Limits,
    now: float,
    silent: frozenset[int] = frozenset(),
    worn: Mapping[int, str] = NOBODY,
) -> list[Action]:
    """The next actions. ``silent`` are workers whose heartbeat has been missing too long while they serve;
    ``worn`` those that are to be replaced although nothing is wrong with them, and why.
    """
    if roster.stopping:
        return _stop(roster, limits, now)
    actions: list[Action] = []
    actions += _deadlines(roster, limits, now, silent)
    actions += _zygotes(roster, limits, now)
    target = roster.target_generation()
    if target is None:
        return actions
    outdated = _outdated(roster, target, worn)
    actions += _forks(roster, limits, now, target, outdated)
    actions += _retirements(roster, target, outdated)
    if roster.rolling and not actions and _rolled(roster, target):
        actions.append(ReloadDone(target.number))
    return actions


def next_deadline(roster: Roster, limits: Limits, now: float) -> float | None:
    """When the plan may change although nothing happens; None: never."""
    moments = [roster.next_try_at(now), roster.zygote_not_before]
    for worker in roster.live():
        if worker.coming:
            moments.append(worker.asked_at + limits.boot_timeout_s)
        if worker.phase is WorkerPhase.RETIRING and worker.retire_at is not None:
            moments.append(worker.retire_at + worker.graceful_s + ABORT_GRACE_S)
        if worker.abort_at is not None:
            moments.append(worker.abort_at + ABORT_GRACE_S)
    loading = roster.loading()
    if loading is not None:
        moments.append(loading.started_at + limits.load_timeout_s)
    return min((moment for moment in moments if moment > now), default=None)


def _deadlines(roster: Roster, limits: Limits, now: float, silent: frozenset[int]) -> list[Action]:
    """Processes that exceeded a time: first SIGABRT, so that the log tells where they hang, then SIGKILL."""
    actions: list[Action] = []
    hung: set[int] = set()
    for worker in roster.live():
        if worker.kill_at is not None:
            continue
        if worker.abort_at is not None:
            if now >= worker.abort_at + ABORT_GRACE_S:
                actions.append(Kill(worker.worker, "it did not end after SIGABRT"))
        elif worker.phase is WorkerPhase.STARTING and _zygote_hangs(roster, worker, limits, now):
            hung.add(worker.generation)
        elif worker.coming and now >= worker.asked_at + limits.boot_timeout_s:
            actions.append(
                Abort(worker.worker, f"it did not boot within {limits.boot_timeout_s:g} s (--boot-timeout)")
            )
        elif worker.phase is WorkerPhase.RETIRING:
            assert worker.retire_at is not None
            if now >= worker.retire_at + worker.graceful_s + ABORT_GRACE_S:
                why = f"it did not finish within {worker.graceful_s:g} s (--graceful-timeout)"
                actions.append(Kill(worker.worker, why))
        elif worker.worker in silent and worker.phase is not WorkerPhase.QUARANTINED:
            actions.append(Abort(worker.worker, "its interpreter does not answer any more (--timeout)"))
    for number in sorted(hung):
        why = f"its zygote did not fork a worker within {limits.boot_timeout_s:g} s (--boot-timeout)"
        actions.append(FailGeneration(number, why))
    return actions


def _zygote_hangs(roster: Roster, worker: WorkerRecord, limits: Limits, now: float) -> bool:
    return roster.generations[worker.generation].forks and now >= worker.asked_at + limits.boot_timeout_s


def _zygotes(roster: Roster, limits: Limits, now: float) -> list[Action]:
    actions: list[Action] = []
    loading = roster.loading()
    if loading is not None and now >= loading.started_at + limits.load_timeout_s:
        why = f"the application did not load within {limits.load_timeout_s:g} s (--boot-timeout)"
        actions.append(FailGeneration(loading.number, why))
    target = roster.target_generation()
    if loading is None and now >= roster.zygote_not_before and (target is None or not target.forks):
        actions.append(SpawnZygote())
    if not roster.rolling and loading is None:
        for generation in roster.generations.values():
            if generation.forks and generation.number != roster.target:
                actions.append(EndZygote(generation.number))
    return actions


def _outdated(roster: Roster, target: GenerationRecord, worn: Mapping[int, str]) -> dict[int, str]:
    """The active workers that are to be replaced, and why: in a reload those of other generations, else those
    that are worn. Those wait while workers fail to boot: better worn ones than none.
    """
    if roster.rolling:
        why = f"replaced by generation {target.number}"
        return {w.worker: why for w in roster.active() if w.generation != target.number}
    if roster.boot_failures or roster.loading() is not None:
        return {}
    return {w.worker: worn[w.worker] for w in roster.active() if w.worker in worn}


def _forks(
    roster: Roster, limits: Limits, now: float, target: GenerationRecord, outdated: Mapping[int, str]
) -> list[Action]:
    if not target.forks or now < roster.fork_not_before:
        return []
    active = roster.active()
    fresh = [w for w in active if w.worker not in outdated]
    coming = sum(1 for w in active if w.coming)
    # Those that gave themselves up may be stuck for the whole grace time; waiting for them would starve the
    # site.
    there = sum(1 for w in roster.live() if not w.lost and w.phase is not WorkerPhase.QUARANTINED)
    room = roster.wanted + limits.surge - there
    if not active:
        # Many that were scaled down may take their time; they must not keep the site without a worker.
        room = max(room, 1)
    needed = roster.wanted - len(active)
    if roster.rolling or outdated:
        # These are replaced; a gap left by a death is filled at once as well.
        needed = max(needed, min(roster.wanted - len(fresh), limits.surge - coming))
    if roster.boot_failures:
        needed = min(needed, 1 - coming)  # while it fails, try with one
        left = roster.tries_left(now)
        needed = needed if left is None else min(needed, left)
    needed = min(needed, FORKS_AT_ONCE - sum(1 for w in active if w.phase is WorkerPhase.STARTING))
    taken = {w.slot for w in active}
    # A successor takes the slot of the one that it replaces, which is then retired.
    replaceable = sorted({w.slot for w in active if w.worker in outdated} - {w.slot for w in fresh})
    actions: list[Action] = []
    for _ in range(max(0, min(needed, room))):
        free = next(slot for slot in range(1, len(taken) + 2) if slot not in taken)
        slot = replaceable.pop(0) if free > roster.wanted and replaceable else free
        taken.add(slot)
        actions.append(Fork(target.number, slot))
    return actions


def _retirements(roster: Roster, target: GenerationRecord, outdated: Mapping[int, str]) -> list[Action]:
    active = roster.active()
    fresh = [w for w in active if w.worker not in outdated]
    fresh_ready = [w for w in fresh if w.phase is WorkerPhase.READY]
    actions: list[Action] = []
    if roster.rolling or outdated:
        keep = max(0, roster.wanted - len(fresh_ready))
        twins = {w.slot for w in fresh_ready}
        others = [w for w in active if w.worker in outdated]
        others.sort(key=lambda w: (w.phase is WorkerPhase.READY, w.slot not in twins, _age(w)))
        for worker in others[: max(0, len(others) - keep)]:
            actions.append(Retire(worker.worker, outdated[worker.worker]))
        fresh.sort(key=lambda w: (w.phase is WorkerPhase.READY, _age(w)))
        for worker in fresh[: max(0, len(fresh) - roster.wanted)]:
            actions.append(Retire(worker.worker, "scaled down"))
        return actions
    surplus = len(active) - roster.wanted
    if surplus > 0:
        # Who does not serve yet is the least loss; then who shares a slot with a newer one, such as one that
        # is back from quarantine; then the oldest, as TTOU does.
        newest = {w.slot: w.worker for w in sorted(active, key=_age)}
        order = sorted(
            active,
            key=lambda w: (
                w.phase is WorkerPhase.READY,
                w.generation == target.number,
                newest[w.slot] == w.worker,
                _age(w),
            ),
        )
        actions += [Retire(worker.worker, "scaled down") for worker in order[:surplus]]
    return actions


def _age(worker: WorkerRecord) -> tuple[float, int]:
    return (worker.asked_at, worker.worker)


def _rolled(roster: Roster, target: GenerationRecord) -> bool:
    fresh = [w for w in roster.ready() if w.generation == target.number]
    return len(fresh) >= roster.wanted and all(
        w.generation == target.number for w in roster.live() if w.phase is not WorkerPhase.QUARANTINED
    )


def _stop(roster: Roster, limits: Limits, now: float) -> list[Action]:
    actions: list[Action] = []
    live = list(roster.live())
    for worker in live:
        # Who retires already learns that there is nobody any more to pass connections on to.
        if not worker.told_to_stop or (roster.quick and worker.graceful_s > 0):
            # Who has not finished booting serves nobody, and may not hear anything before it has.
            actions.append(Retire(worker.worker, "the server stops", quick=roster.quick or worker.coming))
        elif (
            worker.kill_at is None
            and worker.retire_at is not None
            and now >= worker.retire_at + worker.graceful_s + ABORT_GRACE_S
        ):
            actions.append(Kill(worker.worker, "it did not end in time"))
    for generation in roster.generations.values():
        if generation.phase in (GenerationPhase.LOADING, GenerationPhase.READY):
            actions.append(EndZygote(generation.number))
    if not live and not any(g.zygote_pid is not None for g in roster.generations.values()):
        actions.append(Finished())
    return actions
