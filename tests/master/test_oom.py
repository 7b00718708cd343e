"""The kernel's out-of-memory killer or somebody with kill -9."""

from __future__ import annotations

from unittest import mock

import pytest

from tests.master.world import Clock
from wsgitop.master import oom


class Machine:
    """A kernel that counts."""

    def __init__(self, kills: int | None) -> None:
        self.kills = kills
        self.clock = Clock()
        with mock.patch.object(oom, "time", self.clock):
            self.watch = oom.OomWatch(lambda: self.kills)

    def explains(self, *, after_s: float = 0.0) -> bool:
        self.clock.now += after_s
        with mock.patch.object(oom, "time", self.clock):
            return self.watch.explains_kill()

    def look(self, *, after_s: float = 0.0) -> None:
        self.clock.now += after_s
        with mock.patch.object(oom, "time", self.clock):
            self.watch.look()


def test_growth_explains_as_many_deaths_as_it_counts() -> None:
    machine = Machine(7)
    assert not machine.explains(), "what was there before the server was is not its"
    machine.kills = 9
    assert [machine.explains() for _ in range(3)] == [True, True, False]


def test_growth_that_was_seen_before_the_death_is_remembered_but_not_for_long() -> None:
    machine = Machine(0)
    machine.kills = 1
    machine.look(after_s=1)
    assert machine.explains(after_s=5), "a large process takes its time to die"
    machine.kills = 2
    machine.look(after_s=1)
    assert not machine.explains(after_s=60), "it was another process of the group"


@pytest.mark.parametrize("later", [None, 0])
def test_a_kernel_that_does_not_count_explains_nothing(later: int | None) -> None:
    machine = Machine(None)
    assert not machine.watch.known
    machine.kills = later
    assert not machine.explains()


def test_a_count_that_vanishes_or_falls_is_no_growth() -> None:
    machine = Machine(5)
    machine.kills = None
    assert not machine.explains() and machine.watch.known
    machine.kills = 2
    assert not machine.explains()
    machine.kills = 3
    assert machine.explains()


def test_the_counter_is_not_read_more_than_once_a_second() -> None:
    asked: list[int] = []
    watch = oom.OomWatch(lambda: asked.append(1) or 0)  # type: ignore[func-returns-value]
    for _ in range(100):
        watch.look()
    assert len(asked) == 2
