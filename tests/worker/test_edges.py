"""What lies at the edges: clients that half close, pipeline or stop, and applications that fork."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.worker import apps
from tests.worker.harness import wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.http.chunked import ChunkedDecoder
from wsgitop.scoreboard import layout as at
from wsgitop.worker.connection import Connection
from wsgitop.worker.handover import Crew
from wsgitop.worker.seat import Seat
from wsgitop.worker.table import Table

pytestmark = pytest.mark.process


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode()


@pytest.mark.parametrize("threads", [1, 2])
def test_all_pipelined_requests_are_answered_to_a_client_that_has_closed_its_side(threads: int) -> None:
    with worker(apps.plain_echo, threads=threads) as w, w.connect() as client:
        client.send(b"".join(request(f"/{n}") for n in range(20)))
        client.sock.shutdown(socket.SHUT_WR)
        assert [client.answer().body for n in range(20)] == [b"GET /%d? " % n for n in range(20)]
        assert client.ended()


def test_what_a_client_pipelines_is_not_read_ahead_of_the_answers() -> None:
    """Else a client could make the worker keep as much as it likes to send."""
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as client:
        client.sock.settimeout(0.5)
        sent = 0
        # A slow request each 60 bytes: with each of them done, at most one more read may be kept.
        one = request("/slow")
        with pytest.raises(TimeoutError):
            while True:
                sent += client.sock.send(one * 1000)
        before = sent
        for _ in range(40):
            entered.pass_through()
            leave.open()
        with pytest.raises(TimeoutError):
            while True:
                sent += client.sock.send(one * 1000)
        assert sent - before < 5 * 32 * 1024


@pytest.mark.parametrize("threads", [1, 2])
def test_a_request_that_came_while_all_threads_were_busy_is_served(threads: int) -> None:
    """Its connection's time to be idle has passed by then, but it was not idle."""
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=threads, keepalive=0.05) as w:
        waiting = w.connect()
        busy = [w.connect() for _ in range(threads)]
        waiting.get("/first")
        for client in busy:
            client.get("/slow")
            entered.pass_through()
        waiting.answer()
        waiting.get("/second")
        time.sleep(0.2)  # not for an event: it is the time that passes
        leave.open(threads)
        assert waiting.answer().body == b"/second"
        for client in (waiting, *busy):
            client.sock.close()


def test_a_pipelined_request_is_not_late_because_the_worker_is() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), keepalive=0.05) as w, w.connect() as first, w.connect() as other:
        first.send(request("/slow") + request("/a") + request("/slow") + request("/b"))
        entered.pass_through()
        other.get("/slow")
        leave.open()
        entered.pass_through()
        time.sleep(0.2)  # not for an event: it is the time that passes
        leave.open()
        entered.pass_through()
        time.sleep(0.2)  # the same
        leave.open()
        assert [first.answer().body for _ in range(4)] == [b"/slow", b"/a", b"/slow", b"/b"]
        assert other.answer().body == b"/slow"


class _BadEnd(list[bytes]):
    def close(self) -> None:
        raise RuntimeError("boom in close")


def test_an_application_that_raises_in_close_does_not_cut_what_is_complete() -> None:
    body = b"z" * 8_000_000

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return _BadEnd([body])

    with worker(app) as w, w.connect() as client:
        client.get("/")
        client._until(b"\r\n\r\n")
        wait_until(lambda: "boom in close" in w.log())
        assert client._exactly(len(body)) == body
        assert w.total(at.ERRORS) == 1


def test_an_application_that_holds_on_to_the_body_costs_nothing_else() -> None:
    kept = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        kept.append(environ["wsgi.input"].getbuffer())
        return apps.text(start_response, b"ok")

    with worker(app) as w, w.connect() as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi")
            assert client.answer().body == b"ok"


def test_a_stream_goes_on_while_the_application_makes_its_next_block() -> None:
    """PEP 3333, "Buffering and Streaming": a block must not wait for the next one."""
    entered, leave = apps.Gate(), apps.Gate()
    block = b"x" * 6_000_000

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield block
        entered.open()
        leave.pass_through()
        yield b"end"

    with worker(app, response_buffer=50_000_000) as w, w.connect() as client:
        client.get("/")
        entered.pass_through()
        client._until(b"\r\n\r\n")
        client._until(b"\r\n")
        assert client._exactly(len(block)) == block
        leave.open()
        assert client._exactly(2) == b"\r\n"


