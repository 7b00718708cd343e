"""A typed client of the control socket, for asyncio and for plain code.

The command line and the interface use it.

    async with AsyncClient("shop.wsgi") as client:
        async for news in client.subscribe(1.0): ...

    with Client("4242") as client:
        print(client.reload().text)

One connection carries calls and a subscription at the same time. What the server sends is bounded and checked
against the schema: a hostile one can end the connection, no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from wsgitop.control import messages as m
from wsgitop.control.codec import FrameTooLong, Splitter, decode_response, encode_request
from wsgitop.control.faults import as_fault
from wsgitop.control.methods import METHODS
from wsgitop.control.runtime_dir import Found, discover
from wsgitop.errors import CannotConnect, ControlSocketError, ProtocolError, Refused, UsageError, WsgitopError
from wsgitop.snapshot import Death, Event, Second, Snapshot, WorkerSnapshot, printable
from wsgitop.transport.target import parse_target
from wsgitop.transport.unix import connect

SNAPSHOT_LIMIT_BYTES = 16 * 1024 * 1024
"""Longest frame that holds snapshots: some 10,000 workers."""
LARGE_RESULTS = frozenset({"status", "workers", "subscribe"})
HELLO_DEADLINE_S = 5.0
CALL_DEADLINE_S = 10.0
"""For questions. Actions take the time they take."""
SLOWEST_S = 10.0
"""Between snapshots that nobody looks at."""
TURNS_FOR_THE_REST = 3
EVENTS_KEPT = 1000
"""Events that wait for a reader that is slower than they come; the oldest give way."""

T = TypeVar("T")

_SNAPSHOTS = msgspec.json.Decoder(Snapshot)
_EVENTS = msgspec.json.Decoder(Event)
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


# -- targets -------------------------------------------------------------------------------------------------


def find(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The path of the control socket that a target names. Raises UsageError, CannotConnect."""
    target = parse_target(text)
    if target.kind == "path":
        return target.value
    masters = running(environ)
    if target.kind == "pid":
        fitting = [master for master in masters if master.pid == int(target.value)]
    else:
        fitting = [master for master in masters if target.value in _names(master)]
    if len(fitting) == 1:
        return fitting[0].control
    if fitting:
        raise CannotConnect(
            f"{len(fitting)} running servers are called {text!r}: {_listed(fitting)}", "Name one by its pid."
        )
    what = (
        f"no master of yours has pid {target.value}"
        if target.kind == "pid"
        else f"no running server is called {text!r}"
    )
    raise CannotConnect(what, f"Running: {_listed(masters)}." if masters else "None of yours is running.")


def running(environ: Mapping[str, str] | None = None) -> list[Found]:
    """This user's running masters. Raises CannotConnect if the runtime directory cannot be believed."""
    try:
        return discover(environ)
    except ControlSocketError as error:
        raise CannotConnect(error.cause, error.remedy) from None
    except OSError as error:
        raise CannotConnect(f"the runtime directory cannot be read: {error.strerror}") from None


def _names(master: Found) -> tuple[str, ...]:
    return (master.name, master.app, master.app.partition(":")[0])


def _listed(masters: list[Found]) -> str:
    return ", ".join(f"{master.pid} ({printable(master.name, 60)})" for master in masters)


# -- the connection ------------------------------------------------------------------------------------------


