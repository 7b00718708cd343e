"""The application under stress. It does what the path asks for, and keeps a record that outlives it.

A path is ``/KIND/SIZE/BLOCKS/SLEEP_MS/SPIN_MS``. The answer's body repeats the request's number up to SIZE
bytes, so that a byte that strays into another answer shows. The server runs this module by itself, so it
imports nothing of the tests.

The record is one file for each process, one line for each event, written with one call: a letter and the
number of the request. C: called; I: an iterable with close() is about to be returned; E: its close() was
called; X: about to raise; H: about to hang; R: answers 503 in place of what it began; T: on another thread
than the call.
"""

import contextlib
import os
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

_directory = os.environ.get("STRESS_RECORD", "")
_record_fd = -1


def _open_record() -> None:
    """A worker that was forked from a process with the application loaded needs a file of its own."""
    global _record_fd  # noqa: PLW0603 - one record per process
    path = Path(_directory, f"{os.getpid()}-{time.monotonic_ns()}") if _directory else Path(os.devnull)
    _record_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


_open_record()
os.register_at_fork(after_in_child=_open_record)


def note(letter: bytes, number: bytes) -> None:
    """One line of the record."""
    os.write(_record_fd, letter + number + b"\n")


class StressError(Exception):
    """What the application raises because it was asked to."""


def answer_body(number: bytes, size: int) -> bytes:
    """What the answer to request ``number`` consists of."""
    unit = b"r" + number + b" "
    return (unit * (size // len(unit) + 1))[:size]


class Blocks:
    """An iterable with close(), which must be called exactly once, on the thread that made it."""

    def __init__(self, number: bytes, blocks: Iterator[bytes], *, raises: bool = False) -> None:
        note(b"I", number)
        self._number = number
        self._blocks = blocks
        self._raises = raises
        self._thread = threading.get_ident()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._check_thread()
        return next(self._blocks)

    def close(self) -> None:
        note(b"E", self._number)
        self._check_thread()
        if self._raises:
            note(b"X", self._number)
            raise StressError("in close()")

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            note(b"T", self._number)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    number = environ.get("HTTP_X_REQUEST_ID", "0").encode()
    note(b"C", number)
    words = environ["PATH_INFO"].split("/")
    if len(words) != 6:  # the test asking whether the server is up
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]
    kind = words[1]
    size, count, sleep_ms, spin_ms = map(int, words[2:])
    sent = environ["wsgi.input"].read()
    wait = _waiter(sleep_ms / 1000, spin_ms / 1000)
    headers = [
        ("Content-Type", "text/plain"),
        ("X-Request-Id", number.decode()),
        ("X-Body", f"{len(sent)}:{zlib.crc32(sent)}"),
    ]
    if kind == "before":
        note(b"X", number)
        raise StressError("before the head")
    if kind == "hang":
        note(b"H", number)
        wait()
        kind = "list"
    body = answer_body(number, size)
    step = size // count + 1
    blocks = [body[start : start + step] for start in range(0, size, step)]
    if kind in ("list", "length", "tuple"):
        headers.append(("Content-Length", str(size)))
    if kind in ("list", "tuple"):
        wait()
        start_response("200 OK", headers)
        return [body] if kind == "list" else tuple(blocks)
    if kind == "replaced":
        start_response("200 OK", [("X-Request-Id", "wrong")])
        try:
            raise StressError("replaced")
        except StressError:
            note(b"R", number)
            start_response("503 Service Unavailable", headers, sys.exc_info())  # type: ignore[arg-type]
        return [body]
    write = start_response("200 OK", headers)
    match kind:
        case "late":
            note(b"X", number)
            raise StressError("behind start_response")
        case "write" | "mixed":
            rest = len(blocks) // 2 if kind == "mixed" else len(blocks)
            for block in blocks[:rest]:
                write(block)
                wait()
            return Blocks(number, iter(blocks[rest:]))
        case "file":
            return _file(number, body, environ)
        case "generator":
            return _generator(number, blocks, wait)
        case "in_close":
            return Blocks(number, _paced(blocks, wait), raises=True)
        case "middle":
            return Blocks(number, _failing(number, blocks, wait))
        case "hang_middle":
            return Blocks(number, _hanging(number, blocks, wait))
    return Blocks(number, _paced(blocks, wait))


def _file(number: bytes, body: bytes, environ: WSGIEnvironment) -> Iterable[bytes]:
    file = tempfile.TemporaryFile(prefix="stress-")  # noqa: SIM115 - the server closes it
    file.write(body)
    file.seek(0)
    wrapper = environ["wsgi.file_wrapper"](file)
    note(b"I", number)
    wrapper.close = lambda: (note(b"E", number), file.close())
    return wrapper  # type: ignore[no-any-return]


def _paced(blocks: list[bytes], wait: Callable[[], None]) -> Iterator[bytes]:
    for block in blocks:
        yield block
        wait()


def _generator(number: bytes, blocks: list[bytes], wait: Callable[[], None]) -> Iterator[bytes]:
    note(b"I", number)
    try:
        yield from _paced(blocks, wait)
    finally:
        note(b"E", number)


def _failing(number: bytes, blocks: list[bytes], wait: Callable[[], None]) -> Iterator[bytes]:
    yield blocks[0]
    wait()
    note(b"X", number)
    raise StressError("behind the first block")


def _hanging(number: bytes, blocks: list[bytes], wait: Callable[[], None]) -> Iterator[bytes]:
    yield blocks[0]
    note(b"H", number)
    wait()
    yield from blocks[1:]


def _waiter(sleep_s: float, spin_s: float) -> Callable[[], None]:
    """What takes the application its time: waiting, which lets other threads run, or computing."""

    def wait() -> None:
        if sleep_s:
            time.sleep(sleep_s)
        if spin_s:
            limit_s = time.perf_counter() + spin_s
            while time.perf_counter() < limit_s:
                with contextlib.suppress(ValueError):
                    int("x")

    return wait
