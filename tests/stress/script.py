"""What the clients will do, drawn from a seed: pure data, made before a byte is sent.

The same seed and numbers give the same scripts. How they interleave is up to the machine, so a failure that a
seed has shown need not come back at once; its script does.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final, Literal

from tests.stress.application import answer_body

Fate = Literal["answered", "may be called", "must not be called"]
"""What is to become of a request, and what the record of the application has to say: called exactly once; at
most once, because the client leaves when all is sent; never, because it leaves before that.
"""

_KINDS: Final = {
    "list": 50.0,
    "tuple": 5.0,
    "generator": 9.0,
    "iterable": 6.0,
    "length": 6.0,
    "write": 3.0,
    "mixed": 2.0,
    "file": 3.0,
    "before": 0.6,
    "late": 0.4,
    "middle": 0.6,
    "in_close": 0.6,
    "replaced": 0.6,
}
KILLERS: Final = frozenset(("middle", "hang_middle"))
"""The connection ends within the answer, because its head is out when the application fails."""
ENDERS: Final = frozenset(("before", "late", "hang")) | KILLERS
"""The connection ends with the answer, which is the server's in the other cases."""
STATUSES: Final = {"before": 500, "late": 500, "hang": 504, "replaced": 503}
NO_LONG_PAUSES: Final = 3000
"""So many requests before the end nobody pauses for long any more, for the run would wait for it."""

_NAMES: Final = tuple(_KINDS)
_WEIGHTS: Final = tuple(accumulate(_KINDS.values()))


@dataclass(frozen=True, slots=True)
class Mix:
    """How the scripts are to be. Times in seconds; ``keepalive_s`` and ``timeout_s`` are the server's.

    ``hangs`` is the share of requests that take longer than the server allows.
    """

    keepalive_s: float = 2.0
    timeout_s: float = 30.0
    hangs: float = 0.0


@dataclass(slots=True)
class Ask:
    """One request: ``raw`` is all of it, its head the first ``head_bytes``. ``sent_length`` and ``sent_sum``
    describe the body that the application must have got.
    """

    number: int
    kind: str
    size: int
    raw: bytes
    head_bytes: int
    method: str
    minor: int
    closes: bool
    expects: bool = False
    sent: str = "0:0"
    fate: Fate = "answered"

    @property
    def status(self) -> int:
        """The status of the right answer."""
        return STATUSES.get(self.kind, 200)

    def body(self) -> bytes:
        """The body of the right answer of the application."""
        return b"" if self.method == "HEAD" else answer_body(b"%d" % self.number, self.size)


@dataclass(slots=True)
class Piece:
    """Bytes that go out in one send, after a pause; or after ``100 Continue``."""

    pause_s: float
    data: bytes
    behind_continue: bool = False


@dataclass(slots=True)
class Batch:
    """Requests that are sent without waiting for the answers of those before."""

    think_s: float
    asks: list[Ask]
    pieces: list[Piece]


@dataclass(slots=True)
class Script:
    """One connection. ``slow`` is how many bytes it takes at once and how long it waits then, None for all
    and never. ``cut`` is the stage in which the client leaves during the last batch, with ``cut_at``: the
    seconds or, while reading, the bytes after which it does; ``reset`` says how. ``end`` is what it does when
    everything is answered.
    """

    serial: int
    batches: list[Batch]
    slow: tuple[int, float] | None = None
    cut: Literal["", "sending", "handling", "reading"] = ""
    cut_at: float = 0.0
    reset: bool = False
    end: Literal["close", "half", "half at once"] = "close"
    asks: list[Ask] = field(default_factory=list)


def scripts(seed: int, requests: int, mix: Mix) -> Iterator[Script]:
    """Scripts with so many requests in all, numbered from 1."""
    number = 1
    serial = 0
    while number <= requests:
        serial += 1
        script = _script(random.Random(seed * 1_000_003 + serial), serial, number, requests - number + 1, mix)
        number += len(script.asks)
        yield script


