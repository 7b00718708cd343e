"""Answers read from bytes, as strictly as the checks need it. No sockets, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tests.stress.script import KILLERS, Ask

_HEAD: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [^\r\n]*\r\n((?:[!-9;-~]+: [^\r\n]*\r\n)*)\r\n")
_IDENTITY: Final = re.compile(rb"^X-Request-Id: ([^\r]*)\r", re.M)
_BODY: Final = re.compile(rb"^X-Body: ([^\r]*)\r", re.M)
_LENGTH: Final = re.compile(rb"^Content-Length: ([0-9]+)\r", re.M)


class Malformed(Exception):
    """These bytes are no answer."""


@dataclass(slots=True)
class Answer:
    """``closes``: the server says that the connection ends with it. ``complete``: up to its end, whether that
    is told by a length, by chunks or by the end of the connection.
    """

    status: int
    identity: bytes
    sent: bytes
    closes: bool
    body: bytes
    complete: bool = True


class AnswerReader:
    """Takes bytes, gives answers. ``whole`` is None until the head of an answer is here."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._answer: Answer | None = None
        self._left: int | None = None  # of a body with a length, None: chunked or up to the end
        self._chunked = False
        self._parts: list[bytes] = []

    @property
    def idle(self) -> bool:
        """Nothing is here of an answer that is not complete."""
        return not self._data and self._answer is None

    def feed(self, data: bytes) -> None:
        """More bytes."""
        self._data += data

    def next(self, *, head_only: bool) -> Answer | None:
        """The next answer if it is complete. Raises Malformed."""
        if self._answer is None and not self._take_head(head_only):
            return None
        answer = self._answer
        assert answer is not None
        if self._chunked:
            if not self._take_chunks():
                return None
        elif self._left is None or len(self._data) < self._left:
            return None
        else:
            answer.body = bytes(self._data[: self._left])
            del self._data[: self._left]
        self._answer = None
        return answer

    def rest(self) -> Answer | None:
        """Behind the end of the connection: what is here of an answer, None if its head is not complete."""
        answer = self._answer
        if answer is None:
            return None
        if self._chunked:
            answer.body = b"".join(self._parts)
            answer.complete = False
        else:
            answer.body = bytes(self._data)
            answer.complete = self._left is None
        self._answer = None
        self._data.clear()
        return answer

    def shown(self) -> str:
        """The first bytes that are not an answer yet."""
        return repr(bytes(self._data[:120]))

    def _take_head(self, head_only: bool) -> bool:
        end = self._data.find(b"\r\n\r\n") + 4
        if end == 3:
            if len(self._data) > 4096:
                raise Malformed(f"no end of the head in {bytes(self._data[:120])!r}")
            return False
        match = _HEAD.fullmatch(self._data, 0, end)
        if match is None:
            raise Malformed(f"not a head: {bytes(self._data[: min(end, 300)])!r}")
        status = int(match[1])
        fields = bytes(match[2])
        del match, self._data[:end]
        identities = _IDENTITY.findall(fields)
        lengths = _LENGTH.findall(fields)
        self._chunked = b"Transfer-Encoding: chunked\r\n" in fields
        if len(identities) > 1 or len(lengths) + self._chunked > 1:
            raise Malformed(f"repeated fields: {fields!r}")
        sent = _BODY.search(fields)
        self._answer = Answer(
            status,
            identities[0] if identities else b"",
            sent[1] if sent else b"",
            b"Connection: close\r\n" in fields,
            b"",
        )
        self._left = int(lengths[0]) if lengths else None
        self._parts.clear()
        if head_only or status < 200:
            self._left = 0
            self._chunked = False
        return True

    def _take_chunks(self) -> bool:
        data = self._data
        start = 0
        done = False
        while True:
            end = data.find(b"\r\n", start)
            if end < 0:
                break
            try:
                size = int(data[start:end], 16)
            except ValueError:
                raise Malformed(f"not a chunk size: {bytes(data[start : start + 60])!r}") from None
            after = end + 2 + size
            if len(data) < after + 2:
                break
            if data[after : after + 2] != b"\r\n":
                raise Malformed(f"a chunk of {size} bytes ends in {bytes(data[after : after + 60])!r}")
            start = after + 2
            if not size:
                done = True
                break
            self._parts.append(bytes(data[end + 2 : after]))
        del data[:start]
        if done:
            assert self._answer is not None
            self._answer.body = b"".join(self._parts)
        return done


def wrong(ask: Ask, answer: Answer) -> str:
    """What is wrong with an answer, '' for nothing."""
    if answer.status != ask.status:
        return f"status {answer.status} instead of {ask.status}: {answer.body[:80]!r}"
    if answer.status in (500, 504):  # the server's own
        return (
            "" if answer.closes and not answer.identity else "a failed request on a connection that goes on"
        )
    if answer.identity != b"%d" % ask.number:
        return f"the answer is for {answer.identity.decode()!r}"
    if answer.sent.decode() != ask.sent:
        return f"the application got a body of {answer.sent.decode()}, not of {ask.sent}"
    expected = ask.body()
    if answer.body == expected and answer.complete and ask.kind not in KILLERS:
        return ""
    if ask.kind in KILLERS and expected.startswith(answer.body):
        if ask.minor == 0 or not answer.complete:
            return ""
        return "a failed answer ends as if it were complete"
    return _difference(answer, expected)


def _difference(answer: Answer, expected: bytes) -> str:
    body = answer.body
    ahead = f"{len(body)} bytes instead of {len(expected)}{'' if answer.complete else ', then the end'}"
    place = next((n for n, (a, b) in enumerate(zip(body, expected, strict=False)) if a != b), None)
    if place is None:
        return ahead
    return f"{ahead}, differing from byte {place} on: {body[max(0, place - 20) : place + 40]!r}"
