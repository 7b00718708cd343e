"""Three kinds of client on plain sockets, fast enough for some thousand requests a second."""

from __future__ import annotations

import itertools
import select
import socket
import threading
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self

Kind = Literal["new connection", "keep-alive", "16 KB POST"]
KINDS: Final[tuple[Kind, ...]] = ("new connection", "keep-alive", "16 KB POST")
BODY_BYTES: Final = 16 * 1024
TIMEOUT_S: Final = 20.0
SLOW_EVERY: Final = 50
"""One request of so many takes a few milliseconds in the application, so that faults meet some in flight."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without its right answer. Times are of the monotonic clock."""

    number: int
    kind: Kind
    begun_s: float
    ended_s: float
    reason: str


@dataclass(slots=True)
class Tally:
    """What happened. ``latencies_s`` and ``ended_s`` go together and are kept on demand only."""

    answered: Counter[Kind] = field(default_factory=Counter)
    reconnects: int = 0
    failures: list[Failure] = field(default_factory=list)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    ended_s: array[float] = field(default_factory=lambda: array("d"))

    @property
    def total(self) -> int:
        """Requests that were answered well."""
        return self.answered.total()


class WrongAnswer(Exception):
    """Bytes came that are not the answer to this request."""


class Clients:
    """Clients that ask while the context is open, ``each`` of every kind, with a pause behind each answer."""

    def __init__(
        self,
        port: int,
        *,
        each: int = 2,
        pause_s: float = 0.002,
        slow_every: int = SLOW_EVERY,
        keep_latencies: bool = False,
    ) -> None:
        self.tally = Tally()
        self._address = ("127.0.0.1", port)
        self._pause_s = pause_s
        self._slow_every = slow_every
        self._keep = keep_latencies
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kind,), name=f"{kind} {number}")
            for kind in KINDS
            for number in range(each)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Finish what is under way, and ask no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)
            assert not thread.is_alive(), f"the client {thread.name!r} hangs"

    def _run(self, kind: Kind) -> None:
        sock: socket.socket | None = None
        while not self._stop.is_set():
            number = next(self._numbers)
            if sock is not None and _has_ended(sock):
                sock.close()
                sock = None
                self.tally.reconnects += 1
            begun_s = time.monotonic()
            try:
                if sock is None:
                    sock = socket.create_connection(self._address, TIMEOUT_S)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                closes = self._ask(sock, kind, number)
            except (OSError, WrongAnswer) as error:
                ended_s = time.monotonic()
                reason = f"{type(error).__name__}: {error}"
                with self._lock:
                    self.tally.failures.append(Failure(number, kind, begun_s, ended_s, reason))
                closes = True
            else:
                ended_s = time.monotonic()
                with self._lock:
                    self.tally.answered[kind] += 1
                    if self._keep:
                        self.tally.latencies_s.append(ended_s - begun_s)
                        self.tally.ended_s.append(ended_s)
            if closes and sock is not None:
                sock.close()
                sock = None
            if self._pause_s:
                self._stop.wait(self._pause_s)
        if sock is not None:
            sock.close()

    def _ask(self, sock: socket.socket, kind: Kind, number: int) -> bool:
        """One request. Whether the connection ends with its answer. Raises WrongAnswer, OSError."""
        path = "/?5" if self._slow_every and number % self._slow_every == 0 else "/"
        method, extra, body = "GET", "", b"chaos\n"
        if kind == "16 KB POST":
            unit = b"%d " % number
            body = (unit * (BODY_BYTES // len(unit) + 1))[:BODY_BYTES]
            method, extra = "POST", f"Content-Length: {BODY_BYTES}\r\n"
        elif kind == "new connection":
            extra = "Connection: close\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: chaos\r\nX-Request-Id: {number}\r\n{extra}\r\n".encode()
        sock.sendall(head + body if method == "POST" else head)
        data = bytearray()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += _more(sock, data)
        fields = bytes(data[:end]).lower().split(b"\r\n")
        if fields[0] != b"http/1.1 200 ok":
            raise WrongAnswer(bytes(data[:300]).decode(errors="replace"))
        length = next((int(f[15:]) for f in fields if f.startswith(b"content-length:")), -1)
        if b"x-request-id: %d" % number not in fields:
            raise WrongAnswer(f"the answer is for another request: {fields}")
        while len(data) < end + 4 + length:
            data += _more(sock, data)
        if data[end + 4 :] != body:
            raise WrongAnswer(f"another body: {bytes(data[end + 4 : end + 60])!r}")
        return b"connection: close" in fields or kind == "new connection"


def _more(sock: socket.socket, so_far: bytearray) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise WrongAnswer(f"the connection ended after {len(so_far)} bytes of the answer")
    return data


def _has_ended(sock: socket.socket) -> bool:
    """Whether an idle connection has something to read, which is its end."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))
