"""The answers to questions: each at once, from what the backend says, never above what one answer may hold.

What only operators may see (tracebacks, stacks, the last lines of a worker) is left out for viewers here, and
from what subscribers get in ``publisher``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from wsgitop import __version__
from wsgitop.control import messages as m
from wsgitop.control.backend import Backend
from wsgitop.control.codec import encode_log_line, size
from wsgitop.control.connection import Connection, Subscription
from wsgitop.control.methods import METHODS
from wsgitop.control.publisher import MOST_EVENTS, LogName, for_viewers
from wsgitop.errors import ActionFailed, Refused
from wsgitop.snapshot import Death, Event, Second, Snapshot

SHORTEST_INTERVAL_S = 0.25
LONGEST_INTERVAL_S = 10.0
MOST_SECONDS = 900
MOST_LINES = 500
CROWDED_AGE_S = 0.25
"""As old may a picture be while the clients ask for more than they get."""
MOST_REQUESTS = 500
CAPABILITIES = ("keys", "logs")

Kept = TypeVar("Kept", Event, Death, Second, str)


class AndThen(NamedTuple):
    """A result, and frames that go out right behind it."""

    result: object
    frames: bytes


class Answers:
    """Answers by method name; call with the connection and the arguments. ``followers_changed`` is called
    when somebody begins or ends to follow a log; ``is_crowded`` tells whether clients have to wait for their
    turns.
    """

    def __init__(
        self,
        backend: Backend,
        app: str,
        followers_changed: Callable[[], None],
        is_crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._backend = backend
        self._app = app
        self._followers_changed = followers_changed
        self._is_crowded = is_crowded
        self._recent: tuple[float, int, Snapshot] | None = None
        self.by_method: dict[str, Callable[[Connection, Any], object]] = {
            "hello": self._hello,
            "status": lambda _connection, _arguments: self._picture(),
            "workers": lambda _connection, _arguments: m.WorkersResult(self._picture().workers),
            "events": self._events,
            "deaths": self._deaths,
            "history": self._history,
            "requests": self._requests,
            "histogram": lambda _connection, arguments: backend.histogram(arguments),
            "settings": self._settings,
            "log": self._log,
            "metrics": lambda _connection, _arguments: m.MetricsResult(backend.metrics()),
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
        }

    def _picture(self) -> Snapshot:
        """The picture now. While more is asked than there is time for, one that is a little older may do, if
        nothing has happened since: to make it is most of the work.
        """
        newest = self._backend.events(0, 1)
        sequence = newest[-1].sequence if newest else 0
        now = asyncio.get_running_loop().time()
        if self._recent is not None and self._is_crowded():
            made_at, seen, snapshot = self._recent
            if seen == sequence and now - made_at < CROWDED_AGE_S:
                return snapshot
        snapshot = self._backend.snapshot()
        self._recent = (now, sequence, snapshot)
        return snapshot

    def _hello(self, connection: Connection, _arguments: m.NoArguments) -> m.Hello:
        offered = tuple(
            row.name for row in METHODS.values() if row.role == "viewer" or connection.role == "operator"
        )
        return m.Hello(
            m.PROTOCOL, __version__, os.getpid(), connection.role, self._app, offered, CAPABILITIES
        )

    def _events(self, connection: Connection, arguments: m.EventsArguments) -> m.EventsResult:
        found = self._backend.events(arguments.after, min(arguments.limit, MOST_EVENTS))
        if connection.role != "operator":
            found = [for_viewers(event) for event in found]
        return m.EventsResult(_newest_that_fit(found))

    def _deaths(self, connection: Connection, arguments: m.DeathsArguments) -> m.DeathsResult:
        limit = min(arguments.limit, MOST_EVENTS)
        if arguments.pid is None:
            found = self._backend.deaths(arguments.after, limit)
        else:
            known = self._backend.deaths(arguments.after, MOST_EVENTS)
            found = [death for death in known if death.pid == arguments.pid][-limit:]
        if connection.role != "operator":
            found = [msgspec.structs.replace(death, stack="", lines=()) for death in found]
        return m.DeathsResult(_newest_that_fit(found))

    def _history(self, _connection: Connection, arguments: m.HistoryArguments) -> m.HistoryResult:
        return m.HistoryResult(_newest_that_fit(self._backend.history(min(arguments.seconds, MOST_SECONDS))))

    def _requests(self, _connection: Connection, arguments: m.RequestsArguments) -> m.RequestsResult:
        found = self._backend.requests(min(arguments.limit, MOST_REQUESTS))
        while size(found) > m.RESULT_LIMIT_BYTES - 1024:
            found = msgspec.structs.replace(
                found,
                in_flight=found.in_flight[: len(found.in_flight) // 2],
                slowest=found.slowest[: len(found.slowest) // 2],
            )
        return found

    def _settings(self, _connection: Connection, arguments: m.SettingsArguments) -> m.SettingsResult:
        shown = self._backend.settings()
        return m.SettingsResult(tuple(s for s in shown if s.source or not arguments.changed))

    def _log(self, _connection: Connection, arguments: m.LogArguments) -> m.LogResult:
        lines = self._backend.past_lines(arguments.log, min(arguments.lines, MOST_LINES))
        return m.LogResult(_newest_that_fit(lines))

    def _subscribe(self, connection: Connection, arguments: m.SubscribeArguments) -> AndThen:
        if (arguments.error_log or arguments.access_log) and connection.role != "operator":
            raise Refused("the logs are for operators, and you are a viewer")
        interval_s = min(max(arguments.interval_s, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
        newest = self._backend.events(0, 1)
        cursor = newest[-1].sequence if newest else 0
        now = asyncio.get_running_loop().time()
        before = connection.subscription
        connection.subscription = Subscription(
            interval_s,
            now,
            cursor,
            snapshots=arguments.snapshots,
            events=arguments.events,
            error_log=arguments.error_log,
            access_log=arguments.access_log,
        )
        try:
            self._followers_changed()
            past = self._past_frames(connection.subscription, arguments) if arguments.past_lines > 0 else b""
        except ActionFailed:
            if before is not None:
                before.access_log = False  # it may have ended this very moment, for everybody
            connection.subscription = before
            raise
        return AndThen(m.Subscribed(interval_s, self._picture()), past)

    def _past_frames(self, subscription: Subscription, arguments: m.SubscribeArguments) -> bytes:
        """The last lines of the logs that are asked for. Lines that wait go to the other followers meanwhile:
        this one has them among the past ones. Raises ActionFailed.
        """
        count = min(arguments.past_lines, MOST_LINES)
        frames = b""
        subscription.error_log = subscription.access_log = False
        if arguments.error_log:
            frames += _as_frames("error", self._backend.past_lines("error", count))
        if arguments.access_log:
            frames += _as_frames("access", self._backend.past_lines("access", count))
        subscription.error_log, subscription.access_log = arguments.error_log, arguments.access_log
        self._followers_changed()  # not what it was if the access log has just ended
        return frames

    def _unsubscribe(self, connection: Connection, _arguments: m.NoArguments) -> m.NoArguments:
        connection.subscription = None
        self._followers_changed()
        return m.NoArguments()


def _as_frames(log: LogName, lines: Sequence[str]) -> bytes:
    return b"".join(encode_log_line(m.LogLine(log, text)) for text in lines)


def _newest_that_fit(found: Sequence[Kept]) -> tuple[Kept, ...]:
    """As many as one answer may hold: a traceback may be in each."""
    room = m.RESULT_LIMIT_BYTES - 1024
    kept: list[Kept] = []
    for one in reversed(found):
        room -= size(one) + 1
        if room < 0:
            break
        kept.append(one)
    return tuple(reversed(kept))
