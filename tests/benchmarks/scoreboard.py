"""What the live figures cost a request: ``python -m tests.benchmarks.scoreboard``.

One engine serves the same request again and again, without a network, once as it is and once with the writes
to the scoreboard left out; the difference of the least times is their cost. What the watchdog costs beside
that is the difference between "wsgitop 1×8" and "1×1" in ``python -m tests.benchmarks --only hello``: with
one thread and no siblings it sleeps.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Iterable
from typing import Any
from unittest import mock
from wsgiref.types import StartResponse, WSGIEnvironment

from wsgitop.scoreboard.board import Board
from wsgitop.settings.table import Settings
from wsgitop.worker.connection import Peer, State
from wsgitop.worker.loop import Engine
from wsgitop.worker.seat import Seat
from wsgitop.worker.siblings import Siblings

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
ROUNDS, REQUESTS = 150, 1000


class Wire:
    """A socket on which the same request is always waiting. Its descriptor is a real one."""

    def __init__(self) -> None:
        self._socket = socket.socket()

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv(self, _size: int) -> bytes:
        return bytes(bytearray(REQUEST))  # a new object each time, as from a network

    def send(self, data: bytes) -> int:
        return len(data)

    def close(self) -> None:
        self._socket.close()


def hello(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [b"Hello, world!\n"]


def _begin(self: Seat, connection: Any, request: Any, response: Any, _started_ns: int) -> None:
    self.request, self.connection, self.response = request, connection, response
    self.serial += 1


def _end(self: Seat, *_: object) -> None:
    self.response = self.request = self.connection = None


def measure() -> tuple[float, float]:
    """Microseconds of a request without the network: with the scoreboard, and without."""
    board = Board.create(1)
    try:
        return _measure(board)
    finally:
        gc.collect()  # what was made points at each other, and at the board's memory
        board.close()


def _measure(board: Board) -> tuple[float, float]:
    seat = Seat(0, board.thread(0, 0))
    engine = Engine(
        app=hello, settings=Settings(), listeners=(), seats=(seat,), row=board.row(0), access_log=None,
        name="benchmark", siblings=Siblings(board, 0), exchange=None,
    )  # fmt: skip
    wire: Any = Wire()
    connection = engine._connect(wire, Peer(("127.0.0.1", "8000"), ("127.0.0.1", "5000")))
    connection.mask = 1
    engine.crew.leader = seat

    def serve(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            connection.state = State.READY
            assert engine._attend(seat, connection)
        return (time.perf_counter() - began) / count * 1e6

    def least() -> float:
        serve(REQUESTS)
        return min(serve(REQUESTS) for _ in range(ROUNDS))

    try:
        with_it = least()
        with mock.patch.object(Seat, "begin", _begin), mock.patch.object(Seat, "end", _end):
            without = least()
        return min(with_it, least()), without
    finally:
        engine.forget()


if __name__ == "__main__":
    with_it, without = measure()
    cost = with_it - without
    print(f"a request without the network: {with_it:.2f} µs, of them for the scoreboard {cost:.2f} µs")
