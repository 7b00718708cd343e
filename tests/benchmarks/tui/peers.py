"""htop and uwsgitop at 1 Hz in the same terminal: what is usual for such a program."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import statistics
import threading
from collections.abc import Iterator, Sequence

from tests.benchmarks.tui.measures import FIRST_WORKER, SETTLE_S, Effort, Figures, own_environment
from tests.benchmarks.tui.terminals import CannotMeasure, in_terminal

UWSGI_WORKERS = 8


def measured(words: Sequence[str], mark: bytes, effort: Effort) -> Figures:
    """Start until ``mark`` is on the screen, then cost at 1 Hz."""
    if shutil.which(words[0]) is None:
        return {}
    try:
        starts = []
        for _ in range(effort.rounds):
            with in_terminal(words, env=own_environment()) as program:
                starts.append((program.until(mark) - program.began) * 1e3)
        with in_terminal(words, env=own_environment()) as program:
            program.until(mark)
            program.drain(SETTLE_S)
            cpu, output = program.cost(effort.window_s)
            rss = program.rss_bytes()
    except CannotMeasure:
        return {}
    return {"start_ms": statistics.median(starts), "cpu": cpu, "output_kb": output / 1e3, "rss_mb": rss / 1e6}


def htop(effort: Effort) -> Figures:
    """Its picture is of the processes of this machine, however many there are."""
    return measured(("htop", "--delay=10"), b"PID", effort)


def uwsgitop(effort: Effort) -> Figures:
    """Over scripted statistics of as many workers."""
    with uwsgi_statistics() as address:
        return measured(("uwsgitop", address), FIRST_WORKER, effort)


@contextlib.contextmanager
def uwsgi_statistics() -> Iterator[str]:
    """What uWSGI serves at ``--stats``: each connection gets the document, with other figures every time.
    Source: https://uwsgi-docs.readthedocs.io/en/latest/StatsServer.html
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            served = 0
            with contextlib.suppress(OSError):  # what accept() answers when the listener is shut down
                while True:
                    client, _ = listener.accept()
                    served += 1
                    with client:
                        client.sendall(json.dumps(_document(served)).encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _document(served: int) -> dict[str, object]:
    workers = [
        {
            "id": number, "pid": 4250 + number, "accepting": 1, "requests": 40 * served + number,
            "exceptions": 0, "harakiri_count": 0, "signals": 0, "signal_queue": 0,
            "status": "busy" if number % 2 else "idle",
            "rss": 0, "vsz": 0, "running_time": served * 1000, "last_spawn": 1_760_000_000,
            "respawn_count": 1,
            "tx": served * 10_000, "avg_rt": 8000 + served, "delta_requests": 40,
            "apps": [{"id": 0, "modifier1": 0, "mountpoint": "", "requests": 1, "exceptions": 0}],
            "cores": [{"id": 0, "requests": 40 * served, "in_request": 1, "vars": []}],
        }
        for number in range(1, UWSGI_WORKERS + 1)
    ]  # fmt: skip
    return {
        "version": "2.0.30", "listen_queue": 0, "listen_queue_errors": 0, "signal_queue": 0, "load": 1,
        "pid": 4242, "uid": 0, "gid": 0, "cwd": "/srv/shop", "locks": [], "sockets": [], "workers": workers,
    }  # fmt: skip
