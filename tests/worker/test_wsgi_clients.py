"""Clients that leave, at every stage of a request: the application's iterable is closed once, its thread is
free again, and nobody calls it an error.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.worker import apps
from tests.worker.harness import Client, wait_until
from tests.worker.wsgi_site import Closing, Served, Site, start
from wsgitop.scoreboard import layout as at

pytestmark = pytest.mark.process

SITE = Site()
ENTERED, LEAVE = apps.Gate(), apps.Gate()
BLOCK = b"b" * 100_000
FEW = 3
MANY = 120
"""Blocks that a socket takes at once, and blocks that it does not."""


def _blocks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield BLOCK


def _gated_blocks() -> Iterator[bytes]:
    """The test says when the second block comes; then there is no end."""
    yield b"first"
    ENTERED.open()
    LEAVE.pass_through()
    while True:
        yield BLOCK


@SITE.app
def called(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    ENTERED.open()
    LEAVE.pass_through()
    start(start_response)
    return Closing(SITE.notes, _blocks(MANY))


@SITE.app
def called_list(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """One block that is more than the socket takes."""
    ENTERED.open()
    LEAVE.pass_through()
    start(start_response)
    return [BLOCK * MANY]


@SITE.app
def between(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start(start_response)
    return Closing(SITE.notes, _gated_blocks())


@SITE.app
def waiting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start(start_response)
    return Closing(SITE.notes, _blocks(MANY))


@SITE.app
def writing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """write() raises within the application, which may clean up and cannot hold it back."""
    write = start(start_response)
    try:
        for _ in range(MANY):
            write(BLOCK)
    finally:
        SITE.notes.put("closed")
    return []


@SITE.app
def stubborn(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """It goes on, whatever write() raises."""
    write = start(start_response)
    for _ in range(MANY):
        try:
            write(BLOCK)
        except Exception as error:  # noqa: BLE001 - that is the point
            SITE.notes.put(type(error).__name__)
    return Closing(SITE.notes, [b"more"])


@SITE.app
def flushed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The application is done before the client is: the response is in memory, for the loop to send."""
    start(start_response, ("Content-Length", str(len(BLOCK) * MANY)))
    return Closing(SITE.notes, [BLOCK * MANY])


@SITE.app
def small(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start(start_response)
    return Closing(SITE.notes, [b"small"])


@pytest.fixture(scope="module", params=[1, 3], ids=["1 thread", "3 threads"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with SITE.worker(threads=request.param, response_buffer=50_000, body_buffer=1000) as served:
        yield served


def close(client: Client) -> None:
    client.sock.close()


def reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


Leave = Callable[[Client], None]
ways = pytest.mark.parametrize("leave", [close, reset])


def after(served: Served, *, requests: int = 1, closed: int = 1) -> None:
    """The request is over, as it should be: nothing open, nobody busy, nothing in the log."""
    served.wait_done(requests)
    wait_until(lambda: served.harness.word(at.CONNECTIONS) == 0)
    assert served.site.notes.take() == ["closed"] * closed
    assert not served.complaints()
    assert served.ask("/small").body == b"small"
    assert served.site.notes.take() == ["closed"]
    wait_until(lambda: served.harness.word(at.CONNECTIONS) == 0)


@ways
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"G",
        b"GET /small HTTP/1.1\r\nHost: t\r\n",
        b"POST /small HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nbody",
        b"POST /small HTTP/1.1\r\nHost: t\r\nContent-Length: 10000\r\n\r\n" + b"b" * 9999,
        b"POST /small HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n",
    ],
    ids=[
        "nothing",
        "a byte",
        "a part of the head",
        "a part of the body",
        "a part of a spooled body",
        "chunks",
    ],
)
def test_before_the_request_is_complete(served: Served, data: bytes, leave: Leave) -> None:
    before = served.open_files()
    with served.connect() as client:
        client.send(data)
        if data:
            accepted = served.harness.word(at.ACCEPTED)
            assert served.ask("/small").body == b"small"  # so that it has been read, if it was not reset
            wait_until(lambda: served.harness.word(at.ACCEPTED) > accepted)
            served.site.notes.take()
        leave(client)
    # At once, not when the worker has something else to do: a large upload fills the disk.
    wait_until(lambda: served.open_files() == before)
    after(served, requests=0, closed=0)


@ways
def test_while_the_application_is_called(served: Served, leave: Leave) -> None:
    for name, closed in (("called", 1), ("called_list", 0)):
        with served.connect() as client:
            client.get(f"/{name}")
            ENTERED.pass_through()
            leave(client)
        LEAVE.open()
        after(served, closed=closed)


@ways
def test_between_two_blocks(served: Served, leave: Leave) -> None:
    with served.connect() as client:
        client.get("/between")
        assert client._until(b"\r\n\r\n") and client._exactly(10) == b"5\r\nfirst\r\n"
        ENTERED.pass_through()
        leave(client)
    LEAVE.open()
    after(served)


@ways
@pytest.mark.parametrize("name", ["waiting", "writing"])
def test_while_the_application_waits_for_it(served: Served, name: str, leave: Leave) -> None:
    with served.connect() as client:
        client.get(f"/{name}")
        client._until(b"\r\n\r\n")
        threads = range(served.harness.settings.threads)
        wait_until(
            lambda: any(served.harness.thread_word(n, at.THREAD_STATE) == at.THREAD_WRITING for n in threads)
        )
        leave(client)
    after(served)


def test_an_application_that_writes_on_is_told_each_time(served: Served) -> None:
    with served.connect() as client:
        client.get("/stubborn")
        client._until(b"\r\n\r\n")
        reset(client)
    served.wait_done()
    *raised, last = served.site.notes.take()
    assert last == "closed"
    assert len(raised) > MANY // 2 and set(raised) == {"ClientGone"}
    assert not served.complaints()


@ways
def test_while_the_rest_is_flushed(served: Served, leave: Leave) -> None:
    with served.connect() as client:
        client.get("/flushed")
        client._exactly(100_000)
        served.wait_done()
        assert served.site.notes.take() == ["closed"]
        assert served.harness.word(at.CONNECTIONS) == 1
        leave(client)
    after(served, requests=0, closed=0)


@ways
def test_behind_a_pipelined_request(served: Served, leave: Leave) -> None:
    """Both were sent, so both may be served; the worker must not choke on the second."""
    with served.connect() as client:
        client.send(b"GET /called HTTP/1.1\r\nHost: t\r\n\r\n" + b"GET /small HTTP/1.1\r\nHost: t\r\n\r\n")
        ENTERED.pass_through()
        leave(client)
    LEAVE.open()
    after(served)


def test_a_client_that_has_closed_its_side_reads_on(served: Served) -> None:
    with served.connect() as client:
        client.get("/waiting")
        client.sock.shutdown(socket.SHUT_WR)
        answer = client.answer()
        assert answer.body == BLOCK * MANY
        assert client.ended()
    after(served)
