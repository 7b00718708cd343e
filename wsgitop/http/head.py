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
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, TypeVar
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

PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")
MAX_CONTENT_LENGTH: Final = (1 << 63) - 1

_PLAIN, _ONCE, _LENGTH, _ENCODING, _CONNECTION, _EXPECT, _COOKIE, _UNDERSCORED = range(8)
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
_LINES_KEPT: Final = 1024
_LINE_KEPT_BYTES: Final = 256
_BLOCKS_KEPT: Final = 256
_REQUESTS_KEPT: Final = 256
_BLOCK_KEPT_BYTES: Final = 2048


Kept = TypeVar("Kept")


class BodySink(Protocol):
    """Where body bytes go: memory or a file; the caller knows. ``size_bytes`` is what it has taken so far."""

    size_bytes: int

    def write(self, data: bytes | memoryview, /) -> object:
        """Keep these bytes."""

    def close(self) -> None:
        """Nobody needs them any more."""


class Limits(NamedTuple):
    """Sizes that a request may have: bytes of the request line, number of fields, bytes of a field, bytes of
    the body.

    Names and defaults are gunicorn's ``limit_request_*``. ``body`` 0 means no limit.
    """

    request_line: int = 4094
    fields: int = 100
    field_size: int = 8190
    body: int = 1024 * 1024 * 1024


