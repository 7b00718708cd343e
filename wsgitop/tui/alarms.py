"""What deserves a word in the header whatever else is on the screen."""

from __future__ import annotations

from typing import NamedTuple

from wsgitop.snapshot import GenerationSnapshot, MasterSnapshot, Severity, Snapshot


class Alarm(NamedTuple):
    """``text`` is short and tells by itself what is the matter; ``severity`` gives its colour."""

    severity: Severity
    text: str


def alarms(snapshot: Snapshot | None) -> tuple[Alarm, ...]:
    """The alarms of a picture, the worst first."""
    if snapshot is None:
        return ()
    found = []
    master = snapshot.master
    stuck = sum(worker.state == "stuck" for worker in snapshot.workers)
    if stuck:
        found.append(Alarm("error", f"{stuck} STUCK"))
    if master.state == "degraded":
        found.append(Alarm("error", "DEGRADED"))
    failed = failed_generation(snapshot)
    if failed is not None:
        found.append(Alarm("error", f"RELOAD FAILED gen {failed.number}"))
    if master.state == "stopping":
        found.append(Alarm("warning", "STOPPING"))
    elif master.state == "booting":
        found.append(Alarm("info", "BOOTING"))
    generations = sorted({worker.generation for worker in snapshot.workers})
    if master.state == "reloading":
        found.append(Alarm("info", _reloading(master)))
    elif len(generations) > 1:
        found.append(Alarm("warning", "MIXED gen " + "+".join(map(str, generations))))
    return tuple(found)


def _reloading(master: MasterSnapshot) -> str:
    steps = master.reload
    if steps is not None and steps.stage != "loading":
        return f"RELOADING {steps.from_generation}→{steps.to_generation} {steps.ready}/{steps.workers}"
    target = master.reloading_to
    return f"RELOADING {master.generation}→{target}" if target is not None else "RELOADING"


def failed_generation(snapshot: Snapshot) -> GenerationSnapshot | None:
    """The newest generation when it failed: the last reload did not work out and the older code goes on
    serving."""
    newest = max(snapshot.generations, key=lambda generation: generation.number, default=None)
    return newest if newest is not None and newest.state == "failed" else None
