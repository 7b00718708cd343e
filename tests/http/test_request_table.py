"""The table of cases, each in one piece, byte by byte and at random splits."""

from __future__ import annotations

import io
import random

import pytest

from tests.http.cases import CASES, Case
from wsgitop.http.faults import Fault
from wsgitop.http.head import HeadParser, Limits
from wsgitop.http.request import RequestParser

LIMITS = Limits(request_line=100, fields=10, field_size=200, body=100_000)


class MemoryBody(io.BytesIO):
    """A body sink."""

    @property
    def size_bytes(self) -> int:
        return len(self.getvalue())

    @size_bytes.setter
    def size_bytes(self, value: int) -> None:
        raise AssertionError("nobody sets it here")


def parse(pieces: list[bytes], limits: Limits = LIMITS) -> tuple[str | int, ...]:
    """What a connection that sends these pieces gets."""
    parser = RequestParser(HeadParser(limits), MemoryBody)
    results: list[str | int] = []
    for piece in pieces:
        parser.feed(piece)
        while (found := parser.next()) is not None:
            if isinstance(found, Fault):
                assert parser.faulted and parser.finished
                results.append(found.status)
            else:
                body = found.body.getvalue().decode() if isinstance(found.body, MemoryBody) else ""
                results.append(f"{found.method} {found.target} {body}")
    return tuple(results)


def splits(data: bytes, seed: int) -> list[bytes]:
    generator = random.Random(seed)
    cuts = sorted(generator.sample(range(1, len(data)), min(len(data) - 1, generator.randint(1, 8))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    assert parse([case.data]) == case.expected
    small = len(case.data) < 20_000
    pieces = [case.data[i : i + 1] for i in range(len(case.data))] if small else splits(case.data, 0)
    assert parse(pieces) == case.expected, "byte by byte"
    for seed in range(20):
        pieces = splits(case.data, seed)
        assert parse(pieces) == case.expected, pieces


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_leaves_nothing_behind_for_other_connections(case: Case) -> None:
    heads = HeadParser(LIMITS)
    parser = RequestParser(heads, MemoryBody)
    parser.feed(case.data)
    while parser.next() is not None:
        pass
    other = RequestParser(heads, MemoryBody)
    other.feed(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n")
    found = other.next()
    assert found is not None and not isinstance(found, Fault), found