class _Feed:
    """What a subscription has received and its reader has not taken yet: the newest snapshot, and events
    in order."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.news = asyncio.Event()
        self.ended = False

    def end(self) -> None:
        self.ended = True
        self.news.set()


class _Link(asyncio.Protocol):
    """The connection: answers go to who waits for them, news to the feed."""

    def __init__(self) -> None:
        self.feed: _Feed | None = None
        self.fault: WsgitopError | None = None
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._splitter = Splitter(SNAPSHOT_LIMIT_BYTES)
        self._waiting: dict[int, tuple[str, asyncio.Future[bytes]]] = {}
        self._last_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._splitter.feed(data)
        try:
            while self.fault is None and (frame := self._splitter.next_frame()) is not None:
                self._received(frame)
        except FrameTooLong:
            self.fail(ProtocolError("the server sent more than a snapshot can have"))
        except _MALFORMED as error:
            self.fail(
                ProtocolError(f"the server does not speak the control protocol: {printable(str(error), 200)}")
            )

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(
            CannotConnect("the connection to the server was lost", "It may have ended; look at its log.")
        )
        if not self.closed.done():
            self.closed.set_result(None)

    def fail(self, fault: WsgitopError) -> None:
        """The link is of no use any more: everybody who waits is told why."""
        if self.fault is None:
            self.fault = fault
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(_again(self.fault))
        if self.feed is not None:
            self.feed.end()
        if self.transport is not None:
            self.transport.abort()

    def call(self, method: str, arguments: msgspec.Struct) -> asyncio.Future[bytes]:
        """Send a call; its raw result will come."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.fault is not None or self.transport is None:
            future.set_exception(_again(self.fault or CannotConnect("not connected")))
            return future
        self._last_id += 1
        call_id = self._last_id
        self._waiting[call_id] = (method, future)
        future.add_done_callback(lambda _future: self._waiting.pop(call_id, None))
        self.transport.write(encode_request(call_id, method, arguments))
        return future

    def _received(self, frame: bytes) -> None:
        response = decode_response(frame)
        if response.method:
            self._news(response)
        elif isinstance(response.id, int) and response.id in self._waiting:
            method, future = self._waiting[response.id]
            if len(frame) > m.RESULT_LIMIT_BYTES and method not in LARGE_RESULTS:
                self.fail(ProtocolError(f"the server's answer to {method} is longer than it may be"))
            elif future.done():
                return
            elif response.error is not None:
                future.set_exception(as_fault(response.error))
            else:
                future.set_result(bytes(response.result))
        elif response.id is None and response.error is not None:
            # Not an answer to a call: the server turns this client away, or ends the connection.
            fault = as_fault(response.error)
            self.fail(
                fault
                if isinstance(fault, Refused)
                else CannotConnect(f"the server ended the connection: {fault.cause}")
            )

    def _news(self, response: m.Response) -> None:
        feed = self.feed
        if feed is None:
            return
        if response.method == "snapshot":
            feed.snapshot = _SNAPSHOTS.decode(response.params)
        elif response.method == "event":
            feed.events.append(_EVENTS.decode(response.params))
        feed.news.set()


def _again(fault: WsgitopError) -> WsgitopError:
    """The same fault as a new object: one exception raised in several tasks collects all their tracebacks."""
    fresh = type(fault)(fault.cause, fault.remedy)
    fresh.__cause__ = fault.__cause__
    return fresh


