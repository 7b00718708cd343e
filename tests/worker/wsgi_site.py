"""One worker that serves many small applications, each at a path of its own, and what they tell the test."""

from __future__ import annotations

import contextlib
import os
import re
import select
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from tests.worker.harness import DEADLINE_S, Answer, Client, WorkerHarness, wait_until, worker
from wsgitop.scoreboard import layout as at

_ENTRY = re.compile(r"^\[[^]]+\] \[\d+\] \[([A-Z]+)\] (.*(?:\n(?!\[\d{4}-).*)*)", re.M)


class Notes:
    """Lines from applications to the test, over a pipe made before the fork."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._lines: list[str] = []
        self._rest = ""

    def put(self, line: str) -> None:
        """In the application."""
        os.write(self._writer, f"{line}\n".encode())

    def take(self) -> list[str]:
        """In the test: all lines that are here."""
        try:
            text = self._rest + os.read(self._reader, 1 << 20).decode()
        except BlockingIOError:
            return []
        *lines, self._rest = text.split("\n")
        return lines

    def wait(self) -> list[str]:
        """In the test: wait for a line, and take all that are here."""
        if not select.select([self._reader], [], [], DEADLINE_S)[0]:
            raise TimeoutError("no note from the application")
        return self.take()

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class Site:
    """Applications by name: ``@site.app`` adds one, at ``/NAME``."""

    def __init__(self) -> None:
        self.apps: dict[str, WSGIApplication] = {}
        self.notes = Notes()

    def app(self, function: Any) -> Any:
        """A decorator; under the name of the function."""
        self.apps[function.__name__] = function
        return function

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        name = environ["PATH_INFO"].strip("/").partition("/")[0]
        return self.apps.get(name, self.default)(environ, start_response)

    @staticmethod
    def default(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """For all other paths."""
        start(start_response, status="404 Not Found")
        return [b"no such application"]

    @contextlib.contextmanager
    def worker(self, **settings: Any) -> Iterator[Served]:
        """A worker that serves it, and waits for its clients longer than any test."""
        with worker(self, **{"keepalive": 60, **settings}) as harness:
            yield Served(self, harness)


class Entry:
    """One entry of the error log, with the lines of its traceback."""

    def __init__(self, level: str, text: str) -> None:
        self.level = level
        self.text = text


class Served:
    """A site in a worker."""

    def __init__(self, site: Site, harness: WorkerHarness) -> None:
        self.site = site
        self.harness = harness
        self._log_read = len(harness.log())
        self._done = 0

    def connect(self) -> Client:
        return self.harness.connect()

    def ask(
        self, target: str, *, client: Client | None = None, method: str = "GET", **headers: str
    ) -> Answer:
        """One request, on a connection of its own unless one is given, until the application is done with
        it.
        """
        if client is not None:
            client.get(target, method=method, **headers)
            answer = client.answer(head_only=method == "HEAD")
        else:
            with self.connect() as own:
                own.get(target, method=method, **headers)
                answer = own.answer(head_only=method == "HEAD")
        self.wait_done()
        return answer

    def wait_done(self, requests: int = 1) -> None:
        """Wait until the worker has finished with so many more requests, and no thread is in one."""
        self._done += requests
        harness = self.harness
        wait_until(lambda: harness.total(at.REQUESTS) >= self._done)
        assert harness.total(at.REQUESTS) == self._done
        wait_until(self.resting)

    def resting(self) -> bool:
        """All threads are idle."""
        threads = range(self.harness.settings.threads)
        return all(self.harness.thread_word(n, at.THREAD_STATE) == at.THREAD_IDLE for n in threads)

    def open_files(self) -> list[str]:
        """What its descriptors stand for, but for sockets."""
        found = []
        for link in Path(f"/proc/{self.harness.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(str(link.readlink()))
        return sorted(link for link in found if not link.startswith("socket:"))

    def log(self) -> list[Entry]:
        """Entries of the error log since the last call."""
        text = self.harness.log()[self._log_read :]
        self._log_read += len(text)
        entries = [Entry(*match) for match in _ENTRY.findall(text)]
        assert "".join(entry.text for entry in entries) or not text.strip(), f"not an entry: {text!r}"
        return entries

    def complaints(self) -> list[Entry]:
        """The same, of those worse than information."""
        return [entry for entry in self.log() if entry.level not in ("DEBUG", "INFO")]


def start(
    start_response: StartResponse, *headers: tuple[str, str], status: str = "200 OK"
) -> Callable[[bytes], object]:
    """start_response with a content type and more headers."""
    return start_response(status, [("Content-Type", "text/plain"), *headers])


class Closing:
    """An iterator that notes its close()."""

    def __init__(self, notes: Notes, blocks: Iterable[bytes], *, raises: BaseException | None = None) -> None:
        self._notes = notes
        self._blocks = iter(blocks)
        self._raises = raises

    def __iter__(self) -> Closing:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        self._notes.put("closed")
        if self._raises is not None:
            raise self._raises
