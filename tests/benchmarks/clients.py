"""What makes the load and measures the answers: wrk where it is installed, else threads of this process."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from io import BufferedReader

UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Figures:
    """One round. ``requests`` were answered, ``failed`` were not, or not with 2xx or 3xx."""

    requests: int
    failed: int
    duration_s: float
    p50_ms: float
    p99_ms: float


def measure(port: int, path: str, *, seconds: float, connections: int) -> Figures:
    """Keep ``connections`` keep-alive connections busy for ``seconds``."""
    if shutil.which("wrk"):
        return _wrk(port, path, seconds, connections)
    return _threads(port, path, seconds, connections)


def client_name() -> str:
    """For the report."""
    return (
        "wrk"
        if shutil.which("wrk")
        else "Python threads (install wrk for figures that the client does not limit)"
    )


def _wrk(port: int, path: str, seconds: float, connections: int) -> Figures:
    url = f"http://127.0.0.1:{port}{path}"
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return parse_wrk(text)


def parse_wrk(text: str) -> Figures:
    """Figures from wrk's report."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    if total is None:
        raise SystemExit(f"wrk says nothing that can be read:\n{text}")
    latencies = {
        percent: float(value) * UNITS_MS[unit]
        for percent, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)", text, re.MULTILINE)
    }
    status = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Figures(
        requests=int(total[1]),
        failed=(int(status[1]) if status else 0) + (sum(map(int, errors.groups())) if errors else 0),
        duration_s=float(total[2]) * UNITS_MS[total[3]] / 1000,
        p50_ms=latencies.get("50", 0.0),
        p99_ms=latencies.get("99", 0.0),
    )


def _threads(port: int, path: str, seconds: float, connections: int) -> Figures:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    latencies_s: list[float] = []
    failed = 0
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def client() -> None:
        nonlocal failed
        mine: list[float] = []
        bad = 0
        while time.perf_counter() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as sock:
                reader = sock.makefile("rb")
                while time.perf_counter() < end:
                    started = time.perf_counter()
                    sock.sendall(request)
                    status, closes = _read_answer(reader)
                    if 200 <= status < 400:
                        mine.append(time.perf_counter() - started)
                    else:
                        bad += 1
                    if closes:
                        break
        with lock:
            latencies_s.extend(mine)
            failed += bad

    threads = [threading.Thread(target=client) for _ in range(connections)]
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


def _read_answer(reader: BufferedReader) -> tuple[int, bool]:
    """Status of one answer, and whether the connection ends with it, as it does without a Content-Length."""
    line = reader.readline()
    if not line:
        return 0, True
    length, closes = None, False
    while (field := reader.readline().strip().lower()) != b"":
        if field.startswith(b"content-length:"):
            length = int(field.partition(b":")[2])
        elif field == b"connection: close":
            closes = True
    reader.read(length if length is not None else -1)
    return int(line.split()[1]), closes or length is None
