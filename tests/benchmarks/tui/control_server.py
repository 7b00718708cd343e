"""A control server with scripted workers: ``python -m tests.benchmarks.tui.control_server PATH WORKERS``.

The real server, socket, codec and publisher; behind them, instead of a master, workers whose figures all
move from picture to picture, as they do under load, rounded as a master rounds them. Says READY when it can
be connected to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence

import msgspec

from tests.control.fake_backend import PATIENT, FakeBackend
from tests.tui import fake
from wsgitop.control.server import ControlServer
from wsgitop.snapshot import Event, Second, Snapshot, WorkerSnapshot

LOOK_AGAIN_S = 0.02
"""How often is looked whether somebody has subscribed."""
PERIOD = 60
"""Pictures until the figures repeat themselves."""


class MovingBackend(FakeBackend):
    """Workers in all states, no two pictures alike."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers=workers)
        self._began = time.time()
        self._workers = fake.workers(workers)
        self._waves = [round(fake.wave(step, 0, 90), 1) for step in range(PERIOD + 30)]
        self.remembered = list(fake.EVENTS)

    def snapshot(self) -> Snapshot:
        self.sequence += 1
        # The scripted clock begins at an epoch of its own; its waves are wanted, its time is not.
        scripted = fake.snapshot(
            self.sequence,
            fake.EPOCH + self.sequence,
            pid=os.getpid(),
            these=tuple(map(self._moved, self._workers)),
        )
        return msgspec.structs.replace(scripted, at=time.time())

    def _moved(self, worker: WorkerSnapshot) -> WorkerSnapshot:
        if worker.rps is None:
            return worker
        step = (self.sequence + worker.slot * 7) % PERIOD
        figure = self._waves[step]
        return msgspec.structs.replace(
            worker,
            rps=figure,
            requests=worker.requests + 40 * self.sequence,
            p50_ms=round(3 + figure / 10, 2),
            p95_ms=round(20 + figure / 2, 2),
            p99_ms=round(80 + figure, 2),
            cpu_percent=figure,
            rss_bytes=worker.rss_bytes + (int(figure) << 18),
            age_s=worker.age_s + self.sequence,
            heartbeat_age_s=None if worker.heartbeat_age_s is None else round(worker.heartbeat_age_s, 1),
            in_flight=tuple(
                msgspec.structs.replace(one, elapsed_s=round(one.elapsed_s + figure / 30, 3))
                for one in worker.in_flight
            ),
            rps_history=tuple(self._waves[step : step + 30]),
        )

    def history(self, seconds: int) -> Sequence[Second]:
        now = int(time.time())
        return [
            msgspec.structs.replace(fake.second(fake.EPOCH - ago), at=float(now - ago))
            for ago in range(seconds, -1, -1)
        ]

    def events(self, after: int, limit: int) -> Sequence[Event]:
        return [event for event in self.remembered if event.sequence > after][-limit:]


async def serve(path: str, workers: int) -> None:
    """Until SIGTERM."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    server = ControlServer(app="shop.wsgi:application", name="shop", path=path, limits=PATIENT)
    server.open()
    backend = MovingBackend(workers)
    await server.start(backend, bind=("0.0.0.0:8000",))
    print("READY", flush=True)
    due = loop.time()
    while not end.is_set():
        interval_s = server.publisher.fastest_interval_s()
        if interval_s is not None and loop.time() >= due:
            server.publisher.snapshot(backend.snapshot())
            due = max(due + interval_s, loop.time())
        try:
            async with asyncio.timeout(LOOK_AGAIN_S if interval_s is None else max(0.0, due - loop.time())):
                await end.wait()
        except TimeoutError:
            continue
    await server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
