"""Holes that other servers had in the life of connections, not in the bytes; those are in tests/http/cves."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.worker import apps
from tests.worker.harness import Client, WorkerHarness, wait_until, worker
from wsgitop.scoreboard import layout as at

pytestmark = pytest.mark.process


def reset(client: Client) -> None:
    """End a connection by a reset."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


def descriptors(w: WorkerHarness) -> int:
    return len(list(Path(f"/proc/{w.pid}/fd").iterdir()))


def cpu_ticks(w: WorkerHarness) -> int:
    fields = Path(f"/proc/{w.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# CVE-2019-16770, CVE-2021-29509 (puma): more clients that keep their connections busy than there are threads,
# and nobody else was served; first connections that had been accepted, then those that waited for it.


@contextlib.contextmanager
def greedy(w: WorkerHarness, count: int) -> Iterator[list[int]]:
    """So many clients that always have one more request on its way than they have read answers. The list says
    how many each of them has got.
    """
    answers = [0] * count
    stop = threading.Event()

    def run(number: int) -> None:
        with w.connect() as client:
            client.get("/greedy")
            while not stop.is_set():
                client.get("/greedy")
                client.answer()
                answers[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize("threads", [1, 2])
def test_cve_2019_16770_and_2021_29509_busy_connections_starve_nobody(threads: int) -> None:
    with worker(apps.plain_echo, threads=threads, keepalive=30) as w, w.connect(5) as idle:
        idle.get("/before")
        assert idle.answer().status == 200
        with greedy(w, threads * 3) as answers:
            wait_until(lambda: min(answers) > 10)
            for n in range(10):
                before = sum(answers)
                idle.get(f"/{n}")
                assert idle.answer().body == b"GET /%d? " % n
                with w.connect(5) as new:
                    new.get(f"/new/{n}")
                    assert new.answer().body == b"GET /new/%d? " % n
                wait_until(lambda before=before: sum(answers) > before)  # type: ignore[misc]
            least = min(answers)
            wait_until(lambda: min(answers) > least + 20)  # nor do they starve each other


def test_cve_2019_16770_what_one_client_has_sent_ahead_does_not_go_before_others() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    served = itertools.count()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            entered.open()
            leave.pass_through()
        return apps.text(start_response, b"%d" % next(served))

    with worker(app) as w, w.connect() as greedy_one, w.connect() as other:
        one = b"GET /%b HTTP/1.1\r\nHost: t\r\n\r\n"
        greedy_one.send(one % b"wait" + one % b"next" * 700)
        entered.pass_through()
        other.get("/other")
        leave.open()
        assert int(other.answer().body) < 10
        assert [int(greedy_one.answer().body) for _ in range(701)][-1] == 701


# CVE-2022-31015 (waitress): a thread of the application closed the socket of a client that had gone, while
# the main thread was about to poll it; the process ended.


def test_cve_2022_31015_clients_that_leave_a_thread_that_writes_do_not_end_the_worker() -> None:
    closed = apps.Gate()
    with worker(apps.endless(closed), threads=3, response_buffer=50_000) as w:
        before = descriptors(w)
        for n in range(60):
            client = w.connect()
            client.get("/stream")
            client._exactly(1 + n * 1000)
            if n % 3 == 0:
                client.sock.close()
            else:
                reset(client)
            assert w.get("/fast").body == b"fast"
            closed.pass_through()
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)
        assert descriptors(w) == before
        assert w.total(at.ERRORS) == 0 and "Internal error" not in w.log()


# CVE-2024-49768 (waitress): a request that was refused, exactly as long as one read, and the next one was
# read and served while the refusal was sent.


def refused_head(size: int) -> bytes:
    return (b"BREW / HTTP/1.1\r\n" + b"X: y\r\n" * size)[: size - 4] + b"\r\n\r\n"


def refused_body(size: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    left = size - len(head) - len(b"00000\r\n") - len(b"oops")
    return head + b"%05x\r\n" % left + b"x" * left + b"oops"


@pytest.mark.parametrize("refused", [refused_head, refused_body])
def test_cve_2024_49768_nothing_behind_a_refusal_is_served(refused: Callable[[int], bytes]) -> None:
    admin = b"GET /admin HTTP/1.1\r\nHost: t\r\n\r\n"
    with worker(apps.plain_echo, limit_request_fields=32768) as w:
        # Whatever the size of a read is, it is a power of two.
        for size in (1 << n for n in range(10, 20)):
            first = refused(size)
            assert len(first) == size
            with w.connect() as client, w.connect() as other:
                for sock in (client, other):
                    sock.send(first)
                    sock.send(admin)
                for sock in (client, other):
                    assert sock.answer().status in (400, 501)
                    sock.send(admin)
                    assert sock.ended()
        assert w.total(at.REQUESTS) == 0


# CVE-2024-49769 (waitress): a client that was gone before the server looked left a socket behind for ever,
# and a loop that tried to write to it.


def test_cve_2024_49769_clients_that_are_gone_before_they_are_accepted_cost_nothing() -> None:
    with worker(apps.plain_echo) as w:
        w.get()
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)
        before = descriptors(w)
        for send in (False, True):
            os.kill(w.pid, signal.SIGSTOP)
            try:
                for n in range(100):
                    client = w.connect()
                    if send:
                        client.get()
                    if n % 4:
                        reset(client)
                    else:
                        client.sock.close()
            finally:
                os.kill(w.pid, signal.SIGCONT)
            assert w.get().status == 200
            wait_until(lambda: w.word(at.CONNECTIONS) == 0)
        assert descriptors(w) == before
        ticks = cpu_ticks(w)
        time.sleep(0.3)  # not for an event: nothing may go on
        assert cpu_ticks(w) - ticks <= 1
        assert "Internal error" not in w.log()
