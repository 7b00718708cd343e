"""Ten thousand signals while rows are sorted anew, workers die, and pids are given away again: each hits the
process that was under the cursor when its menu opened, or nothing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from tests.tui.fake import EPOCH, Clock, snapshot, worker
from wsgitop.control.messages import Hello, Outcome
from wsgitop.errors import ActionFailed
from wsgitop.snapshot import WorkerSnapshot
from wsgitop.tui import arrange
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.model import Model
from wsgitop.tui.operations import Operations

TRIALS = 10_000
PIDS = range(100, 112)
"""So few that a pid is soon another's."""
STATES = ("busy", "idle", "stuck", "retiring", "booting")


class World:
    """Processes that come and go, and a connection through which they get signals."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.clock = Clock()
        self.sequence = 0
        self.alive: dict[int, float] = {}
        self.slots: dict[int, int] = {}
        self.hit: Identity | None = None
        for _ in range(6):
            self.spawn()

    def spawn(self) -> None:
        """A new process, in a free slot, with a pid that nobody has now."""
        free = [pid for pid in PIDS if pid not in self.alive]
        if free:
            pid = self.chance.choice(free)
            self.clock.pass_s(0.01)
            self.alive[pid] = self.clock.now
            self.slots[pid] = min(
                {*range(1, 20)} - {self.slots[other] for other in self.alive if other != pid}
            )

    def churn(self) -> None:
        """Time passes; some die, some are born."""
        self.clock.pass_s(self.chance.choice((0.05, 0.4, 1.5)))
        for pid in list(self.alive):
            if self.chance.random() < 0.12:
                del self.alive[pid]
                if self.chance.random() < 0.5:  # the worst case: at once another process has the pid
                    self.clock.pass_s(0.01)
                    self.alive[pid] = self.clock.now
        while len(self.alive) < 3 or (len(self.alive) < len(PIDS) and self.chance.random() < 0.3):
            self.spawn()

    def picture(self) -> Any:
        """All that live, in any order, with figures that change the order of every column."""
        self.sequence += 1
        workers = [self._worker(pid, started_at) for pid, started_at in self.alive.items()]
        self.chance.shuffle(workers)
        return snapshot(self.sequence, self.clock.now, these=tuple(workers))

    def _worker(self, pid: int, started_at: float) -> WorkerSnapshot:
        chance = self.chance
        return WorkerSnapshot(
            slot=self.slots[pid],
            pid=pid,
            generation=chance.choice((6, 7)),
            state=chance.choice(STATES),  # type: ignore[arg-type]
            started_at=started_at,
            age_s=self.clock.now - started_at,
            requests=chance.randrange(1000),
            rps=chance.choice((None, chance.random() * 100)),
            p95_ms=chance.choice((None, chance.random() * 100)),
            cpu_percent=chance.random() * 100,
            rss_bytes=chance.randrange(1 << 28),
        )

    async def signal(self, name: str, *, pid: int | None = None, started_at: float | None = None) -> Outcome:
        """As the server does it: both must match."""
        if pid is None or self.alive.get(pid) != started_at:
            raise ActionFailed(f"no worker has pid {pid} any more", "look again")
        self.hit = (pid, self.alive[pid])
        return Outcome(f"{name} sent", 7, len(self.alive))


def _fiddle(model: Model, chance: random.Random) -> None:
    """What a user does before deciding."""
    what = chance.randrange(8)
    if what == 0:
        model.step_sort(chance.choice((1, -1)))
    elif what == 1:
        model.invert_sort()
    elif what == 2:
        model.set_filter(chance.choice(("", "", "busy", "!idle", "#1", "10")))
    elif what == 3:
        model.move_to_end()
    elif what == 4:
        model.toggle_pause()
    else:
        model.touch()
        model.move(chance.choice((-2, -1, 1, 3)))


def test_no_signal_ever_hits_another_process() -> None:
    chance = random.Random(20_240_607)
    world = World(chance)
    model = Model(clock=world.clock, wall=world.clock)
    model.connected(Hello(protocol=1, version="0", pid=4242, role="operator", app="shop.wsgi"))
    operations = Operations(
        model,
        lambda: world,  # type: ignore[arg-type, return-value]  # as much of a connection as a signal needs
        changed=lambda: None,
        failure=lambda *_: None,
    )
    ends: Counter[str] = Counter()

    async def trial() -> None:
        world.churn()
        model.take_snapshot(world.picture())
        _fiddle(model, chance)
        drawn = model.view()
        chosen = drawn.selected
        if chosen is None:
            ends["nobody under the cursor"] += 1
            return
        target = identity(chosen)
        # The menu is open, and the world goes on: pictures come, rows are sorted anew.
        shown = True  # once it is not among the rows, the cursor is another's for good
        for _ in range(chance.randrange(4)):
            world.churn()
            model.take_snapshot(world.picture())
            later = model.view()
            shown = shown and target in map(identity, later.rows)
            if shown:
                assert later.selected is not None
                assert identity(later.selected) == target, "the cursor left its worker"
        if chance.random() < 0.5:
            world.churn()  # and no picture of this has come yet
        world.hit = None
        if not operations.is_current(chosen):
            ends["known to be gone"] += 1
            return
        await operations.signal("KILL", chosen)
        assert world.hit in (None, target), "another process was hit"
        assert (world.hit == target) == (world.alive.get(target[0]) == target[1])
        ends["hit" if world.hit else "refused by the server"] += 1

    async def trials() -> None:
        for _ in range(TRIALS):
            await trial()

    asyncio.run(trials())
    assert ends.total() == TRIALS
    assert min(ends.values()) > 50, f"every end occurs: {ends}"
    assert len(ends) == 4, ends


@pytest.mark.parametrize("column", sorted(arrange.COLUMNS))
def test_a_pid_that_was_given_away_is_not_the_same_worker(column: str) -> None:
    clock = Clock()
    model = Model(clock=clock, wall=clock)
    model.connected(Hello(protocol=1, version="0", pid=4242, role="operator", app="shop.wsgi"))
    old, other = worker(1, pid=100, started_at=EPOCH), worker(2, pid=101, started_at=EPOCH)
    model.take_snapshot(snapshot(1, clock.now, these=(old, other)))
    model.sort_by(column)
    drawn = model.view().selected
    assert drawn is not None
    again = worker(drawn.slot, pid=drawn.pid, started_at=EPOCH + 1)
    model.take_snapshot(snapshot(2, clock.now + 1, these=(again,)))
    operations = Operations(model, lambda: None, changed=lambda: None, failure=lambda *_: None)
    assert not operations.is_current(drawn)
    assert operations.is_current(again)
