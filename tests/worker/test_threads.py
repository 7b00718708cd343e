"""Leading, handing over, timing out: several threads, and one."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest

from tests.worker import apps
from tests.worker.harness import Client, WorkerHarness, wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.scoreboard import layout as at
from wsgitop.worker.watchdog import CALM_TICK_S, CALM_TICKS

pytestmark = pytest.mark.process


@pytest.mark.every_python
def test_a_slow_request_does_not_hold_up_a_fast_one() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=4) as w:
        slow = [w.connect() for _ in range(3)]
        for client in slow:
            client.get("/slow")
            entered.pass_through()
        w.wait_busy(3)
        with w.connect() as client:
            for _ in range(50):
                client.get("/fast")
                assert client.answer().body == b"/fast"
        wait_until(lambda: w.word(at.HANDOVERS) >= 3)
        leave.open(3)
        for client in slow:
            assert client.answer().body == b"/slow"
            client.get("/fast")  # the connection is back in the poller
            assert client.answer().body == b"/fast"
            client.sock.close()


def test_a_slow_request_after_a_long_calm_does_not_hold_up_a_fast_one() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w, w.connect() as slow, w.connect() as fast:
        # So many ticks that the watchdog looks less often.
        deadline_s = time.monotonic() + CALM_TICKS * CALM_TICK_S * 2
        while time.monotonic() < deadline_s:
            fast.get("/fast")
            fast.answer()
        before = w.word(at.HANDOVERS)
        slow.get("/slow")
        entered.pass_through()
        fast.get("/fast")
        began_s = time.monotonic()
        assert fast.answer().body == b"/fast"
        assert time.monotonic() - began_s < 0.5  # 2.5 ms by design; it would be for ever
        wait_until(lambda: w.word(at.HANDOVERS) > before)
        leave.open()
        assert slow.answer().body == b"/slow"


def test_all_threads_busy_then_free_again() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w:
        clients = [w.connect() for _ in range(6)]
        for client in clients:
            client.get("/slow")
        for _ in range(3):
            entered.pass_through()
            entered.pass_through()
            leave.open(2)
        assert [client.answer().body for client in clients] == [b"/slow"] * 6
        for client in clients:
            client.sock.close()


def test_pipelined_behind_a_slow_request() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w, w.connect() as client:
        client.send(
            b"".join(b"GET %b HTTP/1.1\r\nHost: t\r\n\r\n" % path for path in (b"/slow", b"/a", b"/b"))
        )
        entered.pass_through()
        assert w.get("/other").body == b"/other"
        leave.open()
        assert [client.answer().body for _ in range(3)] == [b"/slow", b"/a", b"/b"]


def test_the_application_runs_in_the_main_thread_with_one_thread() -> None:
    def app(environ, start_response):  # type: ignore[no-untyped-def]
        here = threading.current_thread() is threading.main_thread()
        return apps.text(start_response, str(here).encode())

    with worker(app) as w:
        assert w.get().body == b"True"


@pytest.mark.every_python
@pytest.mark.parametrize("threads", [1, 3])
def test_timeout_answers_504_tells_the_master_and_ends_the_worker(threads: int) -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=threads, timeout=0.3, access_log=True) as w:
        with w.connect() as stuck:
            stuck.get("/slow?secret")
            answer = stuck.answer()
            assert answer.status == 504 and answer.headers["connection"] == "close"
            assert stuck.ended()
        told = w.message(m.RequestTimeout)
        assert (told.method, told.path, told.answered) == ("GET", "/slow", True)
        assert told.elapsed_s >= 0.3 and "pass_through" in told.stack
        assert "longer than 0.3 s" in w.message(m.Retiring).reason
        assert w.wait_exit() == 0
        assert "Timeout: GET /slow" in w.log() and "in pass_through" in w.log()
        assert '"GET /slow?secret HTTP/1.1" 504' in w.access_log()
        assert w.total(at.ERRORS) == w.total(at.REQUESTS) == 1


def test_timeout_lets_siblings_finish() -> None:
    entered, leave = apps.Gate(), apps.Gate()

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        if environ["PATH_INFO"] == "/stuck":
            stuck.pass_through()
        entered.open()
        leave.pass_through()
        return apps.text(start_response, b"sibling")

    stuck = apps.Gate()
    with worker(app, threads=2, timeout=2, keepalive=0.1) as w, w.connect() as first, w.connect() as second:
        first.get("/stuck")
        wait_until(lambda: w.total(at.STARTED_NS) > 0)
        assert first.sock.recv(0) == b""
        limit = w.word(at.READY_NS)
        assert limit > 0
        # The sibling begins later, so its own time is not up when the stuck one is cut.
        wait_until(lambda: _elapsed_s(w) > 1.2)
        second.get("/sibling")
        entered.pass_through()
        assert first.answer().status == 504
        leave.open()
        answer = second.answer()
        assert answer.body == b"sibling"
        assert w.wait_exit() == 0


def _elapsed_s(w: WorkerHarness) -> float:
    started = [w.thread_word(n, at.STARTED_NS) for n in range(w.settings.threads)]
    return max((time.monotonic_ns() - ns) / 1e9 for ns in started if ns) if any(started) else 0.0


def test_timeout_within_a_stream_cuts_it() -> None:
    stuck = apps.Gate()

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        start_response("200 OK", [])
        yield b"first"
        stuck.pass_through()

    with worker(app, timeout=0.3) as w, w.connect() as client:
        client.get()
        with pytest.raises((EOFError, ConnectionResetError)):
            client.answer()
        assert not w.message(m.RequestTimeout).answered
        assert w.wait_exit() == 0


def test_a_stream_that_makes_progress_is_not_cut() -> None:
    def app(environ, start_response):  # type: ignore[no-untyped-def]
        start_response("200 OK", [])
        for _ in range(6):
            threading.Event().wait(0.15)
            yield b"x"

    with worker(app, timeout=0.5) as w:
        assert w.get().body == b"xxxxxx"


KINDS = ("/fast", "/fast", "/fast", "/sleep", "/spin", "/stream", "/big")


def _hammer(w: WorkerHarness, name: int, errors: list[str], requests: int) -> None:
    generator = random.Random(name)
    client: Client | None = None
    for number in range(requests):
        try:
            if client is None:
                client = w.connect()
                # Else the kernel holds the second part back for 40 ms, until the first one is acknowledged.
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kind = generator.choice(KINDS)
            identity = f"{name}-{number}"
            body = generator.randbytes(generator.choice((0, 5, 3000))).hex().encode()
            fields = f"Host: t\r\nX-Id: {identity}\r\nContent-Length: {len(body)}\r\n"
            data = f"POST {kind} HTTP/1.1\r\n{fields}\r\n".encode() + body
            cut = generator.randrange(1, len(data))
            client.send(data[:cut])
            if generator.random() < 0.05:  # leave within a request
                client.sock.close()
                client = None
                continue
            time.sleep(0.002)  # not for an event: the worker is to find the first part alone
            client.send(data[cut:])
            if generator.random() < 0.05:  # leave before the answer
                client.sock.close()
                client = None
                continue
            answer = client.answer()
            expected = f"{identity} ".encode() + body
            if (
                answer.status != 200
                or not answer.body.startswith(expected)
                or (kind != "/big" and answer.body != expected)
            ):
                errors.append(f"{identity} {kind}: {answer.status} {answer.body[:80]!r}")
        except Exception as error:  # noqa: BLE001 - collected for the main thread
            errors.append(f"{name}-{number}: {error!r}")
            return
    if client is not None:
        client.sock.close()


@pytest.mark.parametrize("threads", [1, 4, 8])
def test_each_answer_belongs_to_its_request(threads: int) -> None:
    errors: list[str] = []
    with worker(apps.identified, threads=threads) as w:
        hammers = [threading.Thread(target=_hammer, args=(w, name, errors, 60)) for name in range(12)]
        for thread in hammers:
            thread.start()
        for thread in hammers:
            thread.join()
        assert errors == []
        # The worker gets its balance right, too: nobody is left inside, and no connection is left over.
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)
        wait_until(lambda: all(w.thread_word(n, at.THREAD_STATE) == at.THREAD_IDLE for n in range(threads)))
        assert "Internal error" not in w.log() and "Traceback" not in w.log()
