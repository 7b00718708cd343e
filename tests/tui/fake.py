"""A scripted server for the screens: its own clock, workers in every state, nothing random."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

from wsgitop.control.messages import (
    Cancelled,
    Frame,
    Hello,
    HistogramResult,
    LogLine,
    Outcome,
    RequestInFlight,
    RequestsResult,
    Role,
    SettingShown,
    SlowRequest,
    StackResult,
    SubscribeArguments,
    ThreadStack,
)
from wsgitop.control.methods import METHODS
from wsgitop.errors import CannotConnect, WsgitopError
from wsgitop.snapshot import (
    Death,
    Event,
    GenerationSnapshot,
    InFlight,
    ListenerSnapshot,
    MasterSnapshot,
    MasterState,
    Second,
    Snapshot,
    Totals,
    WorkerSnapshot,
    WorkerState,
)

Answer = TypeVar("Answer")

EPOCH = 1_760_000_000.0
"""2025-10-09 08:53:20 UTC: where every scripted clock starts."""

PATHS = (
    "/cart",
    "/",
    "/product/1881/",
    "/search?q=lamp",
    "/checkout/pay",
    "/api/v2/orders",
    "/static/app.css",
)


class Clock:
    """Seconds that pass only when told to; serves as the monotonic and as the wall clock."""

    def __init__(self, now: float = EPOCH) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


def wave(index: float, low: float, high: float, period: float = 17.0) -> float:
    """A smooth figure between two bounds: the same at every run."""
    return low + (high - low) * (0.5 + 0.3 * math.sin(index / period * 6.28) + 0.2 * math.sin(index * 1.7))


def worker(slot: int, state: WorkerState = "busy", **changes: object) -> WorkerSnapshot:
    """One worker with figures that look like life; ``changes`` override any field."""
    busy = state in ("busy", "stuck", "retiring")
    elapsed = 12.4 if state == "stuck" else 0.01 + slot * 0.37 % 1.9
    path = "/report/2024?full=1" if state == "stuck" else PATHS[slot % len(PATHS)]
    fields: dict[str, object] = {
        "slot": slot,
        "pid": 4250 + slot,
        "generation": 6 if state == "retiring" else 7,
        "state": state,
        "started_at": EPOCH - 273_600 - slot,
        "age_s": 273_600.0 + slot,
        "requests": 0 if state == "booting" else 182_201 - slot * 1771,
        "errors": 3 if state == "stuck" else 0,
        "rps": None if state == "booting" else 0.0 if state == "stuck" else wave(slot, 5, 90),
        "p50_ms": None if state == "booting" else wave(slot, 3, 12),
        "p95_ms": None if state == "booting" else 2100.0 if state == "stuck" else wave(slot, 20, 70),
        "p99_ms": None if state == "booting" else wave(slot, 80, 190),
        "cpu_percent": 99.8 if state == "stuck" else wave(slot, 2, 55) if busy else 0.4,
        "rss_bytes": int(wave(slot, 90, 140) * (1 << 20)),
        "pss_bytes": int(wave(slot, 40, 60) * (1 << 20)),
        "threads": 4,
        "threads_busy": 1 + slot % 3 if busy else 0,
        "connections": slot * 3 % 11,
        "heartbeat_age_s": (12.0 if state == "stuck" else 0.1) if busy else None,
        "in_flight": (
            tuple(
                InFlight(
                    thread=thread,
                    method="POST" if thread == 1 else "GET",
                    path=path if thread == 0 else PATHS[(slot + thread) % len(PATHS)],
                    client=f"203.0.113.{slot}:5{slot:04d}",
                    elapsed_s=elapsed / (1 + thread),
                    request=1000 * slot + thread + 1,
                )
                for thread in range(1 + slot % 3)
            )
            if busy
            else ()
        ),
        "rps_history": tuple(
            wave(second + slot, 0, 90) if state != "stuck" or second < 8 else 0.0 for second in range(30)
        ),
    }
    fields.update(changes)
    return WorkerSnapshot(**fields)  # type: ignore[arg-type]  # a table of mixed fields


STATES: tuple[WorkerState, ...] = ("busy", "idle", "stuck", "retiring", "booting", "busy", "idle", "busy")


def workers(number: int) -> tuple[WorkerSnapshot, ...]:
    """``number`` workers in all states."""
    return tuple(worker(slot, STATES[(slot - 1) % len(STATES)]) for slot in range(1, number + 1))


def second(at: float) -> Second:
    index = at - EPOCH
    busy = round(wave(index, 1, 8.4))
    return Second(
        at=at,
        rps=wave(index, 180, 530),
        p50_ms=wave(index, 5, 12),
        p95_ms=wave(index, 22, 60, 11),
        p99_ms=wave(index, 70, 140, 7),
        threads=8,
        threads_busy=min(busy, 8),
        queue=max(0, round(wave(index, -4, 5, 23))) if busy >= 7 else 0,
        cpu_percent=wave(index, 120, 341),
        rss_bytes=int(wave(index, 780, 830, 40) * (1 << 20)),
        pss_bytes=390 * (1 << 20),
        errors_per_s=0.0,
    )


def snapshot(
    sequence: int = 1,
    at: float = EPOCH,
    number: int = 8,
    *,
    state: MasterState = "serving",
    pid: int = 4242,
    these: tuple[WorkerSnapshot, ...] | None = None,
    failed: bool = False,
) -> Snapshot:
    now = second(at)
    present = these if these is not None else workers(number)
    generations = [GenerationSnapshot(number=7, state="ready", zygote_pid=4243, workers=number)]
    if failed:
        generations.append(
            GenerationSnapshot(number=8, state="failed", error="ImportError: no module named shop")
        )
    return Snapshot(
        sequence=sequence,
        at=at,
        master=MasterSnapshot(
            pid=pid,
            generation=7,
            state=state,
            started_at=at - 273_900,
            uptime_s=273_900.0,
            bind=("0.0.0.0:8000",),
            control="unix:/run/shop.sock",
            app="shop.wsgi:application",
            name="shop",
            host="web-3",
            user="deploy",
            workers_wanted=len(present),
            threads=4,
            reloading_to=8 if state == "reloading" else None,
        ),
        totals=Totals(
            requests=2_418_113,
            errors=19,
            rps=now.rps,
            errors_per_s=now.errors_per_s,
            p50_ms=now.p50_ms,
            p95_ms=now.p95_ms,
            p99_ms=now.p99_ms,
            threads=now.threads,
            threads_busy=now.threads_busy,
            queue=now.queue,
            backlog=128,
            cpu_percent=now.cpu_percent,
            rss_bytes=now.rss_bytes,
            pss_bytes=now.pss_bytes,
        ),
        workers=present,
        generations=tuple(generations),
        listeners=(ListenerSnapshot(address="0.0.0.0:8000", backlog=128, queue=now.queue),),
    )


EVENTS = (
    Event(
        sequence=1,
        at=EPOCH - 3600,
        severity="info",
        kind="start",
        text="serving on 0.0.0.0:8000 with 8 workers",
    ),
    Event(
        sequence=2,
        at=EPOCH - 1300,
        severity="error",
        kind="timeout",
        text="worker 5 timed out after 30 s in GET /report/2024",
        detail='Traceback:\n  File "/srv/shop/views.py", line 17, in report\n    time.sleep(60)',
    ),
    Event(
        sequence=3, at=EPOCH - 1299, severity="info", kind="respawn", text="worker 5 respawned as pid 4255"
    ),
    Event(
        sequence=4,
        at=EPOCH - 300,
        severity="warning",
        kind="scale",
        text="TTOU: 7 workers wanted",
        actor="alice",
    ),
    Event(
        sequence=5, at=EPOCH - 280, severity="good", kind="scale", text="TTIN: 8 workers serve", actor="alice"
    ),
    Event(
        sequence=6,
        at=EPOCH - 82,
        severity="good",
        kind="reload",
        text="HUP: generation 6 → 7, 8/8 ready in 2.1 s",
        actor="alice",
    ),
)


DEATHS = (
    Death(
        sequence=1, at=EPOCH - 86_400, process="zygote", cause="exited", generation=5, pid=4100, status=1,
        text="the zygote of generation 5 (pid 4100) exited with status 1", master=4242, uptime_s=12.0,
    ),
    Death(
        sequence=2, at=EPOCH - 1300, process="worker", cause="timeout", generation=7, pid=4199, slot=5,
        worker=9,
        signal="SIGKILL", text="worker 5 (pid 4199) was ended: GET /report/2024 took longer than 30 s",
        next_step="Look at the stack; raise --timeout if it may take so long.", uptime_s=7200.0,
        served_s=7198.0,
        requests=9902, errors=3, peak_rss_bytes=240 << 20, master=4242,
        memory=tuple((float(n * 60), (90 + n) << 20) for n in range(120)),
        serving=(InFlight(0, "GET", "/report/2024", "203.0.113.5:50005", 30.1),),
        stack='  File "/srv/shop/views.py", line 17, in report\n    time.sleep(60)\n',
        lines=("[2025-10-09 08:31:40 +0000] [4199] [WARNING] slow query", "printed by the application"),
    ),
    Death(
        sequence=3, at=EPOCH - 82, process="worker", cause="replaced", generation=6, pid=4198, slot=1,
        worker=3,
        status=0, text="worker 1 (pid 4198) of generation 6 was replaced", uptime_s=260_000.0,
        served_s=259_999.0,
        requests=182_201, peak_rss_bytes=101 << 20, master=4242,
    ),
)  # fmt: skip


SLOWEST = (
    SlowRequest(EPOCH - 40, 3, 4253, 7, "GET", "/report/2023", "203.0.113.3:50003", 200, 29.4),
    SlowRequest(EPOCH - 300, 5, 4199, 6, "GET", "/report/2024", "203.0.113.5:50005", 504, 30.1, cut=True),
    SlowRequest(EPOCH - 12, 1, 4251, 7, "POST", "/checkout/pay", "203.0.113.1:50001", 500, 1.9),
)
SETTINGS = (
    SettingShown(
        "bind",
        "0.0.0.0:8000",
        "127.0.0.1:8000",
        "command line",
        "Server",
        "Where to listen.",
        ("-b", "--bind"),
    ),
    SettingShown("workers", "8", "1", "/srv/shop/gunicorn.conf.py", "Workers", "Worker processes.", ("-w",)),
    SettingShown("raw_env", "SECRET=(hidden)", "", "command line", "Process", "Variables.", ("-e", "--env")),
    SettingShown("threads", "1", "1", "", "Workers", "Threads of each worker.", ("--threads",)),
)


def stack(pid: int, thread: int | None) -> StackResult:
    """Where the threads of a worker are: in the application, at rest, and one of the application's own."""
    request = InFlight(0, "GET", "/report/2024", "203.0.113.3:50003", 12.4, 3001)
    serving = ThreadStack(
        "MainThread",
        (
            Frame(
                "/srv/venv/site-packages/django/core/handlers/base.py",
                197,
                "_get_response",
                "response = cb()",
            ),
            Frame("/srv/shop/views.py", 17, "report", "rows = fetch(month)", application=True),
            Frame("/srv/shop/db.py", 31, "fetch", "return cursor.fetchall()", application=True),
            Frame("/usr/lib/python3.13/socket.py", 719, "readinto", "return self._sock.recv_into(b)"),
        ),
        0,
        request,
    )
    resting = ThreadStack("wsgitop-1", (Frame("/usr/lib/python3.13/threading.py", 359, "wait"),), 1)
    own = ThreadStack(
        "sentry-worker", (Frame("/srv/shop/report.py", 5, "flush", "queue.get()", application=True),)
    )
    found = tuple(one for one in (serving, resting, own) if thread is None or one.thread == thread)
    return StackResult(pid - 4250, pid, "watchdog", found)


