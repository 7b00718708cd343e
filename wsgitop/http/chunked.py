"""The chunked transfer coding (RFC 9112 section 7.1), decoded strictly.

Why not by httptools: it neither tells where in the data a message ends, so that the next request line could
not be checked raw, nor bounds extensions and trailers. Strict means: CRLF only, no white space around a size,
no sign, no prefix.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from wsgitop.http.faults import RequestFault

EXTENSIONS_LIMIT_BYTES: Final = 4096
TRAILERS_LIMIT_BYTES: Final = 16 * 1024
OVERHEAD_LIMIT_BYTES: Final = 16 * 1024
OVERHEAD_PER_BYTE: Final = 8
"""What size lines and line ends may cost: so much, and so many bytes for each of the body. Chunks of one byte
cost five; it is sizes filled up with zeros that cost more.
"""

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_SMALL_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,2})\r\n")
_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*\r\n")
_SIZE_LINE_LIMIT: Final = 16 + EXTENSIONS_LIMIT_BYTES + 2
_FORBIDDEN_TRAILERS: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"host", b"trailer", b"content-encoding", b"content-type")
)

Write = Callable[[bytes | memoryview], object]

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedDecoder:
    """Decodes one body. ``done`` turns true behind the last trailer; trailers are checked and dropped.
    ``chunk_left`` are the bytes that the chunk in hand lacks.
    """

    def __init__(self, body_limit: int, fields_limit: int, field_size_limit: int) -> None:
        self._state = _SIZE
        self._body_limit = body_limit
        self._fields_limit = fields_limit
        self._field_size_limit = field_size_limit
        self.chunk_left = 0
        self._total = 0
        self._extensions = 0
        self._overhead = 0
        self._trailers = 0
        self._trailers_bytes = 0

    @property
    def done(self) -> bool:
        """The message is complete."""
        return self._state == _DONE

    def decode(self, data: bytes | bytearray, position: int, write: Write) -> int:
        """Take what can be taken of ``data`` from ``position`` on, hand body bytes to ``write``, which must
        not hold on to them; return the new position.

        What is left over is the beginning of a line, to be given again with more behind it, or the next
        request. Raises RequestFault.
        """
        end = len(data)
        view = memoryview(data)
        while position < end and self._state != _DONE:
            if self._state == _SIZE and _SMALL_SIZE.match(data, position):
                position = self._take_small_chunks(data, position, write)
                if position == end:
                    break
            if self._state == _DATA:
                take = min(self.chunk_left, end - position)
                write(view[position : position + take])
                position += take
                self.chunk_left -= take
                if self.chunk_left:
                    break
                self._state = _DATA_END
            elif self._state == _DATA_END:
                if not b"\r\n".startswith(data[position : position + 2]):
                    raise RequestFault(400, "Chunk is longer than its size")
                if end - position < 2:
                    break
                position += 2
                self._state = _SIZE
            else:
                line_end = data.find(b"\n", position) + 1
                if not line_end:
                    self._check_unfinished(end - position)
                    break
                line = data[position:line_end]
                position = line_end
                if self._state == _SIZE:
                    self._take_size(line)
                else:
                    self._take_trailer(line)
        return position

    def _take_small_chunks(self, data: bytes | bytearray, position: int, write: Write) -> int:
        """Take plain chunks that are complete; return the new position. A client can put thousands of them
        into one read, and nobody else is served meanwhile.
        """
        start = position
        pieces = []
        while (match := _SMALL_SIZE.match(data, position)) is not None:
            begin = match.end()
            stop = begin + int(match[1], 16)
            if data[stop : stop + 2] != b"\r\n":
                break
            pieces.append(data[begin:stop])
            position = stop + 2
        if pieces:
            content = b"".join(pieces)
            self._add(len(content))
            self._overhead += position - start - len(content)
            write(content)
        return position

    def _add(self, size: int) -> None:
        self._total += size
        if 0 < self._body_limit < self._total:
            raise RequestFault(413, "Body is too large")

    def _check_unfinished(self, size: int) -> None:
        if self._state == _SIZE:
            if size > _SIZE_LINE_LIMIT:
                raise RequestFault(400, "Chunk extensions are too long")
        elif size > self._field_size_limit + 1 or self._trailers_bytes + size > TRAILERS_LIMIT_BYTES:
            raise RequestFault(431, "Trailers are too large")

    def _take_size(self, line: bytes | bytearray) -> None:
        match = _SIZE_LINE.fullmatch(line) if len(line) <= _SIZE_LINE_LIMIT else None
        if match is None:
            raise RequestFault(400, "Malformed chunk size")
        self._extensions += len(match[2] or b"")
        if self._extensions > EXTENSIONS_LIMIT_BYTES:
            raise RequestFault(400, "Chunk extensions are too long")
        size = int(match[1], 16)
        if size >= 1 << 63:
            raise RequestFault(400, "Chunk size is too large")
        self._add(size)
        self._overhead += len(line) + 2
        if self._overhead > OVERHEAD_LIMIT_BYTES + OVERHEAD_PER_BYTE * self._total:
            raise RequestFault(400, "Chunk sizes take too much room")
        self.chunk_left = size
        self._state = _DATA if size else _TRAILERS

    def _take_trailer(self, line: bytes | bytearray) -> None:
        if line == b"\r\n":
            self._state = _DONE
            return
        self._trailers += 1
        self._trailers_bytes += len(line)
        if (
            self._trailers > self._fields_limit
            or len(line) > self._field_size_limit + 2
            or self._trailers_bytes > TRAILERS_LIMIT_BYTES
        ):
            raise RequestFault(431, "Trailers are too large")
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise RequestFault(400, "Malformed trailer")
        if match[1].lower() in _FORBIDDEN_TRAILERS:
            raise RequestFault(400, "Forbidden trailer")
