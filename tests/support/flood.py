"""Clients of a control socket that mean it no good, in a process of their own.

stalled: asks for much, subscribes, and never reads. flooding: asks as fast as the socket takes it, and reads.
half: begins a frame, adds a byte now and then, never ends it. connecting: connects and goes, over and over.
Whoever is cut off comes again at once. ``python -m tests.support.flood`` runs until its input ends, and then
prints what happened.
"""

from __future__ import annotations

import argparse
import errno
import heapq
import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.users import effective

STATUS: Final = b'{"jsonrpc":"2.0","id":1,"method":"status"}\n'
SUBSCRIBE: Final = b'{"jsonrpc":"2.0","id":2,"method":"subscribe","params":{"interval_s":0.25}}\n'
AGAIN_S: Final = 0.01
"""After a connection that the kernel's queue had no room for."""
DRIP_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many clients of one kind, of one user (None: who runs this)."""

    path: str
    kind: str
    count: int
    uid: int | None = None


class Flooder:
    """One client. ``tally`` counts for all of them."""

    def __init__(self, crowd: Crowd, crowds: Flood) -> None:
        self._crowd = crowd
        self._all = crowds
        self._sock: socket.socket | None = None
        self._unsent = b""

    def connect(self) -> None:
        """Connect, now or soon."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        try:
            if self._crowd.uid is None:
                sock.connect(self._crowd.path)
            else:
                with effective(self._crowd.uid):
                    sock.connect(self._crowd.path)
        except OSError as error:
            sock.close()
            self._all.tally["full" if error.errno == errno.EAGAIN else "refused by the kernel"] += 1
            self._all.later(AGAIN_S, self.connect)
            return
        self._all.tally["connections"] += 1
        if self._crowd.kind == "connecting":
            sock.close()
            self._all.later(0.0, self.connect)
            return
        self._sock = sock
        self._unsent = {"stalled": SUBSCRIBE + STATUS * 200, "half": STATUS[:20]}.get(self._crowd.kind, b"")
        self._all.selector.register(sock, self._wants(), self)

    def _wants(self) -> int:
        writes = bool(self._unsent) or self._crowd.kind == "flooding"
        # A stalled one does not even read its refusal, but its end is seen.
        reads = self._crowd.kind != "stalled"
        return (selectors.EVENT_WRITE if writes else 0) | (selectors.EVENT_READ if reads else 0)

    def ready(self, events: int) -> None:
        """The socket can be read or written."""
        assert self._sock is not None
        try:
            if events & selectors.EVENT_READ:
                received = self._sock.recv(1 << 18)
                if not received:
                    raise ConnectionResetError
                self._all.tally["answers"] += received.count(b"\n")
            if events & selectors.EVENT_WRITE:
                data = self._unsent or STATUS * 100
                self._unsent = data[self._sock.send(data) :]
                if self._crowd.kind != "flooding" and not self._unsent:
                    if self._crowd.kind == "half":
                        self._all.later(DRIP_S, self._drip, self._sock)
                    self._watch()
        except BlockingIOError:
            return
        except OSError:
            self._again()

    def _watch(self) -> None:
        assert self._sock is not None
        wanted = self._wants()
        if wanted:
            self._all.selector.modify(self._sock, wanted, self)
        else:
            self._all.selector.unregister(self._sock)

    def _drip(self, sock: socket.socket) -> None:
        if sock is not self._sock:
            return  # it was cut off meanwhile
        try:
            sock.send(b" ")
        except OSError:
            self._again()
        else:
            self._all.later(DRIP_S, self._drip, sock)

    def _again(self) -> None:
        assert self._sock is not None
        self._all.tally["cut off"] += 1
        self._all.selector.unregister(self._sock)
        self._sock.close()
        self._sock = None
        self._all.later(0.0, self.connect)


class Flood:
    """All of them, in one thread."""

    def __init__(self, crowds: Sequence[Crowd]) -> None:
        self.selector = selectors.DefaultSelector()
        self.tally: Counter[str] = Counter()
        self._due: list[tuple[float, int, object, tuple[object, ...]]] = []
        self._numbers = itertools.count()
        for crowd in crowds:
            for _ in range(crowd.count):
                self.later(0.0, Flooder(crowd, self).connect)

    def later(self, seconds: float, call: object, *arguments: object) -> None:
        """Call something after a while."""
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), call, arguments))

    def run(self, end: int) -> None:
        """Until the descriptor ``end`` can be read."""
        self.selector.register(end, selectors.EVENT_READ)
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 1.0
            for key, events in self.selector.select(wait_s):
                if key.data is None:
                    return
                key.data.ready(events)
            now = time.monotonic()
            # Only what is due by now: who connects over and over must let the rest have their turn.
            while self._due and self._due[0][0] <= now:
                _, _, call, arguments = heapq.heappop(self._due)
                call(*arguments)  # type: ignore[operator]


class FloodProcess:
    """A flood while the context is open. ``tally`` is there behind it, and ``cpu_s``, what it took."""

    def __init__(self, *crowds: Crowd) -> None:
        self.tally: dict[str, int] = {}
        self.cpu_s = 0.0
        self._crowds = crowds

    def __enter__(self) -> Self:
        words = [json.dumps([c.path, c.kind, c.count, c.uid]) for c in self._crowds]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.flood", *words],
            cwd=Path(__file__).parent.parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            written, _ = self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
        self.tally = json.loads(written)
        self.cpu_s = self.tally.pop("cpu_ms") / 1000


def main() -> None:
    """Run the crowds that the arguments name, as JSON lists."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.flood", description=__doc__)
    parser.add_argument("crowd", nargs="+", help='["PATH", "KIND", COUNT, UID or null]')
    flood = Flood([Crowd(*json.loads(text)) for text in parser.parse_args().crowd])
    print("begun", flush=True)
    flood.run(0)
    times = os.times()
    print(json.dumps(dict(flood.tally) | {"cpu_ms": round(1000 * (times.user + times.system))}))


if __name__ == "__main__":
    main()
