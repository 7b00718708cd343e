"""Looking into the workers of a real server, and cutting their requests."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.waiting import eventually
from wsgitop.client import Client
from wsgitop.control.faults import TargetGone
from wsgitop.control.messages import RequestInFlight, StackResult
from wsgitop.errors import ActionFailed

pytestmark = pytest.mark.process

APP = "inspected"


@contextlib.contextmanager
def asking(server: Server, target: str) -> Iterator[http.client.HTTPConnection]:
    """A request that is under way."""
    connection = server.connection(timeout_s=30)
    connection.request("GET", target)
    try:
        yield connection
    finally:
        connection.close()


def in_flight(control: Client, path: str) -> RequestInFlight:
    """The request to this path, once it is served."""

    def look() -> list[RequestInFlight]:
        return [one for one in control.requests().in_flight if one.request.path == path]

    return eventually(look, what=f"a request to {path}")[0]


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(APP, "--workers", "1", "--threads", "2", "--timeout", "30")


def test_a_histogram(server: Server) -> None:
    with server.client() as control:
        worker = control.workers()[0]
        with asking(server, "/wait?0.2") as connection:
            assert connection.getresponse().status == 200

        def counted() -> list[tuple[float, int]]:
            found = control.histogram(worker.pid, worker.started_at)
            return [(bound_ms, count) for bound_ms, count in found.buckets if bound_ms > 190]

        found = eventually(counted, what="the request in the histogram")
        assert sum(count for _, count in found) == 1 and found[0][0] < 400
        with pytest.raises(TargetGone):
            control.histogram(worker.pid, worker.started_at - 5)


def test_a_stack_by_the_watchdog(server: Server) -> None:
    with server.client() as control, asking(server, "/wait?20"):
        one = in_flight(control, "/wait")
        found = control.stack(one.pid, started_at=one.started_at)
        assert (found.slot, found.pid, found.taken_by, found.text) == (one.slot, one.pid, "watchdog", "")
        assert [thread.thread for thread in found.threads] == [0, 1]
        (busy,) = (thread for thread in found.threads if thread.request is not None)
        assert busy.request is not None and busy.request.request == one.request.request
        assert busy.thread == one.request.thread
        assert [(frame.function, frame.code, frame.application) for frame in busy.frames] == [
            ("application", "wait_for(seconds)", True),
            ("wait_for", "time.sleep(seconds)", True),
        ]
        (alone,) = control.stack(one.pid, thread=one.request.thread).threads
        assert alone.frames == busy.frames
        # No other process is meant by the same number.
        for pid, started_at in ((one.pid, one.started_at - 100), (server.pid, 1.0), (1, 1.0)):
            with pytest.raises(TargetGone):
                control.stack(pid, started_at=started_at)
        with pytest.raises(ActionFailed, match="has no thread 2"):
            control.stack(one.pid, thread=2)
        control.cancel(one.pid, one.request.thread)
        assert "stack" not in [event.kind for event in control.events()]
        control.stop(quick=True)


def test_a_worker_whose_interpreter_is_held_is_shown_by_faulthandler(server: Server) -> None:
    def look(_number: int) -> StackResult:
        with server.client() as client:
            return client.stack(pid)

    with server.client() as control, asking(server, "/hold?3"):
        pid = in_flight(control, "/hold").pid
        with ThreadPoolExecutor(3) as pool:
            looks = [pool.submit(look, number) for number in range(3)]
            answered_s = []
            while not all(each.done() for each in looks):
                began_s = time.monotonic()
                control.status()
                answered_s.append(time.monotonic() - began_s)
            found = [each.result() for each in looks]
        assert max(answered_s) < 0.5, "the master waits for nobody"
        # All who asked meanwhile got the same look.
        assert {(each.taken_by, each.threads) for each in found} == {("faulthandler", ())}
        assert len({each.text for each in found}) == 1
        text = found[0].text
        assert text.startswith(("Thread 0x", "Current thread 0x"))
        assert "inspected.py" in text and "in hold" in text and "in application" in text
        (event,) = (event for event in control.events() if event.kind == "stack")
        assert f"pid {pid}" in event.text and event.actor
        assert "in hold" in server.log()
    eventually(lambda: server.get()[0] == 200)


def test_a_request_of_a_held_interpreter_is_cut_later(server: Server) -> None:
    with server.client() as control, asking(server, "/hold?3.5") as connection:
        one = in_flight(control, "/hold")
        with pytest.raises(ActionFailed, match=r"does not answer: the request .* is cut as soon as it does"):
            control.cancel(one.pid, one.request.thread, request=one.request.request)
        # By the time that it is let go the request may be over, or about to answer, or it is cut.
        with contextlib.suppress(http.client.RemoteDisconnected):
            assert connection.getresponse().status in (200, 503)
        eventually(lambda: server.get()[0] == 200)
        assert "cancel" in [event.kind for event in control.events()]


def test_a_worker_that_dies_while_it_is_looked_at(server: Server) -> None:
    with server.client() as control, asking(server, "/hold?20"):
        pid = in_flight(control, "/hold").pid
        timer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        timer.start()
        began_s = time.monotonic()
        with pytest.raises(TargetGone, match="has just ended"):
            control.stack(pid)
        assert time.monotonic() - began_s < 1.0
        timer.join()


def test_a_stopped_worker_is_named_as_such(server: Server) -> None:
    with server.client() as control:
        (worker,) = control.workers()
        control.signal("STOP", pid=worker.pid)
        with pytest.raises(ActionFailed, match="is stopped: it can show nothing") as failure:
            control.stack(worker.pid)
        assert f"ctl signal CONT --worker {worker.pid}" in failure.value.remedy
        control.signal("CONT", pid=worker.pid)
        eventually(lambda: control.stack(worker.pid).taken_by == "watchdog")


def test_a_worker_that_hangs_while_it_loads_the_application(
    start_server: StartServer, tmp_path: Path
) -> None:
    (tmp_path / "hangs.py").write_text("import time\n\ndef stuck():\n    time.sleep(60)\n\nstuck()\n")
    server = start_server("hangs", cwd=tmp_path, wait=False)
    control = eventually(lambda: server.client().__enter__(), what="the control socket")
    try:
        (worker,) = eventually(control.workers, what="a worker")
        assert worker.state == "booting"

        def look() -> StackResult:  # it may not have got that far
            found = control.stack(worker.pid)
            assert "in stuck" in found.text
            return found

        assert eventually(look, 20).taken_by == "faulthandler"
        assert [each.pid for each in control.workers()] == [worker.pid], "the look has not ended it"
        control.stop(quick=True)
    finally:
        control.close()


def test_a_cut_is_told_and_kept(server: Server) -> None:
    with server.client() as control, asking(server, "/wait?20") as connection:
        one = in_flight(control, "/wait")
        with pytest.raises(TargetGone):
            control.cancel(
                one.pid, one.request.thread, request=one.request.request, started_at=one.started_at + 1
            )
        done = control.cancel(one.pid, one.request.thread, request=one.request.request)
        assert (done.end, done.answered, done.workers) == ("disconnected", True, 1)
        assert done.text.startswith(f"GET /wait on thread {one.request.thread} of worker 1 (pid {one.pid})")
        assert "was answered with an error; the thread still runs it" in done.text
        assert 0.9 < done.elapsed_s < 3
        assert connection.getresponse().status == 503
        (event,) = (event for event in control.events() if event.kind == "cancel")
        assert event.text == done.text and event.severity == "warning"
        assert event.actor.endswith(f"(pid {os.getpid()})")
        assert server.get()[0] == 200, "the worker goes on"

        again = control.cancel(one.pid, one.request.thread, request=one.request.request - 1)
        assert (again.end, again.answered) == ("finished", False)
        assert "was over before it could be cut" in again.text

        (slow,) = control.requests().slowest
        assert (slow.method, slow.path, slow.status, slow.cut) == ("GET", "/wait", 503, True)
        assert (slow.slot, slow.pid, slow.generation) == (1, one.pid, 1)
        # It is still known when that worker is gone.
        control.signal("KILL", pid=one.pid)
        eventually(lambda: one.pid not in [worker.pid for worker in control.workers()])
        assert control.requests().slowest == (slow,)


def test_requests_are_shown_oldest_first_and_counted(server: Server) -> None:
    with server.client() as control, asking(server, "/wait?1.5"):
        in_flight(control, "/wait")
        with asking(server, "/wait?0.4") as second:
            eventually(lambda: control.requests().total == 2)
            found = control.requests()
            assert [one.request.elapsed_s for one in found.in_flight] == sorted(
                (one.request.elapsed_s for one in found.in_flight), reverse=True
            )
            assert (len(control.requests(1).in_flight), control.requests(1).total) == (1, 2)
            second.getresponse().read()
        slow = eventually(lambda: len(control.requests().slowest) == 2 and control.requests().slowest)
        assert slow and [one.elapsed_s for one in slow] == pytest.approx([1.5, 0.4], abs=0.4)
        assert len(control.requests(1).slowest) == 1
