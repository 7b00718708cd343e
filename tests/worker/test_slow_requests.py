"""What a worker tells of the requests that took longest."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.worker import apps
from tests.worker.harness import wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.scoreboard import layout as at
from wsgitop.worker import slow_requests
from wsgitop.worker.connection import NEVER
from wsgitop.worker.slow_requests import KEPT, LONG_NS, PAUSE_S, PERIOD_S, SlowRequests


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        fake = SimpleNamespace(monotonic=lambda: self.now, time=lambda: 1_700_000_000 + self.now)
        monkeypatch.setattr(slow_requests, "time", fake)


def line(target: str = "/a", method: str = "GET") -> Any:
    return SimpleNamespace(method=method, target=target)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_nothing_is_due_until_something_took_long(clock: Clock) -> None:
    slow = SlowRequests()
    assert slow.due_s == NEVER and slow.take() == ()
    clock.now += PAUSE_S
    slow.note(line(), b"10.0.0.1", 200, LONG_NS)
    assert slow.due_s <= clock.now
    assert slow.take() == (m.Finished(1_700_001_001_000, "GET", "/a", "10.0.0.1", 200, LONG_NS),)
    assert slow.due_s == NEVER and slow.take() == (), "nothing is told twice"


def test_there_is_a_pause_between_two_messages(clock: Clock) -> None:
    slow = SlowRequests()
    slow.note(line(), b"", 200, LONG_NS)
    slow.take()
    clock.now += 0.25
    slow.note(line(), b"", 200, LONG_NS)
    assert slow.due_s == 1000.0 + PAUSE_S
    slow.note(line(), b"", 200, LONG_NS)
    assert slow.due_s == 1000.0 + PAUSE_S
    assert len(slow.take()) == 2


def test_the_longest_of_each_period_are_told(clock: Clock) -> None:
    slow = SlowRequests()
    for number in range(3 * KEPT):
        slow.note(line(f"/{number}"), b"", 200, LONG_NS + number % (2 * KEPT))
    assert [one.elapsed_ns - LONG_NS for one in slow.take()] == list(range(2 * KEPT - 1, KEPT - 1, -1))
    slow.note(line(), b"", 200, LONG_NS)
    assert slow.due_s == NEVER, "others of this period took longer"
    slow.note(line(), b"", 200, 2 * LONG_NS)
    assert len(slow.take()) == 1
    clock.now += PERIOD_S
    slow.note(line(), b"", 200, LONG_NS)
    assert len(slow.take()) == 1


def test_text_is_short_and_cannot_steer_a_terminal(clock: Clock) -> None:
    slow = SlowRequests()
    slow.note(line("/\x1b[2J\u202e" + "x" * 5000 + "?token=secret", "M" * 100), b"\xff" * 300, 0, LONG_NS)
    (one,) = slow.take()
    assert one.path.startswith("/\\x1b[2J\\u202exxx") and len(one.path) == 200
    assert len(one.method) == 16 and len(one.client) == 64
    assert one.path.isprintable() and "secret" not in one.path
    slow.note(line("/short?token=secret"), b"", 0, LONG_NS)
    assert slow.take()[0].path == "/short"


@pytest.mark.process
@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_tells_the_master_when_it_has_the_time(threads: int) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        time.sleep(float(environ["QUERY_STRING"] or 0))
        return apps.text(start_response, b"", "404 Not Found")

    with worker(app, threads=threads) as w:
        w.get("/quick")
        w.get("/long?0.15")
        (one,) = w.message(m.SlowestFinished).requests
        assert (one.method, one.path, one.client, one.status) == ("GET", "/long", "127.0.0.1", 404)
        assert 0.15 <= one.elapsed_ns / 1e9 < 2 and not one.cut
        assert abs(one.at_ms / 1000 - time.time()) < 5
        # What it has not told yet it tells before it ends.
        w.get("/last?0.15")
        wait_until(lambda: w.total(at.REQUESTS) == 3)
        w.channel.send(m.Retire(5.0))
        (one,) = w.message(m.SlowestFinished).requests
        assert one.path == "/last"
        assert w.wait_exit() == 0


@pytest.mark.process
def test_what_ran_into_the_time_limit_is_told() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2, timeout=0.2) as w, w.connect() as client:
        client.get("/slow?secret")
        (one,) = w.message(m.SlowestFinished).requests
        assert (one.path, one.status, one.cut) == ("/slow", 504, True)
