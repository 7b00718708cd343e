"""Where the pictures come from: the feed that connects, listens, and connects again.

One task of the application runs :meth:`Feed.run` for as long as the interface lives. It owns the connection;
actions borrow it through :attr:`Feed.source`. Whatever happens to the server, the task goes on: it posts
:class:`LinkLost` and tries again, after a pause that grows with each failure, and a server that comes back
with another pid is simply the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from textual.message import Message

from wsgitop.control.messages import (
    Cancelled,
    Hello,
    HistogramResult,
    LogLine,
    Outcome,
    RequestsResult,
    SettingShown,
    StackResult,
    SubscribeArguments,
)
from wsgitop.errors import ActionFailed, CannotConnect, Refused, WsgitopError
from wsgitop.snapshot import Death, Event, Second, Snapshot

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 1.0
"""Between attempts at a server of this machine, which cost next to nothing."""
LONGEST_REMOTE_PAUSE_S = 5.0
"""At one of another machine, which takes a process and a login."""
HISTORY_S = 60
EVENTS_ASKED = 500
PAST_LINES = 500
LINES_PAUSE_S = 0.1
"""Lines of the logs are collected for so long."""
MOST_LINES = 2000
"""And at most so many."""

CONNECT_TIMEOUT_S = 30.0
"""A source that takes longer counts as one that cannot be reached. The client gives up before that."""


class Source(Protocol):
    """What the interface needs of a connection; ``wsgitop.client.AsyncClient`` has it. Any call may raise
    CannotConnect (the link is lost) or Refused; actions may also raise ActionFailed."""

    @property
    def is_remote(self) -> bool: ...
    async def connect(self) -> Hello: ...
    async def history(self, seconds: int) -> tuple[Second, ...]: ...
    async def events(self, after: int = 0, limit: int = 100) -> tuple[Event, ...]: ...
    async def deaths(self, after: int = 0, limit: int = 20) -> tuple[Death, ...]: ...
    async def requests(self, limit: int = 100) -> RequestsResult: ...
    async def stack(
        self, pid: int, *, thread: int | None = None, started_at: float | None = None
    ) -> StackResult: ...
    async def histogram(self, pid: int, started_at: float | None = None) -> HistogramResult: ...
    async def settings(self, *, changed: bool = False) -> tuple[SettingShown, ...]: ...
    def news(self, arguments: SubscribeArguments) -> AsyncIterator[Snapshot | Event | LogLine]: ...
    async def reload(self) -> Outcome: ...
    async def scale(self, *, workers: int | None = None, change: int | None = None) -> Outcome: ...
    async def signal(
        self, name: str, *, pid: int | None = None, started_at: float | None = None
    ) -> Outcome: ...
    async def quarantine(self, pid: int, started_at: float | None = None) -> Outcome: ...
    async def release(self, pid: int, started_at: float | None = None) -> Outcome: ...
    async def retire(self, pid: int, started_at: float | None = None) -> Outcome: ...
    async def cancel(
        self, pid: int, thread: int, *, request: int | None = None, started_at: float | None = None
    ) -> Cancelled: ...
    async def loglevel(self, level: str) -> Outcome: ...
    async def reopen(self) -> Outcome: ...
    async def upgrade(self, *, key: str = "") -> Outcome: ...
    async def stop(self, *, quick: bool = False) -> Outcome: ...
    async def close(self) -> None: ...


SourceFactory = Callable[[], Source]
"""Makes a fresh connection for each attempt."""


class LinkUp(Message):
    """Connected. ``last_sequence`` of the events known so far still counts when it is the same server."""

    def __init__(self, hello: Hello) -> None:
        super().__init__()
        self.hello = hello


class LinkLost(Message):
    """Not connected, and why. Posted for each failed attempt."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, LinkLost)


class Pictured(Message):
    """A snapshot. A newer one takes the place of one that is still waiting: a slow screen skips, it does
    not lag."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Pictured)


class Remembered(Message):
    """The server's own record of the last seconds."""

    def __init__(self, seconds: tuple[Second, ...]) -> None:
        super().__init__()
        self.seconds = seconds


class Happened(Message):
    """Events, oldest first."""

    def __init__(self, events: tuple[Event, ...]) -> None:
        super().__init__()
        self.events = events


class LogsBegin(Message):
    """A subscription to logs begins: the last lines of each come next, also those that came before."""

    def __init__(self, *, error: bool, access: bool) -> None:
        super().__init__()
        self.error, self.access = error, access


class Logged(Message):
    """Lines of the logs, as many as have come since the last ones."""

    def __init__(self, lines: tuple[LogLine, ...]) -> None:
        super().__init__()
        self.lines = lines


