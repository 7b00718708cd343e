"""What deserves a word in the header whatever else is on the screen. Pure functions of pictures.

:data:`KINDS` is the whole vocabulary, the worst first; the help explains it from there. An alarm is for a
state that lasts: whatever a single unlucky second could raise is judged over several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from wsgitop.snapshot import GenerationSnapshot, Second, Severity, Snapshot

ERRORS_WINDOW_S = 10
ERRORS_SHARE = 0.05
ERRORS_LEAST = 3.0
"""Fewer errors than this in the window are told by the table, not by an alarm: on a quiet server one error
is a large share."""
BUSY_S = 5
"""How long all threads must have been busy."""
QUEUE_WINDOW_S = 9
"""The queue grows when all of the last third of this exceed all of the first third."""
QUEUE_LEAST = 3
MEMORY_SHARE = 0.9

Seconds = Sequence[Second]


class Alarm(NamedTuple):
    """``text`` is short and tells by itself what is the matter; ``severity`` gives its colour. ``kind`` is a
    key of :data:`KINDS`.
    """

    severity: Severity
    text: str
    kind: str


class Kind(NamedTuple):
    """One kind of alarm: the word it is known by, and what it means, with what to do."""

    word: str
    severity: Severity
    text: Callable[[Snapshot, Seconds], str]
    """What the alarm says; '' if there is no reason for it."""
    help: str


def alarms(snapshot: Snapshot | None, seconds: Seconds = ()) -> tuple[Alarm, ...]:
    """The alarms of a picture, the worst first. ``seconds`` are the last ones, oldest first."""
    if snapshot is None:
        return ()
    recent = [second for second in seconds if second.at > snapshot.at - 2 * ERRORS_WINDOW_S]
    return tuple(
        Alarm(kind.severity, text, name)
        for name, kind in KINDS.items()
        if (text := kind.text(snapshot, recent))
    )


def failed_generation(snapshot: Snapshot) -> GenerationSnapshot | None:
    """The newest generation when it failed: the last reload did not work out and the older code goes on
    serving."""
    newest = max(snapshot.generations, key=lambda generation: generation.number, default=None)
    return newest if newest is not None and newest.state == "failed" else None


def memory_share(snapshot: Snapshot) -> float | None:
    """How much of the control group's memory limit is in use and cannot be had back, 0 to 1."""
    master = snapshot.master
    limit = master.memory_limit_bytes
    if not limit:
        return None
    if master.memory_room_bytes is not None:
        return max(0.0, 1 - master.memory_room_bytes / limit)
    return None if master.memory_used_bytes is None else master.memory_used_bytes / limit


def _degraded(snapshot: Snapshot, _seconds: Seconds) -> str:
    return "DEGRADED" if snapshot.master.state == "degraded" else ""


def _stuck(snapshot: Snapshot, _seconds: Seconds) -> str:
    stuck = sum(worker.state == "stuck" for worker in snapshot.workers)
    return f"{stuck} STUCK" if stuck else ""


def _errors(_snapshot: Snapshot, seconds: Seconds) -> str:
    window = seconds[-ERRORS_WINDOW_S:]
    errors = sum(second.errors_per_s for second in window)
    requests = sum(second.rps for second in window)
    if errors < ERRORS_LEAST or not requests or errors / requests < ERRORS_SHARE:
        return ""
    return f"ERRORS {min(100, round(100 * errors / requests))}%"


def _reload_failed(snapshot: Snapshot, _seconds: Seconds) -> str:
    failed = failed_generation(snapshot)
    if failed is None:
        return ""
    return f"RELOAD FAILED gen {failed.number}, {snapshot.master.generation} serves"


def _memory(snapshot: Snapshot, _seconds: Seconds) -> str:
    share = memory_share(snapshot)
    return f"MEMORY {min(100, int(100 * share))}%" if share is not None and share >= MEMORY_SHARE else ""


def _short(snapshot: Snapshot, seconds: Seconds) -> str:
    window = seconds[-BUSY_S:]
    totals = snapshot.totals
    full = all(0 < second.threads <= second.threads_busy for second in window)
    if len(window) < BUSY_S or not full or not 0 < totals.threads <= totals.threads_busy:
        return ""
    return f"SHORT OF WORKERS {totals.threads_busy}/{totals.threads} busy"


def _queue(_snapshot: Snapshot, seconds: Seconds) -> str:
    depths = [second.queue for second in seconds[-QUEUE_WINDOW_S:] if second.queue is not None]
    third = QUEUE_WINDOW_S // 3
    if len(depths) < QUEUE_WINDOW_S:
        return ""
    least = min(depths[-third:])
    return f"QUEUE {depths[-1]} growing" if least >= QUEUE_LEAST and least > max(depths[:third]) else ""


def _stale(snapshot: Snapshot, _seconds: Seconds) -> str:
    current = snapshot.master.generation
    changed = any(one.number == current and one.stale for one in snapshot.generations)
    # While the next one is being loaded, it is being seen to.
    return "STALE CODE" if changed and snapshot.master.state != "reloading" else ""


def _mixed(snapshot: Snapshot, _seconds: Seconds) -> str:
    generations = sorted({worker.generation for worker in snapshot.workers})
    if snapshot.master.state == "reloading" or len(generations) < 2:
        return ""
    return "MIXED gen " + "+".join(map(str, generations))


def _stopping(snapshot: Snapshot, _seconds: Seconds) -> str:
    return "STOPPING" if snapshot.master.state == "stopping" else ""


def _reloading(snapshot: Snapshot, _seconds: Seconds) -> str:
    master = snapshot.master
    if master.state != "reloading":
        return ""
    steps = master.reload
    if steps is not None and steps.stage != "loading":
        return f"RELOADING {steps.from_generation}→{steps.to_generation} {steps.ready}/{steps.workers}"
    target = master.reloading_to
    return f"RELOADING {master.generation}→{target}" if target is not None else "RELOADING"


def _booting(snapshot: Snapshot, _seconds: Seconds) -> str:
    return "BOOTING" if snapshot.master.state == "booting" else ""


KINDS: dict[str, Kind] = {
    "degraded": Kind(
        "DEGRADED", "error", _degraded, "too few workers serve, and new ones do not come up; v and d say why"
    ),
    "stuck": Kind(
        "STUCK", "error", _stuck, "workers run a request for too long or do not beat; S shows where they are"
    ),
    "errors": Kind(
        "ERRORS", "error", _errors, "at least 5 % of the requests of the last 10 s were answered 5xx or cut"
    ),
    "reload failed": Kind(
        "RELOAD FAILED", "error", _reload_failed, "new code does not load, the old serves on; v shows why"
    ),
    "memory": Kind(
        "MEMORY", "error", _memory, "90 % of the control group's limit; beyond it the kernel kills workers"
    ),
    "short": Kind(
        "SHORT OF WORKERS", "warning", _short, "all threads have been busy for 5 s: + adds a worker"
    ),
    "queue": Kind(
        "QUEUE growing", "warning", _queue, "connections wait unaccepted, and more than a few seconds ago"
    ),
    "stopping": Kind("STOPPING", "warning", _stopping, "the server finishes its requests and ends"),
    "stale": Kind("STALE CODE", "warning", _stale, "files have changed since they were loaded; H reloads"),
    "mixed": Kind(
        "MIXED gen", "warning", _mixed, "workers of several generations serve, and no reload is under way"
    ),
    "reloading": Kind("RELOADING", "info", _reloading, "the workers are being replaced; how many are ready"),
    "booting": Kind("BOOTING", "info", _booting, "the server is starting"),
}
"""The worst first."""