def histogram(pid: int) -> HistogramResult:
    """Most requests take some milliseconds, a few take long."""
    counts = ((0.768, 3), (1.024, 9), (1.536, 21), (2.56, 88), (4.096, 164), (7.168, 231), (10.24, 140),
              (18.432, 61), (36.864, 33), (73.728, 12), (131.072, 4), (2359.296, 1))  # fmt: skip
    return HistogramResult(pid - 4250, pid, 10, counts)


class FakeServer:
    """What a test scripts: pictures are pushed by hand, calls recorded, the link cut and mended."""

    def __init__(self, clock: Clock | None = None, *, number: int = 8, role: Role = "operator") -> None:
        self.clock = clock or Clock()
        self.number = number
        self.role: Role = role
        self.methods = [name for name, row in METHODS.items() if role == "operator" or row.role == "viewer"]
        self.pid = 4242
        self.sequence = 0
        self.up = True
        self.calls: list[tuple[object, ...]] = []
        self.intervals: list[float] = []
        self.failure: WsgitopError | None = None
        self.answer = asyncio.Event()
        """Actions answer only when it is set (it is, unless a test clears it)."""
        self.answer.set()
        self.connections = 0
        self.known_events = EVENTS
        self.deaths: tuple[Death, ...] = DEATHS
        self.settings: tuple[SettingShown, ...] = SETTINGS
        self.slowest: tuple[SlowRequest, ...] = SLOWEST
        self.stack: Callable[[int, int | None], StackResult] = stack
        self.histogram: Callable[[int], HistogramResult] = histogram
        self.past_lines: dict[str, tuple[str, ...]] = {}
        self.follows = (False, False)
        self.log_fault: WsgitopError | None = None
        self.access_fault: WsgitopError | None = None
        """Raised where the access log is asked for."""
        self.question_fault: WsgitopError | None = None
        """Raised by every question."""
        self._listeners: set[asyncio.Queue[Snapshot | Event | LogLine | None]] = set()
        self.make: Callable[[], Snapshot] = lambda: snapshot(
            self.sequence, self.clock.now, self.number, pid=self.pid
        )

    def told(self, answer: Answer) -> Answer:
        """The answer to a question."""
        if self.question_fault is not None:
            raise self.question_fault
        return answer

    def source(self) -> FakeSource:
        return FakeSource(self)

    def picture(self) -> Snapshot:
        self.sequence += 1
        return self.make()

    def push(self, item: Snapshot | Event | LogLine | None = None) -> None:
        """Send a picture (a new one, unless given) or an event to whoever listens."""
        for queue in self._listeners:
            queue.put_nowait(item if item is not None else self.picture())

    def cut(self) -> None:
        """The server goes away."""
        self.up = False
        for queue in self._listeners:
            queue.put_nowait(None)

    def come_back(self, pid: int = 5151) -> None:
        self.pid = pid
        self.sequence = 0
        self.known_events = (
            Event(sequence=1, at=self.clock.now, severity="info", kind="start", text="serving again"),
        )
        self.up = True


