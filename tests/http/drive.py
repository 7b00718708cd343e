"""Drives the parser as a connection does, and says what came out."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from typing import NamedTuple

from tests.http.corpus import Outcome
from wsgitop.http.faults import Fault
from wsgitop.http.head import HeadParser, Limits, Request
from wsgitop.http.request import RequestParser

LIMITS = Limits(request_line=100, fields=10, field_size=200, body=100_000)
"""Small, so that cases are."""


class MemoryBody(io.BytesIO):
    """A body sink."""

    @property
    def size_bytes(self) -> int:
        return len(self.getvalue())

    @size_bytes.setter
    def size_bytes(self, value: int) -> None:
        raise AssertionError("nobody sets it here")


class Served(NamedTuple):
    """A request as the application gets it."""

    method: str
    target: str
    body: bytes
    minor: int
    keep_alive: bool
    environ: dict[str, str]
    received_bytes: int

    @property
    def line(self) -> str:
        """As in a case."""
        return f"{self.method} {self.target} {self.body.decode('latin-1')}".rstrip(" ")


class Refused(NamedTuple):
    """A fault."""

    status: int

    @property
    def line(self) -> str:
        """As in a case."""
        return str(self.status)


Result = Served | Refused


def served(request: Request) -> Served:
    """What the application sees of a request."""
    body = b""
    if request.body is not None:
        assert isinstance(request.body, MemoryBody)
        body = request.body.getvalue()
    environ = {**request.fields, "PATH_INFO": request.path, "QUERY_STRING": request.query}
    return Served(
        request.method,
        request.target,
        body,
        request.minor,
        request.keep_alive,
        environ,
        request.received_bytes,
    )


class Driver:
    """One connection. ``results`` is what came out so far; ``continues`` how often it asked to go on."""

    def __init__(self, heads: HeadParser | None = None) -> None:
        self.parser = RequestParser(heads or HeadParser(LIMITS), MemoryBody)
        self.results: list[Result] = []
        self.continues = 0

    def feed(self, data: bytes) -> None:
        """Take bytes as a connection does, and check what must always hold."""
        parser = self.parser
        parser.feed(data)
        while (found := parser.next()) is not None:
            if isinstance(found, Fault):
                assert 400 <= found.status < 600 and found.reason.isprintable()
                assert parser.faulted and parser.finished and not parser.in_message
                self.results.append(Refused(found.status))
            else:
                assert not parser.faulted and parser.finished is not found.keep_alive
                assert not parser.in_body
                self.results.append(served(found))
        if parser.wants_continue:
            assert parser.in_body and not parser.wants_continue
            self.continues += 1


def parse(pieces: Iterable[bytes], heads: HeadParser | None = None) -> list[Result]:
    """What a connection that sends these pieces gets."""
    driver = Driver(heads)
    for piece in pieces:
        driver.feed(piece)
    return driver.results


def check(results: list[Result], outcomes: tuple[Outcome, ...]) -> None:
    """Compare what came out with what a case says."""
    lines = [result.line for result in results]
    expected = [outcome.line for outcome in outcomes]
    assert lines == expected, f"{lines} instead of {expected}"
    for result, outcome in zip(results, outcomes, strict=True):
        if isinstance(result, Served):
            for key, value in outcome.environ:
                assert result.environ.get(key) == value, f"{key} in {result.environ}"
            assert result.environ.keys().isdisjoint(outcome.absent), f"{outcome.absent} in {result.environ}"


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``data`` in pieces."""
    ends = sorted({cut for cut in cuts if 0 < cut < len(data)})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def byte_by_byte(data: bytes, at_most: int = 8000) -> list[bytes]:
    """One piece for each byte of the first so many, then the rest."""
    return pieces_of(data, range(1, at_most + 1))


def random_pieces(data: bytes, seed: int) -> list[bytes]:
    """``data`` in up to nine pieces."""
    generator = random.Random(seed)
    return pieces_of(data, [generator.randrange(len(data)) for _ in range(generator.randint(1, 8))])
