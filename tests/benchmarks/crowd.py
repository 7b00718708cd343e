"""Connections that are held while something else is measured: idle ones, and unfinished heads."""

from __future__ import annotations

import contextlib
import itertools
import resource
import socket
import threading
import time
from collections.abc import Iterator

from tests.benchmarks.clients import Request, read_answer

OPEN_DEADLINE_S = 60.0
DRIP_INTERVAL_S = 1.0  # between two bytes of one head
DRIP_STEPS = 50  # in which all heads get their byte: not all at once


class Crowd:
    """Connections that are open."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def held(self) -> int:
        """How many the server has neither closed nor answered."""
        return sum(_is_silent(sock) for sock in self.sockets)


def _is_silent(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def allow_descriptors(count: int) -> None:
    """Raise the soft limit for this process and its children, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


@contextlib.contextmanager
def crowd(port: int, idle: int, slow_heads: int) -> Iterator[Crowd]:
    """``idle`` connections that have had one answer each, and ``slow_heads`` that get a byte each second.

    A server that keeps fewer, or does not answer within a minute, holds a smaller crowd.
    """
    allow_descriptors(idle + slow_heads + 1000)
    found = Crowd()
    with contextlib.ExitStack() as stack:
        end = time.monotonic() + OPEN_DEADLINE_S
        request = Request("/").head_and_body(port)
        for number in range(idle + slow_heads):
            if time.monotonic() > end:
                break
            with contextlib.suppress(OSError):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
                found.sockets.append(sock)
                if number < idle:
                    sock.sendall(request)
                    read_answer(sock.makefile("rb"))
                else:
                    sock.sendall(request[:-2] + b"X-Slow: ")
        if slow_heads:
            stack.enter_context(_dripping(found.sockets[-slow_heads:]))
        yield found


@contextlib.contextmanager
def _dripping(sockets: list[socket.socket]) -> Iterator[None]:
    ended = threading.Event()
    parts = [sockets[start::DRIP_STEPS] for start in range(DRIP_STEPS)]

    def drip() -> None:
        for part in itertools.cycle(parts):
            if ended.wait(DRIP_INTERVAL_S / DRIP_STEPS):
                return
            for sock in part:
                with contextlib.suppress(OSError):
                    sock.send(b"x", socket.MSG_DONTWAIT)

    thread = threading.Thread(target=drip, name="slow heads")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
