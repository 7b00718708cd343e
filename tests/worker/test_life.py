"""Booting, retiring, ending."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker import apps
from tests.worker.harness import WorkerHarness, wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.channel.channel import ChannelClosed
from wsgitop.scoreboard import layout as at
from wsgitop.worker.acceptor import BATCH

pytestmark = pytest.mark.process


def test_boot_and_titles() -> None:
    with worker(apps.plain_echo, wsgi_app="site.wsgi:app") as w:
        title = Path(f"/proc/{w.pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()
        assert title == "wsgitop: worker 1 gen 1 [site.wsgi]"
        assert f"[{w.pid}] [INFO] Booting worker with pid: {w.pid}" in w.log()


@pytest.mark.parametrize(
    ("spec", "status", "error"),
    [
        ("no_such_module_anywhere:app", 4, "No module named 'no_such_module_anywhere'"),
        ("tests.apps.broken_import:application", 4, "a_module_that_nobody_has_installed"),
        ("tests.apps.not_callable:application", 4, "is not callable"),
    ],
)
def test_boot_failures(spec: str, status: int, error: str) -> None:
    with WorkerHarness(None, wsgi_app=spec) as w:
        failed = w.message(m.BootFailed)
        assert error in failed.error and failed.import_error
        assert w.wait_exit() == status
        assert error not in w.log(), "the master says it, once"


def test_bad_access_log_format_is_no_import_error() -> None:
    with WorkerHarness(apps.plain_echo, access_log=True, access_log_format="%(nonsense)s") as w:
        failed = w.message(m.BootFailed)
        assert "nonsense" in failed.error and not failed.import_error
        assert w.wait_exit() == 3


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("how", ["message", "SIGTERM", "channel"])
def test_retiring_completes_what_is_in_flight(threads: int, how: str) -> None:
    entered, leave = apps.Gate(), apps.Gate()
    # A worker that leaves by itself keeps idle connections for so long.
    keepalive = 0.3 if how == "SIGTERM" else 20
    with worker(apps.gated(entered, leave), threads=threads, keepalive=keepalive) as w:
        with w.connect() as busy, w.connect() as idle:
            idle.get("/idle")
            idle.answer()
            busy.get("/slow")
            entered.pass_through()
            if how == "message":
                w.channel.send(m.Retire(10))
            elif how == "SIGTERM":
                os.kill(w.pid, signal.SIGTERM)
                assert "SIGTERM" in w.message(m.Retiring).reason
            else:
                w.channel.close()
            if threads > 1:
                assert idle.ended()
            leave.open()
            answer = busy.answer()
            assert answer.body == b"/slow"
            assert busy.ended() and idle.ended()
        assert w.wait_exit() == 0
        if how != "channel":
            assert f"Worker exiting (pid: {w.pid})" in w.log()


def test_a_request_that_was_sent_before_retiring_is_answered() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as busy, w.connect() as other:
        other.get("/before")
        other.answer()
        busy.get("/slow")
        entered.pass_through()
        other.get("/sent")  # nobody reads it yet: the only thread is in /slow
        w.channel.send(m.Retire(10))
        wait_until(lambda: b"retiring" in Path(f"/proc/{w.pid}/cmdline").read_bytes())
        leave.open()
        assert busy.answer().body == b"/slow"
        answer = other.answer()
        assert answer.body == b"/sent" and answer.headers["connection"] == "close"
        assert w.wait_exit() == 0


@pytest.mark.parametrize(
    ("how", "left"),
    [
        (
            m.Retire(10, 0.0, pass_on=True),
            100 - BATCH,
        ),  # it may be this worker alone that was woken for those
        (signal.SIGTERM, 100 - BATCH),
        (m.Retire(10, last=True), 0),  # the server stops: nobody else will accept
    ],
    ids=["replaced", "SIGTERM", "stops"],
)
def test_without_keep_alive_a_worker_that_retires_leaves_who_waits_to_others(how: Any, left: int) -> None:
    """It closes idle connections at once, but that the server stops is known by more than that."""
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), keepalive=0) as w, w.connect() as busy:
        busy.get("/slow")
        entered.pass_through()
        waiting = [w.connect() for _ in range(100)]  # the only thread is in /slow
        for client in waiting:
            client.get("/waits")
        if isinstance(how, m.Message):
            w.channel.send(how)
        else:
            os.kill(w.pid, how)
        wait_until(lambda: b"retiring" in Path(f"/proc/{w.pid}/cmdline").read_bytes())
        leave.open()
        assert busy.answer().body == b"/slow"
        for client in waiting[: 100 - left]:
            assert client.answer().body == b"/waits"
            client.sock.close()
        assert w.wait_exit() == 0
        found = 0
        w.listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                w.listener.accept()[0].close()
                found += 1
        assert found == left
        for client in waiting[100 - left :]:
            client.sock.close()


def test_an_idle_connection_outlives_the_order_to_retire() -> None:
    with worker(apps.plain_echo, keepalive=20) as w, w.connect() as idle, w.connect() as quiet:
        idle.get("/before")
        assert "connection" not in idle.answer().headers
        w.channel.send(m.Retire(20, 20))
        wait_until(lambda: b"retiring" in Path(f"/proc/{w.pid}/cmdline").read_bytes())
        wait_until(lambda: w.word(at.READY_NS) == 0)
        idle.get("/behind")
        answer = idle.answer()
        assert answer.status == 200 and answer.headers["connection"] == "close"
        assert idle.ended()
        quiet.sock.close()
        assert w.wait_exit() == 0


def test_an_idle_connection_of_a_retiring_worker_ends_when_the_server_stops() -> None:
    with worker(apps.plain_echo, keepalive=30) as w, w.connect() as client:
        client.get("/")
        assert client.answer().status == 200
        w.channel.send(m.Retire(30, 30))
        wait_until(lambda: w.word(at.READY_NS) == 0)
        w.channel.send(m.Retire(30, 0))
        assert client.ended()
        assert w.wait_exit() == 0


def test_an_idle_connection_of_a_retiring_worker_ends_in_time() -> None:
    with worker(apps.plain_echo, keepalive=20) as w, w.connect() as idle:
        idle.get("/before")
        idle.answer()
        w.channel.send(m.Retire(20, 0.0))
        assert idle.ended()
        assert w.wait_exit() == 0


def test_who_waits_to_be_accepted_when_the_server_stops_is_answered() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), keepalive=1) as w, w.connect() as busy:
        busy.get("/slow")
        entered.pass_through()
        waiting = [w.connect() for _ in range(150)]  # more than are accepted at a time
        for client in waiting:
            client.get("/waits")
        w.channel.send(m.Retire(20, last=True))
        leave.open()
        assert busy.answer().body == b"/slow"
        assert {client.answer().body for client in waiting} == {b"/waits"}
        for client in waiting:
            client.sock.close()
        assert w.wait_exit() == 0


def test_a_worker_in_quarantine_accepts_nothing_and_finishes_what_it_has() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2, timeout=0.5, keepalive=20) as w, w.connect() as busy:
        busy.get("/slow")
        entered.pass_through()
        w.channel.send(m.Quarantine(True))
        wait_until(lambda: w.word(at.READY_NS) == 0)
        with w.connect() as waits:
            waits.get("/new")
            # Who is looked at may take as long as it takes: nothing is cut behind --timeout.
            time.sleep(0.8)
            assert not select.select([waits.sock], [], [], 0)[0]
            leave.open()
            assert busy.answer().body == b"/slow"
            busy.get("/again")  # there is no other worker that could take the connection over
            assert busy.answer().body == b"/again"
            w.channel.send(m.Quarantine(False))
            assert waits.answer().body == b"/new"
            assert w.word(at.READY_NS) > 0
        w.channel.send(m.Quarantine(True))
        wait_until(lambda: w.word(at.READY_NS) == 0)
        w.channel.send(m.Retire(5, 0.0))
        assert w.wait_exit() == 0


def test_graceful_time_is_bounded() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as busy:
        busy.get("/slow")
        entered.pass_through()
        w.channel.send(m.Retire(0.3))
        assert w.wait_exit() == 0
        assert busy.ended()
        assert "Cut off by the end of the worker: GET /slow" in w.log()


@pytest.mark.every_python
@pytest.mark.parametrize("how", ["message", "SIGINT", "SIGQUIT"])
def test_quick_end(how: str) -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as busy:
        busy.get("/slow")
        entered.pass_through()
        if how == "message":
            w.channel.send(m.Quit())
        else:
            os.kill(w.pid, getattr(signal, how))
        assert w.wait_exit() == 0
        assert busy.ended()


def test_signals_for_the_master_are_ignored_and_logged() -> None:
    with worker(apps.plain_echo) as w:
        for name in ("SIGHUP", "SIGUSR2", "SIGTTIN", "SIGTTOU"):
            os.kill(w.pid, getattr(signal, name))
            wait_until(lambda name=name: f"{name} ignored" in w.log())  # type: ignore[misc]
        for name in ("SIGUSR1", "SIGWINCH"):
            os.kill(w.pid, getattr(signal, name))
        assert w.get().status == 200


@pytest.mark.every_python
def test_abort_leaves_a_traceback() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as busy:
        busy.get("/slow")
        entered.pass_through()
        os.kill(w.pid, signal.SIGABRT)
        assert w.wait_exit() == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in w.log() and " in app\n" in w.log()


def test_reopened_access_log(tmp_path: Path) -> None:
    with worker(apps.plain_echo, access_log=True) as w:
        w.get("/one")
        wait_until(lambda: "/one" in w.access_log())
        other = tmp_path / "log"
        fd = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        w.channel.send(m.Reopen(), [fd])
        os.close(fd)

        def written() -> bool:
            w.get("/two")
            return "/two" in other.read_text()

        wait_until(written)
        assert "/one" not in other.read_text()


def test_forks_of_the_application_let_go_of_everything() -> None:
    """A child that lives on holds no listener, channel or connection: all of them end with the worker."""
    lives, leave = apps.Gate(), apps.Gate()

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        pid = os.fork()
        if pid == 0:
            lives.open()
            leave.pass_through()
            os._exit(0)
        return apps.text(start_response, str(pid).encode())

    with worker(app) as w, w.connect() as client:
        client.get()
        child = int(client.answer().body)
        lives.pass_through()
        try:
            os.kill(child, 0)
            os.kill(w.pid, signal.SIGKILL)
            w.wait_exit()
            assert client.ended()
            with pytest.raises(ChannelClosed):
                w.message(m.Retiring)
            listening = f":{w.address[1]:04X} 00000000:0000 0A"
            w.listener.close()
            assert listening not in Path("/proc/net/tcp").read_text()
        finally:
            leave.open()


def test_a_signal_to_a_fork_of_the_application_does_not_reach_the_worker() -> None:
    lives = apps.Gate()

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        pid = os.fork()
        if pid == 0:
            lives.open()
            signal.pause()
            os._exit(0)
        lives.pass_through()
        os.kill(pid, signal.SIGTERM)
        status = os.waitpid(pid, 0)[1]
        return apps.text(start_response, str(os.waitstatus_to_exitcode(status)).encode())

    with worker(app) as w:
        assert w.get().body == b"-15"
        assert w.get().status == 200
        assert w.word(at.PID) == w.pid and "retir" not in w.log()


def test_an_application_that_replaces_handlers_gets_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taker.py").write_text(
        "import signal\nsignal.signal(signal.SIGTERM, lambda *a: None)\n"
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with worker(None, wsgi_app="taker") as w:
        assert "replaced the handlers of SIGTERM" in w.log()
        os.kill(w.pid, signal.SIGTERM)
        assert w.wait_exit() == 0