class FakeSource:
    """One connection to it."""

    is_remote = False

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    async def connect(self) -> Hello:
        if not self.server.up:
            raise CannotConnect("no master listens at unix:/run/shop.sock", "start one with `wsgitop serve`")
        self.server.connections += 1
        return Hello(
            protocol=1,
            version="0.1.0",
            pid=self.server.pid,
            role=self.server.role,
            app="shop.wsgi:application",
            methods=tuple(self.server.methods),
            capabilities=("keys", "logs"),
        )

    async def history(self, seconds: int) -> tuple[Second, ...]:
        now = self.server.clock.now
        return tuple(second(now - ago) for ago in range(seconds, -1, -1))

    async def events(self, after: int = 0, limit: int = 100) -> tuple[Event, ...]:
        return tuple(event for event in self.server.known_events if event.sequence > after)[-limit:]

    async def deaths(self, after: int = 0, limit: int = 20) -> tuple[Death, ...]:
        return self.server.told(self.server.deaths[-limit:])

    async def requests(self, limit: int = 100) -> RequestsResult:
        found = [
            RequestInFlight(one.slot, one.pid, one.started_at, one.generation, request)
            for one in self.server.make().workers
            for request in one.in_flight
        ]
        found.sort(key=lambda one: -one.request.elapsed_s)
        return self.server.told(RequestsResult(tuple(found[:limit]), self.server.slowest, len(found)))

    async def stack(
        self, pid: int, *, thread: int | None = None, started_at: float | None = None
    ) -> StackResult:
        self.server.calls.append(("stack", pid, started_at, thread))
        return self.server.told(self.server.stack(pid, thread))

    async def histogram(self, pid: int, started_at: float | None = None) -> HistogramResult:
        self.server.calls.append(("histogram", pid, started_at))
        return self.server.told(self.server.histogram(pid))

    async def cancel(
        self, pid: int, thread: int, *, request: int | None = None, started_at: float | None = None
    ) -> Cancelled:
        done = await self._act("GET / was cut", "cancel", pid, started_at, thread, request)
        return Cancelled(done.text, done.generation, done.workers, 1.0, end="disconnected", answered=True)

    async def loglevel(self, level: str) -> Outcome:
        return await self._act(f"the log has everything from {level} on", "loglevel", level)

    async def reopen(self) -> Outcome:
        return await self._act("log files reopened", "reopen")

    async def upgrade(self, *, key: str = "") -> Outcome:
        return await self._act("process 5000 is the master", "upgrade")

    async def settings(self, *, changed: bool = False) -> tuple[SettingShown, ...]:
        return self.server.told(self.server.settings)

    async def news(self, arguments: SubscribeArguments) -> AsyncIterator[Snapshot | Event | LogLine]:
        logs = arguments.error_log or arguments.access_log
        if logs and self.server.log_fault is not None:
            raise self.server.log_fault
        if arguments.access_log and self.server.access_fault is not None:
            raise self.server.access_fault
        self.server.follows = (arguments.error_log, arguments.access_log)
        async with contextlib.aclosing(self._subscribe(arguments.interval_s)) as news:
            async for item in news:
                yield item
                if logs and isinstance(item, Snapshot):
                    logs = False
                    for log, lines in self.server.past_lines.items():
                        if self.server.follows[log == "access"]:
                            for line in lines:
                                yield LogLine(log, line)

    async def _subscribe(self, interval_s: float) -> AsyncGenerator[Snapshot | Event | LogLine]:
        self.server.intervals.append(interval_s)
        queue: asyncio.Queue[Snapshot | Event | None] = asyncio.Queue()
        self.server._listeners.add(queue)
        try:
            yield self.server.picture()
            while (item := await queue.get()) is not None:
                yield item
            raise CannotConnect("the master closed the connection")
        finally:
            self.server._listeners.discard(queue)

    async def _act(self, text: str, *call: object) -> Outcome:
        self.server.calls.append(call)
        await self.server.answer.wait()
        if self.server.failure is not None:
            raise self.server.failure
        return Outcome(text=text, generation=7, workers=self.server.number)

    async def reload(self) -> Outcome:
        return await self._act("generation 7 → 8, 8/8 ready in 2.1 s", "reload")

    async def scale(self, *, workers: int | None = None, change: int | None = None) -> Outcome:
        return await self._act("scaled", "scale", workers, change)

    async def quarantine(self, pid: int, started_at: float | None = None) -> Outcome:
        return await self._act("in quarantine", "quarantine", pid, started_at)

    async def release(self, pid: int, started_at: float | None = None) -> Outcome:
        return await self._act("released", "release", pid, started_at)

    async def retire(self, pid: int, started_at: float | None = None) -> Outcome:
        return await self._act("retires", "retire", pid, started_at)

    async def signal(self, name: str, *, pid: int | None = None, started_at: float | None = None) -> Outcome:
        return await self._act(f"{name} sent to {pid}", "signal", name, pid, started_at)

    async def stop(self, *, quick: bool = False) -> Outcome:
        return await self._act("stopped", "stop", quick)

    async def close(self) -> None:
        return None
