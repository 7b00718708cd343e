"""Lines to syslog, to real sockets of each kind, and what a server that is gone costs."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import free_port
from tests.support.waiting import eventually
from wsgitop.logs import syslog as module
from wsgitop.logs.syslog import QUEUE_LIMIT_BYTES, Address, Syslog

ERROR = b"[2026-11-27 15:06:17 +0000] [7] [ERROR] it broke\nTraceback\n"
BOTH = (socket.SOCK_DGRAM, socket.SOCK_STREAM)

Make = Callable[..., Syslog]


@pytest.fixture
def said() -> list[tuple[int, str]]:
    return []


@pytest.fixture
def make(said: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    built: list[Syslog] = []

    def build(address: Address, *kinds: socket.SocketKind) -> Syslog:
        syslog = Syslog(
            address,
            kinds,
            facility=16,
            error_tag="gunicorn.site.error",
            access_tag="gunicorn.site.access",
            say=lambda level, text: said.append((level, text)),
        )
        built.append(syslog)
        syslog.start()
        return syslog

    yield build
    for syslog in built:
        syslog.close()
        assert not syslog._thread.is_alive()


def receiver(family: int, kind: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(5)
    sock.bind(address)
    return sock


def test_messages_are_gunicorns(make: Make, said: list[Any]) -> None:
    with receiver(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)) as server:
        syslog = make(server.getsockname(), socket.SOCK_DGRAM)
        syslog.write_error(ERROR)
        syslog.write_access(b"[8] 192.0.2.1 - -\n[9] second\n")
        syslog.write_error(b"printed\0here\n" + b"x" * 9000 + b"\n")
        received = [server.recv(10000) for _ in range(6)]
    assert received[:5] == [
        b"<131>gunicorn.site.error: [7] it broke",
        b"<131>gunicorn.site.error: [7] Traceback",
        b"<134>gunicorn.site.access: [8] 192.0.2.1 - -",
        b"<134>gunicorn.site.access: [9] second",
        b"<133>gunicorn.site.error: printed\\0here",
    ]
    assert len(received[5]) == module.MESSAGE_LIMIT_BYTES
    assert said == []


@pytest.mark.parametrize("kinds", [BOTH, BOTH[::-1]])
@pytest.mark.parametrize("kind", BOTH)
def test_unix_sockets_of_either_kind_are_found(
    make: Make, tmp_path: Path, kinds: tuple[socket.SocketKind, ...], kind: socket.SocketKind
) -> None:
    path = str(tmp_path / "log")
    with receiver(socket.AF_UNIX, kind, path) as server:
        if kind == socket.SOCK_STREAM:
            server.listen()
        syslog = make(path, *kinds)
        syslog.write_access(b"one\n")
        if kind == socket.SOCK_DGRAM:
            assert server.recv(100) == b"<134>gunicorn.site.access: one"
        else:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"<134>gunicorn.site.access: one\n"


def test_tcp_lines_end_with_newlines(make: Make) -> None:
    with receiver(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) as server:
        server.listen()
        syslog = make(("localhost", server.getsockname()[1]), socket.SOCK_STREAM)
        syslog.write_access(b"one\ntwo\n")
        syslog.close()
        connection, _ = server.accept()
        with connection:
            received = b""
            while data := connection.recv(1000):
                received += data
    assert received == b"<134>gunicorn.site.access: one\n<134>gunicorn.site.access: two\n"


@pytest.mark.parametrize("kind", BOTH)
def test_a_server_that_is_gone_is_named_once_and_loses_nothing_when_it_is_back(
    make: Make, said: list[tuple[int, str]], kind: socket.SocketKind
) -> None:
    port = free_port()
    syslog = make(("127.0.0.1", port), kind)
    syslog.write_error(ERROR)
    eventually(lambda: said, what="a complaint")
    syslog.write_access(b"meanwhile\n")
    tries = time.monotonic() + 0.1
    eventually(lambda: time.monotonic() > tries)
    assert len(said) == 1 and said[0][0] == logging.WARNING
    assert said[0][1] == f"syslog at 127.0.0.1:{port} takes no lines: " + (
        "nobody listens there" if kind == socket.SOCK_DGRAM else "Connection refused"
    )
    with receiver(socket.AF_INET, kind, ("127.0.0.1", port)) as server:
        received = b""
        if kind == socket.SOCK_STREAM:
            server.listen()
            connection, _ = server.accept()
        else:
            connection = server
        with connection:
            while b"meanwhile" not in received:
                received += connection.recv(1000) + b"\n"
        assert received.count(b"it broke") == 1
        eventually(lambda: len(said) == 2, what="the good news")
        assert said[1][1].endswith("takes lines again; lines lost: 0")


def test_the_queue_is_bounded_and_the_end_is_quick(make: Make, said: list[Any], tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    syslog = make(path, socket.SOCK_DGRAM)
    line = b"x" * 999 + b"\n"
    began = time.monotonic()
    for _ in range(QUEUE_LIMIT_BYTES // 1000 + 500):
        syslog.write_access(line)
    assert time.monotonic() - began < 1, "nobody who writes waits"
    assert syslog._bytes <= QUEUE_LIMIT_BYTES
    assert syslog._lost > 400
    began = time.monotonic()
    syslog.close()
    assert time.monotonic() - began < 1
    assert len(said) == 1


def test_a_server_that_does_not_read_is_given_up(
    make: Make, said: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEND_S", 0.05)
    path = str(tmp_path / "log")
    with receiver(socket.AF_UNIX, socket.SOCK_DGRAM, path) as server:
        syslog = make(path, socket.SOCK_DGRAM)
        for number in range(600):  # more than net.unix.max_dgram_qlen
            syslog.write_access(b"%d\n" % number)
        eventually(lambda: said, what="a complaint")
        got = threading.Event()

        def read() -> None:
            while not server.recv(100).endswith(b" 599"):
                pass
            got.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert got.wait(5), "all of it, in the end"
        thread.join()


def test_a_name_of_which_one_address_is_served(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        kind = socket.AF_INET, socket.SOCK_DGRAM, 0, ""
        addresses = [(*kind, (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(module.socket, "getaddrinfo", lambda *_, **__: addresses)
        syslog = make(("both.example", port), socket.SOCK_DGRAM)
        syslog.write_access(b"one\n")
        assert server.recv(100) == b"<134>gunicorn.site.access: one"


def test_a_server_that_accepts_and_does_not_read_is_named_once(
    make: Make, said: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEND_S", 0.02)
    with receiver(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        server.listen(50)
        syslog = make(server.getsockname(), socket.SOCK_STREAM)
        line = b"x" * 7000 + b"\n"

        def stuck() -> bool:
            syslog.write_access(line * 20)
            return len(said) >= 2

        eventually(stuck, 20, what="gone, and there again")
        for _ in range(20):
            stuck()
        assert len(said) == 2, said


def test_a_connection_that_the_server_has_closed_is_made_anew(make: Make, said: list[Any]) -> None:
    with receiver(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) as server:
        server.listen()
        syslog = make(server.getsockname(), socket.SOCK_STREAM)
        for number in range(3):
            syslog.write_access(b"%d\n" % number)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"<134>gunicorn.site.access: %d\n" % number
    assert said == []
