"""Heads of responses, rendered. What can be rendered once per process, per second or per header name, is.

``ValueError`` and ``TypeError`` from here mean that the application gave something that may not go onto the
wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

SERVER: Final = "wsgitop"

PLAIN, LENGTH, ENCODING, CONNECTION, DATE, SERVER_NAME, HOP = range(7)
"""What a header is to the server: only its text, or something it must know about."""

_KINDS: Final = {
    "content-length": LENGTH,
    "transfer-encoding": ENCODING,
    "connection": CONNECTION,
    "date": DATE,
    "server": SERVER_NAME,
    "keep-alive": HOP,
    "proxy-authenticate": PLAIN,
    "te": HOP,
    "trailer": HOP,
    "upgrade": HOP,
    "proxy-connection": HOP,
}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS = re.compile(r"[1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?")
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CACHE_ENTRIES: Final = 1024
_CACHED_LINE_BYTES: Final = 256
_BLOCK_ENTRIES: Final = 256

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
SERVER_LINE: Final = f"Server: {SERVER}\r\n".encode()


HeaderLine = tuple[int, bytes, int]
"""A checked header of an application: what it is to the server (one of the kinds above), the line that goes
out, CRLF included, and the value of a Content-Length.
"""

header_lines: dict[tuple[str, str], HeaderLine] = {}
"""Headers that :func:`header_line` has checked lately: applications give the same ones again and again."""
header_blocks: dict[tuple[tuple[str, str], ...], tuple[bytes, int | None]] = {}
"""All headers of a response, if none of them is special to the server but Content-Length: their lines,
without that one, and its value.
"""
status_lines: dict[str, tuple[int, bytes]] = {}
"""Statuses that :func:`status_line` has checked."""


def header_line(name: str, value: str) -> HeaderLine:
    """Check and render a header. Raises ValueError, TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"Header name {name!r} is not a str")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"Header name {name!r} is not a token")
    if not isinstance(value, str):
        raise TypeError(f"Value of header {name} is not a str: {value!r}")
    # Most values are plain ASCII text; that test is ten times cheaper than the expression.
    if not (value.isascii() and value.isprintable()) and (
        _FORBIDDEN_IN_VALUE.search(value) or max(value) > "\xff"
    ):
        raise ValueError(f"Value of header {name} has characters that no header may have: {value!r}")
    lower = name.lower()
    kind = _KINDS.get(lower, PLAIN)
    length = 0
    if kind == LENGTH:
        if not (value.isascii() and value.isdigit()) or len(value) > 19:
            raise ValueError(f"Content-Length is {value!r}")
        length = int(value)
    line = f"{name}: {value}\r\n".encode("latin-1")
    made = kind, line, length
    if len(line) <= _CACHED_LINE_BYTES and lower != "set-cookie" and type(name) is type(value) is str:
        if len(header_lines) >= _CACHE_ENTRIES:
            header_lines.clear()
        header_lines[name, value] = made
    return made


def remember_block(headers: tuple[tuple[str, str], ...], lines: bytes, length: int | None) -> None:
    """Keep what the lines of these headers are."""
    if len(header_blocks) >= _BLOCK_ENTRIES:
        header_blocks.clear()
    header_blocks[headers] = lines, length


def status_line(status: str) -> tuple[int, bytes]:
    """The code and the line, CRLF included, of a status as PEP 3333 gives it ("200 OK"). Raises ValueError,
    TypeError.
    """
    known = status_lines.get(status)
    if known is None:
        if not isinstance(status, str):
            raise TypeError(f"Status {status!r} is not a str")
        if not _STATUS.fullmatch(status):
            raise ValueError(f"Status {status!r} is not a code and a reason")
        line = status if len(status) > 3 else status + " "
        known = int(status[:3]), f"HTTP/1.1 {line}\r\n".encode("latin-1")
        if len(status_lines) < _CACHE_ENTRIES:
            status_lines[status] = known
    return known


class DateLine:
    """The Date header (RFC 9110 section 6.6.1), rendered once per second: ``text`` with its CRLF, and
    ``with_server`` as bytes behind the Server header.
    """

    __slots__ = ("_second", "text", "with_server")

    def __init__(self) -> None:
        self._second = -1
        self.text = ""
        self.with_server = b""

    def at(self, seconds: float) -> str:
        """``Date: …`` with CRLF for a time in seconds since the epoch."""
        second = int(seconds)
        if second != self._second:
            self.text = f"Date: {formatdate(second, usegmt=True)}\r\n"
            self.with_server = SERVER_LINE + self.text.encode()
            self._second = second
        return self.text


def reason_phrase(status: int) -> str:
    """The standard reason phrase, '' for a status without one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def render_health(date_line: str, closes: bool, head_only: bool) -> bytes:
    """The answer to a health check that a worker gives without the application."""
    text = "ok\n"
    connection = "Connection: close\r\n" if closes else ""
    head = (
        f"HTTP/1.1 200 OK\r\nServer: {SERVER}\r\n{date_line}{connection}Cache-Control: no-store\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return (head if head_only else head + text).encode("latin-1")


def render_error(
    status: int, text: str, date_line: str, *, headers: Iterable[tuple[str, str]] = (), body: bool = True
) -> bytes:
    """A whole error response, with which the connection ends. ``text`` is one line for people; ``body`` False
    for HEAD.
    """
    phrase = reason_phrase(status)
    content = f"{status} {phrase}\n{text}\n".encode("latin-1", "replace")
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nServer: {SERVER}\r\n{date_line}Connection: close\r\n{extra}"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode("latin-1") + (content if body else b"")
