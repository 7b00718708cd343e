"""A small HTTP responder in the master: one request of a few lines, one answer, end of connection.

Who runs this: the loop of the master. It is for health checks and the like, which must be answered when every
worker is busy, and it is no web server. Whoever connects costs a bounded amount: a head has at most
HEAD_LIMIT_BYTES and PATIENCE_S to arrive, and when all CONNECTIONS are taken the one that has kept silent for
longest gives way, so that no crowd of silent clients can keep a probe out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from wsgitop.master.events import LOGGER
from wsgitop.master.listeners import Listener

HEAD_LIMIT_BYTES: Final = 4096
PATIENCE_S: Final = 5.0
CONNECTIONS: Final = 64
FAREWELL_S: Final = 1.0
"""How long a client may take to read its answer; what it still sends meanwhile is read and dropped, because
closing with bytes unread would reset the connection and take the answer with it (RFC 9112, 9.6).
"""

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


class Asked(NamedTuple):
    """A request: path without its query, and the field Accept in lower case."""

    method: str
    path: str
    accept: str = ""


class Reply(NamedTuple):
    """An answer, without the head's formalities."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


def refusal(status: int, text: str) -> Reply:
    """An answer of one line."""
    return Reply(status, f"{text}\n".encode())


def parse_head(head: bytes) -> Asked | Reply:
    """The request, or what to answer one that is none. ``head`` ends with an empty line (RFC 9112, 2 and 3;
    one that could be understood in two ways is refused).
    """
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return refusal(400, "this is no HTTP request")
    method, target, minor = match.groups()
    hosts, accept = 0, b""
    for field in fields:
        found = _FIELD.fullmatch(field)
        if found is None:
            return refusal(400, "a header field is malformed")
        name = found[1].lower()
        hosts += name == b"host"
        accept += found[2] + b"," if name == b"accept" else b""
    if hosts > 1 or (hosts == 0 and minor == b"1"):
        return refusal(400, "a request has one Host field")
    if method not in (b"GET", b"HEAD"):
        return refusal(405, "only GET and HEAD")
    path = _ABSOLUTE.sub(b"", target, count=1).partition(b"?")[0] or b"/"
    return Asked(method.decode(), path.decode(), accept.decode("latin-1").lower())


def render(reply: Reply, *, head_only: bool = False) -> bytes:
    """Head and body of an answer."""
    allow = "Allow: GET, HEAD\r\n" if reply.status == 405 else ""
    head = (
        f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}\r\nContent-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else reply.body)


class Responder:
    """Answers at ``listener`` with what ``answer`` says, until it is stopped."""

    def __init__(self, listener: Listener, answer: Callable[[Asked], Reply]) -> None:
        self._listener = listener
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: dict[_Client, None] = {}  # in the order in which they came

    async def start(self) -> None:
        """Begin to answer."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Client(self), sock=self._listener.socket, backlog=CONNECTIONS
        )

    def stop(self) -> None:
        """Answer no more, and give the address up; answers under way still arrive. May be called again."""
        if self._server is not None:
            self._server.close()
        self._listener.close()

    def enter(self, client: _Client) -> None:
        """A client has connected; another one may have to give way."""
        if len(self._clients) >= CONNECTIONS:
            next((one for one in self._clients if not one.answered), next(iter(self._clients))).abort()
        self._clients[client] = None

    def leave(self, client: _Client) -> None:
        """A client is gone."""
        self._clients.pop(client, None)

    def respond(self, head: bytes) -> bytes:
        """The answer to a complete head."""
        asked = parse_head(head)
        if isinstance(asked, Reply):
            return render(asked)
        try:
            reply = self._answer(asked)
        except Exception:  # noqa: BLE001 - whoever asks must hear, and the server go on
            LOGGER.exception("%s at %s could not be answered", asked.path, self._listener.address)
            reply = refusal(500, "internal error; the server's log says more")
        return render(reply, head_only=asked.method == "HEAD")


class _Client(asyncio.Protocol):
    """One connection: collects a head, writes the answer, says farewell."""

    def __init__(self, responder: Responder) -> None:
        self.answered = False
        self._responder = responder
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self.abort)
        self._responder.enter(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived; behind the answer they are dropped."""
        if self.answered:
            return
        self._head += data[: HEAD_LIMIT_BYTES + 1 - len(self._head)]
        end = self._head.find(b"\r\n\r\n")
        if end >= 0:
            self._say(self._responder.respond(bytes(self._head[: end + 4])))
        elif len(self._head) > HEAD_LIMIT_BYTES:
            self._say(render(refusal(431, "the head is longer than 4 KiB")))

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._responder.leave(self)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
        self._responder.leave(self)

    def _say(self, answer: bytes) -> None:
        assert self._transport is not None and self._timer is not None
        self.answered = True
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(FAREWELL_S, self.abort)
        self._transport.write(answer)
        if self._transport.can_write_eof():
            self._transport.write_eof()
