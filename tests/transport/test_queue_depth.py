"""How many connections wait for a listening socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgitop.transport.queue_depth import parse_unix_answer, queue_depth, tcp_queue


@pytest.fixture(params=["tcp", "tcp6", "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    if request.param == "tcp6" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("needs IPv6")
    family, address = {
        "tcp": (socket.AF_INET, ("127.0.0.1", 0)),
        "tcp6": (socket.AF_INET6, ("::1", 0)),
        "unix": (socket.AF_UNIX, str(tmp_path / "queue.sock")),
    }[request.param]
    with socket.socket(family) as sock:
        where: Any = address
        sock.bind(where)
        sock.listen(8)
        yield sock


def test_queue_depth(listener: socket.socket) -> None:
    clients = []
    try:
        for expected in range(4):
            assert queue_depth(listener) == expected
            if listener.family != socket.AF_UNIX:
                assert tcp_queue(listener) == expected
            clients.append(socket.socket(listener.family))
            clients[-1].settimeout(5)
            clients[-1].connect(listener.getsockname())
        clients.append(listener.accept()[0])
        assert queue_depth(listener) == 3
    finally:
        for client in clients:
            client.close()


def test_queue_depth_of_a_closed_socket() -> None:
    listener = socket.socket()
    listener.close()
    assert queue_depth(listener) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0" * 15,
        b"\x24\0\0\0\x02\0" + b"\0" * 60,  # an error message
        b"\x24\0\0\0\x14\0" + b"\0" * 60,  # attributes of length 0
        b"\x24\0\0\0\x14\0" + b"\0" * 26 + b"\x08\0\x04\0\x01",  # cut in the middle
        b"\x24\0\0\0\x14\0" + b"\0" * 26 + b"\xff\xff\x07\0",
    ],
)
def test_answers_that_say_nothing(answer: bytes) -> None:
    assert parse_unix_answer(answer) is None
