"""The measurements. Each is a function that returns figures by name, as the goals know them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.tui.terminals import CannotMeasure, PtyProgram, cpu_s, in_terminal
from tests.support.server import APPS, PROGRAM, Server, environment
from wsgitop.tui.theme import UNICODE_SIGNS

Figures = dict[str, float]

ROOT = Path(__file__).parents[3]
CROWDS = (8, 100, 1000)
FIRST_WORKER = b"4251"
"""The pid of the first scripted worker: with it on the screen, a frame is a real one."""
SETTLE_S = 3.0
CURSOR = UNICODE_SIGNS.cursor.encode()
SERVER_WORKERS = 8


@dataclass(frozen=True)
class Effort:
    """How long and how often. ``window_s``: each measurement of CPU; ``watch_s``: of the growth of memory."""

    rounds: int = 7
    window_s: float = 20.0
    watch_s: float = 180.0
    presses: int = 100


class ScriptedServer:
    """The control server of control_server.py, in a process of its own."""

    def __init__(self, path: Path, workers: int) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.tui.control_server", str(path), str(workers)],
            cwd=ROOT,
            env=environment(path.parent),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"READY\n":
            self.process.wait(10)
            raise CannotMeasure("the scripted control server did not start")

    def kill(self) -> None:
        """At once, as a master dies that is killed."""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """In good order."""
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.stdout.close()


@contextlib.contextmanager
def scripted(workers: int) -> Iterator[ScriptedServer]:
    """A scripted control server in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="wsgitop-bench-") as directory:
        server = ScriptedServer(Path(directory, "c.sock"), workers)
        try:
            yield server
        finally:
            server.end()


def attach(server: ScriptedServer) -> contextlib.AbstractContextManager[PtyProgram]:
    """The interface on it."""
    return in_terminal([*PROGRAM, "attach", str(server.path)], env=environment(server.path.parent))


def subscribe(path: str, seconds: float) -> float:
    """Subscribe at 1 Hz and read for so long; bytes per second after the first picture."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"interval_s": 1.0}}
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(0.1)
        link.connect(path)
        link.sendall(json.dumps(call).encode() + b"\n")
        lines = size = 0
        began = 0.0
        end = time.perf_counter() + seconds + 2
        while (now := time.perf_counter()) < end:
            try:
                data = link.recv(1 << 20)
            except TimeoutError:
                continue
            if not data:
                raise CannotMeasure("the server ended the subscription")
            if began:
                size += len(data)
            lines += data.count(b"\n")
            if not began and lines:
                began, end = now, now + seconds
        return size / seconds


# -- the measurements ----------------------------------------------------------------------------------------


def start(effort: Effort) -> Figures:
    """From the command to the first frame with figures, in turns with an empty Textual application."""
    ours, empty = [], []
    with scripted(8) as server:
        for number in range(effort.rounds + 1):
            with attach(server) as program:
                took = program.until(FIRST_WORKER) - program.began
            with in_terminal([sys.executable, str(Path(__file__).with_name("empty_app.py"))]) as program:
                least = program.until(b"READY") - program.began
            if number:  # the first of each fills the page cache
                ours.append(took)
                empty.append(least)
    mine, theirs = statistics.median(ours), statistics.median(empty)
    return {"start_ms": mine * 1e3, "empty_ms": theirs * 1e3, "start_ratio": mine / theirs}


def crowd(workers: int) -> Callable[[Effort], Figures]:
    """CPU and output at 1 Hz with so many workers; paused; and without the server."""

    def measure(effort: Effort) -> Figures:
        with scripted(workers) as server:
            socket_bytes = subscribe(str(server.path), min(effort.window_s, 8.0))
            with attach(server) as program:
                program.until(FIRST_WORKER)
                program.drain(SETTLE_S)
                live, output = program.cost(effort.window_s)
                rss = program.rss_bytes()
                program.press(b"p")
                program.drain(SETTLE_S)
                paused, _ = program.cost(effort.window_s)
                program.press(b"p")
                program.drain(SETTLE_S)
                server.end()
                program.drain(SETTLE_S)
                offline, _ = program.cost(effort.window_s)
        return {
            f"cpu_{workers}": live,
            f"paused_{workers}": paused,
            f"offline_{workers}": offline,
            f"output_{workers}_kb": output / 1e3,
            f"socket_{workers}_kb": socket_bytes / 1e3,
            f"rss_{workers}_mb": rss / 1e6,
        }

    return measure


def keys(effort: Effort) -> Figures:
    """From a key press to the first byte of what it changes: the sign of the cursor on another row."""
    chance = random.Random(1)
    took = []
    with scripted(8) as server, attach(server) as program:
        program.until(FIRST_WORKER)
        program.drain(SETTLE_S)
        for number in range(effort.presses):
            pressed = program.press(b"jk"[number % 2 :][:1])
            took.append((program.until(CURSOR, 5.0) - pressed) * 1e3)
            program.drain(chance.uniform(0.05, 0.25))
    took.sort()
    return {"key_p50_ms": statistics.median(took), "key_p95_ms": took[int(len(took) * 0.95)]}


def memory(effort: Effort) -> Figures:
    """Resident memory after some minutes, and its growth in the second half of them, as a slope."""
    with scripted(8) as server, attach(server) as program:
        program.until(FIRST_WORKER)
        points = []
        began = time.perf_counter()
        while (at := time.perf_counter() - began) < effort.watch_s:
            program.drain(1.0)
            if at > effort.watch_s / 2:
                points.append((at, float(program.rss_bytes())))
        rss = program.rss_bytes()
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else 0.0
    return {"rss_mb": rss / 1e6, "growth_mb_h": slope * 3600 / 1e6}


def master(effort: Effort) -> Figures:
    """CPU of a real master's process with one subscriber at 1 Hz more than without, in turns."""
    alone, watched = [], []
    with Server("hello:plain", "--workers", str(SERVER_WORKERS), cwd=APPS) as server:
        server.wait_until_serving()
        control = server.status()["master"]["control"].removeprefix("unix:")
        for _ in range(3):
            for figures, seen in ((alone, False), (watched, True)):
                before, began = cpu_s(server.pid), time.perf_counter()
                if seen:
                    subscribe(control, effort.window_s)
                else:
                    time.sleep(effort.window_s)
                figures.append((cpu_s(server.pid) - before) / (time.perf_counter() - began) * 100)
    alone_percent, watched_percent = statistics.median(alone), statistics.median(watched)
    return {
        "master_alone": alone_percent,
        "master_watched": watched_percent,
        "master_client": watched_percent - alone_percent,
    }


def ends(effort: Effort) -> Figures:
    """What happens when the terminal is closed, and when the server comes back."""
    lost, back = [], []
    for _ in range(min(effort.rounds, 5)):
        with scripted(8) as server:
            with attach(server) as program:
                program.until(FIRST_WORKER)
                program.drain(1.0)
                lost.append(program.lose_terminal())
            with attach(server) as program:
                program.until(FIRST_WORKER)
                program.drain(1.0)
                server.kill()
                program.drain(5.0)  # the pauses between attempts have grown by then
                program.forget()
                again = ScriptedServer(server.path, 8)
                try:
                    ready = time.perf_counter()
                    back.append(program.until(b"LIVE", 20.0) - ready)
                finally:
                    again.end()
    return {"lost_s": max(lost), "back_s": max(back)}


def own_environment() -> dict[str, str]:
    """For programs of others."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
