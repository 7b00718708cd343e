"""Counters over deaths and reloads: with real rows and gauges, and a server that lives by chance."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from wsgitop.master.accounts import BOUNDS_S, KEPT, OTHER, SLOTS, Accounts, Counters, Place
from wsgitop.master.gauge import WorkerGauge
from wsgitop.master.roster import Roster
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board
from wsgitop.scoreboard.histogram import bucket

THREADS = 2


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(THREADS)
    yield board
    board.close()


class World:
    """Workers that count, die and are replaced; ``done`` is what all of them have counted."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.roster = Roster(1)
        self.gauges: dict[int, WorkerGauge] = {}
        self.cpu_s: Counter[int] = Counter()
        self.accounts = Accounts(self.roster, lambda worker: self.cpu_s[worker])
        self.free = list(range(board.rows))
        self.done: Counter[str] = Counter()

    def fork(self, slot: int, generation: int) -> int:
        row = self.free.pop()
        self.board.clear(row)
        worker = self.roster.add_worker(slot, row, generation, 0.0).worker
        self.gauges[worker] = WorkerGauge(self.board, row)
        return worker

    def die(self, worker: int) -> None:
        self.accounts.forget(worker, self.gauges.pop(worker))
        row = self.roster.workers.pop(worker).row
        self.board.clear(row)
        self.free.append(row)

    def serve(self, worker: int, thread: int, status: int, elapsed_us: int) -> None:
        """As Seat.end does."""
        row = self.roster.workers[worker].row
        block = self.board.thread(row, thread)
        block[at.REQUESTS] += 1
        block[at.BYTES_RECEIVED] += 100
        block[at.BYTES_SENT] += 1000
        block[at.LATENCY_SUM_NS] += elapsed_us * 1000
        if status >= 500:
            block[at.ERRORS] += 1
        block[at.STATUS_1XX - 1 + status // 100] += 1
        block[at.HISTOGRAM + bucket(elapsed_us)] += 1
        for number, word in enumerate(
            (at.ACCEPTED, at.REJECTED, at.HANDOVERS, at.MIGRATED_OUT, at.MIGRATED_IN), 1
        ):
            self.board.row(row)[word] += number
        self.cpu_s[worker] += 1
        self.done += Counter(
            requests=1, errors=int(status >= 500), received_bytes=100, sent_bytes=1000,
            latency_sum_ns=elapsed_us * 1000, accepted=1, rejected=2, handovers=3, migrated_out=4,
            migrated_in=5, cpu_us=1_000_000,
        )  # fmt: skip
        self.done[f"{status // 100}xx"] += 1

    def read(self) -> dict[Place, Counters]:
        self.accounts.read(self.gauges)
        return self.accounts.counters()


def flat(counters: Counters) -> list[int]:
    return [*counters[:2], *counters.responses, *counters[3:-1], *counters.latencies]


@pytest.mark.parametrize("seed", range(12))
def test_no_counter_goes_back_over_random_deaths_and_reloads(board: Board, seed: int) -> None:
    chance = random.Random(seed)
    world = World(board)
    roster = world.roster
    roster.target = roster.good = newest = 1
    before: dict[Place, Counters] = {}
    most = served = 0
    for _ in range(600):
        workers = list(world.gauges)
        match chance.randrange(12):
            case 0 if len(workers) < 100:
                world.fork(chance.choice((1, 2, 3, SLOTS, SLOTS + 1, SLOTS + 9)), roster.target)
            case 1 | 2 if workers:
                world.die(chance.choice(workers))
            case 3:
                newest += 1
                world.fork(1, newest)
                if chance.random() < 0.6:  # else its code does not boot
                    roster.target = roster.good = newest
            case 4 | 5:
                now = world.read()
                for place in now.keys() & before.keys():
                    assert all(map(int.__le__, flat(before[place]), flat(now[place]))), place
                    assert now[place].requests - before[place].requests <= served, f"{place} leaps"
                numbers = {place.generation for place in now if place.generation >= 0}
                assert len({place for place in now if place.generation < 0}) <= 1
                assert len(numbers) <= KEPT
                if any(record.generation == roster.target for record in roster.workers.values()):
                    assert roster.target in numbers, "the one that serves is told apart"
                assert len(now) <= KEPT * (SLOTS + 1) + 1
                for record in roster.workers.values():
                    assert world.accounts.place(record.generation, record.slot) in now
                total = [sum(column) for column in zip(*map(flat, now.values()), strict=True)]
                assert not total or total[0] == world.done["requests"]
                before, served = now, 0
                most = max(most, len(now))
            case _ if workers:
                served += 1
                status = chance.choice((101, 200, 304, 404, 500))
                world.serve(
                    chance.choice(workers), chance.randrange(THREADS), status, chance.randrange(40_000_000)
                )
    assert most > 8, "the test has met enough places"
    for worker in list(world.gauges):
        world.die(worker)
    last = world.read()
    for name in Counters._fields[:2] + Counters._fields[3:-1]:
        assert sum(getattr(counters, name) for counters in last.values()) == world.done[name], name
    for index in range(at.CLASSES):
        found = sum(counters.responses[index] for counters in last.values())
        assert found == world.done[f"{index + 1}xx"]
    assert sum(counters.latencies[-1] for counters in last.values()) == world.done["requests"]


@pytest.mark.parametrize(
    ("elapsed_us", "within_s"),
    [(0, 0.001), (900, 0.001), (1100, 0.0025), (98_000, 0.1), (110_000, 0.25), (29_000_000, 30.0)],
)
def test_a_latency_is_counted_from_its_bound_on(board: Board, elapsed_us: int, within_s: float) -> None:
    world = World(board)
    world.serve(world.fork(1, 1), 0, 200, elapsed_us)
    (counters,) = world.read().values()
    assert (
        next(bound for bound, count in zip(BOUNDS_S, counters.latencies, strict=False) if count) == within_s
    )
    assert counters.latencies[-1] == 1


def test_what_takes_longer_than_all_bounds_is_counted_last(board: Board) -> None:
    world = World(board)
    world.serve(world.fork(1, 1), 0, 200, 5_000_000_000)
    (counters,) = world.read().values()
    assert counters.latencies == (0,) * len(BOUNDS_S) + (1,)


def test_a_generation_that_serves_outlives_newer_ones_that_do_not_boot(board: Board) -> None:
    world = World(board)
    world.roster.target = world.roster.good = 1
    worker = world.fork(1, 1)
    for number in range(2, 20):
        world.die(world.fork(2, number))
        world.serve(worker, 0, 200, 10)
    found = world.read()
    assert found[Place(1, 1)].requests == 18
    assert len({place.generation for place in found if place.generation > 0}) == KEPT


def test_a_generation_given_up_is_counted_with_the_older_ones_for_good(board: Board) -> None:
    world = World(board)
    slow = world.fork(1, 1)
    world.serve(slow, 0, 200, 10)
    for number in range(2, 2 + KEPT):
        world.roster.target = world.roster.good = number
        world.fork(1, number)
    older = Place(-1, OTHER)
    assert older.labels() == ("older-1", "other")
    assert world.read()[older].requests == 1
    world.serve(slow, 0, 200, 10)
    assert world.read()[older].requests == 2
    world.die(slow)
    assert world.read()[older].requests == 2
    world.roster.target = world.roster.good = 2 + KEPT
    world.fork(1, 2 + KEPT)
    found = world.read()
    assert older not in found and found[Place(-2, OTHER)].requests == 2


def test_a_corrupt_row_takes_nothing_back(board: Board) -> None:
    world = World(board)
    sick, well = world.fork(1, 1), world.fork(2, 1)
    for worker in (sick, well):
        world.serve(worker, 0, 200, 10)
    before = world.read()
    row = board.row(world.roster.workers[sick].row)
    for noise in (b"\0", b"\xff", b"\0"):
        row.cast("B")[:] = noise * len(row) * at.WORD_BYTES
        now = world.read()
        assert now[Place(1, 2)] == before[Place(1, 2)]
        assert all(map(int.__le__, flat(before[Place(1, 1)]), flat(now[Place(1, 1)])))
        before = now
