"""The small HTTP responder: what it takes for a request, and who may keep it busy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

from wsgitop.master import responder as module
from wsgitop.master.listeners import Listener
from wsgitop.master.responder import CONNECTIONS, Asked, Reply, Responder, parse_head, render
from wsgitop.settings.addresses import Address


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        (b"GET /ready HTTP/1.1\r\nHost: t\r\n\r\n", Asked("GET", "/ready")),
        (b"GET /ready HTTP/1.0\r\n\r\n", Asked("GET", "/ready")),
        (b"HEAD /ready?x=/y HTTP/1.1\r\nhost:t\r\n\r\n", Asked("HEAD", "/ready")),
        (b"GET http://t:1/ready HTTP/1.1\r\nHost: t\r\n\r\n", Asked("GET", "/ready")),
        (b"GET http://t HTTP/1.1\r\nHost: t\r\n\r\n", Asked("GET", "/")),
        (b"GET / HTTP/1.1\r\nHost:\r\nAccept: Text/Plain\r\n\r\n", Asked("GET", "/", "text/plain,")),
        (b"GET / HTTP/1.1\r\nHost: t\r\nX-\xc3: \xff\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: t\r\nX: \xff\r\n\r\n", Asked("GET", "/")),
        (b"GET /ready HTTP/1.1\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /ready HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET  /ready HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /ready HTTP/2\r\nHost: a\r\n\r\n", 400),
        (b"GET /ready\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"POST /ready HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
def test_heads(head: bytes, asked: Asked | int) -> None:
    found = parse_head(head)
    assert (found.status if isinstance(found, Reply) else found) == asked


def test_an_answer_to_head_has_no_body() -> None:
    reply = Reply(200, b"yes\n")
    assert render(reply).endswith(
        b"Content-Length: 4\r\nCache-Control: no-store\r\nConnection: close\r\n\r\nyes\n"
    )
    assert render(reply, head_only=True) == render(reply).removesuffix(b"yes\n")


@contextlib.asynccontextmanager
async def responding() -> AsyncIterator[int]:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/fault":
            raise RuntimeError("a fault of ours")
        return Reply(200, asked.path.encode())

    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = sock.getsockname()[1]
    server = Responder(Listener(Address("tcp", host="127.0.0.1", port=port), sock, 512), answer)
    await server.start()
    try:
        yield port
    finally:
        server.stop()


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def test_the_silent_one_gives_way() -> None:
    async def crowd() -> None:
        async with responding() as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS + 10)]
            for _, writer in silent[-5:]:
                writer.write(b"GET /half")
            answer = await ask(port, b"GET /healthy HTTP/1.1\r\nHost: t\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"/healthy")
            for _, writer in silent:
                writer.close()

    asyncio.run(crowd())


def test_silence_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)

    async def silence() -> None:
        async with responding() as port:
            assert await ask(port, b"GET /half") == b""

    with contextlib.suppress(ConnectionResetError):
        asyncio.run(silence())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, b"405"),
        (b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 1_000_000, b"431"),
    ],
)
def test_a_client_that_says_much_still_reads_its_answer(data: bytes, status: bytes) -> None:
    async def verbose() -> None:
        async with responding() as port:
            assert (await ask(port, data)).split(b" ")[1] == status

    asyncio.run(verbose())


def test_a_client_that_has_said_all_reads_its_answer() -> None:
    async def half_closed() -> None:
        async with responding() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n")
            writer.write_eof()
            assert (await asyncio.wait_for(reader.read(), 0.9)).endswith(b"/x")
            writer.close()

    asyncio.run(half_closed())


def test_a_fault_of_ours_is_told_and_no_descriptor_stays() -> None:
    async def fault() -> None:
        async with responding() as port:
            assert b" 500 " in await ask(port, b"GET /fault HTTP/1.1\r\nHost: t\r\n\r\n")
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked
            for _ in range(20):
                await ask(port, b"GET /x HTTP/1.0\r\n\r\n")
            await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208

    asyncio.run(fault())
