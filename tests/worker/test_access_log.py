"""Lines of the access log."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.errors import ConfigError
from wsgitop.http.head import Request, parse_request_line
from wsgitop.http.response import DateLine
from wsgitop.worker.access_log import Entry, compile_format, quoted
from wsgitop.wsgi.response import Response


def entry() -> Entry:
    credentials = base64.b64encode(b"al\nice:secret").decode()
    fields = {
        "HTTP_REFERER": "http://r/",
        "HTTP_AUTHORIZATION": f"Basic {credentials}",
        "CONTENT_TYPE": "t/p",
    }
    request = Request(parse_request_line(b"GET /a%20b?q=1 HTTP/1.1"), fields, 0)
    response = Response(None, False, 1, True, DateLine())  # type: ignore[arg-type]
    response.status, response.body_bytes, response.headers = 201, 1234, [("X-Out", "o")]
    return Entry(request, response, {"my.key": "e"}, "192.0.2.1", 1_234_567_890)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("%(h)s %(l)s %(u)s", "192.0.2.1 - al\\x0aice"),
        ('"%(r)s" %(s)s %(b)s %(B)s', '"GET /a%20b?q=1 HTTP/1.1" 201 1234 1234'),
        ("%(m)s %(U)s %(q)s %(H)s", "GET /a b q=1 HTTP/1.1"),
        ("%(f)s %(a)s", "http://r/ -"),
        ("%(T)s %(D)s %(M)s %(L)s", "1 1234567 1234 1.234568"),
        ("%(p)s 100%%", "<PID> 100%"),
        ("%({content-type}i)s %({X-None}i)s %({x-out}o)s %({my.key}e)s", "t/p - o e"),
    ],
)
def test_atoms(text: str, line: str) -> None:
    template, atoms = compile_format(text)
    assert template % tuple(atom(entry()) for atom in atoms) == line.replace("PID", str(os.getpid()))


@pytest.mark.parametrize("text", ["%(z)s", "100%", "%(h)x"])
def test_formats_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="access_log_format"):
        compile_format(text)


@given(st.text(st.characters(max_codepoint=255)))
def test_nothing_from_outside_ends_a_line_or_a_field(text: str) -> None:
    result = quoted(text)
    assert result.isascii() and result.isprintable()
    assert '"' not in result.replace("\\\\", "").replace('\\"', "")
