"""Health checks, answered by the master: ``/healthy`` and ``/ready`` at an address of their own.

Who runs this: the loop of the master. The workers' threads may all be busy, or the application may hang; the
answer comes all the same. It is no web server: it reads one request of a few lines, answers, and closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import msgspec

from wsgitop.master.condition import condition
from wsgitop.master.listeners import Listener
from wsgitop.master.roster import Roster

HEAD_LIMIT_BYTES: Final = 4096
PATIENCE_S: Final = 5.0
CONNECTIONS: Final = 64

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def health(roster: Roster, path: str, now: float) -> tuple[int, str]:
    """Status and one line for the path of a check. ``now`` is monotonic."""
    if path == "/healthy":
        return 200, "the master answers"
    if path != "/ready":
        return 404, "there are /healthy and /ready"
    state, reason = condition(roster, now)
    ready = len(roster.ready())
    if roster.stopping:
        return 503, "the server stops"
    if not ready:
        return 503, f"no worker is ready ({state}{': ' if reason else ''}{reason})"
    return 200, f"{ready} of {roster.wanted} workers are ready"


class HealthServer:
    """Answers at ``listener`` until it is closed."""

    def __init__(
        self, listener: Listener, roster: Roster, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._listener = listener
        self._roster = roster
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(
            self._serve, sock=self._listener.socket, limit=HEAD_LIMIT_BYTES, backlog=CONNECTIONS
        )

    def stop(self) -> None:
        """Answer no more, and give the address up. May be called again."""
        if self._server is not None:
            self._server.close()
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS:
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(self._answer(await _head(reader)))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # a client that has left or never says anything: there is nobody to tell
        finally:
            self._connections -= 1
            with contextlib.suppress(OSError):
                writer.close()

    def _answer(self, head: bytes | None) -> bytes:
        if head is None:
            return _render(431, "the head is longer than 4 KiB", as_json=False, head_only=False)
        lines = head.split(b"\r\n")
        words = lines[0].split(b" ")
        bare = head.replace(b"\r\n", b"")
        if len(words) != 3 or words[2] not in (b"HTTP/1.0", b"HTTP/1.1") or b"\r" in bare or b"\n" in bare:
            return _render(400, "this is no HTTP request", as_json=False, head_only=False)
        method, target, _ = words
        as_json = any(
            name.lower() == b"accept" and b"application/json" in value.lower()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        )
        if method not in (b"GET", b"HEAD"):
            return _render(405, "only GET and HEAD", as_json=as_json, head_only=False)
        path = target.partition(b"?")[0].decode("latin-1")
        status, text = health(self._roster, path, self._clock())
        return _render(status, text, as_json=as_json, head_only=method == b"HEAD")


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """The head of a request; None if it is too long."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None


def _render(status: int, text: str, *, as_json: bool, head_only: bool) -> bytes:
    if as_json:
        body, kind = msgspec.json.encode({"ok": status == 200, "text": text}) + b"\n", "application/json"
    else:
        body, kind = f"{text}\n".encode(), "text/plain; charset=utf-8"
    allow = "Allow: GET, HEAD\r\n" if status == 405 else ""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)
