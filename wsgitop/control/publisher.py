"""What subscribers get without asking again: snapshots, events, lines of the logs.

Runs in the master's event loop and never waits. A subscriber that does not keep up gets the newest snapshot
when it reads again, all events that the master still remembers, and the number of log lines that it missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from wsgitop.control.codec import SnapshotFrame, encode_event, encode_log_line, encode_snapshot
from wsgitop.control.connection import WRITE_HIGH_BYTES, Connection, Subscription
from wsgitop.control.messages import LogLine
from wsgitop.snapshot import Event, Snapshot

LINES_BACKLOG_BYTES = 64 * 1024
"""A subscriber with more than this unread does not get its log lines. Its events come later, from the
backend's memory, if it has more than WRITE_HIGH_BYTES unread: that mark and no other, because who has passed
it is told when everything has been read."""
MOST_EVENTS = 1000

LogName = Literal["error", "access"]


class Publisher:
    """Sends to those of ``connections`` that have subscribed. ``remembered`` gives the events after a number,
    at most so many."""

    def __init__(
        self, connections: Iterable[Connection], remembered: Callable[[int, int], Sequence[Event]]
    ) -> None:
        self._connections = connections
        self._remembered = remembered
        self._newest_event = 0

    def fastest_interval_s(self) -> float | None:
        """The shortest time between snapshots that a subscriber asked for; None: nobody watches."""
        return min(
            (s.interval_s for c in self._connections if (s := c.subscription) is not None and s.snapshots),
            default=None,
        )

    def followed(self) -> tuple[bool, bool]:
        """Whether somebody follows the error log, and the access log."""
        found = [c.subscription for c in self._connections if c.subscription is not None]
        return any(s.error_log for s in found), any(s.access_log for s in found)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Send ``snapshot`` to the subscribers whose time it is. Encoded once, whatever their number."""
        now = asyncio.get_running_loop().time()
        frame: SnapshotFrame | None = None
        for connection in self._connections:
            subscription = connection.subscription
            if subscription is None or not subscription.snapshots or not subscription.is_due(now):
                continue
            subscription.sent(now)
            if connection.unsent_bytes:
                subscription.dropped += 1
                continue
            if subscription.event_cursor < self._newest_event:
                self.catch_up(connection)
            if frame is None:
                frame = encode_snapshot(snapshot)
            connection.send(frame.for_subscriber(subscription.dropped))

    def event(self, event: Event) -> None:
        """Send ``event`` to all subscribers; to one that does not read, later."""
        self._newest_event = event.sequence
        frames: dict[str, bytes] = {}
        for connection in self._connections:
            subscription = connection.subscription
            if subscription is None or not subscription.events or connection.unsent_bytes > WRITE_HIGH_BYTES:
                continue
            if subscription.event_cursor == event.sequence - 1:
                subscription.event_cursor = event.sequence
                role = connection.role
                if role not in frames:
                    frames[role] = encode_event(event if role == "operator" else for_viewers(event))
                connection.send(frames[role])
            else:
                self.catch_up(connection)

    def lines(self, log: LogName, lines: Sequence[str], dropped: int = 0) -> None:
        """Send lines of a log to those who follow it; ``dropped`` were lost before these."""
        frames: list[bytes] | None = None
        for connection in self._connections:
            subscription = connection.subscription
            if subscription is None or not subscription.follows(log):
                continue
            subscription.lines_dropped[log] += dropped
            if not lines:
                continue
            if connection.unsent_bytes > LINES_BACKLOG_BYTES:
                subscription.lines_dropped[log] += len(lines)
                continue
            if frames is None:
                frames = [encode_log_line(LogLine(log, text)) for text in lines]
            missed, subscription.lines_dropped[log] = subscription.lines_dropped[log], 0
            if missed:
                connection.send(encode_log_line(LogLine(log, lines[0], missed)))
            connection.send(b"".join(frames[1:] if missed else frames))

    def end(self, log: LogName, text: str) -> None:
        """Tell those who follow a log, by the line ``text``, that no more will come; they follow it no
        longer.
        """
        for connection in self._connections:
            subscription = connection.subscription
            if subscription is None or not subscription.follows(log):
                continue
            connection.send(encode_log_line(LogLine(log, text, subscription.lines_dropped[log])))
            subscription.lines_dropped[log] = 0
            if log == "error":
                subscription.error_log = False
            else:
                subscription.access_log = False

    def catch_up(self, connection: Connection) -> None:
        """Send the events a subscriber missed while it did not read, as far as the backend remembers them."""
        subscription: Subscription | None = connection.subscription
        if subscription is None or not subscription.events:
            return
        for event in self._remembered(subscription.event_cursor, MOST_EVENTS):
            if connection.unsent_bytes > WRITE_HIGH_BYTES:
                break
            subscription.event_cursor = event.sequence
            connection.send(encode_event(event if connection.role == "operator" else for_viewers(event)))


def for_viewers(event: Event) -> Event:
    """An event without its detail: a traceback shows code, and what was in hand."""
    return msgspec.structs.replace(event, detail="") if event.detail else event
