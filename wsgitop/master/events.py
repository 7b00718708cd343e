"""What happened: numbered events, kept for who attaches later, logged, and announced to who is attached."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from wsgitop.channel.messages import clip
from wsgitop.snapshot import Event, Severity, printable, printable_lines

KEPT = 500
DETAIL_LIMIT = 48 * 1024
"""Characters. A client takes no event that is longer than 256 KiB as JSON, which has up to four bytes for
each."""
LOGGER = logging.getLogger("wsgitop.master")
_LEVELS: dict[Severity, int] = {
    "info": logging.INFO,
    "good": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class EventLog:
    """The last events. ``announce`` is called with each new one."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._sequence = 0
        self.announce: Callable[[Event], None] | None = None

    def add(self, severity: Severity, kind: str, text: str, *, actor: str = "", detail: str = "") -> Event:
        """Record, log and announce one event. ``kind`` is one word for programs, ``text`` one line for
        people.
        """
        self._sequence += 1
        event = Event(
            sequence=self._sequence,
            at=time.time(),
            severity=severity,
            kind=kind,
            text=printable(" ".join(line.strip() for line in text.split("\n")), 500),
            actor=printable(actor, 100),
            detail=clip(printable_lines(detail), DETAIL_LIMIT),
        )
        self._events.append(event)
        by = f" (by {event.actor})" if actor else ""
        LOGGER.log(
            _LEVELS[severity], "%s%s%s", event.text, by, f"\n{event.detail.rstrip()}" if detail else ""
        )
        if self.announce is not None:
            self.announce(event)
        return event

    def after(self, sequence: int, limit: int) -> tuple[Event, ...]:
        """The newest ``limit`` events with a number above ``sequence``, oldest first."""
        found = [event for event in self._events if event.sequence > sequence]
        return tuple(found[-limit:]) if limit > 0 else ()