class LogRefused(Message):
    """The logs cannot be followed, why, and what to do about it. None is followed any more."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__()
        self.cause, self.remedy = cause, remedy


class Feed:
    """The connection, kept up. ``post`` takes the messages; ``last_sequence`` tells which events are known
    already."""

    def __init__(
        self, factory: SourceFactory, post: Callable[[Message], object], *, interval_s: float = 1.0
    ) -> None:
        self._factory = factory
        self._post = post
        self._interval_s = interval_s
        self._interval_changed = asyncio.Event()
        self._past_asked = False
        self._logs: tuple[bool, bool] = (False, False)
        self._lines: list[LogLine] = []
        self._lines_due: asyncio.TimerHandle | None = None
        self.source: Source | None = None
        """The live connection, None while there is none."""

    def set_interval(self, interval_s: float) -> None:
        """Ask for another refresh rate; the subscription is renewed, the connection stays."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._interval_changed.set()

    def follow_logs(self, *, error: bool, access: bool) -> None:
        """Which logs are to come as well; the last lines of each come first."""
        if (error, access) != self._logs:
            self._logs = (error, access)
            self._interval_changed.set()

    async def run(self) -> None:
        """Never returns and never raises because of the server; ends when cancelled."""
        failures = 0
        while True:
            source = self._factory()
            try:
                await self._serve(source)
            except (WsgitopError, OSError, TimeoutError) as error:
                self._post(LinkLost(_reason(error)))
            finally:
                failures = 0 if self.source is not None else failures + 1
                self.source = None
                with contextlib.suppress(WsgitopError, OSError):
                    await source.close()
            longest_s = LONGEST_REMOTE_PAUSE_S if source.is_remote else LONGEST_PAUSE_S
            await asyncio.sleep(min(FIRST_PAUSE_S * 2 ** min(failures, 10), longest_s))

    async def _serve(self, source: Source) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            hello = await source.connect()
        self.source = source
        self._post(LinkUp(hello))
        self._past_asked = False
        while True:
            self._interval_changed.clear()
            listening = asyncio.create_task(self._listen(source, self._interval_s))
            changed = asyncio.create_task(self._interval_changed.wait())
            try:
                await asyncio.wait((listening, changed), return_when=asyncio.FIRST_COMPLETED)
                if listening.done():
                    listening.result()
                    raise CannotConnect("the server ended the connection")
            finally:
                for task in (listening, changed):
                    task.cancel()
                await asyncio.wait((listening, changed))

    async def _listen(self, source: Source, interval_s: float) -> None:
        error, access = self._logs
        arguments = SubscribeArguments(
            interval_s, error_log=error, access_log=access, past_lines=PAST_LINES if error or access else 0
        )
        if error or access:
            self._post(LogsBegin(error=error, access=access))
        try:
            await self._take_news(source, interval_s, arguments)
        except (ActionFailed, Refused) as fault:
            if not (error or access):
                raise
            if self._logs == (error, access):
                self._logs = (False, False)
            self._post(LogRefused(fault.cause, fault.remedy))
            await self._take_news(source, interval_s, SubscribeArguments(interval_s))
        finally:
            self._pass_lines()

    async def _take_news(self, source: Source, interval_s: float, arguments: SubscribeArguments) -> None:
        async for item in source.news(arguments):
            if isinstance(item, Event):
                self._post(Happened((item,)))
                continue
            if isinstance(item, LogLine):
                self._collect(item)
                continue
            self._post(Pictured(item))
            if not self._past_asked:
                # After the subscription, so that nothing is missed between the two; after the first picture,
                # because it is what the user waits for.
                self._past_asked = True
                await self._ask_past(source)
            elif interval_s > 1:
                # The server keeps every second; a slow screen asks for those between its pictures.
                self._post(Remembered(await source.history(int(interval_s) + 2)))

    def _collect(self, line: LogLine) -> None:
        """Keep a line until the next are due: a message for each would be more work than the lines."""
        self._lines.append(line)
        if len(self._lines) >= MOST_LINES:
            self._pass_lines()
        elif self._lines_due is None:
            self._lines_due = asyncio.get_running_loop().call_later(LINES_PAUSE_S, self._pass_lines)

    def _pass_lines(self) -> None:
        if self._lines_due is not None:
            self._lines_due.cancel()
            self._lines_due = None
        if self._lines:
            lines, self._lines = tuple(self._lines), []
            self._post(Logged(lines))

    async def _ask_past(self, source: Source) -> None:
        self._post(Remembered(await source.history(HISTORY_S)))
        self._post(Happened(await source.events(limit=EVENTS_ASKED)))


def _reason(error: BaseException) -> str:
    if isinstance(error, WsgitopError):
        return error.cause
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    return str(error) or type(error).__name__
