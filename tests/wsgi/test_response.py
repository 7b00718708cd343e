"""What goes out for what an application says, without a socket."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from wsgitop.http.response import DateLine
from wsgitop.wsgi.files import FileRange
from wsgitop.wsgi.response import ClientGone, RequestCut, Response

DATE = DateLine()
DATE.at(0)


class Recorder:
    """A sink that keeps what it gets, and says after how many sends the client is gone."""

    def __init__(self, gone_after: int = 1000) -> None:
        self.sends: list[bytes] = []
        self.drains = 0
        self._gone_after = gone_after

    def send(self, data: bytes) -> None:
        if len(self.sends) >= self._gone_after:
            raise ClientGone("gone")
        self.sends.append(data)

    def send_file(self, part: FileRange) -> None:
        raise AssertionError("no files here")

    def drain(self) -> None:
        self.drains += 1


def respond(app: Any, sink: Recorder, *, head_only: bool = False, minor: int = 1) -> Response:
    response = Response(sink, head_only, minor, minor == 1, DATE)
    response.since_s = 1.0
    response.run(app, {})
    return response


def simple(blocks: Iterable[bytes], *headers: tuple[str, str], status: str = "200 OK") -> Any:
    def app(environ: object, start_response: Any) -> Iterable[bytes]:
        start_response(status, list(headers))
        return blocks

    return app


HEAD = "HTTP/1.1 200 OK\r\nServer: wsgitop\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"


def test_one_block_is_one_send() -> None:
    sink = Recorder()
    respond(simple([b"hello"], ("X", "y")), sink)
    assert sink.sends == [f"{HEAD}X: y\r\nContent-Length: 5\r\n\r\nhello".encode()]


@pytest.mark.parametrize(
    ("blocks", "headers", "options", "body", "framing", "keep_alive"),
    [
        ([b"a", b"b"], (), {}, b"ab", "Content-Length: 2", True),
        ([], (), {}, b"", "Content-Length: 0", True),
        (
            iter([b"a", b"", b"bc"]),
            (),
            {},
            b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked",
            True,
        ),
        (iter([b"a", b"bc"]), (), {"minor": 0}, b"abc", "Connection: close", False),
        (iter([b"a", b"bc"]), (("Content-Length", "3"),), {}, b"abc", "Content-Length: 3", True),
        (iter([b"abcd", b"e"]), (("content-length", "3"),), {}, b"abc", "Content-Length: 3", True),
        (iter([b"a"]), (("Content-Length", "3"),), {}, b"a", "Content-Length: 3", False),
        (iter([]), (), {}, b"", "Content-Length: 0", True),
        (iter([b"abc"]), (), {"head_only": True}, b"", "", True),
        ([b"abc"], (("Content-Length", "3"),), {"head_only": True}, b"", "Content-Length: 3", True),
        ([b"abc"], (("Connection", "close"),), {}, b"abc", "Connection: close", False),
        (
            [b"abc"],
            (("Transfer-Encoding", "gzip"), ("Keep-Alive", "5")),
            {},
            b"abc",
            "Content-Length: 3",
            True,
        ),
    ],
)
def test_framing(
    *,
    blocks: Iterable[bytes],
    headers: Any,
    options: dict[str, Any],
    body: bytes,
    framing: str,
    keep_alive: bool,
) -> None:
    sink = Recorder()
    response = respond(simple(blocks, *headers), sink, **options)
    head, _, sent = b"".join(sink.sends).partition(b"\r\n\r\n")
    assert sent == body
    lines = head.decode().split("\r\n")
    assert framing in lines or not framing
    assert sum(line.startswith(("Content-Length", "Transfer-Encoding")) for line in lines) <= 1
    assert response.keep_alive is keep_alive
    assert response.sent_bytes == len(b"".join(sink.sends))
    assert response.since_s == 0.0


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body(status: str) -> None:
    sink = Recorder()
    response = respond(simple([b"body"], status=status), sink)
    assert b"".join(sink.sends).endswith(b"\r\n\r\n") and response.keep_alive
    assert not re.search(rb"content-length|transfer", b"".join(sink.sends), re.I)


def test_server_and_date_of_the_application_win() -> None:
    sink = Recorder()
    respond(simple([b""], ("Server", "mine"), ("Date", "today")), sink)
    assert sink.sends[0].startswith(b"HTTP/1.1 200 OK\r\nServer: mine\r\nDate: today\r\n")


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (("X", "a\nb"), ValueError),
        (("X", "a\rb"), ValueError),
        (("X", "a\0b"), ValueError),
        (("X", "\u20ac"), ValueError),
        (("X", 5), TypeError),
        (("X", b"a"), TypeError),
        (("", "a"), ValueError),
        (("X:", "a"), ValueError),
        (("X\r\nY", "a"), ValueError),
        (("\xe9", "a"), ValueError),
        (("Content-Length", "-1"), ValueError),
        (("Content-Length", "1, 1"), ValueError),
        (("Content-Length", "\xb2"), ValueError),
    ],
)
def test_headers_that_may_not_go_out(header: Any, error: type[Exception]) -> None:
    sink = Recorder()
    with pytest.raises(error):
        respond(simple([b"x"], header), sink)
    assert sink.sends == []


def test_obs_text_and_tab_in_a_value_go_out_as_latin_1() -> None:
    sink = Recorder()
    respond(simple([b""], ("X", "\xe9\tz")), sink)
    assert b"X: \xe9\tz\r\n" in sink.sends[0]


@pytest.mark.parametrize(
    "status", ["", "OK", "20 OK", "600 No", "200OK", "200 a\r\nb", "200 \u20ac", "099 No"]
)
def test_statuses_that_may_not_go_out(status: str) -> None:
    with pytest.raises(ValueError, match="is not a code"):
        respond(simple([b""], status=status), Recorder())


class Blocks:
    """An iterable with close()."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks

    def close(self) -> None:
        self.closed += 1


def test_close_is_called_also_when_the_client_leaves_or_the_head_is_bad() -> None:
    for headers, sink, error in (
        ((), Recorder(), None),
        ((), Recorder(gone_after=1), ClientGone),
        ((("X", "\n"),), Recorder(), ValueError),
    ):
        blocks = Blocks(iter([b"a", b"b", b"c"]))
        if error is None:
            respond(simple(blocks, *headers), sink)
        else:
            with pytest.raises(error):
                respond(simple(blocks, *headers), sink)
        assert blocks.closed == 1


def test_exc_info_before_and_after_the_head() -> None:
    def before(environ: object, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            raise KeyError("x")
        except KeyError:
            import sys

            start_response("500 Oops", [], sys.exc_info())
        return [b""]

    sink = Recorder()
    respond(before, sink)
    assert sink.sends[0].startswith(b"HTTP/1.1 500 Oops\r\n")

    def after(environ: object, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"a")
        try:
            raise KeyError("too late")
        except KeyError:
            import sys

            start_response("500 Oops", [], sys.exc_info())
        return [b""]

    with pytest.raises(KeyError, match="too late"):
        respond(after, Recorder())


def test_after_the_watchdog_has_answered_nothing_goes_out() -> None:
    sink = Recorder()

    def app(environ: object, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        response.voice.pop()
        return [b"late"]

    response = Response(sink, False, 1, True, DATE)
    with pytest.raises(RequestCut):
        response.run(app, {})
    assert sink.sends == [] and not response.replace(b"x", 500, "500 x")
