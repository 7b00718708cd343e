"""A small load for tests: threads of three kinds of client that check every answer and record every failure.

Throughput is not the point. What counts is that no request fails, so each client pauses a little after each
one and leaves the machine to the server.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import select
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

Kind = Literal["keep-alive", "new connection", "post"]
KINDS: tuple[Kind, ...] = ("keep-alive", "new connection", "post")
PAUSE_S = 0.003


@dataclass(frozen=True)
class Failure:
    """One request that did not end as it should."""

    kind: Kind
    number: int
    reason: str


@dataclass
class Tally:
    """What happened.

    ``reconnects`` counts keep-alive connections that the server had closed between two requests, seen before
    the next request was sent; HTTP allows that (RFC 9112 section 9.5).
    """

    finished: Counter[Kind] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    reconnects: int = 0
    workers: set[str] = field(default_factory=set)
    versions: list[str] = field(default_factory=list)


class Load:
    """Clients that run while the context is open.

    ``connect`` makes a connection. ``path`` must answer 200 and send back ``X-Request-Id`` and a POST's body.
    """

    def __init__(
        self, connect: Callable[[], http.client.HTTPConnection], *, path: str = "/", threads_per_kind: int = 2
    ) -> None:
        self.tally = Tally()
        self._connect = connect
        self._path = path
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, f"{kind}-{number}"), name=f"load {kind} {number}")
            for kind in KINDS
            for number in range(threads_per_kind)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), f"{thread.name} hangs in a request"

    @property
    def total(self) -> int:
        """Requests finished well so far."""
        return sum(self.tally.finished.values())

    def run_on(self, requests: int, deadline_s: float = 30.0) -> None:
        """Return when so many more requests of every kind have finished."""
        with self._progress:
            goal = {kind: self.tally.finished[kind] + requests for kind in KINDS}
            reached = self._progress.wait_for(
                lambda: all(self.tally.finished[kind] >= goal[kind] for kind in KINDS), deadline_s
            )
            assert reached, f"the load stands still: {self.tally}"

    def check(self) -> None:
        """Fail, with the first reasons, if any request failed."""
        shown = "\n".join(f"  {f.kind} request {f.number}: {f.reason}" for f in self.tally.failures[:10])
        assert not self.tally.failures, f"{len(self.tally.failures)} of {self.total} failed:\n{shown}"
        missing = [kind for kind in KINDS if not self.tally.finished[kind]]
        assert not missing, f"no request of these kinds was made: {missing}"

    def _run(self, kind: Kind, name: str) -> None:
        connection: http.client.HTTPConnection | None = None
        for number in itertools.count():
            if self._stop.is_set():
                break
            if connection is not None and (kind == "new connection" or closed_by_server(connection)):
                if kind != "new connection":
                    with self._lock:
                        self.tally.reconnects += 1
                connection.close()
                connection = None
            try:
                connection = connection or self._connect()
                reason = self._one(connection, kind, f"{name}-{number}")
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
            with self._progress:
                if reason:
                    self.tally.failures.append(Failure(kind, number, reason))
                else:
                    self.tally.finished[kind] += 1
                self._progress.notify_all()
            if reason and connection is not None:
                connection.close()
                connection = None
            self._stop.wait(PAUSE_S)
        if connection is not None:
            connection.close()

    def _one(self, connection: http.client.HTTPConnection, kind: Kind, identity: str) -> str:
        """Make one request. Returns what is wrong with the answer, '' for nothing."""
        body = hashlib.sha256(identity.encode()).hexdigest().encode() * 64 if kind == "post" else None
        connection.request(
            "POST" if body else "GET", self._path, body=body, headers={"X-Request-Id": identity}
        )
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            return f"status {response.status}: {answer[:200]!r}"
        if response.headers["X-Request-Id"] != identity:
            return f"the answer is for {response.headers['X-Request-Id']!r}, not {identity!r}"
        if body is not None and answer != body:
            return f"{len(answer)} bytes came back for {len(body)} sent"
        with self._lock:
            self.tally.workers.add(response.headers["X-Worker"] or "")
            version = response.headers["X-Version"]
            if version and (not self.tally.versions or self.tally.versions[-1] != version):
                self.tally.versions.append(version)
        return ""


def closed_by_server(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection has something to read, which is its end. http.client does not look."""
    if connection.sock is None:  # http.client closed it, after an answer with Connection: close
        return False
    return bool(select.select([connection.sock], [], [], 0)[0])
