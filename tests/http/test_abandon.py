"""A connection that is gone leaves nothing of its request."""

from __future__ import annotations

from wsgitop.http.head import HeadParser, Limits
from wsgitop.http.request import RequestParser


class Sink:
    size_bytes = 0
    closed = 0

    def write(self, data: bytes | memoryview, /) -> object:
        self.size_bytes += len(data)
        return len(data)

    def close(self) -> None:
        self.closed += 1


def test_an_abandoned_parser_closes_its_body_and_takes_nothing_more() -> None:
    sink = Sink()
    parser = RequestParser(HeadParser(Limits()), lambda: sink)
    assert parser.take(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf") is None
    assert parser.in_body and sink.size_bytes == 4
    parser.abandon()
    parser.abandon()
    assert sink.closed == 1
    assert parser.finished and not parser.in_message
    assert parser.take(b" more ") is None and sink.size_bytes == 4


def test_a_complete_body_is_its_request_s() -> None:
    sink = Sink()
    parser = RequestParser(HeadParser(Limits()), lambda: sink)
    request = parser.take(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody")
    assert request is not None
    parser.abandon()
    assert not sink.closed
