"""Health checks, answered by the master: ``/healthy`` and ``/ready`` at an address of their own.

The workers' threads may all be busy, or the application may hang; the answer comes all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from wsgitop.master.condition import condition
from wsgitop.master.responder import Asked, Reply, refusal
from wsgitop.master.roster import Roster


def health(roster: Roster, path: str, now: float) -> tuple[int, str]:
    """Status and one line for the path of a check. ``now`` is monotonic."""
    if path == "/healthy":
        return 200, "the master answers"
    if path != "/ready":
        return 404, "there are /healthy and /ready"
    state, reason = condition(roster, now)
    ready = len(roster.ready())
    if roster.stopping:
        return 503, "the server stops"
    if not ready:
        return 503, f"no worker is ready ({state}{': ' if reason else ''}{reason})"
    return 200, f"{ready} of {roster.wanted} workers are ready"


def answer_checks(roster: Roster, clock: Callable[[], float] = time.monotonic) -> Callable[[Asked], Reply]:
    """What answers the checks of this server; as JSON for who accepts that."""

    def answer(asked: Asked) -> Reply:
        status, text = health(roster, asked.path, clock())
        if "application/json" in asked.accept:
            body = msgspec.json.encode({"ok": status == 200, "text": text}) + b"\n"
            return Reply(status, body, "application/json")
        return refusal(status, text)

    return answer
