"""What the front door answers on real connections; tests/http has what it answers at all."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.http.corpus import ALL, Case
from tests.http.drive import LIMITS
from tests.worker import apps
from tests.worker.harness import Answer, Client, WorkerHarness, wait_until, worker
from wsgitop.scoreboard import layout as at

pytestmark = pytest.mark.process

GOOD = b"GET /first?q HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST /second HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi"
BEHIND = b"GET /behind HTTP/1.1\r\nHost: t\r\n\r\n"


BIG = bytes(range(256)) * 20_000  # 5 MB, more than a socket takes


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What was asked for; under /big, much."""
    if environ["PATH_INFO"] == "/big":
        return apps.text(start_response, BIG)
    return apps.plain_echo(environ, start_response)


@pytest.fixture(scope="module")
def w() -> Iterator[WorkerHarness]:
    """One worker for all tests of this module."""
    with worker(
        app,
        threads=2,
        header_timeout=1,
        limit_request_line=LIMITS.request_line,
        limit_request_fields=LIMITS.fields,
        limit_request_field_size=LIMITS.field_size,
        limit_request_body=LIMITS.body,
    ) as harness:
        yield harness
        assert "Internal error" not in harness.log()


REFUSALS = [
    (400, b"BAD\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: +5\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno\r\n"),
    (413, b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100001\r\n\r\n"),
    (413, b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n186a1\r\n"),
    (414, b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n"),
    (417, b"POST / HTTP/1.1\r\nHost: t\r\nExpect: x\r\nContent-Length: 5\r\n\r\n"),
    (431, b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"y" * 200 + b"\r\n"),
    (431, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 11),
    (501, b"BREW / HTTP/1.1\r\nHost: t\r\n\r\n"),
    (501, b"CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: t\r\n\r\n"),
]


@pytest.mark.parametrize("way", ["at once", "one after the other"])
def test_refusals_come_in_their_turn_and_end_the_connection(w: WorkerHarness, way: str) -> None:
    for status, refused in REFUSALS:
        served = w.total(at.REQUESTS)
        rejected = w.word(at.REJECTED)
        with w.connect() as client:
            if way == "at once":
                client.send(GOOD + POST + refused + BEHIND * 3)
            else:
                client.send(GOOD)
            assert client.answer().body == b"GET /first?q "
            if way != "at once":
                client.send(POST)
            assert client.answer().body == b"POST /second? hi"
            if way != "at once":
                client.send(refused)
            answer = client.answer()
            assert answer.status == status, refused
            assert answer.headers["connection"] == "close" and answer.headers["server"] == "wsgitop"
            assert answer.headers["content-type"].startswith("text/plain") and "date" in answer.headers
            assert answer.body.startswith(b"%d " % status) and answer.body.count(b"\n") == 2
            if way != "at once":
                client.send(BEHIND)  # our side still takes it, and throws it away
            assert client.ended()
        assert w.total(at.REQUESTS) == served + 2
        assert w.word(at.REJECTED) == rejected + 1


@pytest.mark.parametrize(
    ("last", "status"),
    [(b"BAD\r\n\r\n", 400), (b"GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", 200)],
)
def test_what_is_behind_a_response_that_is_slow_to_go_waits_for_it(
    w: WorkerHarness, last: bytes, status: int
) -> None:
    with w.connect() as client:
        client.send(GOOD.replace(b"first", b"big") * 2 + last + b"x" * 200_000)
        for _ in range(2):
            assert client.answer().body == BIG
        assert client.answer().status == status
        assert client.ended()


def test_a_refused_client_that_goes_on_sending_gets_its_answers_and_no_reset(w: WorkerHarness) -> None:
    with w.connect() as client:
        client.send(GOOD + b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 900000\r\n\r\n" + b"x" * 300_000)
        assert client.answer().status == 200
        assert client.answer().status == 413
        assert client.ended()  # our side is closed, and still read
        for _ in range(6):
            client.send(b"x" * 100_000)
        assert client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    wait_until(lambda: w.word(at.CONNECTIONS) == 0)


def test_a_refused_client_cannot_send_for_ever(w: WorkerHarness) -> None:
    with w.connect() as client:
        client.send(b"BAD\r\n\r\n")
        assert client.answer().status == 400
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                client.send(b"x" * 100_000)
    wait_until(lambda: w.word(at.CONNECTIONS) == 0)


def test_100_continue_comes_in_its_turn(w: WorkerHarness) -> None:
    lines = b"POST /%b HTTP/1.%d\r\nHost: t\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n%b\r\n\r\n"
    with w.connect() as client:
        client.send(GOOD + lines % (b"a", 1, b"Content-Length: 2"))
        assert client.answer().body == b"GET /first?q "
        assert client.answer().status == 100
        client.send(b"hi" + lines % (b"b", 1, b"Transfer-Encoding: chunked"))
        assert client.answer().body == b"POST /a? hi"
        assert client.answer().status == 100
        client.send(b"2\r\nhi\r\n0\r\n\r\n")
        assert client.answer().body == b"POST /b? hi"
        # No body is waited for, or it is here, or HTTP/1.0 does not know it: the next answer is the last.
        client.send(lines % (b"c", 1, b"Content-Length: 0"))
        assert client.answer().body == b"POST /c? "
        client.send(lines % (b"d", 1, b"Content-Length: 2") + b"hi")
        assert client.answer().body == b"POST /d? hi"
        client.send(lines % (b"e", 0, b"Content-Length: 2"))
        time.sleep(0.05)  # not for an event: none may come
        client.send(b"hi")
        assert client.answer().body == b"POST /e? hi"
        client.send(lines % (b"f", 1, b"Content-Length: 100001"))
        assert client.answer().status == 413 and client.ended()


def test_head_has_no_body(w: WorkerHarness) -> None:
    with w.connect() as client:
        for line in (
            b"HEAD /a HTTP/1.1\r\nHost: t\r\n",
            b"HEAD /a HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n",
        ):
            client.send(line + b"\r\n" + (b"hi" if b"Length" in line else b"") + GOOD)
            answer = client.answer(head_only=True)
            assert answer.status == 200 and int(answer.headers["content-length"]) >= len("HEAD /a? ")
            assert client.answer().body == b"GET /first?q "


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (417, b"HEAD / HTTP/1.1\r\nHost: t\r\nExpect: x\r\n\r\n"),
        (431, b"HEAD / HTTP/1.1\r\nHost: t\r\nX: " + b"y" * 200 + b"\r\n"),
        (414, b"HEAD /" + b"a" * 100 + b" HTTP/1.1\r\n"),
        (413, b"HEAD / HTTP/1.1\r\nHost: t\r\nContent-Length: 100001\r\n\r\n"),
        (408, b"HEAD / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n"),
        (408, b"HEAD / HTTP/1.1\r\nHost:"),
    ],
)
def test_a_refused_head_has_no_body(w: WorkerHarness, status: int, data: bytes) -> None:
    with w.connect() as client:
        client.send(GOOD + data)
        assert client.answer().status == 200
        answer = client.answer(head_only=True)
        assert answer.status == status and int(answer.headers["content-length"])
        assert client.ended()


def test_deadlines(w: WorkerHarness) -> None:
    """A second each; all clients at once."""
    with (
        w.connect() as silent, w.connect() as head, w.connect() as empty, w.connect() as second,
        w.connect() as body, w.connect() as chunks, w.connect() as patient, w.connect() as behind,
    ):  # fmt: skip
        begun_s = time.monotonic()
        empty.send(b"\r\n")
        second.send(GOOD + b"GET / HT")
        body.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nh")
        chunks.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nh")
        behind.send(POST[:-1] + b"i" + GOOD + b"POST / HTTP/1.1\r\n")
        patient.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\n")
        line = iter(b"GET / HTTP/1.1\r\nX: and it goes on, and on, and on")
        for letter in b"hello":
            # The head drips and is late none the less; the body gets on and is not.
            head.send(bytes([next(line)]))
            patient.send(bytes([letter]))
            time.sleep(0.3)  # the time that passes is what it is about
        assert patient.answer().body == b"POST /? hello"
        assert time.monotonic() - begun_s > 1.4
        assert select.select([head.sock], [], [], 0)[0]  # it was late before it had sent the last byte
        assert second.answer().status == 200
        assert [behind.answer().status for _ in range(2)] == [200, 200]
        for client in (head, empty, second, body, chunks, behind):
            answer = client.answer()
            assert answer.status == 408 and answer.headers["connection"] == "close"
            assert client.ended()
        assert silent.ended()
        assert time.monotonic() - begun_s < 5


def statuses(client: Client, case: Case) -> list[str]:
    """What the client of a case gets until the connection ends, as outcomes."""
    found = []
    methods = [line.partition(" ")[0] for line in case.lines]
    while True:
        head_only = len(found) < len(methods) and methods[len(found)] == "HEAD"
        try:
            answer: Answer = client.answer(head_only=head_only)
        except EOFError:
            assert not client.data, client.data
            return found
        if answer.status == 200:
            found.append("200" if head_only else answer.body.split(b" ", 1)[0].decode())
        elif answer.status != 100:
            found.append(str(answer.status))


def test_every_case_over_a_socket(w: WorkerHarness) -> None:
    wrong = []
    for case in ALL:
        with w.connect() as client:
            client.send(case.data)
            client.sock.shutdown(socket.SHUT_WR)
            expected = [line.partition(" ")[0] for line in case.lines]
            expected = ["200" if word == "HEAD" else word for word in expected]
            found = statuses(client, case)
            if found != expected:
                wrong.append((case.name, found, expected))
    assert not wrong
    assert len(re.findall(r"Refused a request", w.log())) > 300
    wait_until(lambda: w.word(at.CONNECTIONS) == 0)
