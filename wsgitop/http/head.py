"""The head of a request: bytes of one complete head in, a checked :class:`Request` out. No state is kept
in between.

httptools (llhttp, strict) does what C does best, the syntax of header fields. What it lets through and RFC
9112 does not, is checked here: the raw request line, the framing fields, Host, singletons, Expect. A head is
given to it only when it is complete, so one :class:`HeadParser` serves all connections of a thread, and ten
thousand slow clients cost ten thousand small buffers but not ten thousand parsers. Bodies never pass through
it: see :mod:`wsgitop.http.chunked`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import httptools

from wsgitop.http.faults import RequestFault

_METHOD_NAMES: Final = """
    DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND
    UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR
    LINK UNLINK QUERY
"""
METHODS: Final = {name.encode(): name for name in _METHOD_NAMES.split()}
"""Methods that applications get (RFC 9110 section 9 and the IANA registry, as far as llhttp knows them). What
is no token at all is 400; another token is 501, and so is CONNECT.
"""

_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_AUTHORITY = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]+|\[[0-9A-Fa-f:.]+\]|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~:!$&'()*+,;=]+\])(?::[0-9]*)?"
)
_ABSOLUTE = re.compile(r"(https?)://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_TRANSFER_CODINGS: Final = frozenset(("gzip", "x-gzip", "deflate", "compress", "x-compress", "identity"))

MAX_CONTENT_LENGTH: Final = (1 << 63) - 1

_PLAIN, _ONCE, _LENGTH, _ENCODING, _CONNECTION, _EXPECT, _COOKIE, _DROPPED = range(8)
_KINDS: Final = {
    b"host": _ONCE,
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"content-type": _ONCE,
    b"cookie": _COOKIE,
}
_NAMES_KEPT: Final = 2048
_NAME_KEPT_BYTES: Final = 64  # names come from clients: what is kept of them must stay small


class BodySink(Protocol):
    """Where body bytes go: memory or a file; the caller knows. ``size_bytes`` is what it has taken so far."""

    size_bytes: int

    def write(self, data: bytes | memoryview, /) -> object:
        """Keep these bytes."""


class Limits(NamedTuple):
    """Sizes that a request may have: bytes of the request line, number of fields, bytes of a field, bytes of
    the body.

    Names and defaults are gunicorn's ``limit_request_*``. ``body`` 0 means no limit.
    """

    request_line: int = 4094
    fields: int = 100
    field_size: int = 8190
    body: int = 1024 * 1024 * 1024


class Request:
    """A request that may be served; its body is complete when :meth:`RequestParser.next` returns it.

    ``target`` is as sent; ``path`` is percent-decoded bytes as latin-1 text (PEP 3333), ``query`` is as sent.
    ``fields`` maps environ keys (``HTTP_ACCEPT``, ``CONTENT_TYPE``) to latin-1 text, repeated fields joined.
    ``minor`` is the minor version. ``length`` is the Content-Length, None without; ``chunked`` says that the
    body is; ``closes``, that the client said close. ``authority`` is that of an absolute-form target, ''
    otherwise. ``received_bytes`` is the raw size of head and body.
    """

    # What most requests never change is a default of the class: an object with many slots costs a
    # microsecond.
    query = ""
    authority = ""
    chunked = False
    closes = False
    expects_continue = False
    length: int | None = None
    body: BodySink | None = None
    received_bytes = 0

    def __init__(self, method: str, target: str, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.path = target
        self.keep_alive = minor == 1
        self.fields: dict[str, str] = {}


def parse_request_line(line: bytes) -> Request:
    """Check a request line without its CRLF (RFC 9112 section 3). Raises RequestFault 400, 501, 505.

    Characters that no target may have are left to llhttp, as far as they are ASCII.
    """
    if 10 in line or 13 in line:  # LF, CR; twenty times as fast as with b"\n"
        # Not left to llhttp: it takes "GET /" and LF for a line of HTTP/0.9, and what follows for a field.
        raise RequestFault(400, "Malformed line end")
    parts = line.split(b" ")
    if len(parts) != 3:
        raise RequestFault(400, "Malformed request line")
    raw_method, raw_target, version = parts
    if version == b"HTTP/1.1":
        minor = 1
    elif version == b"HTTP/1.0":
        minor = 0
    elif _VERSION.fullmatch(version):
        raise RequestFault(505, "HTTP version is neither 1.0 nor 1.1")
    else:
        raise RequestFault(400, "Malformed HTTP version")
    method = METHODS.get(raw_method)
    if method is None:
        if not _TOKEN.fullmatch(raw_method):
            raise RequestFault(400, "Malformed method")
        raise RequestFault(501, "Method is not implemented")
    try:
        target = raw_target.decode("ascii")
    except UnicodeDecodeError:
        raise RequestFault(400, "Raw bytes in the request target") from None
    if "#" in target:
        raise RequestFault(400, "Fragment in the request target")
    request = Request(method, target, minor)
    origin = target if target.startswith("/") else _origin_form(request)
    path, _, request.query = origin.partition("?")
    request.path = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    return request


def _origin_form(request: Request) -> str:
    """What stands in absolute-form and asterisk-form for path and query (RFC 9112 section 3.2). Raises
    RequestFault.
    """
    if request.target == "*" and request.method == "OPTIONS":
        return "*"
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute is None:
        raise RequestFault(400, "Malformed request target")
    request.authority = absolute[2]
    if not _AUTHORITY.fullmatch(request.authority):
        raise RequestFault(400, "Malformed authority in the request target")
    rest: str = absolute[3]
    if rest.startswith("/"):
        return rest
    return "*" if not rest and request.method == "OPTIONS" else "/" + rest


class HeadParser:
    """Parses heads, one at a time; not for use by two threads at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._headers: list[tuple[bytes, bytes]] = []
        self._names: dict[bytes, tuple[str, int]] = {}
        self._last_host = ""
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called back by httptools."""
        self._headers.append((name, value))

    def parse(self, head: bytes, line_end: int) -> Request:
        """Parse one complete head, its empty line included; ``line_end`` is where the CRLF of the request
        line begins.

        Raises RequestFault.
        """
        request = parse_request_line(head[:line_end])
        request.received_bytes = len(head)
        self._headers.clear()
        error = self._feed(head)
        if error is not None:
            # Perhaps llhttp, not this head, is at fault: it remembers of the head before, which may be
            # another client's, what is not looked at here, for example "Proxy-Connection: close".
            self._parser = httptools.HttpRequestParser(self)
            self._headers.clear()
            error = self._feed(head)
        if error is not None:
            self._parser = httptools.HttpRequestParser(self)
            self._explain(error, head, request.minor)
        try:
            self._take_fields(request)
        except RequestFault:
            # llhttp found nothing wrong and may wait for the body: it would take the next head for it.
            self._parser = httptools.HttpRequestParser(self)
            raise
        if request.length is not None or request.chunked or not request.keep_alive or request.minor == 0:
            # llhttp now waits for a body, which it will not be given, or for the end of the connection.
            self._parser = httptools.HttpRequestParser(self)
        return request

    def _feed(self, head: bytes) -> httptools.HttpParserError | None:
        """Give a head to llhttp; returns what it finds wrong."""
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # An Upgrade may be ignored (RFC 9110 section 7.8); llhttp believes that another protocol follows.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            return error
        return None

    def _explain(self, error: Exception, head: bytes, minor: int) -> None:
        """Raise what a syntax error means; an unknown transfer coding is 501 if that is all that is wrong.

        The head is looked at anew, because llhttp stops where it finds the first thing wrong.
        """
        text = str(error)
        if "Transfer-Encoding" in text and "Content-Length" not in text:
            lines = head.split(b"\r\n")
            fields = [line.partition(b":") for line in lines]
            encodings = [value for name, _, value in fields if name.lower() == b"transfer-encoding"]
            if len(encodings) == 1 and not any(b"\r" in line or b"\n" in line for line in lines):
                check_transfer_encoding(encodings[0].decode("latin-1").strip(" \t"), minor)
        raise RequestFault(400, f"Malformed head: {text}") from None

    def _take_fields(self, request: Request) -> None:
        fields = request.fields
        names = self._names
        if len(self._headers) > self.limits.fields:
            raise RequestFault(431, "Too many header fields")
        for name, raw in self._headers:
            key, kind = names.get(name) or self._learn(name)
            value = raw.decode("latin-1").strip(" \t")
            if kind <= _ONCE and key not in fields:
                fields[key] = value
            elif kind == _PLAIN:
                fields[key] = f"{fields[key]},{value}"
            else:
                self._take_special(request, key, kind, value)
        if request.chunked:
            if request.length is not None:
                raise RequestFault(400, "Both Content-Length and Transfer-Encoding")
            check_transfer_encoding(fields["HTTP_TRANSFER_ENCODING"], request.minor)
        elif request.length is not None and 0 < self.limits.body < request.length:
            raise RequestFault(413, "Body is too large")
        if request.expects_continue and fields["HTTP_EXPECT"].lower() != "100-continue":
            raise RequestFault(417, "Unknown expectation")
        host = fields.get("HTTP_HOST")
        if not host or host != self._last_host or request.authority:
            self._check_host(request, host)

    def _take_special(self, request: Request, key: str, kind: int, value: str) -> None:
        """Fields that mean something to the server, and those that may come once only."""
        fields = request.fields
        if kind == _DROPPED or (kind == _EXPECT and request.minor == 0):
            return
        if kind == _COOKIE:
            fields[key] = f"{fields[key]}; {value}" if key in fields else value
            return
        if kind == _CONNECTION:
            self._take_connection(request, value)
            fields[key] = f"{fields[key]},{value}" if key in fields else value
            return
        if key in fields:
            raise RequestFault(400, f"Repeated {key.removeprefix('HTTP_').replace('_', '-').title()}")
        fields[key] = value
        if kind == _LENGTH:
            request.length = self._length(value)
        elif kind == _ENCODING:
            request.chunked = True
        elif kind == _EXPECT:
            request.expects_continue = True

    def _check_host(self, request: Request, host: str | None) -> None:
        """RFC 9112 section 3.2; the authority of an absolute-form target wins (section 3.2.2)."""
        if host is None:
            if request.minor == 1:
                raise RequestFault(400, "Missing Host")
        elif not host:
            if request.minor == 1:
                raise RequestFault(400, "Empty Host")
        elif not _AUTHORITY.fullmatch(host):
            raise RequestFault(400, "Malformed Host")
        else:
            self._last_host = host
        if request.authority:
            request.fields["HTTP_HOST"] = request.authority

    def _learn(self, name: bytes) -> tuple[str, int]:
        """The environ key and kind of a field name as it is spelled, kept for the next time."""
        lower = name.lower()
        kind = _KINDS.get(lower, _PLAIN)
        key = name.decode("ascii").upper().replace("-", "_")
        if b"_" in name:
            kind = _DROPPED  # it would overwrite its twin with a hyphen in environ
        elif lower not in (b"content-length", b"content-type"):
            key = "HTTP_" + key
        if len(name) <= _NAME_KEPT_BYTES:
            if len(self._names) >= _NAMES_KEPT:
                # A client may have invented them all: what others really send is soon here again.
                self._names.clear()
            self._names[name] = key, kind
        return key, kind

    @staticmethod
    def _length(value: str) -> int:
        if not (value.isascii() and value.isdigit()) or len(value) > 19 or int(value) > MAX_CONTENT_LENGTH:
            raise RequestFault(400, "Malformed Content-Length")
        return int(value)

    @staticmethod
    def _take_connection(request: Request, value: str) -> None:
        """RFC 9112 section 9.3: close wins; in HTTP/1.0 the connection is kept only when asked for."""
        if request.minor == 1 and value in ("keep-alive", "Keep-Alive"):
            return  # what most clients say, and no news
        options = {option.strip(" \t") for option in value.lower().split(",")}
        if "close" in options:
            request.closes = True
            request.keep_alive = False
        elif request.minor == 0 and "keep-alive" in options and not request.closes:
            request.keep_alive = True


def check_transfer_encoding(value: str, minor: int) -> None:
    """Let nothing but ``chunked`` pass (RFC 9112 section 6.1). Raises RequestFault: 501 for an unknown
    coding, else 400.
    """
    if minor == 0:
        raise RequestFault(400, "Transfer-Encoding in HTTP/1.0")
    codings = [coding.strip(" \t").lower() for coding in value.split(",")]
    if codings == ["chunked"]:
        return
    if not all(_TOKEN.fullmatch(coding.encode("latin-1")) for coding in codings) or "chunked" in codings[:-1]:
        raise RequestFault(400, "Malformed Transfer-Encoding")
    if codings[-1] != "chunked" and _TRANSFER_CODINGS.issuperset(codings):
        raise RequestFault(400, "Transfer-Encoding does not end in chunked")
    raise RequestFault(501, "Transfer coding is not implemented")