def again(serial: int, asks: list[Ask]) -> Script:
    """Requests that a connection has not taken any more, for a new one: one at a time and in one piece."""
    batches = [Batch(0.0, [ask], [Piece(0.0, ask.raw)]) for ask in asks]
    return Script(serial, batches, asks=asks)


def _script(rng: random.Random, serial: int, number: int, most: int, mix: Mix) -> Script:
    count = min(most, 1 + int(rng.expovariate(0.08)))
    slow = None
    if rng.random() < 0.02:
        take_bytes = rng.choice((4096, 16384, 65536))
        slow = take_bytes, take_bytes / rng.uniform(1.5e6, 8e6)
        count = min(count, 6)
    script = Script(serial, [], slow)
    if rng.random() < 0.07:
        script.cut = rng.choice(("sending", "sending", "handling", "reading"))
        script.reset = rng.random() < 0.3
    else:
        script.end = rng.choices(("close", "half", "half at once"), (60, 25, 15))[0]
    while count:
        size = min(count, rng.randint(2, 5) if rng.random() < 0.15 else 1)
        count -= size
        last = not count
        asks = [
            _ask(rng, number + n, mix, last=last and n == size - 1, alone=size == 1, slow=slow is not None)
            for n in range(size)
        ]
        number += size
        script.asks += asks
        think_s = 0.0
        if script.batches and rng.random() < 0.1:
            think_s = _think_s(rng, mix, long=most > NO_LONG_PAUSES)
        script.batches.append(Batch(think_s, asks, _pieces(rng, asks)))
    if script.cut:
        _cut(rng, script)
    return script


def _think_s(rng: random.Random, mix: Mix, *, long: bool) -> float:
    """A pause between requests: short, through a reload, or so long that the server closes the connection.

    None is near the server's ``--keep-alive``, where closing and the next request would meet on the way.
    """
    draw = rng.random()
    if draw < 0.96 or not long:
        return rng.uniform(0.0, 0.02)
    return rng.uniform(0.2, 0.5) * mix.keepalive_s if draw < 0.99 else mix.keepalive_s + 1.0


def _ask(rng: random.Random, number: int, mix: Mix, *, last: bool, alone: bool, slow: bool) -> Ask:
    kind = rng.choices(_NAMES, cum_weights=_WEIGHTS)[0]
    draw = rng.random()
    size = int(draw * 500) if draw < 0.95 else rng.randrange(1000, 120_000)
    blocks = 1 if kind in ("list", "file") else rng.randint(1, 5)
    sleep_ms = spin_ms = 0
    draw = rng.random()
    if draw < 0.02:
        sleep_ms = rng.randint(1, 20 if blocks == 1 else 8)
    elif draw < 0.027:
        spin_ms = rng.randint(1, 20 if blocks == 1 else 4)
    if slow and rng.random() < 0.3:
        size = rng.randrange(200_000, 900_000)
        blocks = rng.randint(1, 20)
    elif rng.random() < 0.002:
        size = rng.randrange(500_000, 3_000_000)
    if rng.random() < mix.hangs:
        kind = rng.choice(("hang", "hang_middle"))
        sleep_ms, spin_ms = int(mix.timeout_s * 2500), 0
        blocks = 2
    if kind in KILLERS:
        size += 1
    method = "HEAD" if kind not in ENDERS and rng.random() < 0.02 else "GET"
    body, framing = b"", ""
    expects = False
    if method == "GET" and rng.random() < 0.22:
        method = rng.choice(("POST", "PUT"))
        body, framing = _body(rng, number)
        expects = alone and body != b"" and rng.random() < 0.1
    minor = 0 if last and not framing.startswith("Tr") and rng.random() < 0.1 else 1
    closes = last and rng.random() < 0.2
    lines = [f"{method} /{kind}/{size}/{blocks}/{sleep_ms}/{spin_ms} HTTP/1.{minor}", "Host: stress"]
    lines.append(f"X-Request-Id: {number}")
    if framing:
        lines.append(framing)
    if closes:
        lines.append("Connection: close")
    elif minor == 0 and rng.random() < 0.5:
        lines.append("Connection: keep-alive")
    else:
        closes = minor == 0
    if expects:
        lines.append("Expect: 100-continue")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    sent = f"{len(body)}:{zlib.crc32(body)}"
    if framing.startswith("Tr"):
        body = _chunked(rng, body)
    return Ask(
        number, kind, size, head + body, len(head), method, minor, closes, expects and minor == 1, sent
    )


