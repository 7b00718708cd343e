"""The tables of states: every pair of state and event."""

from __future__ import annotations

import itertools

import pytest

from wsgitop.master.roster import GenerationRecord, WorkerRecord
from wsgitop.master.states import (
    GENERATION_TRANSITIONS,
    WORKER_TRANSITIONS,
    GenerationEvent,
    GenerationPhase,
    IllegalTransition,
    WorkerEvent,
    WorkerPhase,
)


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(WorkerPhase, WorkerEvent)))
def test_worker(phase: WorkerPhase, event: WorkerEvent) -> None:
    record = WorkerRecord(1, 1, 0, 1, 0.0, phase=phase)
    if (phase, event) in WORKER_TRANSITIONS:
        record.see(event)
        assert record.phase is WORKER_TRANSITIONS[phase, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{phase.value} cannot see {event.value}"):
            record.see(event)
        assert record.phase is phase


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(GenerationPhase, GenerationEvent)))
def test_generation(phase: GenerationPhase, event: GenerationEvent) -> None:
    record = GenerationRecord(1, 0.0, roll=False, phase=phase)
    if (phase, event) in GENERATION_TRANSITIONS:
        record.see(event)
        assert record.phase is GENERATION_TRANSITIONS[phase, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{phase.value} cannot see {event.value}"):
            record.see(event)
        assert record.phase is phase


def test_nothing_comes_back_from_the_dead() -> None:
    assert not [event for phase, event in WORKER_TRANSITIONS if phase is WorkerPhase.GONE]
    for ended in (GenerationPhase.FAILED, GenerationPhase.ENDED):
        reached = {after for (before, _), after in GENERATION_TRANSITIONS.items() if before is ended}
        assert reached <= {GenerationPhase.FAILED}


def test_whatever_lives_can_die() -> None:
    for phase in set(WorkerPhase) - {WorkerPhase.GONE}:
        assert WORKER_TRANSITIONS[phase, WorkerEvent.DIED] is WorkerPhase.GONE
    for generation in set(GenerationPhase) - {GenerationPhase.ENDED}:
        after = GENERATION_TRANSITIONS[generation, GenerationEvent.ZYGOTE_DIED]
        assert after in (GenerationPhase.ENDED, GenerationPhase.FAILED)


def test_workers_are_active_until_they_retire() -> None:
    active = {phase for phase in WorkerPhase if WorkerRecord(1, 1, 0, 1, 0.0, phase=phase).active}
    coming = {phase for phase in WorkerPhase if WorkerRecord(1, 1, 0, 1, 0.0, phase=phase).coming}
    assert active == {WorkerPhase.STARTING, WorkerPhase.BOOTING, WorkerPhase.READY}
    assert WorkerPhase.QUARANTINED not in active
    assert coming == active - {WorkerPhase.READY}
