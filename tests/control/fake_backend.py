"""A server made of plain data, behind a real control server on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from wsgitop.control.connection import Limits
from wsgitop.control.faults import TargetGone
from wsgitop.control.messages import (
    CancelArguments,
    Cancelled,
    Frame,
    HistogramArguments,
    HistogramResult,
    LogLevelArguments,
    Outcome,
    RequestInFlight,
    RequestsResult,
    ScaleArguments,
    SettingShown,
    SignalArguments,
    SlowRequest,
    StackArguments,
    StackResult,
    StopArguments,
    ThreadStack,
    WorkerArguments,
)
from wsgitop.control.server import ControlServer
from wsgitop.errors import ActionFailed, WsgitopError
from wsgitop.snapshot import (
    Death,
    Event,
    InFlight,
    ListenerSnapshot,
    MasterSnapshot,
    Second,
    Snapshot,
    Totals,
    WorkerSnapshot,
)

PATIENT = Limits(calls_per_s=1e6, calls_burst=1e6, share=1e3, accepts_per_s=1e6, accepts_burst=1e6)
"""Limits for tests that have something else in mind than throttling."""


class FakeBackend:
    """Remembers what it was told.

    ``fault`` is raised by every action, ``gate`` holds actions up until it is set.
    """

    def __init__(self, *, workers: int = 2, path: str = "/cart") -> None:
        self.wanted = workers
        self.path = path
        self.sequence = 0
        self.told: list[tuple[str, object, str]] = []
        self.remembered: list[Event] = []
        self.ledger: list[Death] = []
        self.slow = [
            SlowRequest(1_700_000_000.5, 2, 4002, 7, "POST", "/pay", "127.0.0.1", 503, 12.5, cut=True)
        ]
        self.hangs = False
        self.fault: WsgitopError | Exception | None = None
        self.follows = (False, False)
        self.notes: list[tuple[str, str, str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def snapshot(self) -> Snapshot:
        self.sequence += 1
        workers = tuple(
            WorkerSnapshot(
                slot=slot,
                pid=4000 + slot,
                generation=7,
                state="busy",
                started_at=1_700_000_000.25,
                age_s=90.0,
                requests=10 * slot,
                rps=1.5,
                p50_ms=8.0,
                p95_ms=41.0,
                p99_ms=120.0,
                cpu_percent=12.5,
                rss_bytes=50 * 1024 * 1024,
                threads=2,
                threads_busy=1,
                in_flight=(InFlight(0, "GET", self.path, "127.0.0.1:4", 0.25, 123_456_789),),
            )
            for slot in range(1, self.wanted + 1)
        )
        master = MasterSnapshot(
            pid=4000,
            generation=7,
            state="serving",
            started_at=1_700_000_000.0,
            uptime_s=91.0,
            bind=("127.0.0.1:8000",),
            control="/run/shop.sock",
            app="shop.wsgi:application",
            workers_wanted=self.wanted,
        )
        return Snapshot(
            sequence=self.sequence,
            at=1_700_000_091.0,
            master=master,
            totals=Totals(requests=30, errors=1, rps=3.0, threads=4, threads_busy=2, queue=0, backlog=2048),
            workers=workers,
            listeners=(ListenerSnapshot("127.0.0.1:8000", 2048, 0),),
        )

    def event(self, text: str, *, detail: str = "") -> Event:
        """A new event, remembered."""
        event = Event(len(self.remembered) + 1, 1_700_000_000.0, "info", "test", text, detail=detail)
        self.remembered.append(event)
        return event

    def death(self, pid: int, **more: Any) -> Death:
        """A new end of a worker, remembered."""
        values = {"process": "worker", "cause": "crashed", "signal": "SIGSEGV", "slot": 1, "worker": pid}
        text = f"worker 1 (pid {pid}) was killed by SIGSEGV"
        death = Death(
            sequence=len(self.ledger) + 1,
            at=1_700_000_000.0,
            text=text,
            generation=7,
            pid=pid,
            **values | more,
        )
        self.ledger.append(death)
        return death

    def events(self, after: int, limit: int) -> Sequence[Event]:
        return [event for event in self.remembered if event.sequence > after][-limit:]

    def deaths(self, after: int, limit: int) -> Sequence[Death]:
        return [death for death in self.ledger if death.sequence > after][-limit:]

    def history(self, seconds: int) -> Sequence[Second]:
        return [Second(at=float(second)) for second in range(seconds)]

    def settings(self) -> Sequence[SettingShown]:
        return (SettingShown("workers", "2", "1", "command line"), SettingShown("threads", "1", "1"))

    def follow_logs(self, error_log: bool, access_log: bool) -> None:
        if self.fault is not None and (error_log or access_log):
            raise self.fault
        self.follows = (error_log, access_log)

    def past_lines(self, log: str, count: int) -> Sequence[str]:
        return [f"{log} {number}" for number in range(count)]

    def note(self, severity: str, kind: str, text: str, actor: str) -> None:
        self.notes.append((severity, kind, text, actor))

    async def loglevel(self, arguments: LogLevelArguments, actor: str) -> Outcome:
        return await self._do("loglevel", arguments, actor)

    async def reopen(self, actor: str) -> Outcome:
        return await self._do("reopen", None, actor)

    def metrics(self) -> str:
        return "# TYPE wsgitop_requests counter\nwsgitop_requests_total 30\n# EOF\n"

    def requests(self, limit: int) -> RequestsResult:
        found = [
            RequestInFlight(worker.slot, worker.pid, worker.started_at, worker.generation, request)
            for worker in self.snapshot().workers
            for request in worker.in_flight
        ]
        return RequestsResult(tuple(found[:limit]), tuple(self.slow[:limit]), len(found))

    def histogram(self, arguments: HistogramArguments) -> HistogramResult:
        if arguments.pid == 1:
            raise TargetGone("no worker has pid 1 any more")
        return HistogramResult(2, arguments.pid, 10, ((8.192, 12), (40.96, 1)))

    async def stack(self, arguments: StackArguments, actor: str) -> StackResult:
        await self._do("stack", arguments, actor)
        if self.hangs:
            text = 'Thread 0x00007f (most recent call first):\n  File "shop.py", line 7 in pay'
            return StackResult(1, arguments.pid, "faulthandler", text=text)
        frames = (
            Frame("/srv/shop.py", 7, "pay", "return total(cart)", True),
            Frame("/usr/lib/python3/socket.py", 99, "recv", "return self._sock.recv(n)"),
        )
        request = self.snapshot().workers[0].in_flight[0]
        return StackResult(
            1, arguments.pid, "watchdog", (ThreadStack("MainThread", frames, 0, request),), dropped=3
        )

    async def cancel(self, arguments: CancelArguments, actor: str) -> Cancelled:
        outcome = await self._do("cancel", arguments, actor)
        return Cancelled(outcome.text, 7, self.wanted, 0.5, end="disconnected", answered=True)

    async def reload(self, actor: str) -> Outcome:
        return await self._do("reload", None, actor)

    async def upgrade(self, actor: str) -> Outcome:
        return await self._do("upgrade", None, actor)

    async def scale(self, arguments: ScaleArguments, actor: str) -> Outcome:
        outcome = await self._do("scale", arguments, actor)
        self.wanted = self.wanted + arguments.change if arguments.change else arguments.workers or self.wanted
        return outcome

    async def signal(self, arguments: SignalArguments, actor: str) -> Outcome:
        if arguments.pid is not None and arguments.started_at != 1_700_000_000.25:
            raise TargetGone(f"no worker has pid {arguments.pid} any more")
        return await self._do("signal", arguments, actor)

    async def quarantine(self, arguments: WorkerArguments, actor: str) -> Outcome:
        return await self._do("quarantine", arguments, actor)

    async def release(self, arguments: WorkerArguments, actor: str) -> Outcome:
        return await self._do("release", arguments, actor)

    async def retire(self, arguments: WorkerArguments, actor: str) -> Outcome:
        return await self._do("retire", arguments, actor)

    async def stop(self, arguments: StopArguments, actor: str) -> Outcome:
        return await self._do("stop", arguments, actor)

    async def _do(self, name: str, arguments: object, actor: str) -> Outcome:
        self.told.append((name, arguments, actor))
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return Outcome(f"{name} is done", 7, self.wanted, 0.5)


@contextlib.asynccontextmanager
async def serving(
    path: Path, backend: FakeBackend | None = None, **options: Any
) -> AsyncIterator[tuple[ControlServer, FakeBackend]]:
    """A control server at ``path`` in the running loop."""
    backend = backend or FakeBackend()
    options.setdefault("limits", PATIENT)
    server = ControlServer(app="shop.wsgi:application", name="shop", path=str(path), **options)
    await server.start(backend, bind=("127.0.0.1:8000",))
    try:
        yield server, backend
    finally:
        backend.gate.set()
        await server.close()


class ServerThread:
    """A control server with a loop of its own in a thread, for tests of code that blocks.

    ``hostile`` replaces the control server by a function that gets each connection's reader and writer.
    """

    def __init__(self, path: str = "", backend: FakeBackend | None = None, *, name: str = "shop") -> None:
        self._asked_path = path
        self._name = name
        self.backend = backend
        self.path = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.backend = self.backend or FakeBackend()
        server = ControlServer(
            app="shop.wsgi:application", name=self._name, path=self._asked_path, limits=PATIENT
        )
        self.path = server.open()
        await server.start(self.backend, bind=("127.0.0.1:8000",))
        self._ready.set()

        def sample() -> None:
            if server.publisher.fastest_interval_s() is not None:
                server.publisher.snapshot(self.backend.snapshot())
            if not self._end.is_set():
                self.loop.call_later(0.05, sample)

        sample()
        await self._end.wait()
        await server.close()


class RawClient:
    """A client that may misbehave: sends bytes, reads frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def call(self, method: str, params: object = None, call_id: object = 1) -> dict[str, Any]:
        """One call and its answer, notifications passed over."""
        frame = {"jsonrpc": "2.0", "id": call_id, "method": method}
        if params is not None:
            frame["params"] = params
        await self.send(json.dumps(frame).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """The next frame that is not a notification."""
        while "method" in (frame := await self.frame()):
            pass
        return frame

    async def frame(self) -> dict[str, Any]:
        """The next frame. Fails after five seconds, and at the end of the connection."""
        async with asyncio.timeout(5):
            line = await self.reader.readline()
        assert line, "the connection has ended"
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    async def at_end(self) -> bytes:
        """What comes until the connection ends."""
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
        return b""


@contextlib.asynccontextmanager
async def raw_client(path: str | Path) -> AsyncIterator[RawClient]:
    """A connection to a control socket."""
    reader, writer = await asyncio.open_unix_connection(path, limit=32 * 1024 * 1024)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.contextmanager
def hostile_server(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does what it likes with its first client, in a thread."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(10)

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                with client:
                    client.settimeout(10)
                    behave(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(path)
        finally:
            listener.close()
            thread.join(15)
            assert not thread.is_alive()


def failed_reload() -> ActionFailed:
    """What a master raises for broken code."""
    return ActionFailed(
        "reload to generation 8 failed: NameError: name 'x' is not defined",
        "Generation 7 serves on; mend the code and reload again.",
        detail='Traceback (most recent call last):\n  File "shop.py", line 1\nNameError: x\x1b[2J',
    )
