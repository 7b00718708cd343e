"""A worker in quarantine, and back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.worker import apps
from tests.worker.harness import WorkerHarness, wait_until, worker
from tests.worker.test_migration import siblings, who
from wsgitop.channel import messages as m
from wsgitop.scoreboard import layout as at

pytestmark = pytest.mark.process


def title(w: WorkerHarness) -> str:
    return Path(f"/proc/{w.pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()


def quarantine(w: WorkerHarness) -> None:
    w.channel.send(m.Quarantine(True))
    wait_until(lambda: w.word(at.READY_NS) == 0)


def release(w: WorkerHarness) -> None:
    w.channel.send(m.Quarantine(False))
    w.ready()
    wait_until(lambda: w.word(at.READY_NS) != 0)


@pytest.mark.every_python
@pytest.mark.parametrize("threads", [1, 2])
def test_it_passes_on_what_is_idle_finishes_what_it_has_and_lives_on(threads: int) -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), threads=threads, keepalive=30) as (first, later):
        first.ready()
        idle, busy = first.connect(), first.connect()
        for client in (idle, busy):
            client.get("/")
            assert int(client.answer().body) == first.pid
        second = later.start()
        busy.get("/slow")
        entered.pass_through()
        first.channel.send(m.Quarantine(True))
        if threads > 1:
            # A request that comes before it has been passed on is served here, and rightly so.
            wait_until(lambda: first.word(at.MIGRATED_OUT) >= 1)
        idle.get("/")
        assert int(idle.answer().body) == second.pid, "with the connection kept"
        leave.open()
        assert int(busy.answer().body) == first.pid
        busy.get("/")
        assert int(busy.answer().body) == second.pid
        wait_until(lambda: first.word(at.READY_NS) == first.word(at.CONNECTIONS) == 0)
        for _ in range(6):
            assert int(second.get("/").body) == second.pid, "it accepts no more"
        assert title(first).endswith("quarantined")
        release(first)
        quarantine(second)
        assert int(second.get("/").body) == first.pid
        for client in (idle, busy):  # which have moved back
            client.get("/")
            assert int(client.answer().body) == first.pid
            client.sock.close()
        assert not title(first).endswith("quarantined")


def test_again_and_again() -> None:
    with worker(apps.plain_echo) as w:
        for _ in range(5):
            quarantine(w)
            release(w)
            assert w.get("/x").status == 200
        # Nobody is there to accept: who connects waits for its return.
        quarantine(w)
        with w.connect() as client:
            client.get("/waits")
            client.sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                client.answer()
            client.sock.settimeout(10)
            w.channel.send(m.Quarantine(False))
            assert client.answer().body.startswith(b"GET /waits")


def test_hasty_changes_leave_a_worker_that_serves() -> None:
    with worker(apps.plain_echo, threads=2) as w:
        for _ in range(50):
            w.channel.send(m.Quarantine(True))
            w.channel.send(m.Quarantine(False))
            w.channel.send(m.Quarantine(False))
        assert w.get("/x").status == 200
        wait_until(lambda: w.word(at.READY_NS) != 0)


@pytest.mark.parametrize("how", ["message", "SIGTERM", "channel", "quit"])
def test_it_ends_as_any_other(how: str) -> None:
    with worker(apps.plain_echo) as w:
        quarantine(w)
        match how:
            case "message":
                w.channel.send(m.Retire(10))
            case "SIGTERM":
                os.kill(w.pid, signal.SIGTERM)
            case "channel":
                w.channel.close()
            case "quit":
                w.channel.send(m.Quit())
        assert w.wait_exit() == 0
