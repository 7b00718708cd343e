"""How far a reload is: a pure function of roster and clock."""

from __future__ import annotations

from wsgitop.master.condition import reloading_to
from wsgitop.master.roster import Roster
from wsgitop.snapshot import ReloadSnapshot, ReloadStage


def progress(roster: Roster, now: float) -> ReloadSnapshot | None:
    """How far the reload is that is under way; None: there is none."""
    number = reloading_to(roster)
    if number is None:
        return None
    fresh = sum(1 for worker in roster.ready() if worker.generation == number)
    old = {worker.generation for worker in roster.live()} - {number}
    record = roster.generations.get(number)
    stage: ReloadStage = "going back" if old and max(old) > number else "replacing"
    return ReloadSnapshot(
        from_generation=max(old, default=roster.good),
        to_generation=number,
        stage=stage if roster.loading() is None else "loading",
        ready=fresh,
        workers=roster.wanted,
        old=sum(1 for worker in roster.live() if worker.generation != number),
        elapsed_s=round(max(0.0, now - record.started_at), 1) if record is not None else 0.0,
    )


def step(roster: Roster, generation: int) -> str:
    """Behind the news that a worker of ``generation`` is ready: `` (2 of 4)`` in a reload, else nothing."""
    if not roster.rolling or generation != roster.target:
        return ""
    fresh = sum(1 for worker in roster.ready() if worker.generation == generation)
    return f" ({fresh} of {roster.wanted})"
