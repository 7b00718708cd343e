"""Connections that are held: counted rightly, whatever the server does with them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.benchmarks import crowd as module
from tests.benchmarks.crowd import crowd
from tests.support.waiting import eventually

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\nok"


class _Server:
    """Answers one request on each connection, and says that it closes every second one, and does."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.kept: list[socket.socket] = []

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            for number in range(1_000_000):
                sock = self.listener.accept()[0]
                if b"X-Slow" in sock.recv(1000):
                    self.kept.append(sock)
                    continue
                closes = number % 2
                sock.sendall(ANSWER % (b"Connection: close\r\n" if closes else b""))
                if closes:
                    sock.close()
                else:
                    self.kept.append(sock)

    def end(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.kept:
            sock.close()


@pytest.fixture
def server() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.end()
    thread.join()


def test_closed_connections_are_not_held(server: _Server) -> None:
    with crowd(server.port, idle=10, slow_heads=0) as held:
        assert held.held() == 5
        server.kept[0].close()
        server.kept[1].sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        eventually(lambda: held.held() == 3)


def test_slow_heads_get_a_byte_again_and_again(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRIP_INTERVAL_S", 0.01)
    with crowd(server.port, idle=0, slow_heads=5) as held:
        eventually(lambda: len(server.kept) == 5)
        for sock in server.kept:
            sock.settimeout(5)
            assert {sock.recv(1) for _ in range(3)} == {b"x"}
        assert held.held() == 5
