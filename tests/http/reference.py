"""Requests read in the plainest way there is, for those that the parser has let through: slow, without
limits, and without any of its code. The two must see the same messages in the same bytes.
"""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """``end`` is where the next one may begin; ``coded`` says that the body came in chunks."""

    method: str
    target: str
    body: bytes
    fields: list[tuple[str, str]]
    coded: bool
    end: int


def read_message(data: bytes, position: int) -> Message:
    """The message at ``position``. Raises AssertionError, ValueError where it is not one."""
    while data.startswith(b"\r\n", position):
        position += 2
    head_end = data.index(b"\r\n\r\n", position)
    request_line, *lines = data[position:head_end].decode("latin-1").split("\r\n")
    method, target, version = request_line.split(" ")
    assert version in ("HTTP/1.0", "HTTP/1.1")
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon and name.isascii() and name.isprintable() and not set(name) & set(' "(),/:;<=>?@[\\]{}')
        assert all(char == "\t" or (char >= " " and char != "\x7f") for char in value)
        fields.append((name.lower(), value.strip(" \t")))
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value.lower() for name, value in fields if name == "transfer-encoding"]
    position = head_end + 4
    if codings:
        assert codings == ["chunked"] and not lengths and version == "HTTP/1.1"
        body, position = _read_chunks(data, position)
    else:
        assert len(lengths) <= 1
        length = int(lengths[0]) if lengths else 0
        body = data[position : position + length]
        assert len(body) == length
        position += length
    return Message(method, target, body, fields, bool(codings), position)


def _read_chunks(data: bytes, position: int) -> tuple[bytes, int]:
    body = b""
    while True:
        line_end = data.index(b"\r\n", position)
        line = data[position:line_end]
        assert b"\n" not in line and b"\r" not in line
        digits = line.split(b";")[0]
        assert digits.isalnum()
        size = int(digits, 16)
        position = line_end + 2
        if not size:
            break
        body += data[position : position + size]
        position += size
        assert data[position : position + 2] == b"\r\n"
        position += 2
    while not data.startswith(b"\r\n", position):
        position = data.index(b"\r\n", position) + 2
    return body, position + 2
