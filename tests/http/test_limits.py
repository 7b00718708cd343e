"""What clients can make the parser keep, do and wait for."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable

import pytest

from tests.http.drive import Driver, MemoryBody, Refused, Served, byte_by_byte, parse
from wsgitop.http.faults import Fault
from wsgitop.http.head import HeadParser, Limits
from wsgitop.http.request import RequestParser

DEFAULTS = Limits()
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SERVED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL_HEAD = b"GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: slow\r\nX-"


def status(data: bytes) -> int:
    """What a client that sends this gets first, with the default limits; 200 if it is served."""
    first = parse([data], HeadParser(DEFAULTS))[0]
    return first.status if isinstance(first, Refused) else 200


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *fields, b"", b""])


def trailers(*fields: bytes) -> bytes:
    return CHUNKED + b"\r\n".join([b"0", *fields, b"", b""])


@pytest.mark.parametrize(
    ("fits", "too_large", "refused"),
    [
        (head(line=b"GET /%b HTTP/1.1" % (b"a" * 4080)), head(line=b"GET /%b HTTP/1.1" % (b"a" * 4081)), 414),
        (head(b"X: " + b"a" * 8187), head(b"X: " + b"a" * 8188), 431),
        (head(*[b"X: y"] * 99), head(*[b"X: y"] * 100), 431),
        (head(*[b"X: " + b"y" * 8187] * 99), head(*[b"X: " + b"y" * 8187] * 100), 431),
        (trailers(b"X: " + b"a" * 8187), trailers(b"X: " + b"a" * 8188), 431),
        (trailers(*[b"X: y"] * 100), trailers(*[b"X: y"] * 101), 431),
        (trailers(*[b"X: %b" % (b"y" * 379)] * 42), trailers(*[b"X: %b" % (b"y" * 379)] * 43), 431),
        (head(b"Content-Length: 0"), head(b"Content-Length: %d" % (DEFAULTS.body + 1)), 413),
    ],
    ids=["request line", "field", "fields", "head", "trailer", "trailers", "all trailers", "body"],
)
def test_default_limits(fits: bytes, too_large: bytes, refused: int) -> None:
    assert status(fits) == 200
    assert status(too_large) == refused


def test_a_field_may_be_limited_to_less_than_a_request_line() -> None:
    heads = HeadParser(DEFAULTS._replace(request_line=1000, field_size=20))
    for data in (head(b"X: " + b"a" * 18), head(b"X: " + b"a" * 18, line=b"GET / HTTP/1.0")):
        assert parse([data], heads) == parse(byte_by_byte(data), heads) == [Refused(431)]
    (result,) = parse([head(b"X: " + b"a" * 17)], heads)
    assert isinstance(result, Served)


def test_trailers_that_go_on_beyond_the_limit_are_not_waited_for() -> None:
    many = trailers(*[b"X: %b" % (b"y" * 379)] * 42).removesuffix(b"\r\n")
    assert parse([many + b"X: "], HeadParser(DEFAULTS)) == []
    assert status(many + b"X: " + b"y" * 400) == 431


def test_a_body_without_limit() -> None:
    heads = HeadParser(DEFAULTS._replace(body=0))
    driver = Driver(heads)
    driver.feed(head(b"Content-Length: %d" % (DEFAULTS.body + 1), line=b"POST / HTTP/1.1"))
    assert driver.parser.in_body
    driver = Driver(heads)
    driver.feed(CHUNKED + b"%x\r\nhello" % (DEFAULTS.body + 1))
    assert driver.parser.in_body


@pytest.mark.parametrize("size", [b"1", b"0001"])
def test_small_chunks_are_no_fault(size: bytes) -> None:
    data = CHUNKED + (size + b"\r\nx\r\n") * 5000 + b"0\r\n\r\n"
    for pieces in ([data], byte_by_byte(data, len(data))):
        (result,) = parse(pieces)
        assert isinstance(result, Served) and result.body == b"x" * 5000


# -- memory --------------------------------------------------------------------------------------------


def kept_bytes(make: Callable[[], object]) -> int:
    """What ``make`` allocates and its result holds."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        kept = tracemalloc.get_traced_memory()[0] - before
        assert made is not None
        return kept
    finally:
        tracemalloc.stop()


def slow_connections(heads: HeadParser, *pieces: bytes) -> list[RequestParser]:
    """200 connections to which this was sent."""
    parsers = [RequestParser(heads, MemoryBody) for _ in range(200)]
    for parser in parsers:
        for piece in pieces:
            parser.feed(bytes(bytearray(piece)))  # a copy of its own, as from a socket
            assert parser.next() is None
    return parsers


