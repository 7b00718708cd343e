"""Cutting one chosen request: what becomes of it, of its thread and its worker, and that no other is hit."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.worker import apps
from tests.worker.harness import Client, WorkerHarness, wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.scoreboard import layout as at
from wsgitop.worker import cutting

pytestmark = pytest.mark.process


def serving(w: WorkerHarness, thread: int) -> int:
    """Which request a thread has in hand; waits until it has one."""
    wait_until(lambda: w.thread_word(thread, at.STARTED_NS) > 0)
    return w.thread_word(thread, at.STARTED_NS)


def thread_of(w: WorkerHarness, path: bytes) -> int:
    """The thread that serves this path; waits until one does."""
    found: list[int] = []

    def look() -> bool:
        for thread in range(w.settings.threads):
            text = w.text(thread)
            if text is not None and text.path == path and w.thread_word(thread, at.STARTED_NS):
                found.append(thread)
        return bool(found)

    wait_until(look)
    return found[0]


def cancel(w: WorkerHarness, thread: int, request: int, inquiry: int = 1) -> m.RequestCancelled:
    w.channel.send(m.CancelRequest(inquiry, thread, request))
    answer = w.message(m.RequestCancelled)
    assert isinstance(answer, m.RequestCancelled)
    assert answer.inquiry == inquiry
    return answer


@pytest.mark.every_python
@pytest.mark.parametrize("threads", [1, 4])
def test_a_request_that_runs_on_is_answered_503_and_its_thread_comes_back(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "GRACE_S", 0.1)
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=threads, access_log=True) as w:
        for _ in range(3):  # again and again: the place is as good as before
            with w.connect() as client:
                client.get("/slow?secret")
                entered.pass_through()
                thread = thread_of(w, b"/slow")
                before = w.total(at.REQUESTS), w.total(at.ERRORS)
                answer = cancel(w, thread, serving(w, thread))
                assert (answer.end, answer.cut, answer.answered) == ("disconnected", True, True)
                assert (answer.method, answer.path) == ("GET", "/slow")
                assert 0 < answer.elapsed_ns < 10_000_000_000
                response = client.answer()
                assert response.status == 503 and b"cancelled" in response.body
                assert client.ended()
                leave.open()
                wait_until(lambda thread=thread: w.thread_word(thread, at.STARTED_NS) == 0)  # type: ignore[misc]
                assert (w.total(at.REQUESTS), w.total(at.ERRORS)) == (before[0] + 1, before[1] + 1)
            slow = [w.connect() for _ in range(threads)]
            for client in slow:
                client.get("/slow")
                entered.pass_through()
            w.wait_busy(threads)  # no thread is missing
            leave.open(threads)
            for client in slow:
                assert client.answer().body == b"/slow"
                client.sock.close()
            # What has been answered may not have come to its end yet, and could still be cut.
            wait_until(lambda: w.total(at.STARTED_NS) == 0)
        wait_until(lambda: w.access_log().count(" 503 ") == 3)
        wait_until(lambda: w.access_log().count(" 200 ") == 3 * threads)
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)
        assert "Internal error" not in w.log()


def test_it_has_raised_when_the_application_comes_back_in_time() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w, w.connect() as client:
        client.get("/slow")
        entered.pass_through()
        thread = thread_of(w, b"/slow")
        request = serving(w, thread)
        began_s = time.monotonic()
        w.channel.send(m.CancelRequest(7, thread, request))
        assert client.answer().status == 503
        leave.open()
        answer = w.message(m.RequestCancelled)
        assert (answer.inquiry, answer.end, answer.answered) == (7, "raised", True)
        assert time.monotonic() - began_s < cutting.GRACE_S
        # It is over now, and the thread has nothing else in hand.
        assert cancel(w, thread, request) == m.RequestCancelled(1, "finished")
        assert w.get("/fast").body == b"/fast"


def test_an_application_that_fails_by_itself_behind_the_cut_has_finished() -> None:
    entered, leave = apps.Gate(), apps.Gate()

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> list[bytes]:
        entered.open()
        leave.pass_through()
        raise LookupError("of its own")

    with worker(app) as w, w.connect() as client:
        client.get("/slow")
        entered.pass_through()
        w.channel.send(m.CancelRequest(1, 0, serving(w, 0)))
        assert client.answer().status == 503
        leave.open()
        answer = w.message(m.RequestCancelled)
        assert (answer.end, answer.cut, answer.answered) == ("finished", True, True)


def test_what_nobody_serves_is_over() -> None:
    with worker(apps.plain_echo, threads=2) as w:
        w.get("/")
        for thread, request in ((0, 0), (0, 5), (1, 1), (7, 0), (70_000, 9)):
            assert cancel(w, thread, request) == m.RequestCancelled(1, "finished")
        assert w.get("/").status == 200


def test_who_asks_twice_gets_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "GRACE_S", 0.2)
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w, w.connect() as client:
        client.get("/slow")
        entered.pass_through()
        thread = thread_of(w, b"/slow")
        request = serving(w, thread)
        for inquiry in (1, 2):
            w.channel.send(m.CancelRequest(inquiry, thread, request))
        answers = [w.message(m.RequestCancelled) for _ in range(2)]
        assert [answer.inquiry for answer in answers] == [1, 2]
        assert {(answer.end, answer.answered) for answer in answers} == {("disconnected", True)}
        assert cancel(w, thread, request, 3).end == "disconnected"  # and later, while it still runs
        leave.open()
        assert (w.total(at.REQUESTS), w.total(at.ERRORS)) == (1, 1)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_slow_reader_is_cut_off(threads: int) -> None:
    closed = apps.Gate()
    with worker(apps.endless(closed), threads=threads) as w, w.connect() as client:
        client.get("/endless")
        wait_until(
            lambda: any(w.thread_word(t, at.THREAD_STATE) == at.THREAD_WRITING for t in range(threads))
        )
        thread = thread_of(w, b"/endless")
        answer = cancel(w, thread, serving(w, thread))
        assert (answer.end, answer.cut, answer.answered) == ("raised", True, False)
        closed.pass_through()  # the iterable was closed
        with contextlib.suppress(ConnectionResetError):
            assert b"200 OK" in client.rest()
        assert w.get("/fast").body == b"fast"
        wait_until(lambda: (w.total(at.REQUESTS), w.total(at.ERRORS)) == (2, 1))
        wait_until(lambda: w.word(at.CONNECTIONS) <= 1)


def test_pipelined_requests_behind_it_are_not_served() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w, w.connect() as client:
        client.send(
            b"".join(b"GET %b HTTP/1.1\r\nHost: t\r\n\r\n" % path for path in (b"/slow", b"/a", b"/b"))
        )
        entered.pass_through()
        thread = thread_of(w, b"/slow")
        w.channel.send(m.CancelRequest(1, thread, serving(w, thread)))
        assert client.answer().status == 503
        leave.open()
        assert client.ended()
        assert w.message(m.RequestCancelled).end == "raised"
        assert w.total(at.REQUESTS) == w.total(at.ERRORS) == 1


def test_a_head_request_is_answered_without_a_body() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as client:
        client.get("/slow", method="HEAD")
        entered.pass_through()
        w.channel.send(m.CancelRequest(1, 0, serving(w, 0)))
        assert client.answer(head_only=True).status == 503
        assert client.ended()
        leave.open()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_thread_that_does_not_come_back_costs_its_worker(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "GRACE_S", 0.05)
    monkeypatch.setattr(cutting, "BACK_S", 0.3)
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=threads, keepalive=0.1) as w, w.connect() as client:
        client.get("/slow")
        entered.pass_through()
        thread = thread_of(w, b"/slow")
        assert cancel(w, thread, serving(w, thread)).end == "disconnected"
        if threads > 1:
            assert w.get("/fast").body == b"/fast"
        told = w.message(m.Retiring)
        assert told.reason == (
            f"thread {thread} has not come back within 0.3 s since GET /slow was cancelled"
        )
        assert w.wait_exit() == 0


def test_a_worker_in_quarantine_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "GRACE_S", 0.05)
    monkeypatch.setattr(cutting, "BACK_S", 0.2)
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2, keepalive=0.1) as w, w.connect() as client:
        client.get("/slow")
        entered.pass_through()
        thread = thread_of(w, b"/slow")
        w.channel.send(m.Quarantine(True))
        assert cancel(w, thread, serving(w, thread)).end == "disconnected"
        with pytest.raises(TimeoutError):
            w.message(m.Retiring, 0.6)
        w.channel.send(m.Quarantine(False))
        assert "has not come back" in w.message(m.Retiring).reason


def test_a_timeout_behind_a_cancel_counts_once() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2, timeout=0.5) as w, w.connect() as client:
        client.get("/slow")
        entered.pass_through()
        thread = thread_of(w, b"/slow")
        assert cancel(w, thread, serving(w, thread)).end == "disconnected"  # a second later
        assert (w.total(at.REQUESTS), w.total(at.ERRORS)) == (1, 1)
        assert "Timeout" not in w.log()
        leave.open()
        assert w.get("/fast").body == b"/fast"


def test_a_cancel_behind_a_timeout_says_what_the_timeout_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "GRACE_S", 0.1)
    entered, leave = apps.Gate(), apps.Gate()
    with (
        worker(apps.gated(entered, leave), threads=2, timeout=0.3, keepalive=20) as w,
        w.connect() as idle,
        w.connect() as client,
    ):
        idle.get("/idle")  # keeps the worker that retires from ending
        idle.answer()
        client.get("/slow")
        entered.pass_through()
        thread = thread_of(w, b"/slow")
        request = serving(w, thread)
        w.message(m.RequestTimeout)
        answer = cancel(w, thread, request)
        assert (answer.end, answer.cut, answer.answered) == ("disconnected", True, True)
        assert w.total(at.REQUESTS) == 2
        leave.open()


# -- races ---------------------------------------------------------------------------------------------------


def numbered(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answers with its path; some take a moment, so that the lead changes hands now and then."""
    path = environ["PATH_INFO"]
    number = int(path.rpartition("/")[2])
    if not number % 7:
        time.sleep(0.001)
    elif not number % 3:
        limit_s = time.perf_counter() + 0.0002
        while time.perf_counter() < limit_s:
            pass
    return apps.text(start_response, path.encode())


