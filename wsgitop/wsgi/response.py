"""One call of an application, by the rules of PEP 3333: start_response, write(), the iterable, close().

Who runs it: the thread that serves the request, from :func:`run` to its return. ``since_s`` and ``voice`` are
also read by the watchdog: ``since_s`` is when the application was last called (0.0 while it is not inside a
call, for example while a slow reader is waited for), and ``voice`` is the right to say the first byte:
whoever pops its one element answers the request, this thread with the response or the watchdog with a 504.
Pops are atomic, so there is one answer and no lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Protocol

from wsgitop.http import response as http
from wsgitop.wsgi.files import FileRange, FileWrapper
from wsgitop.wsgi.types import WSGIApplication, WSGIEnvironment

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

_monotonic: Final = time.monotonic
_CHUNK_END: Final = b"0\r\n\r\n"
_BODILESS: Final = (204, 304)
_JOINED_BYTES: Final = 64 * 1024  # a larger body goes out behind its head, since to copy it costs more


class ClientGone(Exception):
    """The client closed the connection, or takes nothing any more; the rest of the response has no reader."""


class RequestCut(Exception):
    """The request was answered by the watchdog; what the application says now goes nowhere."""


class Sink(Protocol):
    """Where a response goes: a connection. Both raise ClientGone."""

    def send(self, data: bytes) -> None:
        """Send, or keep what the socket does not take."""

    def send_file(self, part: FileRange) -> None:
        """Send a part of a file, or keep what the socket does not take."""

    def drain(self) -> None:
        """Wait, if too much is kept, until it is less."""


class Response:
    """The response to one request. ``keep_alive`` is what the request allows at first, and at the end what
    may be done.

    ``failed`` says that the application raised, ``cut`` that the watchdog has ended it, ``complete`` that
    all of it was sent. ``complaint`` is what is wrong with it although the application has not raised: it is
    not as long as it says. ``status`` is the code that went out, 0 before. ``sent_bytes`` counts heads and
    framing, ``body_bytes`` the body alone.
    """

    # Slots, because the interpreter finds them at once. An attribute of an instance that is an attribute of
    # its class as well, as a default, costs it a search each time.
    __slots__ = (
        "_chunked",
        "_date",
        "_headless",
        "_length",
        "_minor",
        "_sink",
        "_status_line",
        "body_bytes",
        "complaint",
        "complete",
        "cut",
        "failed",
        "head_sent",
        "headers",
        "keep_alive",
        "sent_bytes",
        "since_s",
        "status",
        "status_text",
        "voice",
    )

    # Positional, because calls with keywords are slower.
    def __init__(  # noqa: PLR0917
        self, sink: Sink, head_only: bool, minor: int, keep_alive: bool, date: http.DateLine, since_s: float
    ) -> None:
        self._sink = sink
        self._headless = head_only  # no body goes out: HEAD, later also 1xx, 204 and 304
        self._minor = minor
        self._date = date
        self.keep_alive = keep_alive
        self.since_s = since_s
        self.voice: list[None] = [None]
        self.status = 0
        self.status_text = ""
        self.headers: Sequence[tuple[str, str]] = ()
        self.head_sent = self.complete = self.cut = self.failed = False
        self._chunked = False
        self.complaint = ""
        self.sent_bytes = self.body_bytes = 0
        self._status_line = b""
        self._length: int | None = None

    # -- what the application calls --------------------------------------------------------------------

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """PEP 3333. With ``exc_info`` it may replace what was started, and raises it if the head is out
        already.
        """
        if exc_info is not None:
            try:
                if self.head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no cycle through this frame
        elif self._status_line:
            raise AssertionError("start_response was called twice without exc_info")
        known = http.status_lines.get(status)
        self.status, self._status_line = http.status_line(status) if known is None else known
        self.status_text = status
        self.headers = headers
        return self.write

    def write(self, data: bytes) -> None:
        """The callable that start_response returns; for applications of old."""
        self.since_s = 0.0
        self._block(data)
        if self.complaint:
            self.complete = True  # for the client; PEP 3333 wants to see an application fail that goes on
            raise ValueError(self.complaint)
        self._sink.drain()
        self.since_s = _monotonic()

    # -- what the server calls -------------------------------------------------------------------------

    def run(self, app: WSGIApplication, environ: WSGIEnvironment) -> None:
        """Call the application and send what it gives. The caller has set ``since_s``.

        Raises what the application raises, ClientGone and RequestCut; ``close()`` of the iterable has been
        called then.
        """
        result = app(environ, self.start_response)
        kind = type(result)
        if kind is list or kind is tuple:  # which have no close()
            self.since_s = 0.0
            self._send_all(b"".join(result) if len(result) != 1 else result[0])  # type: ignore[arg-type,index]
            return
        try:
            part = result.range() if kind is FileWrapper and not self.head_sent else None  # type: ignore[attr-defined]
            if part is not None:
                self._send_range(part)
                return
            self._iterate(iter(result))
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                self.since_s = _monotonic()
                close()
            self.since_s = 0.0

    def replace(self, data: bytes, status: int, status_text: str) -> bool:
        """Make ``data`` the whole answer if nothing was said yet. False: too late, or the client is gone."""
        try:
            self.voice.pop()
        except IndexError:
            return False
        self.head_sent = True
        self.keep_alive = False
        self.status = status
        self.status_text = status_text
        self.headers = []
        self.sent_bytes = len(data)
        try:
            self._sink.send(data)
        except ClientGone:
            return False
        return True

    def _send_all(self, body: bytes) -> None:
        """The whole body is here, so its length is known."""
        if type(body) is not bytes:
            body = bytes_of(body)
        if self.head_sent:
            if body:
                self._block(body)
            self._finish()
            return
        size = len(body)
        lines = self._head(size)
        if self._headless:
            body, size = b"", 0
        elif self._length != size:
            body = self._honest(body)
            size = len(body)
            if self._length is not None and size < self._length:
                self._too_short(size)
        self.body_bytes = size
        if size > _JOINED_BYTES:
            self._send(b"".join(lines))
            self._send(body)
        else:
            lines.append(body)
            data = b"".join(lines)
            try:
                self.voice.pop()
            except IndexError:
                raise RequestCut from None
            self.head_sent = True
            self.sent_bytes = len(data)
            self._sink.send(data)
        self.complete = True

    def _iterate(self, blocks: Iterator[bytes]) -> None:
        sink = self._sink
        while True:
            self.since_s = _monotonic()
            try:
                block = next(blocks)
            except StopIteration:
                break
            self.since_s = 0.0
            if self._headless and self.head_sent:
                break  # nobody gets the rest
            if block:
                self._block(block)
                if self.complaint:
                    break  # PEP 3333: stop iterating when enough data has been sent
                # Once all that Content-Length promised is here, nothing more comes: no need to hold the
                # thread.
                if self._length is None or self.body_bytes < self._length:
                    sink.drain()
            elif type(block) is not bytes:
                bytes_of(block)  # None and other empty things that are no bytes
        self.since_s = 0.0
        self._finish()

    def _finish(self) -> None:
        """Behind the last block."""
        if not self.head_sent:
            self._send(b"".join(self._head(0)))
        elif self._chunked:
            self._send(_CHUNK_END)
        if self._length is not None and self.body_bytes < self._length and not self._headless:
            self._too_short(self.body_bytes)
        self.complete = True

    def _block(self, data: object) -> None:
        """Send one block of the body, the head in front of it if it is the first."""
        head = b"" if self.head_sent else b"".join(self._head(None))
        data = bytes_of(data)
        if self._headless:
            data = b""
        elif self._length is not None:
            data = self._honest(data)
        self.body_bytes += len(data)
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if head or data:
            self._send(head + data)

    def _send_range(self, part: FileRange) -> None:
        self._send(b"".join(self._head(part.size, of_file=True)))
        if self._headless:
            self.complete = True
            return
        length = self._length
        if length is not None and length < part.size:
            part = part._replace(size=length)
        if part.size:
            self._sink.send_file(part)
        self.body_bytes += part.size
        self.sent_bytes += part.size
        if length is not None and part.size < length:
            self._too_short(part.size)
        self.complete = True

    def _send(self, data: bytes) -> None:
        if not self.head_sent:
            try:
                self.voice.pop()
            except IndexError:
                raise RequestCut from None
            self.head_sent = True
        self.sent_bytes += len(data)
        self._sink.send(data)

    # -- framing ---------------------------------------------------------------------------------------

    def _head(self, known_length: int | None, *, of_file: bool = False) -> list[bytes]:
        """Render the lines of the head and decide on the framing (RFC 9112 section 6). ``known_length`` is
        the body's, if it is known.

        Raises TypeError and ValueError for what may not be sent, AssertionError if there is nothing to send.
        """
        if not self._status_line:
            raise AssertionError("The application did not call start_response")
        lines = [self._status_line, self._date.with_server]
        try:
            headers = tuple(self.headers)
            known = http.header_blocks.get(headers)
        except TypeError:  # no sequence, or a header is a list, which PEP 3333 forbids and others take
            headers, known = (), None
        if known is not None:
            block, self._length = known
            lines.append(block)
        else:
            self._length = self._take_headers(lines, headers)
        if self.status in _BODILESS or self.status < 200:
            self._forbid_body()
        elif self._length is None and (not self._headless or of_file):
            # To a HEAD most applications give an empty body, which says nothing about the body that GET has.
            if known_length is not None:
                self._length = known_length
            elif self._minor == 1:
                self._chunked = True
                lines.append(b"Transfer-Encoding: chunked\r\n")
            else:
                self.keep_alive = False
        if self._length is not None:
            lines.append(b"Content-Length: %d\r\n" % self._length)
        if not self.keep_alive:
            lines.append(b"Connection: close\r\n")
        elif self._minor == 0:
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        return lines

    def _take_headers(self, lines: list[bytes], headers: tuple[tuple[str, str], ...]) -> int | None:
        """Append the lines of the application's headers; returns its Content-Length. ``headers`` is what to
        remember them by, if all of them are remembered; empty: do not.

        Raises TypeError and ValueError.
        """
        length: int | None = None
        known_lines = http.header_lines
        remember = bool(headers)
        begin = len(lines)
        for header in self.headers:
            try:
                known = known_lines.get(header)
            except TypeError:
                known = None
            if known is None:
                name, value = header
                known = http.header_line(name, value)
                remember = False  # it may be one that never comes again
            kind, line, number = known
            if not kind:
                lines.append(line)
            elif kind == http.LENGTH:
                if length is not None and length != number:
                    raise ValueError(f"Content-Length is both {length} and {number}")
                length = number
            else:
                remember = False
                self._take_special(lines, kind, header[1], line)
        if remember:
            http.remember_block(headers, b"".join(lines[begin:]), length)
        return length

    def _forbid_body(self) -> None:
        """1xx, 204 and 304 have none, and only 304 may say how long it would be (RFC 9110 section 8.6)."""
        self._headless = True
        if self.status != 304:
            self._length = None
            self.keep_alive = self.keep_alive and self.status >= 200

    def _take_special(self, lines: list[bytes], kind: int, value: str, line: bytes) -> None:
        """Date and Server, which the application may set, and Connection.

        The other hop-by-hop headers are the server's business (PEP 3333); the one wish that makes sense is to
        close.
        """
        if kind == http.CONNECTION:
            if "close" in value.lower():
                self.keep_alive = False
        elif kind in (http.DATE, http.SERVER_NAME):
            server, _, date = lines[1].partition(b"\r\n")
            lines[1] = server + b"\r\n" + line if kind == http.DATE else line + date

    def _honest(self, data: bytes) -> bytes:
        """What of ``data`` Content-Length leaves room for; the rest would be read as the next response."""
        if self._headless or self._length is None:
            return data
        room = self._length - self.body_bytes
        if len(data) <= room:
            return data
        self.complaint = (
            f"The application gave more than its Content-Length of {self._length} bytes; the rest is cut off"
        )
        return data[:room]

    def _too_short(self, sent: int) -> None:
        """The client waits for bytes that do not come: closing tells it."""
        self.keep_alive = False
        self.complaint = (
            f"The application gave {sent} bytes where its Content-Length says {self._length}; "
            "the connection is closed"
        )


def bytes_of(data: object) -> bytes:
    """A block as an application gives it; PEP 3333 says bytes. Raises TypeError."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"The application gave a {type(data).__name__} where bytes belong")
