"""What the front door answers to what: one row per case, the expectation beside the bytes.

An expectation is a tuple: ``"GET /path body"`` for a request that gets to the application, a number for a
refusal, which ends the connection: what follows is not answered. An empty tuple: the request is not complete,
and nothing is wrong so far.
"""

# ruff: noqa: E501 - a table reads by its rows

from __future__ import annotations

from typing import NamedTuple

H = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = ("GET / ",)
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


class Case(NamedTuple):
    name: str
    data: bytes
    expected: tuple[str | int, ...]


def _with(header: bytes) -> bytes:
    return POST + header + b"\r\n\r\n"


CASES: tuple[Case, ...] = (
    Case("plain", GET + b"\r\n", OK),
    Case("two pipelined", GET + b"\r\n" + NEXT, ("GET / ", "GET /next ")),
    Case("fault behind a request", GET + b"\r\nBAD\r\n\r\n", ("GET / ", 400)),
    Case("nothing behind a fault", b"BAD\r\n\r\n" + NEXT, (400,)),
    Case("incomplete", GET, ()),
    # Content-Length
    Case("length", POST + b"Content-Length: 5\r\n\r\nhello" + NEXT, ("POST / hello", "GET /next ")),
    Case("length 0", POST + b"Content-Length: 0\r\n\r\n" + NEXT, ("POST / ", "GET /next ")),
    Case("body not complete", POST + b"Content-Length: 6\r\n\r\nhello", ()),
    Case("GET with a body", GET + b"Content-Length: 2\r\n\r\nhi" + NEXT, ("GET / hi", "GET /next ")),
    Case("length twice", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", (400,)),
    Case("length twice, different", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", (400,)),
    *(
        Case(f"length {value!r}", _with(b"Content-Length: " + value), (400,))
        for value in (b"5, 5", b"+5", b"-5", b"0x5", b"1_0", b"3 1", b"", b"five", b"5.0", b"\xb2", b"18446744073709551616", b"9" * 30)
    ),
    Case("length 2^63 - 1 is above the limit", _with(b"Content-Length: 9223372036854775807"), (413,)),
    Case("length above the body limit", _with(b"Content-Length: 100001"), (413,)),
    Case("length before encoding", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    Case("encoding before length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", (400,)),
    Case("length with a space before the colon", POST + b"Content-Length : 5\r\n\r\nhello", (400,)),
    # Transfer-Encoding
    Case("chunked", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + NEXT, ("POST / hello", "GET /next ")),
    Case("CHUNKED", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", ("POST / ",)),
    Case("chunked behind white space", POST + b"Transfer-Encoding: \t chunked\r\n\r\n0\r\n\r\n", ("POST / ",)),
    Case("chunked before a space", POST + b"Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n", ("POST / ",)),
    # Legal as well, but llhttp does not take it, and no client sends it.
    Case("chunked before a tab", POST + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n", (400,)),
    *(Case(f"encoding {value!r}", _with(b"Transfer-Encoding: " + value), (501,)) for value in (b"xchunked", b"gzip, chunked", b"GZIP,chunked")),
    *(
        Case(f"encoding {value!r}", _with(b"Transfer-Encoding: " + value), (400,))
        for value in (
            b"chunked;q=1", b'"chunked"', b"\xa0chunked", b"\x0bchunked", b"gzip", b"identity", b",chunked", b"chunked,", b"",
            b"chunked, chunked", b"chunked, gzip", b"chunked chunked", b"chunked\xa0",
        )
    ),
    Case("encoding twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    Case("encoding twice, identity last", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", (400,)),
    Case("unknown encoding with length", POST + b"Transfer-Encoding: x\r\nContent-Length: 5\r\n\r\nhello", (400,)),
    Case("encoding in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    Case("encoding in 1.0, kept alive", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    # Lines and fields
    Case("LF only", b"GET / HTTP/1.1\nHost: a\n\n", (400,)),
    Case("LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", (400,)),
    Case("LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", (400,)),
    Case("LF as the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", (400,)),
    Case("CR in a value", GET + b"X: a\rb\r\n\r\n", (400,)),
    Case("CR CR LF", GET + b"X: a\r\r\n\r\n", (400,)),
    Case("folded field", GET + b"X: a\r\n b\r\n\r\n", (400,)),
    Case("folded field, tab", GET + b"X: a\r\n\tb\r\n\r\n", (400,)),
    Case("first field folded", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", (400,)),
    Case("no colon", GET + b"X\r\n\r\n", (400,)),
    Case("empty name", GET + b": x\r\n\r\n", (400,)),
    *(Case(f"name {name!r}", GET + name + b": x\r\n\r\n", (400,)) for name in (b"a b", b"a\x00", b"a(b", b"a\xe9", b"a@b", b'"a"', b"a/b")),
    *(Case(f"{char!r} in a value", GET + b"X: a" + char + b"b\r\n\r\n", (400,)) for char in (b"\x00", b"\x07", b"\x1b", b"\x7f", b"\x0b", b"\x0c")),
    Case("obs-text in a value", GET + b"X: \xe9\x80\xff\r\n\r\n", OK),
    Case("tab in a value", GET + b"X: a\tb\r\n\r\n", OK),
    Case("empty value", GET + b"X:\r\n\r\n", OK),
    Case("name with an underscore", GET + b"Content_Length: 5\r\nX_Y: z\r\n\r\n", OK),
    Case("content type twice", POST + b"Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n", (400,)),
    # Host
    Case("no Host in 1.1", b"GET / HTTP/1.1\r\n\r\n", (400,)),
    Case("no Host in 1.0", b"GET / HTTP/1.0\r\n\r\n", OK),
    Case("two Hosts", GET + b"Host: a\r\n\r\n", (400,)),
    *(
        Case(f"Host {host!r}", b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", (400,))
        for host in (b"a b", b"a/b@c", b"a@b", b"", b"a:b", b"a, b", b"[::1", b"a#b", b"a?b", b"a:80:80", b"a\\b", b"\xe9")
    ),
    *(
        Case(f"Host {host!r}", b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", OK)
        for host in (b"a", b"a:80", b"a:", b"127.0.0.1:8000", b"[::1]:8000", b"[::1]", b"a_b.example", b"xn--bcher-kva.example")
    ),
    Case("empty Host in 1.0", b"GET / HTTP/1.0\r\nHost:\r\n\r\n", OK),
    # Targets
    Case("query", b"GET /a?b=c&d=/?? HTTP/1.1\r\n" + H + b"\r\n", ("GET /a?b=c&d=/?? ",)),
    Case("percent", b"GET /%41%2f%e9 HTTP/1.1\r\n" + H + b"\r\n", ("GET /%41%2f%e9 ",)),
    Case("two slashes", b"GET //a//b HTTP/1.1\r\n" + H + b"\r\n", ("GET //a//b ",)),
    Case("absolute form", b"GET http://b/c?d HTTP/1.1\r\n" + H + b"\r\n", ("GET http://b/c?d ",)),
    Case("absolute form without a path", b"GET http://b:80 HTTP/1.1\r\n" + H + b"\r\n", ("GET http://b:80 ",)),
    Case("absolute form without Host", b"GET http://b/ HTTP/1.1\r\n\r\n", (400,)),
    Case("absolute form with user", b"GET http://u@b/ HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("absolute form, empty authority", b"GET http:///x HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("absolute form, other scheme", b"GET ftp://b/ HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("GET *", b"GET * HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", ("OPTIONS * ",)),
    Case("fragment", b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("raw byte in the target", b"GET /\xe9 HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("NUL in the target", b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("DEL in the target", b"GET /\x7f HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("tab in the target", b"GET /\ta HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("relative target", b"GET a HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("authority form", b"GET a:80 HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("CONNECT", b"CONNECT a:80 HTTP/1.1\r\n" + H + b"\r\n", (501,)),
    # Versions and methods
    *(Case(f"version {version!r}", b"GET / " + version + b"\r\n" + H + b"\r\n", (505,)) for version in (b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/3.0")),
    *(
        Case(f"version {version!r}", b"GET / " + version + b"\r\n" + H + b"\r\n", (400,))
        for version in (b"RTSP/1.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b"HTTP/11", b"HTTP/1.10", b"HTTP/a.b", b"")
    ),
    Case("no version", b"GET /\r\n" + H + b"\r\n", (400,)),
    Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
    Case("SOURCE", b"SOURCE / ICE/1.0\r\n" + H + b"\r\n", (400,)),
    Case("unknown method", b"BREW / HTTP/1.1\r\n" + H + b"\r\n", (501,)),
    Case("lower-case method", b"get / HTTP/1.1\r\n" + H + b"\r\n", (501,)),
    Case("method is no token", b"G(T / HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("two spaces", b"GET  / HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("space in front", b" GET / HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("tab for a space", b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    Case("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", (400,)),
    Case("one empty line in front", b"\r\n" + GET + b"\r\n", OK),
    Case("two empty lines in front", b"\r\n\r\n" + GET + b"\r\n", OK),
    Case("three empty lines in front", b"\r\n\r\n\r\n" + GET + b"\r\n", (400,)),
    Case("empty lines between", GET + b"\r\n\r\n" + NEXT, ("GET / ", "GET /next ")),
    Case("LF in front", b"\n" + GET + b"\r\n", (400,)),
    Case("CR in front", b"\rGET / HTTP/1.1\r\n" + H + b"\r\n", (400,)),
    # Chunks
    *(
        Case(f"chunk size {size!r}", CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n", (400,))
        for size in (b"+5", b"-5", b"0x5", b"5_", b"", b" 5", b"5 ", b"5\t;a", b"g", b"fffffffffffffffff", b"ffffffffffffffff", b"5\r")
    ),
    Case("chunk size in capitals", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", ("POST / 0123456789",)),
    Case("chunk size with zeros in front", CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", ("POST / hello",)),
    Case("chunk longer than said", CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", (400,)),
    Case("chunk shorter than said", CHUNKED + b"6\r\nhello\r\n0\r\n\r\n", (400,)),
    Case("chunk ended by LF", CHUNKED + b"5\r\nhello\n0\r\n\r\n", (400,)),
    Case("chunk size ended by LF", CHUNKED + b"5\nhello\r\n0\r\n\r\n", (400,)),
    Case("chunk extension", CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', ("POST / hello",)),
    Case("chunk extension with LF", CHUNKED + b"5;a\nhello\r\n0\r\n\r\n", (400,)),
    Case("chunk extension with CR", CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", (400,)),
    Case("chunk extension, 4 KiB", CHUNKED + b"5;" + b"a" * 4095 + b"\r\nhello\r\n0\r\n\r\n", ("POST / hello",)),
    Case("chunk extension, longer", CHUNKED + b"5;" + b"a" * 4096 + b"\r\nhello\r\n0\r\n\r\n", (400,)),
    Case("chunk extensions, 5 KB in all", CHUNKED + (b"1;" + b"a" * 500 + b"\r\nx\r\n") * 10, (400,)),
    Case("chunks above the body limit", CHUNKED + b"c350\r\n" + b"x" * 50000 + b"\r\nc351\r\n", (413,)),
    Case("chunk above the body limit", CHUNKED + b"ffffffff\r\n", (413,)),
    # Trailers
    Case("trailer", CHUNKED + b"0\r\nX: y\r\n\r\n" + NEXT, ("POST / ", "GET /next ")),
    *(
        Case(f"trailer {name!r}", CHUNKED + b"0\r\n" + name + b": 1\r\n\r\n", (400,))
        for name in (b"Content-Length", b"transfer-encoding", b"Host", b"HOST", b"a b", b"")
    ),
    Case("trailer without colon", CHUNKED + b"0\r\nX\r\n\r\n", (400,)),
    Case("trailer ended by LF", CHUNKED + b"0\r\nX: y\n\r\n", (400,)),
    Case("trailer folded", CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n", (400,)),
    Case("trailers, 1,000", CHUNKED + b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n", (431,)),
    Case("trailer, 100 KB", CHUNKED + b"0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", (431,)),
    Case("trailers, 100 KB", CHUNKED + b"0\r\n" + (b"X: " + b"y" * 2000 + b"\r\n") * 50 + b"\r\n", (431,)),
    # Connection, Upgrade, Expect
    Case("close, then more", GET + b"Connection: close\r\n\r\n" + NEXT, OK),
    Case("Close among others", GET + b"Connection: foo, Close\r\n\r\n" + NEXT, OK),
    Case("close with a body", POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi" + NEXT, ("POST / hi",)),
    Case("Proxy-Connection is nothing to an origin", GET + b"Proxy-Connection: close\r\n\r\n" + NEXT, ("GET / ", "GET /next ")),
    Case("1.0 ends", b"GET / HTTP/1.0\r\n\r\n" + NEXT, OK),
    Case("1.0 kept alive", b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + NEXT, ("GET / ", "GET /next ")),
    Case("1.0 close and keep-alive", b"GET / HTTP/1.0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n" + NEXT, OK),
    Case("Upgrade ignored", GET + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n" + NEXT, ("GET / ", "GET /next ")),
    Case("Upgrade with a body", POST + b"Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi" + NEXT, ("POST / hi", "GET /next ")),
    Case("h2c", GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n", OK),
    Case("Expect 100-continue", POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nhi", ("POST / hi",)),
    Case("other Expect", POST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\nhi", (417,)),
    Case("other Expect in 1.0", b"POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 2\r\n\r\nhi", ("POST / hi",)),
    # Sizes; the test's limits are a request line of 100 bytes, 10 fields of 200
    Case("longest request line", b"GET /" + b"a" * 86 + b" HTTP/1.1\r\n" + H + b"\r\n", ("GET /" + "a" * 86 + " ",)),
    Case("request line too long", b"GET /" + b"a" * 87 + b" HTTP/1.1\r\n" + H + b"\r\n", (414,)),
    Case("request line that never ends", b"GET /" + b"a" * 10_000, (414,)),
    Case("longest field", GET + b"X: " + b"a" * 197 + b"\r\n\r\n", OK),
    Case("field too long", GET + b"X: " + b"a" * 198 + b"\r\n\r\n", (431,)),
    Case("field that never ends", GET + b"X: " + b"a" * 10_000, (431,)),
    Case("most fields", GET + b"X: y\r\n" * 9 + b"\r\n", OK),
    Case("one field more", GET + b"X: y\r\n" * 10 + b"\r\n", (431,)),
    Case("10,000 fields", GET + b"X: y\r\n" * 10_000 + b"\r\n", (431,)),
    Case("bad method before a long field", b"BREW / HTTP/1.1\r\nX: " + b"a" * 300 + b"\r\n\r\n", (501,)),
    Case("long field before a bad one", GET + b"X: " + b"a" * 300 + b"\r\nbad\r\n\r\n", (431,)),
)  # fmt: skip
