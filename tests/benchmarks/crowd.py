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
DRIP_STEPS = 200  # in which all heads get their byte: not all at once


class Crowd:
    """Connections that are open."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def held(self) -> int:
        """How many the server has neither closed nor answered."""
        return sum(_is_silent(sock) for sock in self.sockets)


def _is_silent(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _is_kept(sock: socket.socket, request: bytes) -> bool:
    sock.sendall(request)
    with sock.makefile("rb") as reader:
        status, closes, _ = read_answer(reader)
    return status == 200 and not closes


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
    found, slow = Crowd(), list[socket.socket]()
    with contextlib.ExitStack() as stack:
        end = time.monotonic() + OPEN_DEADLINE_S
        request = Request("/").head_and_body(port)
        for number in range(idle + slow_heads):
            if time.monotonic() > end:
                break
            with contextlib.suppress(OSError):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
                if number >= idle:
                    sock.sendall(request[:-2] + b"X-Slow: ")
                    slow.append(sock)
                elif not _is_kept(sock, request):
                    sock.close()  # some servers wait for that, with everything that they have
                    continue
                sock.setblocking(False)  # with a timeout, even MSG_DONTWAIT waits
                found.sockets.append(sock)
        if slow_heads:
            stack.enter_context(_dripping(slow))
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
                    sock.send(b"x")

    thread = threading.Thread(target=drip, name="slow heads")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