def _body(rng: random.Random, number: int) -> tuple[bytes, str]:
    draw = rng.random()
    if draw < 0.75:
        size = rng.randrange(0, 2000)
    elif draw < 0.95:
        size = rng.randrange(50_000, 150_000)  # the larger ones do not fit into --body-buffer
    else:
        size = rng.randrange(150_000, 1_000_000)
    unit = b"q%d " % number
    body = (unit * (size // len(unit) + 1))[:size]
    return body, "Transfer-Encoding: chunked" if rng.random() < 0.35 else f"Content-Length: {size}"


def _chunked(rng: random.Random, body: bytes) -> bytes:
    most = max(2, rng.choice((len(body), len(body) // 4, len(body) // 30)))
    parts = []
    start = 0
    while start < len(body):
        part = body[start : start + rng.randint(1, most)]
        parts.append(b"%x\r\n%b\r\n" % (len(part), part))
        start += len(part)
    parts.append(b"0\r\n\r\n")
    return b"".join(parts)


def _pieces(rng: random.Random, asks: list[Ask]) -> list[Piece]:
    first = asks[0]
    if first.expects:
        return [Piece(0.0, first.raw[: first.head_bytes]), Piece(0.0, first.raw[first.head_bytes :], True)]
    whole = first.raw if len(asks) == 1 else b"".join(ask.raw for ask in asks)
    draw = rng.random()
    if draw > 0.12:
        return [Piece(0.0, whole)]
    if draw < 0.005:  # the head byte by byte
        size = first.head_bytes
        return [
            *(Piece(0.0, whole[n : n + 1]) for n in range(size)),
            *([Piece(0.0, whole[size:])] if size < len(whole) else []),
        ]
    # Half of the places within the first head: that is where most can go wrong.
    places = {
        rng.randrange(1, first.head_bytes + 2 if rng.random() < 0.5 else len(whole))
        for _ in range(rng.randint(1, 4))
    }
    edges = [0, *sorted(place for place in places if place < len(whole)), len(whole)]
    pause_s = rng.choice((0.0, 0.002, 0.015))
    return [
        Piece(rng.uniform(0, pause_s) if start else 0.0, whole[start:end]) for start, end in pairwise(edges)
    ]


def _cut(rng: random.Random, script: Script) -> None:
    """Decide how the client leaves in the last batch, and what that means for its requests."""
    batch = script.batches[-1]
    for ask in batch.asks:
        ask.fate = "may be called"
    if script.cut == "handling":
        script.cut_at = rng.choice((0.0, rng.uniform(0, 0.02)))
        return
    if script.cut == "reading":
        script.cut_at = rng.randrange(1, 100 + batch.asks[-1].size)
        return
    last = batch.asks[-1]
    within_head = rng.random() < 0.5 or last.head_bytes == len(last.raw)
    keep = rng.randrange(1, last.head_bytes) if within_head else rng.randrange(last.head_bytes, len(last.raw))
    last.fate = "must not be called"
    lost = len(last.raw) - keep
    pieces = batch.pieces
    while lost and pieces:
        piece = pieces[-1]
        if len(piece.data) > lost:
            piece.data = piece.data[:-lost]
            lost = 0
        else:
            lost -= len(piece.data)
            pieces.pop()
    script.cut_at = rng.choice((0.0, rng.uniform(0, 0.02)))