class Visitor(threading.Thread):
    """Asks for one number after the other on a connection that is kept, and notes which were not answered."""

    def __init__(self, w: WorkerHarness, name: str, end: threading.Event) -> None:
        super().__init__()
        self._worker = w
        self._visitor = name
        self._end = end
        self.asked = 0
        self.answered_503: set[str] = set()
        self.cut: set[str] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        client: Client | None = None
        while not self._end.is_set():
            client = client or self._worker.connect()
            self.asked += 1
            path = f"/{self._visitor}/{self.asked}"
            try:
                client.get(path)
                answer = client.answer()
            except (EOFError, ConnectionError):
                self.cut.add(path)
            else:
                if answer.status == 200:
                    if answer.body != path.encode():
                        self.wrong.append(f"{path}: {answer.body!r}")
                    if answer.headers.get("connection") != "close":
                        continue
                elif answer.status == 503:
                    self.answered_503.add(path)
                else:
                    self.wrong.append(f"{path}: {answer.status}")
            client.sock.close()
            client = None
        if client is not None:
            client.sock.close()


def in_flight(w: WorkerHarness, threads: Iterator[int]) -> tuple[int, int, str]:
    """A request in flight: its thread, which one it is, its path."""
    while True:
        thread = next(threads)
        request = w.thread_word(thread, at.STARTED_NS)
        text = w.text(thread)
        # It is this one's text if it still runs now that the text was read.
        if request and text is not None and w.thread_word(thread, at.STARTED_NS) == request:
            return thread, request, text.path.decode()


