"""Health checks: what they say, and that they say it whatever the workers do."""

from __future__ import annotations

import json
import socket

import pytest

from tests.conftest import StartServer
from tests.support.server import free_port
from tests.support.waiting import eventually
from wsgitop.master.health import health
from wsgitop.master.roster import Roster
from wsgitop.master.states import WorkerPhase


def roster(*phases: WorkerPhase, stopping: bool = False) -> Roster:
    found = Roster(2, ever_ready=True, stopping=stopping)
    for slot, phase in enumerate(phases, 1):
        found.add_worker(slot, slot, 1, 0.0).phase = phase
    return found


@pytest.mark.parametrize(
    ("found", "path", "status", "text"),
    [
        (roster(), "/healthy", 200, "the master answers"),
        (roster(), "/", 404, "there are /healthy and /ready"),
        (roster(WorkerPhase.READY), "/ready", 200, "1 of 2 workers are ready"),
        (roster(WorkerPhase.BOOTING), "/ready", 503, "no worker is ready"),
        (roster(WorkerPhase.READY, stopping=True), "/ready", 503, "the server stops"),
        (roster(WorkerPhase.RETIRING, WorkerPhase.QUARANTINED), "/ready", 503, "no worker is ready"),
    ],
)
def test_what_is_said(found: Roster, path: str, status: int, text: str) -> None:
    code, line = health(found, path, 1.0)
    assert code == status and line.startswith(text)


def ask(port: int, data: bytes) -> tuple[bytes, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(data)
        with client.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    return head, body


def get(port: int, path: str, more: str = "") -> tuple[bytes, bytes]:
    return ask(port, f"GET {path} HTTP/1.1\r\nHost: t\r\n{more}\r\n".encode())


@pytest.mark.process
def test_the_master_answers_while_every_thread_is_busy(start_server: StartServer) -> None:
    port = free_port()
    server = start_server(
        "lab:application", "--health-bind", f"127.0.0.1:{port}", "--health-path", "/-/health"
    )
    head, body = get(port, "/ready")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and body == b"1 of 1 workers are ready\n"
    told = json.loads(get(port, "/ready", "Accept: application/json\r\n")[1])
    assert told == {"ok": True, "text": "1 of 1 workers are ready"}
    # What the workers answer themselves is no request of the application's.
    eventually(lambda: server.status()["totals"]["requests"] == 1)  # of wait_until_serving
    head, body = get(server.port, "/-/health", "Connection: close\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and body == b"ok\n" and b"Connection: close" in head
    assert ask(server.port, b"HEAD /-/health HTTP/1.0\r\n\r\n")[1] == b""
    assert server.status()["totals"]["requests"] == 1
    assert get(server.port, "/-/health/", "Connection: close\r\n")[1] == b"lab\n"
    with socket.create_connection(("127.0.0.1", server.port)) as busy:
        busy.sendall(b"GET /slow?s=2 HTTP/1.1\r\nHost: t\r\n\r\n")
        eventually(lambda: server.status()["totals"]["threads_busy"] == 1)
        assert get(port, "/healthy")[0].startswith(b"HTTP/1.1 200 ")
        for data, status in {
            b"POST /ready HTTP/1.0\r\n\r\n": b"405",
            b"GET / HTTP/1.0\r\n\r\n": b"404",
            b"GET /ready\r\n\r\n": b"400",
            b"GET /ready HTTP/2\r\n\r\n": b"400",
            b"GET /ready HTTP/1.1\nHost: t\r\n\r\n": b"400",
            b"GET /ready HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n": b"431",
        }.items():
            assert ask(port, data)[0].split(b" ")[1] == status, data[:40]
        assert ask(port, b"HEAD /ready HTTP/1.0\r\n\r\n")[1] == b""
