"""What holds for any bytes: made of the cases, cut anywhere and damaged anyhow."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.corpus import ALL, Case
from tests.http.drive import LIMITS, Driver, Refused, Result, Served, parse, pieces_of
from tests.http.reference import read_message
from wsgitop.http.head import HeadParser

SMALL = [case for case in ALL if len(case.data) < 2000]
RESULTS = {case.name: parse([case.data]) for case in SMALL}


def _goes_on(case: Case) -> bool:
    results = RESULTS[case.name]
    return bool(results) and all(isinstance(result, Served) and result.keep_alive for result in results)


GOING_ON = [case for case in SMALL if _goes_on(case)]

CUTS = st.lists(st.integers(1, 3000), max_size=12)

# What attacks are made of: bytes that end, fold, separate, hide or frame.
PARTICLES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"\x00", b"\x0b", b"\x7f", b"\x80",
    b"\xa0", b"\xff", b"+", b"-", b"_", b"0", b"1", b"9" * 20, b"#", b"*", b"%0d%0a",
    b"0\r\n\r\n", b"1\r\nx\r\n", b"5;a\r\n", b"00000005\r\n", b"ffffffffffffffff\r\n",
    b"Content-Length: 3\r\n", b"content-length:0\r\n", b"Content_Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n", b"Host: b\r\n",
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"Expect: x\r\n", b"Expect: 100-continue\r\n",
    b"GET ", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"http://", b" HTTP/1.0", b" HTTP/1.1", b" HTTP/1.2",
    b"X: y\r\n" * 4, b"a" * 90, b"a" * 200,
]  # fmt: skip


class StrictHeads(HeadParser):
    """Checks of every head that is let through that llhttp has seen its end, too: what it still waited for it
    would take from the head that comes next, perhaps another client's.
    """

    seen = 0

    def on_headers_complete(self) -> None:
        """Called back by httptools."""
        self.seen += 1

    def parse(self, head: bytes, line_end: int):  # type: ignore[no-untyped-def]
        before = self.seen
        request = super().parse(head, line_end)
        assert self.seen == before + 1
        return request


# One for all examples, as one serves all connections of a thread.
HEADS = StrictHeads(LIMITS)

# The longest that may have to wait for its end: a head, or the line of a chunk.
MOST_KEPT_BYTES = LIMITS.request_line + LIMITS.fields * (LIMITS.field_size + 2) + 4096 + 16 + 8


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Requests that are let through, then anything."""
    cases = [*draw(st.lists(st.sampled_from(GOING_ON), max_size=3)), draw(st.sampled_from(SMALL))]
    return b"".join(case.data for case in cases)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Such a conversation with a few faults."""
    data = draw(conversations())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        removed = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 5, 40]))
        added = draw(st.one_of(st.just(b""), st.binary(max_size=3), st.sampled_from(PARTICLES)))
        data = data[:start] + added + data[start + removed :]
    return data


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(GOING_ON), max_size=4), st.sampled_from(SMALL), CUTS)
def test_conversations_are_the_sum_of_their_parts_at_any_split(
    first: list[Case], last: Case, cuts: list[int]
) -> None:
    cases = [*first, last]
    expected = [result for case in cases for result in RESULTS[case.name]]
    assert parse(pieces_of(b"".join(case.data for case in cases), cuts), HEADS) == expected


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), CUTS)
def test_damaged_conversations(data: bytes, cuts: list[int]) -> None:
    whole = Driver(HEADS)
    whole.feed(data)
    in_pieces = Driver(HEADS)
    for piece in pieces_of(data, cuts):
        in_pieces.feed(piece)
        if not in_pieces.parser.finished:
            assert len(in_pieces.parser.buffer) <= MOST_KEPT_BYTES
    assert in_pieces.results == whole.results
    assert in_pieces.parser.in_body is whole.parser.in_body
    assert whole.parser.finished or in_pieces.parser.in_message is whole.parser.in_message
    check_meaning(data, whole.results)


def check_meaning(data: bytes, results: list[Result]) -> None:
    """What was let through is what the plain reader reads, and nothing in it harms an application."""
    position = 0
    for number, result in enumerate(results, 1):
        if isinstance(result, Refused):
            assert number == len(results)
            return
        message = read_message(data, position)
        position = message.end
        environ = result.environ
        assert (result.method, result.target, result.body) == (message.method, message.target, message.body)
        for key, value in environ.items():
            if key not in ("PATH_INFO", "QUERY_STRING"):
                assert "-" not in key and key == key.upper() and (key[:5] == "HTTP_" or key[:8] == "CONTENT_")
            assert key == "PATH_INFO" or not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value)
        length = environ.get("CONTENT_LENGTH")
        assert length is None or int(length) == len(result.body)
        assert environ.get("HTTP_TRANSFER_ENCODING", "chunked").lower() == "chunked"
        assert ("HTTP_TRANSFER_ENCODING" in environ) is message.coded
        assert length is not None or message.coded or not result.body
        assert "HTTP_CONTENT_LENGTH" not in environ and "HTTP_CONTENT_TYPE" not in environ
        check_copy(result)


def check_copy(result: Served) -> None:
    """Written anew as what it was taken for, it is taken for the same."""
    lines = [f"{result.method} {result.target} HTTP/1.{result.minor}", f"Content-Length: {len(result.body)}"]
    for key, value in result.environ.items():
        if key not in ("PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"):
            name = key.removeprefix("HTTP_").replace("_", "-")
            lines.append(f"{name}: {value}")
    copied = parse(["\r\n".join([*lines, "", ""]).encode("latin-1") + result.body], HeadParser(WIDE))
    environ = {
        key: value.strip(" ")  # of joined values the last may be empty
        for key, value in result.environ.items()
        if key != "HTTP_TRANSFER_ENCODING"
    }
    environ["PATH_INFO"] = result.environ["PATH_INFO"]
    environ["CONTENT_LENGTH"] = str(len(result.body))
    expected = result._replace(environ=environ, received_bytes=0)
    assert [item._replace(received_bytes=0) for item in copied if isinstance(item, Served)] == [expected]


# What is repeated is joined in the copy, so its lines may be longer.
WIDE = LIMITS._replace(fields=20, field_size=4000)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), CUTS)
def test_any_bytes(data: bytes, cuts: list[int]) -> None:
    results = parse([data], HEADS)
    assert parse(pieces_of(data, cuts), HEADS) == results
    check_meaning(data, results)


def test_the_plain_reader_agrees_with_the_table() -> None:
    for case in SMALL:
        check_meaning(case.data, RESULTS[case.name])
