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

known_names: dict[str, int] = {}
"""Names that :func:`header_kind` has checked, and their kinds."""

_status_lines: dict[str, tuple[int, str]] = {}

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def header_kind(name: str) -> int:
    """Check a header's name and say what it is to the server (one of the kinds above). Raises ValueError,
    TypeError.
    """
    kind = known_names.get(name)
    if kind is None:
        if not isinstance(name, str):
            raise TypeError(f"Header name {name!r} is not a str")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"Header name {name!r} is not a token")
        kind = _KINDS.get(name.lower(), PLAIN)
        if len(known_names) < _CACHE_ENTRIES:
            known_names[name] = kind
    return kind


def check_value(name: str, value: str) -> None:
    """Refuse what would end or garble a header line. Raises ValueError, TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"Value of header {name} is not a str: {value!r}")
    # Most values are plain ASCII text; that test is ten times cheaper than the expression.
    if not (value.isascii() and value.isprintable()) and (
        _FORBIDDEN_IN_VALUE.search(value) or max(value) > "\xff"
    ):
        raise ValueError(f"Value of header {name} has characters that no header may have: {value!r}")


def status_line(status: str) -> tuple[int, str]:
    """The code and the line, CRLF included, of a status as PEP 3333 gives it ("200 OK"). Raises ValueError,
    TypeError.
    """
    known = _status_lines.get(status)
    if known is None:
        if not isinstance(status, str):
            raise TypeError(f"Status {status!r} is not a str")
        if not _STATUS.fullmatch(status):
            raise ValueError(f"Status {status!r} is not a code and a reason")
        line = status if len(status) > 3 else status + " "
        known = int(status[:3]), f"HTTP/1.1 {line}\r\n"
        if len(_status_lines) < _CACHE_ENTRIES:
            _status_lines[status] = known
    return known


class DateLine:
    """The Date header (RFC 9110 section 6.6.1), rendered once per second."""

    __slots__ = ("_second", "text")

    def __init__(self) -> None:
        self._second = -1
        self.text = ""

    def at(self, seconds: float) -> str:
        """``Date: …`` with CRLF for a time in seconds since the epoch."""
        second = int(seconds)
        if second != self._second:
            self.text = f"Date: {formatdate(second, usegmt=True)}\r\n"
            self._second = second
        return self.text


def reason_phrase(status: int) -> str:
    """The standard reason phrase, '' for a status without one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


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
