"""The requests of one connection: bytes in, complete requests or a fault out. Sans-I/O: it sees no socket and
no clock.

It is pulled: ``feed`` only keeps bytes, ``next`` takes one request out of them. So pipelined requests wait as
the bytes they came as, bounded by the size of one read, because the connection is not read while a request of
it is in hand; and an error is answered in its turn, behind the answers to what came before it.

What is answered to what is the table in tests/http; it holds for input in one piece, byte by byte and at any
split. That is why the checks run in the order of the bytes: request line, then field sizes line by line, then
the head as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wsgitop.http.chunked import ChunkedDecoder
from wsgitop.http.faults import Fault, RequestFault
from wsgitop.http.head import BodySink, HeadParser, Request, parse_request_line

LEADING_EMPTY_LINES: Final = 2
"""Empty lines tolerated in front of a request line (RFC 9112 section 2.2 asks for at least one)."""

COPIED_BYTES: Final = 4096
"""A rest of so many is copied sooner than it is made a bytearray."""


PARSED_BYTES: Final = 16 * 1024
"""What is read at once of heads and chunks: as chunks of one byte it takes some two milliseconds."""


class RequestParser:
    """Parses one connection; ``buffer`` are the bytes that no request has taken yet, and ``faulted`` says
    that it has met what is no request. ``heads`` is shared by the
    connections of a thread; ``open_body`` makes the sink of a body.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_decoder",
        "_empty_lines",
        "_fields",
        "_heads",
        "_last",
        "_left",
        "_line_checked",
        "_line_start",
        "_open_body",
        "_request",
        "buffer",
        "faulted",
    )

    def __init__(self, heads: HeadParser, open_body: Callable[[], BodySink]) -> None:
        self._heads = heads
        self._open_body = open_body
        self.buffer: bytes | bytearray = b""
        self.faulted = False
        self._last = False
        # Of a head that is not complete yet: how far its lines have been checked.
        self._line_start = 0
        self._line_checked = False
        self._fields = 0
        self._empty_lines = 0
        # Of a body that is not complete yet.
        self._request: Request | None = None
        self._body: BodySink | None = None
        self._body_bytes = 0
        self._left = 0
        self._decoder: ChunkedDecoder | None = None

    @property
    def finished(self) -> bool:
        """No further request is taken from this connection: a fault, or a request with which it ends."""
        return self._last

    @property
    def in_message(self) -> bool:
        """A request has begun and is not complete."""
        return self._request is not None or bool(self.buffer) or self._empty_lines > 0

    @property
    def in_body(self) -> bool:
        """A head is complete and its body is not."""
        return self._request is not None

    @property
    def appetite_bytes(self) -> int:
        """How much to read at once, so that nobody else waits long while it is parsed: heads and the sizes of
        chunks cost time by the byte, what is known to be a body does not.
        """
        if self._request is None:
            return PARSED_BYTES
        decoder = self._decoder
        return PARSED_BYTES + (self._left if decoder is None else decoder.chunk_left)

    @property
    def head_only(self) -> bool:
        """The request that has begun is a HEAD, as far as has come of it."""
        request = self._request
        return request.method == "HEAD" if request is not None else self.buffer.startswith(b"HEAD ")

    @property
    def unread(self) -> bytes | None:
        """The bytes that no request has taken yet: given to another parser, they mean the same. None: within
        a body, or when nothing more will be taken.
        """
        return None if self._request is not None or self._last else bytes(self.buffer)

    @property
    def wants_continue(self) -> bool:
        """The client waits for ``100 Continue`` before it sends the body (RFC 9110 section 10.1.1). Asked
        once per request.
        """
        request = self._request
        if request is None or not request.expects_continue or self._body_bytes or self.buffer:
            return False
        request.expects_continue = False
        return True

    def take(self, data: bytes) -> Request | Fault | None:
        """:meth:`feed` and :meth:`next` in one."""
        if not (self.buffer or self._request or self._last or self._empty_lines):
            # What most clients send is one head and nothing else. A faulty one is judged below.
            try:
                request = self._heads.recall(data)
            except RequestFault:
                request = None
            if request is not None:
                return request
        self.feed(data)
        return self.next()

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection."""
        buffer = self.buffer
        if self._last:
            return  # behind "Connection: close" or a fault nothing counts any more
        if not buffer:
            self.buffer = data
        elif isinstance(buffer, bytearray):
            buffer += data
        else:
            # A head in pieces: bytes would be copied with each piece.
            self.buffer = bytearray(buffer)
            self.buffer += data

    def next(self) -> Request | Fault | None:
        """The next complete request; a fault, once, with which the connection ends; None: more bytes are
        needed.
        """
        if self._last or not (self.buffer or self._request):
            return None
        try:
            if self._request is not None:
                return self._continue_body(self._request)
            return self._next_head()
        except RequestFault as error:
            fault = error.fault._replace(head_only=self.head_only)
            self._last = self.faulted = True
            # Nothing is under way any more, and nothing of it need be kept while the answer goes out.
            self.buffer = b""
            self._request = self._body = self._decoder = None
            self._empty_lines = 0
            return fault

    def abandon(self) -> None:
        """The connection is gone: keep nothing of a request that has not come to its end."""
        self._last = True
        self.buffer = b""
        body, self._body = self._body, None
        self._request = self._decoder = None
        if body is not None:
            body.close()

    def _take(self, size: int) -> bytes:
        """Take so many bytes out of the buffer."""
        taken = bytes(self.buffer[:size])
        self._drop(size)
        return taken

    def _drop(self, size: int) -> None:
        """Forget the beginning of the buffer."""
        buffer = self.buffer
        if size == len(buffer):
            self.buffer = b""
        elif isinstance(buffer, bytearray):
            del buffer[:size]
        elif len(buffer) - size <= COPIED_BYTES:
            self.buffer = buffer[size:]
        else:
            # A bytearray gives up its beginning without moving the rest; of bytes all that a client has sent
            # ahead would be copied with each request.
            self.buffer = bytearray(memoryview(buffer)[size:])

    # -- head ------------------------------------------------------------------------------------------

    def _next_head(self) -> Request | None:
        buffer = self.buffer
        if buffer[0] in b"\r\n":
            self._skip_empty_lines()
            buffer = self.buffer
            if not buffer or buffer[0] in b"\r\n":
                return None
        end = buffer.find(b"\r\n\r\n", self._line_start - 4 if self._line_start else 0)
        if end < 0:
            self._check_lines(len(buffer))
            return None
        end += 4
        if not self._line_start:
            request = self._heads.recall(bytes(buffer[:end]))
            if request is not None:
                self._drop(end)
                self._empty_lines = 0
                return request
        limits = self._heads.limits
        line_end = buffer.find(b"\r\n")
        if (
            self._line_start
            or end > limits.request_line
            or end > limits.field_size
            or buffer.count(b"\n", 0, end) > limits.fields
        ):
            self._check_lines(end)
        if self._line_start:
            self._line_start = self._fields = 0
            self._line_checked = False
        self._empty_lines = 0
        # What it is made of stays until it is: a fault says whether it is that of a HEAD.
        request = self._heads.parse(bytes(buffer[:end]), line_end)
        self._drop(end)
        if not request.keep_alive:
            self._last = True
        if request.length is None and not request.chunked:
            return request
        return self._begin_body(request)

    def _skip_empty_lines(self) -> None:
        buffer = self.buffer
        position = 0
        while position < len(buffer):
            if buffer[position : position + 2] == b"\r\n":
                self._empty_lines += 1
                position += 2
            elif position + 1 == len(buffer) and buffer[position] == 13:
                break
            elif buffer[position] in b"\r\n":
                raise RequestFault(400, "Malformed line end")
            else:
                break
            if self._empty_lines > LEADING_EMPTY_LINES:
                raise RequestFault(400, "Too many empty lines before the request")
        self._drop(position)

    def _check_lines(self, end: int) -> None:
        """Check the lines that are complete within ``buffer[:end]``, and the size of the one that is not.

        What is wrong here is wrong whatever follows, so a head that never ends need not be kept.
        """
        buffer = self.buffer
        limits = self._heads.limits
        while True:
            start = self._line_start
            line_end = buffer.find(b"\n", start, end)
            limit = limits.field_size if self._line_checked else limits.request_line
            size = (end - 1 if line_end < 0 else line_end - 1) - start
            if size > limit:
                if self._line_checked:
                    raise RequestFault(431, "Header field is too large")
                raise RequestFault(414, "Request line is too long")
            if line_end < 0:
                return
            line = bytes(buffer[start : line_end + 1])
            if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                raise RequestFault(400, "Malformed line end")
            if not self._line_checked:
                parse_request_line(line[:-2])
                self._line_checked = True
            elif len(line) > 2:
                self._fields += 1
                if self._fields > limits.fields:
                    raise RequestFault(431, "Too many header fields")
            self._line_start = line_end + 1

    # -- body ------------------------------------------------------------------------------------------

    def _begin_body(self, request: Request) -> Request | None:
        self._request = request
        self._last = False
        self._body = self._open_body()
        self._body_bytes = 0
        if request.chunked:
            limits = self._heads.limits
            self._decoder = ChunkedDecoder(limits.body, limits.fields, limits.field_size)
        else:
            self._left = request.length or 0
        return self._continue_body(request)

    def _continue_body(self, request: Request) -> Request | None:
        body = self._body
        assert body is not None
        decoder = self._decoder
        if decoder is not None:
            position = decoder.decode(self.buffer, 0, body.write)
            self._drop(position)
            done = decoder.done
        else:
            buffer = self.buffer
            position = len(buffer)
            if position > self._left:
                position = self._left
                body.write(self._take(position))
            elif position:
                self.buffer = b""
                body.write(bytes(buffer))
            self._left -= position
            done = not self._left
        self._body_bytes += position
        if not done:
            return None
        self._request = self._body = self._decoder = None
        if not request.keep_alive:
            self._last = True
        request.body = body
        request.received_bytes += self._body_bytes
        return request