class AsyncClient:
    """A connection to the server that ``target`` names: a path, ``unix:PATH``, a pid, or an application's
    name.

    Every call raises CannotConnect when there is no link (any more), Refused when this user may not do that,
    ProtocolError when the server sends what it should not, and actions raise ActionFailed, TargetGone and
    Busy.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._link: _Link | None = None

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
        path = find(self.target)
        sock = connect(path)
        try:
            _, link = await asyncio.get_running_loop().create_unix_connection(_Link, sock=sock)
        except BaseException:
            sock.close()
            raise
        self._link = link
        try:
            try:
                hello = await self._ask("hello", m.NoArguments(), m.Hello, deadline_s=HELLO_DEADLINE_S)
            except ProtocolError as fault:
                raise CannotConnect(
                    f"{printable(str(path), 200)} is no control socket of wsgitop: {fault.cause}",
                    "See what is running with `wsgitop ctl status`.",
                ) from None
            if hello.protocol > m.PROTOCOL:
                raise ProtocolError(
                    f"the master (wsgitop {printable(hello.version, 40)}) speaks a newer protocol than we do",
                    "Update wsgitop here.",
                )
        except BaseException:
            await self.close()
            raise
        return hello

    async def close(self) -> None:
        """Close the connection. May be called again."""
        link, self._link = self._link, None
        if link is None or link.transport is None:
            return
        if link.feed is not None:
            link.feed.end()
        link.transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.shield(link.closed)

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

    async def deaths(self, after: int = 0, limit: int = 20) -> tuple[Death, ...]:
        """The newest ``limit`` ends of workers and zygotes with a sequence above ``after``, oldest first."""
        return (await self._ask("deaths", m.DeathsArguments(after=after, limit=limit), m.DeathsResult)).deaths

    async def subscribe(self, interval_s: float) -> AsyncGenerator[Snapshot | Event]:
        """Snapshots every ``interval_s`` seconds (0.25 to 10), the first one at once, and events as they
        happen.

        A reader that is slower than that gets the newest snapshot and all events. There is one subscription
        at a time: a newer one ends this one. Raises CannotConnect when the link is lost.
        """
        link = self._connected()
        if link.feed is not None:
            link.feed.end()
        feed = link.feed = _Feed()
        try:
            first = await self._ask("subscribe", m.SubscribeArguments(interval_s), m.Subscribed)
            if feed.snapshot is None:
                feed.snapshot = first.snapshot
            while True:
                feed.news.clear()
                # The snapshot first: events tell what has changed since, or what the next one will show.
                if feed.snapshot is not None:
                    snapshot, feed.snapshot = feed.snapshot, None
                    yield snapshot
                elif feed.events:
                    yield feed.events.popleft()
                elif feed.ended:
                    break
                else:
                    await feed.news.wait()
            if link.fault is not None:
                raise _again(link.fault)
        finally:
            if link.feed is feed:
                link.feed = None
                if link.fault is None and link.transport is not None and not link.transport.is_closing():
                    # Whether the server heard it does not matter: news without a feed are dropped.
                    link.call("unsubscribe", m.NoArguments()).add_done_callback(_forget)

    # -- actions ---------------------------------------------------------------------------------------------

    async def reload(self) -> m.Outcome:
        """Load the code again and replace the workers; returns when the last old one is gone."""
        return await self._ask("reload", m.NoArguments(), m.Outcome)

    async def reload_watched(self, told: Callable[[Event], None]) -> m.Outcome:
        """As :meth:`reload`; ``told`` is called with each event meanwhile. It ends a subscription."""
        news = self.subscribe(SLOWEST_S)
        try:
            await anext(news)  # the first snapshot: from here on events come
            call = asyncio.ensure_future(self.reload())
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

    async def scale(self, *, workers: int | None = None, change: int | None = None) -> m.Outcome:
        """Set the number of workers, or change it; returns when they serve or are gone."""
        return await self._ask("scale", m.ScaleArguments(workers=workers, change=change), m.Outcome)

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

    async def upgrade(self) -> m.Outcome:
        """Hand over to a new master, from what is on disk."""
        return await self._ask("upgrade", m.NoArguments(), m.Outcome)

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

    def _connected(self) -> _Link:
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
                f"the master does not answer (no {method} within {deadline_s:g} s)",
                "It may be stopped or overloaded.",
            ) from None
        try:
            return msgspec.json.decode(raw, type=result)
        except _MALFORMED as error:
            raise ProtocolError(
                f"the server's answer to {method} cannot be read: {printable(str(error), 200)}"
            ) from None


def _forget(future: asyncio.Future[bytes]) -> None:
    if not future.cancelled():
        future.exception()


class Client:
    """The same for code without asyncio. Not to be used inside a running event loop."""

    def __init__(self, target: str) -> None:
        self._client = AsyncClient(target)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> m.Hello:
        """As AsyncClient.connect."""
        return self._runner.run(self._client.connect())

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._runner.run(self._client.close())
        self._runner.close()

    def status(self) -> Snapshot:
        """As AsyncClient.status."""
        return self._runner.run(self._client.status())

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """As AsyncClient.workers."""
        return self._runner.run(self._client.workers())

    def history(self, seconds: int) -> tuple[Second, ...]:
        """As AsyncClient.history."""
        return self._runner.run(self._client.history(seconds))

    def events(self, after: int = 0, limit: int = 100) -> tuple[Event, ...]:
        """As AsyncClient.events."""
        return self._runner.run(self._client.events(after, limit))

    def deaths(self, after: int = 0, limit: int = 20) -> tuple[Death, ...]:
        """As AsyncClient.deaths."""
        return self._runner.run(self._client.deaths(after, limit))

    def subscribe(self, interval_s: float) -> Iterator[Snapshot | Event]:
        """As AsyncClient.subscribe."""
        news = self._client.subscribe(interval_s)

        async def following() -> Snapshot | Event | None:
            return await anext(news, None)

        while (item := self._runner.run(following())) is not None:
            yield item

    def reload(self) -> m.Outcome:
        """As AsyncClient.reload."""
        return self._runner.run(self._client.reload())

    def reload_watched(self, told: Callable[[Event], None]) -> m.Outcome:
        """As AsyncClient.reload_watched."""
        return self._runner.run(self._client.reload_watched(told))

    def scale(self, *, workers: int | None = None, change: int | None = None) -> m.Outcome:
        """As AsyncClient.scale."""
        return self._runner.run(self._client.scale(workers=workers, change=change))

    def signal(self, name: str, *, pid: int | None = None, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.signal."""
        return self._runner.run(self._client.signal(name, pid=pid, started_at=started_at))

    def quarantine(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.quarantine."""
        return self._runner.run(self._client.quarantine(pid, started_at))

    def release(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.release."""
        return self._runner.run(self._client.release(pid, started_at))

    def retire(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.retire."""
        return self._runner.run(self._client.retire(pid, started_at))

    def upgrade(self) -> m.Outcome:
        """As AsyncClient.upgrade."""
        return self._runner.run(self._client.upgrade())

    def stop(self, *, quick: bool = False) -> m.Outcome:
        """As AsyncClient.stop."""
        return self._runner.run(self._client.stop(quick=quick))
