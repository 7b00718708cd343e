"""Which workers have served long enough: a pure function of settings, roster and what the sampler has seen.

What is done about it is the plan's: a worker that is worn is replaced as in a reload, its successor first. So
is one that an operator has ordered to retire.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from wsgitop.master.roster import STABLE_S, Roster, WorkerRecord
from wsgitop.master.states import WorkerPhase
from wsgitop.settings.table import Settings

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What a worker has served and holds. ``rss_bytes`` None: not known yet."""

    requests: int
    rss_bytes: int | None


def draw_limits(record: WorkerRecord, settings: Settings, rng: random.Random) -> None:
    """Give a worker that has become ready its own limits; 0: none. The jitter keeps workers that began
    together from ending together.
    """
    if settings.max_requests:
        record.max_requests = settings.max_requests + rng.randint(0, settings.max_requests_jitter)
    if settings.max_lifetime:
        record.max_lifetime_s = settings.max_lifetime + rng.uniform(0, settings.max_lifetime_jitter)
    record.max_rss_bytes = settings.max_rss


def worn(roster: Roster, usage: Mapping[int, Usage], now: float) -> dict[int, str]:
    """The workers that are to be replaced, by number, and why."""
    found: dict[int, str] = {}
    for record in roster.workers.values():
        if record.phase is not WorkerPhase.READY:
            continue
        why = _why(record, usage.get(record.worker), now)
        if why:
            found[record.worker] = why
    return found


def _why(record: WorkerRecord, usage: Usage | None, now: float) -> str:
    if record.ordered:
        return record.ordered
    if record.max_lifetime_s and record.ready_at is not None:
        age_s = now - record.ready_at
        if age_s >= record.max_lifetime_s:
            return f"recycled after {age_s:,.0f} s (--max-lifetime)"
    if usage is None:
        return ""
    if 0 < record.max_requests <= usage.requests:
        return f"recycled after {usage.requests:,} requests (--max-requests)"
    # One that needs too much from the start would be replaced for ever: not in a whirl at least.
    young = record.ready_at is None or now - record.ready_at < STABLE_S
    if (
        record.max_rss_bytes
        and not young
        and usage.rss_bytes is not None
        and usage.rss_bytes > record.max_rss_bytes
    ):
        limit = f"{record.max_rss_bytes / MIB:,.0f} MiB"
        return f"recycled at {usage.rss_bytes / MIB:,.0f} MiB of memory, above {limit} (--max-rss)"
    return ""
