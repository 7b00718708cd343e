"""Applications for the worker's tests, by path. Gates are eventfds and pipes made before the fork, so that
tests need no sleeps.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator


class Gate:
    """Opened once by the test, passed by the application; or the other way round. Works across a fork."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_SEMAPHORE)

    def open(self, count: int = 1) -> None:
        os.eventfd_write(self.fd, count)

    def pass_through(self) -> None:
        """Wait until it is open; each opening lets one through."""
        os.eventfd_read(self.fd)


def text(start_response: StartResponse, body: bytes, status: str = "200 OK") -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def plain_echo(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Method, path, query and body."""
    body = environ["wsgi.input"].read()
    line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']} ".encode("latin-1")
    return text(start_response, line + body)


def _validated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The same, through what wsgiref.validate allows."""
    body = environ["wsgi.input"].read(10_000_000)
    line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']} ".encode("latin-1")
    if environ["REQUEST_METHOD"] == "HEAD":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []
    return text(start_response, line + body)


echo = validator(_validated)


def streamed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Three blocks of unknown total length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one "
    yield b""
    yield b"two "
    yield b"three"


validated_stream = validator(streamed)


def input_kind(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Where the body is, how long it is and its sum."""
    source = environ["wsgi.input"]
    kind = "memory" if isinstance(source, io.BytesIO) else "file"
    body = source.read()
    return text(start_response, f"{kind} {len(body)} {sum(body)} {environ.get('CONTENT_LENGTH')}".encode())


def headers(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """The environ as text, one key per line."""
    return text(start_response, "\n".join(f"{key}={environ[key]!r}" for key in sorted(environ)).encode())


def failing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Goes wrong in the way that the path names."""
    match environ["PATH_INFO"]:
        case "/before":
            raise RuntimeError("boom before the head")
        case "/after":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return _after()
        case "/exit":
            sys.exit(3)
        case "/interrupt":
            raise KeyboardInterrupt
        case "/nothing":
            return [b"no start_response"]
        case "/twice":
            start_response("200 OK", [])
            start_response("200 OK", [])
        case "/text":
            start_response("200 OK", [])
            return ["a str"]  # type: ignore[list-item]
        case "/newline":
            start_response("200 OK", [("X", "a\r\nY: b")])
            return [b"x"]
        case "/name":
            start_response("200 OK", [("X Y", "a")])
            return [b"x"]
        case "/status":
            start_response("OK", [])
        case "/short":
            start_response("200 OK", [("Content-Length", "10")])
            return [b"short"]
        case "/long":
            start_response("200 OK", [("Content-Length", "4")])
            return [b"much longer"]
        case "/longer":
            start_response("200 OK", [("Content-Length", "4")])
            return iter([b"mu", b"ch longer", b"still"])
        case "/replaced":
            start_response("200 OK", [("X", "a")])
            try:
                raise ValueError("replaced")
            except ValueError:
                start_response("503 Service Unavailable", [("Content-Length", "2")], sys.exc_info())  # type: ignore[arg-type]
            return [b"no"]
        case "/empty":
            start_response("204 No Content", [("Content-Length", "5")])
            return [b"body!"]
        case "/unchanged":
            start_response("304 Not Modified", [("ETag", '"x"')])
            return [b"body!"]
        case "/close":
            start_response("200 OK", [("Connection", "close"), ("Content-Length", "2")])
            return [b"ok"]
    return text(start_response, b"fine")


def _after() -> Iterator[bytes]:
    yield b"first "
    raise RuntimeError("boom after the head")


def writer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The write() callable of old."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    return [b"and returned"]


class Closing:
    """An iterable that opens a gate when it is closed, and says on which threads it was called."""

    def __init__(self, blocks: Iterator[bytes], closed: Gate) -> None:
        self.blocks = blocks
        self.closed = closed
        self.thread = threading.get_ident()

    def __iter__(self) -> Closing:
        return self

    def __next__(self) -> bytes:
        assert threading.get_ident() == self.thread
        return next(self.blocks)

    def close(self) -> None:
        assert threading.get_ident() == self.thread
        self.closed.open()


def gated(entered: Gate, leave: Gate) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """Paths under /slow wait at a gate; others answer at once."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"].startswith("/slow"):
            entered.open()
            leave.pass_through()
        return text(start_response, environ["PATH_INFO"].encode())

    return app


def endless(
    closed: Gate, block: bytes = b"x" * 65536
) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """A generator that never ends; the gate opens when it is closed."""

    def forever() -> Iterator[bytes]:
        while True:
            yield block

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/fast":
            return text(start_response, b"fast")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Closing(forever(), closed)

    return app


def files(path: Path, closed: Gate) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """A file through wsgi.file_wrapper: /all, /part (from byte 10 on), /length (first 100), /memory (no real
    file).
    """

    class File(io.FileIO):
        pass

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        wanted = environ["PATH_INFO"]
        source: Any = io.BytesIO(path.read_bytes()) if wanted == "/memory" else path.open("rb")
        extra = []
        if wanted == "/part":
            source.seek(10)
        if wanted == "/length":
            extra = [("Content-Length", "100")]
        start_response("200 OK", [("Content-Type", "application/octet-stream"), *extra])
        return environ["wsgi.file_wrapper"](source)  # type: ignore[no-any-return]

    return app


def identified(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Echoes an id, after a wait, a spin or nothing, as the path says."""
    kind = environ["PATH_INFO"]
    identity = environ["HTTP_X_ID"].encode()
    body = environ["wsgi.input"].read()
    if kind == "/sleep":
        time.sleep(0.004)
    elif kind == "/spin":
        limit_s = time.perf_counter() + 0.004
        while time.perf_counter() < limit_s:
            pass
    answer = identity + b" " + body
    if kind == "/stream":
        start_response("200 OK", [])
        return iter([identity, b" ", body])
    if kind == "/big":
        answer += b"." * 300_000
    return text(start_response, answer)