def test_retiring_while_a_thread_without_the_lead_ends_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader closes idle connections: not one that another thread is about to give back."""
    entered, leave = apps.Gate(), apps.Gate()
    set_deadline = Table.set_deadline
    crews: list[Crew] = []
    step_in = Crew.take_or_wait

    def seen_step_in(crew: Crew, seat: Seat) -> bool:
        crews.append(crew)
        return step_in(crew, seat)

    def slow_set_deadline(table: Table, connection: Connection, deadline_s: float) -> None:
        set_deadline(table, connection, deadline_s)
        leader = crews[0].leader
        if leader is not None and leader.ident != threading.get_ident():
            limit_s = time.monotonic() + 2
            while connection.sock.fileno() >= 0 and time.monotonic() < limit_s:
                time.sleep(0.001)

    monkeypatch.setattr(Crew, "take_or_wait", seen_step_in)
    monkeypatch.setattr(Table, "set_deadline", slow_set_deadline)
    with worker(apps.gated(entered, leave), threads=3) as w, w.connect() as client, w.connect() as other:
        for number, slow in enumerate((client, other), 1):
            slow.get("/slow")
            entered.pass_through()
            wait_until(lambda number=number: w.word(at.HANDOVERS) == number)  # type: ignore[misc]
        leave.open()
        answered = select.select([client.sock, other.sock], [], [], 10)[0]
        first, second = (client, other) if client.sock in answered else (other, client)
        assert first.answer().body == b"/slow"
        w.channel.send(m.Retire(5.0))
        assert first.ended()
        wait_until(lambda: w.word(at.CONNECTIONS) == 1, 1)
        leave.open()
        assert second.answer().body == b"/slow"
        assert w.wait_exit() == 0, w.log()


@pytest.mark.every_python
def test_a_fork_of_a_fork_keeps_its_own_files() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        pid = os.fork()
        if pid == 0:
            pipes = [os.pipe() for _ in range(20)]  # take the numbers that have become free
            inner = os.fork()
            if inner == 0:
                status = 0
                for reader, writer in pipes:
                    try:
                        os.write(writer, b"x")
                        os.read(reader, 1)
                    except OSError:
                        status = 1
                os._exit(status)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
        return apps.text(start_response, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    with worker(app) as w:
        assert w.get().body == b"0"


@pytest.mark.parametrize("way", ["/returns", "/exits"])
def test_a_forked_child_that_comes_back_is_not_the_worker(way: str) -> None:
    """It must neither count nor answer nor log the request that the worker has in hand."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        pid = os.fork()
        if pid == 0:
            if environ["PATH_INFO"] == "/exits":
                sys.exit(7)
            return apps.text(start_response, b"child")
        return apps.text(start_response, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    with worker(app, access_log=True, threads=2) as w:
        assert w.get(way).body == (b"7" if way == "/exits" else b"0")
        wait_until(lambda: w.access_log().endswith("\n"))
        assert w.access_log().count("\n") == 1
        assert w.total(at.REQUESTS) == 1
        assert "Internal error" not in w.log()


def test_a_generator_without_end_is_left_where_content_length_says() -> None:
    """PEP 3333: stop iterating when enough data has been sent."""
    closed = apps.Gate()

    def forever() -> Iterator[bytes]:
        while True:
            yield b"four"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        return apps.Closing(forever(), closed)

    with worker(app) as w, w.connect() as client:
        for _ in range(2):
            client.get()
            assert client.answer().body == b"fourfourfo"
            closed.pass_through()
        wait_until(lambda: w.log().count("more than its Content-Length") == 2)


def test_file_wrapper_reads_files_that_do_not_know_their_size() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](Path("/proc/self/status").open("rb"))  # type: ignore[no-any-return]

    with worker(app) as w:
        assert w.get().body.startswith(b"Name:")