@pytest.mark.parametrize(
    "pieces",
    [
        [SMALL_HEAD],
        byte_by_byte(SMALL_HEAD),
        [head(b"Content-Length: 100"), b"x" * 50],
        [CHUNKED, b"5\r\nhel"],
    ],
    ids=["head", "dripped head", "body", "chunks"],
)
def test_slow_connections_are_small(pieces: list[bytes]) -> None:
    heads = HeadParser(DEFAULTS)
    slow_connections(heads, *pieces)  # what it learns but once
    assert kept_bytes(lambda: slow_connections(heads, *pieces)) < 200 * 4096


@pytest.mark.parametrize(
    ("start", "block"),
    [
        (b"G", b"E" * 65536),
        (b"GET /", b"a" * 65536),
        (b"GET / HTTP/1.1\r\n", b"X" * 65536),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 10000),
        (b"", b"\r\n" * 32768),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\x00", b"X: y\r\n" * 10000),
        (CHUNKED, b"0" * 65536),
        (CHUNKED + b"1;", b"a" * 65536),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 10000),
        (CHUNKED + b"0\r\nX: ", b"y" * 65536),
        (head(b"Connection: close"), b"x" * 65536),
        (b"BAD\r\n\r\n", b"x" * 65536),
    ],
)
def test_what_never_ends_is_not_kept(start: bytes, block: bytes) -> None:
    def feed() -> Driver:
        driver = Driver(HeadParser(DEFAULTS))
        for piece in [start, *[block] * 50]:
            driver.feed(piece)
        assert driver.parser.finished
        return driver

    assert kept_bytes(feed) < 128 * 1024


def test_a_refused_body_is_let_go() -> None:
    def feed() -> Driver:
        driver = Driver(HeadParser(DEFAULTS))
        driver.feed(CHUNKED + b"100000\r\n" + b"x" * 0x100000 + b"\r\n" + b"oops\r\n")
        assert driver.results == [Refused(400)]
        return driver

    assert kept_bytes(feed) < 128 * 1024


def test_names_that_clients_invent_are_not_kept_for_ever() -> None:
    heads = HeadParser(DEFAULTS._replace(fields=1000))

    def invent() -> HeadParser:
        for n in range(40):
            fields = [b"X-%d-%d: y" % (n, field) for field in range(300)]
            fields += [b"Y-%d-%b: y" % (n, b"z" * 4000)] * 5
            (result,) = parse([head(*fields)], heads)
            assert isinstance(result, Served)
            assert result.environ[f"HTTP_X_{n}_299"] == "y"
        return heads

    assert kept_bytes(invent) < 1024 * 1024
    # Nor do they take the room of those that are sent again and again.
    for n in range(300):
        parse([head(b"X-Often: y", b"X-New-%d: y" % n)], heads)
    assert b"X-Often" in heads._names


# -- time ----------------------------------------------------------------------------------------------


def cpu_s(pieces: Iterable[bytes], limits: Limits = DEFAULTS) -> float:
    """CPU time that it takes to parse these; the less of two."""
    best_s = float("inf")
    pieces = list(pieces)
    for _ in range(2):
        parser = RequestParser(HeadParser(limits), MemoryBody)
        start_s = time.process_time()
        for piece in pieces:
            parser.feed(piece)
            while parser.next() is not None:
                pass
        best_s = min(best_s, time.process_time() - start_s)
        assert not parser.faulted and not parser.in_message
    return best_s


@pytest.mark.parametrize(
    "one",
    [
        head(),
        b"\r\n" + head(),
        head(b"Content-Length: 1", line=b"POST / HTTP/1.1") + b"x",
        CHUNKED + b"1\r\nx\r\n0\r\n\r\n",
    ],
    ids=["GET", "empty line", "POST", "chunked"],
)
def test_requests_that_were_sent_ahead_cost_no_more(one: bytes) -> None:
    """With the rest moved for each of them, it would be forty times as much."""
    tail = head(b"Content-Length: 8000000") + b"x" * 8_000_000
    assert cpu_s([one * 2000 + tail]) < 10 * cpu_s([*[one] * 2000, tail])


