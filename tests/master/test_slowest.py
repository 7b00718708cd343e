"""The slowest requests of the last quarter of an hour."""

from __future__ import annotations

import heapq
import random

from wsgitop.channel import messages as m
from wsgitop.control.messages import SlowRequest
from wsgitop.master.roster import WorkerRecord
from wsgitop.master.slowest import KEPT, WINDOW_S, Slowest, slow_request


def request(at: float, elapsed_s: float) -> SlowRequest:
    return SlowRequest(at, 1, 99, 1, "GET", "/", "", 200, elapsed_s)


def test_it_is_what_a_list_of_all_would_say() -> None:
    """Against the plain way, with bursts of long ones that go out of the window one day."""
    slowest = Slowest()
    everything: list[SlowRequest] = []
    chance = random.Random(5)
    now = 10_000.0
    for _ in range(400):
        now += chance.uniform(0, 20)
        batch = [
            request(now, chance.uniform(0.1, 1) * chance.choice((1, 1, 20)))
            for _ in range(chance.randrange(8) ** 2)
        ]
        everything += batch
        slowest.add(batch, now)
        wanted = heapq.nlargest(
            KEPT, (one for one in everything if now - WINDOW_S <= one.at), key=lambda one: one.elapsed_s
        )
        assert slowest.longest(1000, now) == tuple(wanted)
    assert slowest.longest(3, now) == tuple(wanted[:3])
    assert slowest.longest(1000, now + WINDOW_S + 1) == ()


def test_what_it_keeps_is_bounded() -> None:
    slowest = Slowest()
    for second in range(3000):
        slowest.add([request(float(second), 1.0)] * 50, float(second))
    assert sum(len(kept) for _, kept in slowest._minutes) <= KEPT * (WINDOW_S / 60 + 2)


def test_what_a_worker_says_is_escaped_again() -> None:
    record = WorkerRecord(worker=5, slot=2, row=0, generation=3, asked_at=0.0, pid=77)
    hostile = m.Finished(
        1_700_000_000_250, "G\x1b[2J" * 9, "/\u202e" + "x" * 999, "\r\n" * 99, 500, 1_500_000_000
    )
    shown = slow_request(record, hostile)
    assert (shown.at, shown.slot, shown.pid, shown.generation) == (1_700_000_000.25, 2, 77, 3)
    assert (shown.status, shown.elapsed_s, shown.cut) == (500, 1.5, False)
    for text, limit in ((shown.method, 16), (shown.path, 200), (shown.client, 64)):
        assert text.isascii() or text.endswith("…")
        assert len(text) <= limit and text.isprintable()
