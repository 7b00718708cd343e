"""kill -9 of each kind of process, under load: what is left goes on or ends, and what is gone is replaced."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.conftest import StartServer
from tests.support.load import Load
from tests.support.processes import lives
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.slow]

WORKERS = 3


@pytest.fixture
def server(start_server: StartServer) -> Server:
    # For so long a worker without a master keeps idle connections.
    return start_server("lab:application", "--workers", str(WORKERS), "--keep-alive", "0.5")


def _pids(server: Server) -> set[int]:
    return {worker["pid"] for worker in server.workers()}


def _connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 5)


def test_killed_master_leaves_nothing(server: Server) -> None:
    children = [process for process in server.processes() if process.pid != server.pid]
    assert len(children) >= WORKERS + 1

    # One request in flight: its worker finishes it, although the master is gone.
    client = _connect(server)
    client.sendall(b"GET /slow?s=1.5 HTTP/1.1\r\nHost: lab\r\n\r\n")
    eventually(lambda: any(w["in_flight"] for w in server.workers()), what="the request in flight")
    # The load sees the end, of course; that its clients do not hang is what counts.
    with Load(server.connection, path="/echo") as load:
        load.run_on(20)
        server.signal(signal.SIGKILL)
        server.process.wait(5)

    assert b"200 OK" in client.recv(65536)
    client.close()
    eventually(lambda: not any(lives(child.pid) for child in children), 5, what="the end of all")
    # The port is free at once.
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))


def test_killed_master_frees_the_port_within_two_seconds(server: Server) -> None:
    with Load(server.connection, path="/echo") as load:
        load.run_on(20)
        server.signal(signal.SIGKILL)
        server.process.wait(5)
        eventually(lambda: not server.processes(), 2, what="the end of zygote and workers")


@pytest.mark.every_python
def test_killed_master_frees_the_port_though_clients_are_there(start_server: StartServer) -> None:
    """Idle keep-alive connections hold nobody up, half a request does not either, a request is finished."""
    server = start_server(
        "lab:application", "--workers", "2", "--threads", "2", "--keep-alive", "60", "--preload"
    )
    idle = [server.connection() for _ in range(8)]
    for connection in idle:
        connection.request("GET", "/echo")
        connection.getresponse().read()
    half, busy = _connect(server), _connect(server)
    half.sendall(b"GET /echo HTTP/1.1\r\nHost: l")
    busy.sendall(b"GET /slow?s=1 HTTP/1.1\r\nHost: lab\r\n\r\n")
    eventually(lambda: any(w["in_flight"] for w in server.workers()), what="the request in flight")

    server.signal(signal.SIGKILL)
    server.process.wait(5)
    eventually(lambda: _listen(server.port), 2, what="a free port")
    for connection in idle:
        assert connection.sock.recv(1) == b"", "closed, and not reset or left open"
        connection.close()
    assert b"200 OK" in busy.recv(65536)
    busy.close()
    half.close()
    eventually(lambda: not server.processes(), 5, what="the end of zygote and workers")


def _listen(port: int) -> bool:
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
        again.listen()
    return True


def test_killed_zygote_with_preload_is_replaced_while_a_request_runs(start_server: StartServer) -> None:
    server = start_server("lab:application", "--workers", "2", "--preload")
    before = _pids(server)
    (zygote,) = server.zygote_pids()
    busy = _connect(server)
    busy.sendall(b"GET /slow?s=1 HTTP/1.1\r\nHost: lab\r\n\r\n")
    eventually(lambda: any(w["in_flight"] for w in server.workers()), what="the request in flight")
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: server.zygote_pids() not in ([], [zygote]), what="a new zygote")
    assert b"200 OK" in busy.recv(65536)
    busy.close()
    assert _pids(server) == before
    assert server.ctl("scale", "3").returncode == 0
    (death,) = server.deaths()
    assert (death["process"], death["pid"], death["cause"]) == ("zygote", zygote, "killed")


@pytest.mark.every_python
def test_killed_zygote_is_replaced_and_no_request_fails(server: Server) -> None:
    with Load(server.connection, path="/echo") as load:
        load.run_on(20)
        before = _pids(server)
        (zygote,) = server.zygote_pids()
        generation = server.status()["master"]["generation"]
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda: server.zygote_pids() not in ([], [zygote]), what="a new zygote")
        load.run_on(20)
        assert _pids(server) == before, "existing workers are kept"

        # The new zygote can fork.
        assert server.ctl("scale", str(WORKERS + 1)).returncode == 0
        added = [w for w in server.workers() if w["pid"] not in before]
        assert [w["generation"] > generation for w in added] == [True]
        load.run_on(20)
    load.check()


@pytest.mark.every_python
def test_killed_worker_is_replaced(server: Server) -> None:
    with Load(server.connection, path="/echo") as load:
        load.run_on(20)
        before = _pids(server)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(_pids(server)) == WORKERS and victim not in _pids(server), what="a new worker")
        assert before - {victim} <= _pids(server)
        load.run_on(20)
    # Only what the victim held may fail: at most one request for each of the load's six clients.
    assert len(load.tally.failures) <= 6
    assert "SIGKILL" in server.log()


def test_worker_that_is_asked_to_end_loses_nothing(server: Server) -> None:
    with Load(server.connection, path="/echo") as load:
        load.run_on(20)
        before = _pids(server)
        victim = min(before)
        os.kill(victim, signal.SIGTERM)
        eventually(lambda: len(_pids(server)) == WORKERS and victim not in _pids(server), what="a new worker")
        load.run_on(20)
    load.check()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU])
def test_worker_ignores_what_is_meant_for_the_master(server: Server, number: signal.Signals) -> None:
    before = _pids(server)
    os.kill(min(before), number)
    eventually(lambda: number.name.removeprefix("SIG") in server.log(), what="a line in the log")
    assert server.get()[0] == 200
    assert _pids(server) == before


@pytest.mark.every_python
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name
)
def test_stop_signals_end_everything_with_status_0(server: Server, number: signal.Signals) -> None:
    server.signal(number)
    assert server.wait_for_end() == 0
    assert list(server.runtime_dir.rglob("*.sock")) == []
    with pytest.raises(ConnectionRefusedError):
        _connect(server)


def test_term_finishes_what_is_in_flight_and_quit_does_not(start_server: StartServer) -> None:
    for number, expected in ((signal.SIGTERM, b"200 OK"), (signal.SIGQUIT, b"")):
        server = start_server("lab:application")
        client = _connect(server)
        client.sendall(b"GET /slow?s=1 HTTP/1.1\r\nHost: lab\r\n\r\n")
        eventually(lambda server=server: any(w["in_flight"] for w in server.workers()), what="in flight")
        server.signal(number)
        answer = b""
        try:
            answer = client.recv(65536)
        except ConnectionResetError:
            assert number == signal.SIGQUIT
        client.close()
        assert expected in answer if expected else answer == b""
        assert server.wait_for_end() == 0