def test_a_head_that_drips_costs_no_more_the_longer_it_is() -> None:
    """With a copy of all that came before for each byte, it would be ten times as much."""
    dripping = byte_by_byte(b"Y: y\r\n" * 2000 + b"\r\n", 20_000)
    limits = DEFAULTS._replace(fields=10_000)
    long = head(*[b"X: " + b"y" * 8000] * 100).removesuffix(b"\r\n")
    assert cpu_s([long, *dripping], limits) < 3 * cpu_s([head().removesuffix(b"\r\n"), *dripping], limits)


@pytest.mark.parametrize(
    ("data", "reads"),
    [
        (CHUNKED + b"1\r\na\r\n" * 40_000, 16),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na" + CHUNKED + b"1\r\na\r\n" * 40_000, 16),
        (SERVED + b"GET / HTTP/1.1\r\nX:", 1),
        (CHUNKED + (b"%x\r\n" % 100_000 + b"a" * 100_000 + b"\r\n") * 10, 13),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1_000_000, 2),
    ],
    ids=["small chunks", "small chunks behind a body", "head", "large chunks", "length"],
)
def test_what_is_read_at_once_is_soon_parsed(data: bytes, reads: int) -> None:
    parser = RequestParser(HeadParser(DEFAULTS), MemoryBody)
    position = done = 0
    while position < len(data):
        size = parser.appetite_bytes
        plain = min(size - 16 * 1024, len(data) - position)
        assert data[position : position + plain].strip(b"a") == b"", "what is known to be a body"
        parser.feed(data[position : position + size])
        while parser.next() is not None:
            pass
        position += size
        done += 1
    assert done <= reads


def test_a_read_of_tiny_chunks_is_one_write() -> None:
    writes = []

    class Sink:
        size_bytes = 0

        def write(self, data: bytes | memoryview, /) -> object:
            return writes.append(len(data))

    parser = RequestParser(HeadParser(DEFAULTS), Sink)
    parser.feed(CHUNKED + b"1\r\nx\r\n" * 10_000)
    assert parser.next() is None and writes == [10_000]


# -- what the connection asks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "pieces", "asks"),
    [
        (b"Content-Length: 5", [b""], 1),
        (b"Content-Length: 5", [b"", b"h", b"e"], 1),
        (b"Content-Length: 5", [b"h", b"e"], 0),
        (b"Content-Length: 5\r\nConnection: close", [b""], 1),
        (b"Content-Length: 0", [b""], 0),
        (b"Transfer-Encoding: chunked", [b"", b"5\r\nhe"], 1),
        (b"Transfer-Encoding: chunked", [b"5", b"\r\nhe"], 0),
        (b"X: y", [b""], 0),
    ],
)
def test_100_continue_is_for_a_client_that_has_sent_no_body_yet(
    fields: bytes, pieces: list[bytes], asks: int
) -> None:
    lines = b"POST / HTTP/1.%d\r\nHost: a\r\nExpect: 100-continue\r\n%b\r\n\r\n"
    first, *rest = pieces
    driver = Driver()
    for piece in [lines % (1, fields) + first, *rest]:
        driver.feed(piece)
    assert driver.continues == asks
    if b"Transfer" not in fields:
        driver = Driver()
        driver.feed(lines % (0, fields) + first)
        assert driver.continues == 0


@pytest.mark.parametrize(
    "data",
    [
        head(),
        b"\r\n" + head(),
        head(b"Content-Length: 5") + b"hello",
        CHUNKED + b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ],
)
def test_the_end_of_the_connection_inside_a_message_is_noticed(data: bytes) -> None:
    driver = Driver()
    assert not driver.parser.in_message
    for position in range(len(data)):
        driver.feed(data[position : position + 1])
        complete = position == len(data) - 1
        assert driver.parser.in_message is not complete
        assert len(driver.results) == complete


@pytest.mark.parametrize(
    ("behind", "status"),
    [
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        (b"/" + b"a" * 9000, 414),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000, 431),
        (b"/ HTTP/2.0\r\n\r\n", 505),
        (b"/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    ],
)
def test_a_fault_knows_whether_its_answer_has_a_body(behind: bytes, status: int) -> None:
    for method, head_only in ((b"HEAD ", True), (b"POST ", False)):
        for first in (b"", b"\r\n", SERVED, SERVED.replace(b"GET", b"HEAD")):
            for pieces in ([first + method + behind], byte_by_byte(first + method + behind, 200)):
                driver = Driver(HeadParser(DEFAULTS))
                found = []
                for piece in pieces:
                    driver.parser.feed(piece)
                    while (item := driver.parser.next()) is not None:
                        found.append(item)
                fault = found[-1]
                assert isinstance(fault, Fault), found
                assert (fault.status, fault.head_only) == (status, head_only)