class RequestLine:
    """A checked request line. ``target`` is as sent; ``path`` is percent-decoded bytes as latin-1 text (PEP
    3333), ``query`` is as sent. ``authority`` is that of an absolute-form target, '' otherwise; ``minor`` the
    minor version. ``environ`` is what the line says, in the words of PEP 3333. Requests share it, so nobody
    changes it.
    """

    __slots__ = ("authority", "environ", "method", "minor", "path", "query", "target")

    def __init__(  # noqa: PLR0917 - a row of plain values
        self, method: str, target: str, path: str, query: str, authority: str, minor: int
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.authority = authority
        self.minor = minor
        self.environ = {
            "REQUEST_METHOD": method,
            "RAW_URI": target,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": PROTOCOLS[minor],
        }


class Request:
    """A request that may be served; its body is complete when :meth:`RequestParser.next` returns it.

    ``fields`` maps environ keys (``HTTP_ACCEPT``, ``CONTENT_TYPE``) to latin-1 text, repeated fields joined;
    requests may share it, so nobody changes it. ``length`` is the Content-Length, None without; ``chunked``
    says that the body is; ``closes``, that the client said close. ``received_bytes`` is the raw size of head
    and body. ``underscored`` are the fields with an underscore in their names, which are not among
    ``fields``: names in upper case, and values.
    """

    __slots__ = (
        "body",
        "chunked",
        "closes",
        "expects_continue",
        "fields",
        "keep_alive",
        "length",
        "line",
        "received_bytes",
        "underscored",
    )

    def __init__(self, line: RequestLine, fields: Mapping[str, str], received_bytes: int) -> None:
        self.line = line
        self.fields = fields
        self.received_bytes = received_bytes
        self.keep_alive = True
        self.chunked = self.closes = self.expects_continue = False
        self.length: int | None = None
        self.body: BodySink | None = None
        self.underscored: tuple[tuple[str, str], ...] = ()

    @property
    def method(self) -> str:
        """As in :class:`RequestLine`, like those that follow."""
        return self.line.method

    @property
    def target(self) -> str:
        """As it was sent."""
        return self.line.target

    @property
    def path(self) -> str:
        """Percent-decoded."""
        return self.line.path

    @property
    def query(self) -> str:
        """As it was sent."""
        return self.line.query

    @property
    def minor(self) -> int:
        """The minor version."""
        return self.line.minor


def parse_request_line(line: bytes) -> RequestLine:
    """Check a request line without its CRLF (RFC 9112 section 3). Raises RequestFault 400, 501, 505."""
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
    if not target.isprintable():
        raise RequestFault(400, "Control characters in the request target")
    if "#" in target:
        raise RequestFault(400, "Fragment in the request target")
    origin, authority = (target, "") if target.startswith("/") else _origin_form(method, target)
    path, _, query = origin.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    return RequestLine(method, target, path, query, authority, minor)


def _origin_form(method: str, target: str) -> tuple[str, str]:
    """What stands in absolute-form and asterisk-form for path and query, and the authority (RFC 9112 section
    3.2). Raises RequestFault.
    """
    if target == "*" and method == "OPTIONS":
        return "*", ""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise RequestFault(400, "Malformed request target")
    authority = absolute[2]
    if not _AUTHORITY.fullmatch(authority):
        raise RequestFault(400, "Malformed authority in the request target")
    rest: str = absolute[3]
    if rest.startswith("/"):
        return rest, authority
    return ("*" if not rest and method == "OPTIONS" else "/" + rest), authority


class HeadParser:
    """Parses heads, one at a time; not for use by two threads at once.

    It remembers what it has checked, byte for byte: request lines, and the lines behind them, which a client
    (a proxy, a health check, a browser on a page) repeats from request to request. To find them again costs a
    tenth of parsing them.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._headers: list[tuple[bytes, bytes]] = []
        self._names: dict[bytes, tuple[str, int]] = {}
        self._last_host = ""
        self._lines: dict[bytes, RequestLine] = {}
        self._blocks: dict[bytes, dict[str, str]] = {}
        self._requests: dict[bytes, Request] = {}  # whole heads of which both were known
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called back by httptools."""
        self._headers.append((name, value))

    def recall(self, head: bytes) -> Request | None:
        """The request of a complete head whose fields have been seen before, None if they have not.

        Raises RequestFault for its request line.
        """
        request = self._requests.get(head)
        if request is not None:
            return request  # with no body, and so nothing that anybody would change
        line_end = head.find(b"\r\n")
        fields = self._blocks.get(head[line_end:])
        if fields is None:
            return None
        raw = head[:line_end]
        line = self._lines.get(raw)
        if line is not None:
            request = Request(line, fields, len(head))
            _keep(self._requests, _REQUESTS_KEPT, head, request)
            return request
        if line_end > self.limits.request_line:
            return None
        line = parse_request_line(raw)
        if line.minor == 0 or line.authority:
            return None  # these read the fields in another way
        if line_end <= _LINE_KEPT_BYTES:
            _keep(self._lines, _LINES_KEPT, raw, line)
        return Request(line, fields, len(head))

    def parse(self, head: bytes, line_end: int) -> Request:
        """Parse one complete head, its empty line included; ``line_end`` is where the CRLF of the request
        line begins.

        Raises RequestFault.
        """
        line = parse_request_line(head[:line_end])
        fields: dict[str, str] = {}
        request = Request(line, fields, len(head))
        if line.minor == 0:
            request.keep_alive = False
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
            self._explain(error, head, line.minor)
        try:
            self._take_fields(request, fields)
        except RequestFault:
            # llhttp found nothing wrong and may wait for the body: it would take the next head for it.
            self._parser = httptools.HttpRequestParser(self)
            raise
        if request.length is not None or request.chunked or not request.keep_alive or line.minor == 0:
            # llhttp now waits for a body, which it will not be given, or for the end of the connection.
            self._parser = httptools.HttpRequestParser(self)
        elif len(head) - line_end <= _BLOCK_KEPT_BYTES and not (
            line.authority or request.expects_continue or request.underscored
        ):
            _keep(self._blocks, _BLOCKS_KEPT, head[line_end:], fields)
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

    def _take_fields(self, request: Request, fields: dict[str, str]) -> None:
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
                self._take_special(request, fields, key, kind, value)
        if request.chunked:
            if request.length is not None:
                raise RequestFault(400, "Both Content-Length and Transfer-Encoding")
            check_transfer_encoding(fields["HTTP_TRANSFER_ENCODING"], request.line.minor)
        elif request.length is not None and 0 < self.limits.body < request.length:
            raise RequestFault(413, "Body is too large")
        if request.expects_continue and fields["HTTP_EXPECT"].lower() != "100-continue":
            raise RequestFault(417, "Unknown expectation")
        host = fields.get("HTTP_HOST")
        if not host or host != self._last_host or request.line.authority:
            self._check_host(request.line, fields)

    def _take_special(
        self, request: Request, fields: dict[str, str], key: str, kind: int, value: str
    ) -> None:
        """Fields that mean something to the server, and those that may come once only."""
        if kind == _UNDERSCORED:
            request.underscored = (*request.underscored, (key, value))
            return
        if kind == _EXPECT and request.line.minor == 0:
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

    def _check_host(self, line: RequestLine, fields: dict[str, str]) -> None:
        """RFC 9112 section 3.2; the authority of an absolute-form target wins (section 3.2.2)."""
        host = fields.get("HTTP_HOST")
        if host is None:
            if line.minor == 1:
                raise RequestFault(400, "Missing Host")
        elif not host:
            if line.minor == 1:
                raise RequestFault(400, "Empty Host")
        elif not _AUTHORITY.fullmatch(host):
            raise RequestFault(400, "Malformed Host")
        else:
            self._last_host = host
        if line.authority:
            fields["HTTP_HOST"] = line.authority

    def _learn(self, name: bytes) -> tuple[str, int]:
        """The environ key and kind of a field name as it is spelled, kept for the next time."""
        lower = name.lower()
        kind = _KINDS.get(lower, _PLAIN)
        key = name.decode("ascii").upper().replace("-", "_")
        if b"_" in name:
            kind = _UNDERSCORED  # it would overwrite its twin with a hyphen in environ
            key = name.decode("ascii").upper()
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
        if request.line.minor == 1 and value in ("keep-alive", "Keep-Alive"):
            return  # what most clients say, and no news
        options = {option.strip(" \t") for option in value.lower().split(",")}
        if "close" in options:
            request.closes = True
            request.keep_alive = False
        elif request.line.minor == 0 and "keep-alive" in options and not request.closes:
            request.keep_alive = True


def _keep(cache: dict[bytes, Kept], limit: int, key: bytes, value: Kept) -> None:
    """Remember, within a limit; when it is reached, begin anew: what comes again is soon there again."""
    if len(cache) >= limit:
        cache.clear()
    cache[key] = value


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