def race(threads: int, trials: int) -> None:
    """Cancel what is in flight, or was."""
    end = threading.Event()
    answers: list[tuple[str, m.RequestCancelled]] = []
    with worker(numbered, threads=threads) as w:
        visitors = [Visitor(w, name, end) for name in ("a", "b", "c")]
        for visitor in visitors:
            visitor.start()
        try:
            turns = itertools.cycle(range(threads))
            for inquiry in range(trials):
                thread, request, path = in_flight(w, turns)
                if not inquiry % 3:  # by then the thread serves another one
                    wait_until(lambda t=thread, r=request: w.thread_word(t, at.STARTED_NS) not in (0, r))  # type: ignore[misc]
                w.channel.send(m.CancelRequest(inquiry, thread, request))
                answers.append((path, w.message(m.RequestCancelled)))
        finally:
            end.set()
            for visitor in visitors:
                visitor.join(20)
        meant = {path for path, answer in answers if answer.cut}
        answered = {path for path, answer in answers if answer.answered}
        assert all(answer.end == "finished" for _, answer in answers if not answer.cut)
        assert all(answer.path == path for path, answer in answers if answer.cut)
        assert not any(visitor.wrong for visitor in visitors)
        # Who was cut is who was meant, and nobody else; who was said to be answered was.
        assert {path for visitor in visitors for path in visitor.answered_503} == answered
        # The end of a connection is met by the request that was cut or, if all of its answer had come before,
        # by the next one, which was never served then.
        lost = {path for visitor in visitors for path in visitor.cut}
        unserved = {path for path in lost - meant if before(path) in meant - answered}
        assert lost - meant == unserved
        asked = sum(visitor.asked for visitor in visitors)
        wait_until(lambda: w.total(at.REQUESTS) == asked - len(unserved))
        assert w.total(at.ERRORS) == len(meant)
        assert not any(answer.cut for _, answer in answers[::3])
        assert len(meant) > trials / 10
        # Nothing is lost: all connections are closed, and somebody leads.
        assert w.get("/a/1").status == 200
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)
        assert "Internal error" not in w.log()


def before(path: str) -> str:
    visitor, _, number = path.rpartition("/")
    return f"{visitor}/{int(number) - 1}"


@pytest.mark.parametrize("threads", [1, 4])
def test_no_request_but_the_one_that_is_meant_is_cut(threads: int) -> None:
    race(threads, 500)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 4])
def test_no_request_but_the_one_that_is_meant_is_cut_in_many_trials(threads: int) -> None:
    race(threads, 1500)