def test_headers_that_no_log_can_take_do_not_end_the_watchdog() -> None:
    """Without it nobody would hand over, cut, or hear the master."""
    gate = apps.Gate()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [(1, 2)])  # type: ignore[list-item]
        gate.pass_through()
        return [b""]

    with worker(app, timeout=0.5, access_log=True, access_log_format="%({x}o)s") as w, w.connect() as client:
        client.get()
        assert client.answer().status == 504
        assert w.wait_exit() == 0, w.log()


def test_half_closed_and_silent_clients_cost_no_time() -> None:
    def used() -> int:
        fields = Path(f"/proc/{w.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w:
        clients = [w.connect() for _ in range(10)]
        for n, client in enumerate(clients):
            if n < 2:
                client.get("/slow")
                entered.pass_through()
            elif n < 6:
                client.send(b"GET / HT")
            if n % 2:
                client.sock.shutdown(socket.SHUT_WR)
        before = used()
        time.sleep(1)
        assert used() - before <= 3
        leave.open(2)
        for client in clients:
            client.sock.close()
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)


def test_a_client_that_was_answered_408_and_stays_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsgitop.worker.settlement.LINGER_S", 0.3)
    with worker(apps.plain_echo, header_timeout=0.3) as w, w.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n")
        assert client.answer().status == 408
        wait_until(lambda: w.word(at.CONNECTIONS) == 0, 6)


def test_what_was_pipelined_is_served_by_a_retiring_worker() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as client:
        client.send(request("/slow1") + request("/slow2") + request("/c"))
        entered.pass_through()
        w.channel.send(m.Retire(5.0))
        leave.open()
        entered.pass_through()
        wait_until(lambda: b"retiring" in Path(f"/proc/{w.pid}/cmdline").read_bytes())
        leave.open()
        assert [client.answer().body for _ in range(3)] == [b"/slow1", b"/slow2", b"/c"]
        assert client.ended()
        assert w.wait_exit() == 0


def test_a_head_has_its_own_time_behind_one_that_came_in_pieces() -> None:
    with worker(apps.plain_echo, keepalive=0.4, header_timeout=20) as w, w.connect() as client:
        for pause_s in (0.0, 0.6):
            client.send(b"GET /a HTTP/1.1\r\nHo")
            assert w.get("/other").status == 200  # so it has been read
            time.sleep(pause_s)  # longer than an idle connection is kept
            client.send(b"st: t\r\n\r\n")
            assert client.answer().status == 200


def test_a_deadline_that_passes_while_a_connection_waits_for_its_turn_is_not_forgotten() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with (
        worker(apps.gated(entered, leave), header_timeout=0.3, keepalive=30) as w,
        w.connect() as first, w.connect() as second, w.connect() as late,
    ):  # fmt: skip
        late.send(b"GET / HTTP/1.1\r\nHo")
        for client in (first, second):
            client.get("/")
            assert client.answer().status == 200  # so what came before has been read
        due_s = time.monotonic() + 0.3
        first.get("/slow")
        entered.pass_through()
        second.get("/slow")
        late.send(b"s")  # both are ready at once, and the second goes first
        leave.open()
        entered.pass_through()
        wait_until(lambda: time.monotonic() > due_s)
        leave.open()
        for client in (first, second):
            assert client.answer().status == 200
        answer = late.answer()
        assert answer.status == 408 and late.ended()


def test_tiny_chunks_are_not_read_by_the_hundred_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is served while they are parsed."""
    most = 0
    decode = ChunkedDecoder.decode

    def noted(self: ChunkedDecoder, data: bytes, position: int, write: Any) -> int:
        nonlocal most
        most = max(most, len(data))
        return decode(self, data, position, write)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        return apps.text(start_response, b"%d %d" % (most, len(environ["wsgi.input"].read())))

    monkeypatch.setattr(ChunkedDecoder, "decode", noted)
    with worker(app) as w, w.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        os.kill(w.pid, signal.SIGSTOP)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.sock.setblocking(False)
        body = b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n"
        sent = client.sock.send(body)
        assert sent > 100_000
        os.kill(w.pid, signal.SIGCONT)
        client.sock.settimeout(10)
        client.send(body[sent:])
        at_once, size = map(int, client.answer().body.split())
        assert size == 50_000 and at_once < 20_000
