"""What may be lost and what not: pure functions of what was injected and what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.client import Failure

IN_HAND_S: Final = 0.5
"""A client learns so soon that the process that had its connection is gone."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The end of a worker, given by somebody else."""

    pid: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Strength:
    """How many workers there were at one moment; ``aside`` of them are not part of the plan's sum: in
    quarantine, or going by themselves.
    """

    at_s: float
    workers: int
    aside: int
    wanted: int


def excuse(failure: Failure, callers: Sequence[int], kills: Iterable[Kill]) -> Kill | None:
    """Whose end explains a failure; None: it must not have happened.

    A request that was called is lost with the one worker that called it. One that was not called was in the
    hands of a worker that ended just then: not read yet, or still in its table.
    """
    for kill in kills:
        if callers:
            if kill.pid == callers[-1] and kill.at_s <= failure.ended_s:
                return kill
        elif failure.begun_s - IN_HAND_S <= kill.at_s <= failure.ended_s <= kill.at_s + IN_HAND_S:
            return kill
    return None


def called_twice(calls: Mapping[int, Sequence[int]]) -> list[str]:
    """Requests that reached the application more than once."""
    return [f"request {n} was called by {list(pids)}" for n, pids in calls.items() if len(pids) > 1]


def too_many(seen: Sequence[Strength], surge: int, window_s: float) -> list[str]:
    """Moments with more workers than wanted and surge. What was wanted before may take its time to go:
    ``window_s``.
    """
    found = []
    for index, now in enumerate(seen):
        recent = [s.wanted for s in seen[max(0, index - 1000) : index + 1] if s.at_s >= now.at_s - window_s]
        most = max(recent) + surge
        if now.workers - now.aside > most:
            found.append(f"{now.workers} workers, {now.aside} of them aside, where at most {most} may be")
    return found


def grown(what: str, before: int, after: int, allowed: int) -> list[str]:
    """A figure of the master that may vary by ``allowed``."""
    return [f"the master's {what} grew from {before} to {after}"] if after > before + allowed else []
