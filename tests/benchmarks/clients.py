"""What makes the load and measures the answers: wrk where it is installed, else threads of this process."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from io import BufferedReader

UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
# A slower answer counts as failed. wrk's own 2 s would hide the very latencies that overloaded servers show.
DEADLINE_S = 10


class CannotMeasure(Exception):
    """The client gave up, as wrk does when nobody listens."""


@dataclass(frozen=True)
class Request:
    """What is asked for. A request with a body is a POST of that many bytes."""

    path: str
    body_bytes: int = 0

    @property
    def method(self) -> str:
        """The method that goes with it."""
        return "POST" if self.body_bytes else "GET"

    def head_and_body(self, port: int, *, close: bool = False) -> bytes:
        """The request as bytes."""
        length = f"Content-Length: {self.body_bytes}\r\n" if self.body_bytes else ""
        closing = "Connection: close\r\n" if close else ""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}{closing}\r\n"
        return head.encode() + b"x" * self.body_bytes


@dataclass(frozen=True)
class Load:
    """``connections`` busy connections. Each ``every``-th request, counted over all of them, is ``other``."""

    request: Request
    other: Request | None = None
    every: int = 0
    connections: int = 32
    close: bool = False


@dataclass(frozen=True)
class Figures:
    """One measurement. ``requests`` were answered, ``failed`` were not, or not with 2xx or 3xx."""

    requests: int
    failed: int
    duration_s: float
    p50_ms: float
    p99_ms: float


def measure(port: int, load: Load, seconds: float) -> Figures:
    """Keep the connections busy for ``seconds``; wrk knows whole seconds only."""
    if shutil.which("wrk"):
        return _wrk(port, load, seconds)
    return _threads(port, load, seconds)


def client_name() -> str:
    """For the report."""
    return (
        "wrk -t1"
        if shutil.which("wrk")
        else "Python threads (install wrk for figures that the client does not limit)"
    )


def _wrk(port: int, load: Load, seconds: float) -> Figures:
    words = [
        *("wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s"),
        *("--latency", "--timeout", f"{DEADLINE_S}s"),
    ]
    with tempfile.NamedTemporaryFile("w", prefix="wsgitop-bench-", suffix=".lua") as script:
        script.write(wrk_script(load))
        script.flush()
        words += ["-s", script.name, f"http://127.0.0.1:{port}{load.request.path}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"wrk ended with status {done.returncode}: {done.stderr.strip()}")
    return parse_wrk(done.stdout)


def wrk_script(load: Load) -> str:
    """The load in wrk's language. Only a load of two kinds of request calls Lua for each one."""
    lines = ['wrk.headers["Connection"] = "close"'] if load.close else []
    lines.append(f'wrk.method = "{load.request.method}"')
    if load.request.body_bytes:
        lines.append(f'wrk.body = string.rep("x", {load.request.body_bytes})')
    if load.other is not None:
        lines += [
            "local usual, other, count = nil, nil, 0",
            "function init(args)",
            f'  usual = wrk.format("{load.request.method}", "{load.request.path}")',
            f'  other = wrk.format("{load.other.method}", "{load.other.path}")',
            "end",
            "function request()",
            "  count = count + 1",
            f"  if count % {load.every} == 0 then return other end",
            "  return usual",
            "end",
        ]
    return "\n".join(lines) + "\n"


def parse_wrk(text: str) -> Figures:
    """Figures from wrk's report."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    if total is None:
        raise CannotMeasure(f"wrk says nothing that can be read:\n{text}")
    latencies = {
        percent: float(value) * UNITS_MS[unit]
        for percent, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)", text, re.MULTILINE)
    }
    status = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad_status = int(status[1]) if status else 0
    return Figures(
        # wrk counts an error page as an answer.
        requests=int(total[1]) - bad_status,
        failed=bad_status + (sum(map(int, errors.groups())) if errors else 0),
        duration_s=float(total[2]) * UNITS_MS[total[3]] / 1000,
        p50_ms=latencies.get("50", 0.0),
        p99_ms=latencies.get("99", 0.0),
    )


def _threads(port: int, load: Load, seconds: float) -> Figures:
    usual = load.request.head_and_body(port, close=load.close)
    other = load.other.head_and_body(port, close=load.close) if load.other else usual
    numbers = itertools.count(1)
    latencies_s: list[float] = []
    failed = 0
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def client() -> None:
        nonlocal failed
        mine: list[float] = []
        bad = 0
        while time.perf_counter() < end:
            try:
                with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
                    reader = sock.makefile("rb")
                    while time.perf_counter() < end:
                        started = time.perf_counter()
                        sock.sendall(other if load.every and next(numbers) % load.every == 0 else usual)
                        status, closes = read_answer(reader)[:2]
                        if 200 <= status < 400:
                            mine.append(time.perf_counter() - started)
                        else:
                            bad += 1
                        if closes:
                            break
            except OSError:
                bad += 1
        with lock:
            latencies_s.extend(mine)
            failed += bad

    threads = [threading.Thread(target=client) for _ in range(load.connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered = sorted(latencies_s) or [0.0]
    return Figures(
        requests=len(latencies_s),
        failed=failed,
        duration_s=time.perf_counter() - started,
        p50_ms=ordered[len(ordered) // 2] * 1000,
        p99_ms=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
    )


def ask(port: int, request: Request) -> tuple[int, bytes]:
    """Status (0: no answer) and body of one request on a connection of its own."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        sock.sendall(request.head_and_body(port, close=True))
        status, _, body = read_answer(sock.makefile("rb"))
        return status, body
    return 0, b""


def read_answer(reader: BufferedReader) -> tuple[int, bool, bytes]:
    """Status of one answer (0: none came), whether the connection ends with it, and the body.

    Understands what a server needs for these applications, which all declare their Content-Length, and takes
    an answer without one to end with the connection.
    """
    line = reader.readline()
    if not line:
        return 0, True, b""
    length, closes = None, line.startswith(b"HTTP/1.0")
    while (field := reader.readline().strip().lower()) != b"":
        if field.startswith(b"content-length:"):
            length = int(field.partition(b":")[2])
        elif field == b"connection: close":
            closes = True
        elif field == b"connection: keep-alive":
            closes = False
    body = reader.read(length if length is not None else -1)
    return int(line.split()[1]), closes or length is None, body
