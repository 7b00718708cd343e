"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from wsgitop.client.dialling import dial
from wsgitop.client.link import MALFORMED, Feed, Link, again, forget
from wsgitop.control import messages as m
from wsgitop.control.methods import METHODS
from wsgitop.errors import CannotConnect, ProtocolError, UsageError
from wsgitop.snapshot import Death, Event, Second, Snapshot, WorkerSnapshot, printable
from wsgitop.transport.target import is_remote

HELLO_DEADLINE_S = 5.0
REMOTE_HELLO_DEADLINE_S = 20.0
"""For what must first start a program, log in and start another one."""
INTERACTIVE_HELLO_DEADLINE_S = 180.0
"""For somebody who looks for a password; sshd gives two minutes."""
CALL_DEADLINE_S = 10.0
"""For questions. Actions take the time they take."""
SLOWEST_S = 10.0
"""Between snapshots that nobody looks at."""
TURNS_FOR_THE_REST = 3

T = TypeVar("T")


class AsyncClient:
    """A connection to the server that ``target`` names: a path, ``unix:PATH``, a pid, an application's name,
    ``ssh://[user@]host[:port][/path]`` or ``exec:COMMAND``.

    ``remote_command`` is run in place of ``wsgitop`` at the far end of ssh, whose shell may not find that.
    With ``interactive``, which is for commands in a terminal, ssh may ask there for what it needs.

    Every call raises CannotConnect when there is no link (any more), Refused when this user may not do that,
    ProtocolError when the server sends what it should not, and actions raise ActionFailed, TargetGone and
    Busy.
    """

    def __init__(self, target: str, *, remote_command: str = "", interactive: bool = False) -> None:
        self.target = target
        self.is_remote = is_remote(target)
        self._remote_command = remote_command
        self._interactive = interactive
        self._link: Link | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> m.Hello:
        """Connect, and hear who answers. Raises also UsageError for a target that makes no sense."""
        if self._link is not None:
            await self.close()
        self._link = link = await dial(
            self.target, remote_command=self._remote_command, interactive=self._interactive
        )
        deadline_s = HELLO_DEADLINE_S
        if self.is_remote:
            deadline_s = INTERACTIVE_HELLO_DEADLINE_S if self._interactive else REMOTE_HELLO_DEADLINE_S
        try:
            try:
                hello = await self._ask("hello", m.NoArguments(), m.Hello, deadline_s=deadline_s)
            except ProtocolError as fault:
                raise CannotConnect(
                    f"{link.label} is no control socket of wsgitop: {fault.cause}",
                    "See what is running with `wsgitop ctl status`."
                    if not self.is_remote
                    else "Nothing but `wsgitop relay` may write there, no start file of a shell either.",
                ) from None
            if hello.protocol > m.PROTOCOL:
                raise ProtocolError(
                    f"the master (wsgitop {printable(hello.version, 40)}) speaks a newer protocol than we do",
                    "Update wsgitop here.",
                )
        except BaseException:
            await self.close()
            raise
        link.greeted()
        return hello

    async def close(self) -> None:
        """Close the connection. May be called again."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    # -- questions -------------------------------------------------------------------------------------------

    async def status(self) -> Snapshot:
        """The whole picture at this moment."""
        return await self._ask("status", m.NoArguments(), Snapshot)

    async def workers(self) -> tuple[WorkerSnapshot, ...]:
        """The workers and what each is serving."""
        return (await self._ask("workers", m.NoArguments(), m.WorkersResult)).workers

    async def history(self, seconds: int) -> tuple[Second, ...]:
        """One sample for each of the last ``seconds`` seconds, oldest first."""
        return (await self._ask("history", m.HistoryArguments(seconds), m.HistoryResult)).seconds

    async def events(self, after: int = 0, limit: int = 100) -> tuple[Event, ...]:
        """The newest ``limit`` events with a sequence above ``after``, oldest first."""
        return (await self._ask("events", m.EventsArguments(after, limit), m.EventsResult)).events

    async def deaths(self, after: int = 0, limit: int = 20, *, pid: int | None = None) -> tuple[Death, ...]:
        """The newest ``limit`` ends of workers and zygotes with a sequence above ``after``, oldest first;
        with ``pid`` only those of processes that had it.
        """
        arguments = m.DeathsArguments(after=after, limit=limit, pid=pid)
        return (await self._ask("deaths", arguments, m.DeathsResult)).deaths

    async def settings(self, *, changed: bool = False) -> tuple[m.SettingShown, ...]:
        """The settings in force; ``changed``: only those that are not at their default."""
        return (await self._ask("settings", m.SettingsArguments(changed), m.SettingsResult)).settings

    async def log(self, lines: int = 100, *, access: bool = False) -> tuple[str, ...]:
        """The last lines of the error log or, with ``access``, of the access log, the oldest first."""
        arguments = m.LogArguments("access" if access else "error", lines)
        return (await self._ask("log", arguments, m.LogResult)).lines

    async def requests(self, limit: int = 100) -> m.RequestsResult:
        """The requests in flight, the oldest first, and those that took longest lately; ``limit`` of each."""
        return await self._ask("requests", m.RequestsArguments(limit), m.RequestsResult)

    async def histogram(self, pid: int, started_at: float | None = None) -> m.HistogramResult:
        """How long the requests of one worker took that finished in the last ten seconds; ``started_at`` as
        in :meth:`signal`."""
        if started_at is None:
            started_at = await self._start_of(pid)
        return await self._ask("histogram", m.HistogramArguments(pid, started_at), m.HistogramResult)

    async def metrics(self) -> str:
        """The figures as OpenMetrics text."""
        return (await self._ask("metrics", m.NoArguments(), m.MetricsResult)).text

    async def subscribe(self, interval_s: float) -> AsyncGenerator[Snapshot | Event]:
        """Snapshots every ``interval_s`` seconds (0.25 to 10), the first one at once, and events as they
        happen.

        A reader that is slower than that gets the newest snapshot and all events. There is one subscription
        at a time: a newer one ends this one. Raises CannotConnect when the link is lost.
        """
        async with contextlib.aclosing(self.news(m.SubscribeArguments(interval_s))) as news:
            async for item in news:
                if not isinstance(item, m.LogLine):
                    yield item

    async def news(self, arguments: m.SubscribeArguments) -> AsyncGenerator[Snapshot | Event | m.LogLine]:
        """As :meth:`subscribe`, of what ``arguments`` ask for; lines of the logs come in order.

        Raises Refused and ActionFailed for a log that this user may not or nobody can follow.
        """
        link = self._connected()
        if link.feed is not None:
            link.feed.end()
        feed = link.feed = Feed()
        try:
            first = await self._ask("subscribe", arguments, m.Subscribed)
            if feed.snapshot is None and arguments.snapshots:
                feed.snapshot = first.snapshot
            while True:
                feed.news.clear()
                # The snapshot first: events tell what has changed since, or what the next one will show.
                if feed.snapshot is not None:
                    snapshot, feed.snapshot = feed.snapshot, None
                    yield snapshot
                elif feed.events:
                    yield feed.events.popleft()
                elif feed.lines:
                    yield feed.next_line()
                elif feed.ended:
                    break
                else:
                    await feed.news.wait()
            if link.fault is not None:
                raise again(link.fault)
        finally:
            if link.feed is feed:
                link.feed = None
                if link.is_usable:
                    # Whether the server heard it does not matter: news without a feed are dropped.
                    link.call("unsubscribe", m.NoArguments()).add_done_callback(forget)

    # -- actions ---------------------------------------------------------------------------------------------

    async def reload(self, *, key: str = "") -> m.Outcome:
        """Load the code again and replace the workers; returns when the last old one is gone.

        ``key``, here and below: give the order again with the same key after a connection was lost, and it is
        carried out once.
        """
        return await self._ask("reload", m.OrderArguments(key=key), m.Outcome)

    async def reload_watched(self, told: Callable[[Event], None], *, key: str = "") -> m.Outcome:
        """As :meth:`reload`; ``told`` is called with each event meanwhile. It ends a subscription."""
        news = self.subscribe(SLOWEST_S)
        try:
            await anext(news)  # the first snapshot: from here on events come
            call = asyncio.ensure_future(self.reload(key=key))
            upcoming = asyncio.ensure_future(anext(news))
            try:
                idle = 0
                # What the server told before its answer has come before it; its reader may have to wake.
                while idle < TURNS_FOR_THE_REST:
                    if not call.done():
                        await asyncio.wait((call, upcoming), return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.sleep(0)
                    idle += call.done()
                    if upcoming.done():
                        if upcoming.exception() is not None:
                            break  # the link is lost; the call says so
                        item = upcoming.result()
                        if isinstance(item, Event):
                            told(item)
                        upcoming = asyncio.ensure_future(anext(news))
                        idle = 0
                return await call
            finally:
                for task in (call, upcoming):
                    task.cancel()
                await asyncio.gather(call, upcoming, return_exceptions=True)
        finally:
            await news.aclose()

    async def scale(
        self, *, workers: int | None = None, change: int | None = None, key: str = ""
    ) -> m.Outcome:
        """Set the number of workers, or change it; returns when they serve or are gone."""
        arguments = m.ScaleArguments(workers=workers, change=change, key=key)
        return await self._ask("scale", arguments, m.Outcome)

    async def signal(
        self, name: str, *, pid: int | None = None, started_at: float | None = None
    ) -> m.Outcome:
        """Send a signal to the master or, with ``pid``, to a worker, which ``started_at`` proves to be the
        one meant.

        Without ``started_at`` the worker that has this pid now is meant.
        """
        name = name.upper().removeprefix("SIG")
        if pid is not None and started_at is None:
            started_at = await self._start_of(pid)
        arguments = m.SignalArguments(signal=name, pid=pid, started_at=started_at)
        return await self._ask("signal", arguments, m.Outcome)

    async def quarantine(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """Put one worker aside, to look at it; ``started_at`` as in :meth:`signal`, here and below."""
        return await self._about("quarantine", pid, started_at)

    async def release(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """Let a worker that is in quarantine serve again."""
        return await self._about("release", pid, started_at)

    async def retire(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """Have one worker finish and end."""
        return await self._about("retire", pid, started_at)

    async def stack(
        self, pid: int, *, thread: int | None = None, started_at: float | None = None
    ) -> m.StackResult:
        """Where the threads of a worker are, or one of them."""
        if started_at is None:
            started_at = await self._start_of(pid)
        return await self._ask("stack", m.StackArguments(pid, started_at, thread), m.StackResult)

    async def cancel(
        self,
        pid: int,
        thread: int,
        *,
        request: int | None = None,
        started_at: float | None = None,
        key: str = "",
    ) -> m.Cancelled:
        """Cut the request that a thread of a worker serves; ``request`` (of :class:`InFlight`) tells which
        one, so that no later one can be hit. Without it, it is the one in hand when this is called. Raises
        UsageError if there is none.
        """
        if request is None:
            found = (worker for worker in await self.workers() if worker.pid == pid)
            serving = [one for worker in found for one in worker.in_flight if one.thread == thread]
            if not serving or not serving[0].request:
                raise UsageError(
                    f"thread {thread} of worker {pid} serves no request now", "See `wsgitop ctl requests`."
                )
            request = serving[0].request
        if started_at is None:
            started_at = await self._start_of(pid)
        arguments = m.CancelArguments(pid, started_at, thread, request, key=key)
        return await self._ask("cancel", arguments, m.Cancelled)

    async def loglevel(self, level: str) -> m.Outcome:
        """Log from this severity on ("debug" to "critical"), in all processes."""
        return await self._ask("loglevel", m.LogLevelArguments(level=level), m.Outcome)

    async def reopen(self) -> m.Outcome:
        """Open the log files again, behind their rotation."""
        return await self._ask("reopen", m.OrderArguments(), m.Outcome)

    async def upgrade(self, *, key: str = "") -> m.Outcome:
        """Hand over to a new master, from what is on disk."""
        return await self._ask("upgrade", m.OrderArguments(key=key), m.Outcome)

    async def stop(self, *, quick: bool = False) -> m.Outcome:
        """Stop the server; ``quick``: without waiting for requests in flight."""
        return await self._ask("stop", m.StopArguments(quick=quick), m.Outcome)

    async def _about(self, method: str, pid: int, started_at: float | None) -> m.Outcome:
        if started_at is None:
            started_at = await self._start_of(pid)
        return await self._ask(method, m.WorkerArguments(pid=pid, started_at=started_at), m.Outcome)

    async def _start_of(self, pid: int) -> float:
        for worker in await self.workers():
            if worker.pid == pid:
                return worker.started_at
        raise UsageError(f"no worker has pid {pid}", "See `wsgitop ctl workers`.")

    # -- inside ----------------------------------------------------------------------------------------------

    def _connected(self) -> Link:
        if self._link is None:
            raise CannotConnect("not connected")
        return self._link

    async def _ask(
        self,
        method: str,
        arguments: msgspec.Struct,
        result: type[T],
        *,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> T:
        link = self._connected()
        patience_s = None if METHODS[method].role == "operator" else deadline_s
        try:
            async with asyncio.timeout(patience_s):
                raw = await link.call(method, arguments)
        except TimeoutError:
            raise CannotConnect(
                f"the master does not answer (no {method} within {deadline_s:g} s)"
                + (f"; {link.label} printed: {link.noise}" if link.noise else ""),
                "It may be stopped or overloaded.",
            ) from None
        try:
            return msgspec.json.decode(raw, type=result)
        except MALFORMED as error:
            raise ProtocolError(
                f"the server's answer to {method} cannot be read: {printable(str(error), 200)}"
            ) from None
