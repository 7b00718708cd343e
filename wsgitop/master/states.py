"""The states of a worker and of a generation, as tables: what may follow what, and on which event.

An event that is not in the table for a state is a fault of the master and raises; nothing changes then.
"""

from __future__ import annotations

from enum import Enum


class WorkerPhase(Enum):
    """Where a worker process is in its life. What a thread does meanwhile is on the scoreboard."""

    STARTING = "starting"  # the zygote has been asked to fork; no pid yet
    BOOTING = "booting"  # the process runs and loads the application
    READY = "ready"  # it accepts connections
    QUARANTINED = "quarantined"  # it finishes what it has, accepts nothing, and stays to be looked at
    RETIRING = "retiring"  # it finishes what it has and goes
    GONE = "gone"


class WorkerEvent(Enum):
    FORKED = "forked"
    READY = "ready"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    RETIRE = "retire"
    DIED = "died"


class GenerationPhase(Enum):
    """Where a generation is. Its workers may outlive its zygote."""

    LOADING = "loading"  # the zygote reads the configuration and, with --preload, the application
    READY = "ready"  # the zygote forks
    FAILED = "failed"  # it could not be loaded, or its workers could not boot
    ENDING = "ending"  # the zygote has been told to go
    ENDED = "ended"  # no zygote


class GenerationEvent(Enum):
    LOADED = "loaded"
    FAIL = "fail"
    END = "end"
    ZYGOTE_DIED = "zygote died"


class IllegalTransition(Exception):
    """An event that cannot happen in this state."""


_W, _E = WorkerPhase, WorkerEvent
WORKER_TRANSITIONS: dict[tuple[WorkerPhase, WorkerEvent], WorkerPhase] = {
    (_W.STARTING, _E.FORKED): _W.BOOTING,
    (_W.STARTING, _E.READY): _W.READY,  # its own message overtook the zygote's
    (_W.STARTING, _E.RETIRE): _W.RETIRING,
    (_W.STARTING, _E.DIED): _W.GONE,
    (_W.BOOTING, _E.READY): _W.READY,
    (_W.BOOTING, _E.RETIRE): _W.RETIRING,
    (_W.BOOTING, _E.DIED): _W.GONE,
    (_W.READY, _E.FORKED): _W.READY,
    (_W.READY, _E.QUARANTINE): _W.QUARANTINED,
    (_W.QUARANTINED, _E.FORKED): _W.QUARANTINED,
    (_W.QUARANTINED, _E.RELEASE): _W.READY,
    (_W.QUARANTINED, _E.RETIRE): _W.RETIRING,
    (_W.QUARANTINED, _E.DIED): _W.GONE,
    (_W.READY, _E.RETIRE): _W.RETIRING,
    (_W.READY, _E.DIED): _W.GONE,
    (_W.RETIRING, _E.FORKED): _W.RETIRING,
    (_W.RETIRING, _E.READY): _W.RETIRING,  # it was told to retire while it booted
    (_W.RETIRING, _E.RETIRE): _W.RETIRING,
    (_W.RETIRING, _E.DIED): _W.GONE,
}

_G, _F = GenerationPhase, GenerationEvent
GENERATION_TRANSITIONS: dict[tuple[GenerationPhase, GenerationEvent], GenerationPhase] = {
    (_G.LOADING, _F.LOADED): _G.READY,
    (_G.LOADING, _F.FAIL): _G.FAILED,
    (_G.LOADING, _F.END): _G.ENDING,
    (_G.LOADING, _F.ZYGOTE_DIED): _G.FAILED,
    (_G.READY, _F.FAIL): _G.FAILED,
    (_G.READY, _F.END): _G.ENDING,
    (_G.READY, _F.ZYGOTE_DIED): _G.ENDED,
    (_G.FAILED, _F.FAIL): _G.FAILED,
    (_G.FAILED, _F.END): _G.FAILED,
    (_G.FAILED, _F.LOADED): _G.FAILED,
    (_G.FAILED, _F.ZYGOTE_DIED): _G.FAILED,
    (_G.ENDING, _F.LOADED): _G.ENDING,
    (_G.ENDING, _F.FAIL): _G.ENDING,
    (_G.ENDING, _F.END): _G.ENDING,
    (_G.ENDING, _F.ZYGOTE_DIED): _G.ENDED,
    (_G.ENDED, _F.FAIL): _G.FAILED,  # its workers turn out not to boot after its zygote is gone
}


def next_worker_phase(phase: WorkerPhase, event: WorkerEvent) -> WorkerPhase:
    """The phase after ``event``. Raises IllegalTransition."""
    try:
        return WORKER_TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(f"a worker that is {phase.value} cannot see {event.value}") from None


def next_generation_phase(phase: GenerationPhase, event: GenerationEvent) -> GenerationPhase:
    """The phase after ``event``. Raises IllegalTransition."""
    try:
        return GENERATION_TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(f"a generation that is {phase.value} cannot see {event.value}") from None
