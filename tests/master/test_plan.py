"""The plan as a function: one roster, one clock, and what it says. Whole lives are in test_life."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from wsgitop.master import plan as p
from wsgitop.master.condition import condition, reloading_to
from wsgitop.master.roster import BACKOFF_LIMIT_S, STABLE_S, TRIES, TRIES_S, Roster, WorkerRecord
from wsgitop.master.states import GenerationEvent, GenerationPhase, WorkerPhase

NOW = 1000.0
LIMITS = p.Limits(surge=1, boot_timeout_s=60, graceful_timeout_s=30)
R, B, S, X = WorkerPhase.READY, WorkerPhase.BOOTING, WorkerPhase.STARTING, WorkerPhase.RETIRING
Q = WorkerPhase.QUARANTINED


def roster(wanted: int, *workers: tuple[int, WorkerPhase], generations: int = 1, target: int = 0) -> Roster:
    """A roster with ``workers`` (generation, phase) in slots 1, 2, …, all asked for ten seconds ago."""
    found = Roster(wanted, ever_ready=True)
    for _ in range(generations):
        record = found.add_generation(NOW - 100, roll=False)
        record.see(GenerationEvent.LOADED)
        record.zygote_pid = 50 + record.number
    found.target = found.good = target or generations
    for slot, (generation, phase) in enumerate(workers, 1):
        worker = found.add_worker(slot, slot, generation, NOW - 10)
        worker.phase = phase
        worker.pid = None if phase is S else 100 + slot
        worker.ready_at = NOW - 5 if phase is R else None
        if phase is X:
            worker.retire_at, worker.graceful_s = NOW - 1, 30.0
    return found


def rolling(found: Roster) -> Roster:
    found.rolling = True
    return found


def failed(found: Roster, *, commanded: bool = True) -> Roster:
    """With a generation 2 that could not be loaded, besides those that there are."""
    record = found.generations.get(2) or found.add_generation(NOW - 5, roll=True)
    record.commanded, record.error, record.phase = commanded, "ImportError: shop", GenerationPhase.FAILED
    return found


def plan(
    found: Roster,
    now: float = NOW,
    silent: frozenset[int] = frozenset(),
    surge: int = 1,
    worn: Mapping[int, str] = p.NOBODY,
) -> list[p.Action]:
    return p.plan(found, p.Limits(surge, 60, 30), now, silent, worn)


SITUATIONS: dict[str, tuple[Roster, int, list[p.Action]]] = {
    "nothing to do": (roster(2, (1, R), (1, R)), 1, []),
    "all are coming": (roster(2, (1, B), (1, S)), 1, []),
    "first boot": (roster(3), 1, [p.Fork(1, 1), p.Fork(1, 2), p.Fork(1, 3)]),
    "one is missing": (roster(3, (1, R), (1, R)), 1, [p.Fork(1, 3)]),
    "one too many, the oldest goes": (
        roster(1, (1, R), (1, R)), 1, [p.Retire(1, "scaled down")]
    ),
    "one too many, who boots goes": (roster(1, (1, R), (1, B)), 1, [p.Retire(2, "scaled down")]),
    "a retiring one is waited for": (roster(1, (1, X), (1, X), (1, R)), 1, []),
    "a retiring one counts as surge": (roster(2, (1, R), (1, X), (1, X)), 1, []),
    "but never keeps the last away": (roster(1, (1, X), (1, X), (1, X)), 1, [p.Fork(1, 1)]),
    "a reload begins with one more": (
        rolling(roster(2, (1, R), (1, R), generations=2)), 1, [p.Fork(2, 1)]
    ),
    "a reload with a surge of 2": (
        rolling(roster(2, (1, R), (1, R), generations=2)), 2, [p.Fork(2, 1), p.Fork(2, 2)]
    ),
    "the successor boots": (rolling(roster(2, (1, R), (1, R), (2, B), generations=2)), 1, []),
    "the successor is ready": (
        rolling(roster(2, (1, R), (1, R), (2, R), generations=2)),
        1,
        [p.Retire(1, "replaced by generation 2")],
    ),
    "the retired one is awaited": (rolling(roster(2, (1, X), (1, R), (2, R), generations=2)), 1, []),
    "the reload is done": (
        rolling(roster(2, (2, R), (2, R), generations=2)), 1, [p.ReloadDone(2)]
    ),
    "not before the last old one is gone": (
        rolling(roster(2, (1, X), (2, R), (2, R), generations=2)), 1, []
    ),
    "the old zygote ends after the reload": (
        roster(2, (2, R), (2, R), generations=2), 1, [p.EndZygote(1)]
    ),
    "mixed generations do not roll by themselves": (
        roster(2, (1, R), (2, R), generations=2), 1, [p.EndZygote(1)]
    ),
    "scaled down in a reload: booting old ones first": (
        rolling(roster(2, (1, R), (1, B), (2, R), generations=2)),
        1,
        [p.Retire(2, "replaced by generation 2")],
    ),
    "scaled down in a reload: booting new ones first": (
        rolling(roster(1, (2, R), (2, B), generations=2)), 1, [p.Retire(2, "scaled down")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_situation(name: str) -> None:
    found, surge, expected = SITUATIONS[name]
    assert plan(found, surge=surge) == expected


# -- zygotes


def test_no_second_zygote_while_one_loads() -> None:
    found = roster(1, (1, R))
    found.generations[1].see(GenerationEvent.ZYGOTE_DIED)
    assert plan(found) == [p.SpawnZygote()]
    found.add_generation(NOW, roll=False)
    assert plan(found) == []


def test_zygote_waits_for_its_back_off() -> None:
    found = roster(1, (1, R))
    found.generations[1].see(GenerationEvent.ZYGOTE_DIED)
    found.count_zygote_failure(NOW)
    assert plan(found) == []
    assert p.next_deadline(found, LIMITS, NOW) == found.zygote_not_before
    assert plan(found, found.zygote_not_before) == [p.SpawnZygote()]


def test_loading_has_a_limit() -> None:
    found = roster(1, (1, R))
    found.add_generation(NOW, roll=True)
    assert plan(found, NOW + 59) == []
    assert p.next_deadline(found, LIMITS, NOW) == NOW + 60
    (action,) = plan(found, NOW + 60)
    assert isinstance(action, p.FailGeneration) and action.generation == 2


def test_zygote_that_does_not_fork_is_given_up_once() -> None:
    found = roster(3, (1, R), (1, S), (1, S))
    assert plan(found) == []
    actions = plan(found, NOW + 51)
    assert [type(action) for action in actions] == [p.FailGeneration]


# -- deadlines


def steps(found: Roster, worker: WorkerRecord, until: float) -> list[tuple[float, str]]:
    """What is done to one worker over time, at the moments that next_deadline names and no others."""
    seen = []
    now: float | None = NOW
    while now is not None and now <= until:
        for action in plan(found, now, frozenset({worker.worker}) if worker.phase is R else frozenset()):
            match action:
                case p.Abort():
                    worker.abort_at = now
                case p.Kill():
                    worker.kill_at = now
                case _:
                    continue
            seen.append((now - NOW, type(action).__name__))
        now = p.next_deadline(found, LIMITS, now)
    return seen


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (B, [(50.0, "Abort"), (52.0, "Kill")]),  # 60 s to boot, asked for 10 s ago
        (R, [(0.0, "Abort"), (2.0, "Kill")]),  # silent
        (X, [(31.0, "Kill")]),  # 30 s of grace and 2 s, retiring for 1 s
    ],
)
def test_who_exceeds_a_time(phase: WorkerPhase, expected: list[tuple[float, str]]) -> None:
    found = roster(1, (1, phase), (1, R))
    assert steps(found, found.workers[1], NOW + 100) == expected


def test_killed_once() -> None:
    found = roster(1, (1, X), (1, R))
    found.workers[1].kill_at = NOW
    assert plan(found, NOW + 1000) == []


def test_silent_and_lost() -> None:
    found = roster(2, (1, X), (1, R), (1, R))
    assert plan(found, silent=frozenset({1})) == [], "its grace time has not passed"


def test_lost_ones_do_not_count() -> None:
    found = roster(2, (1, X), (1, X))
    for worker in found.workers.values():
        worker.lost = True
    assert plan(found) == [p.Fork(1, 1), p.Fork(1, 2)]


# -- back-off


def test_back_off_doubles_up_to_its_limit() -> None:
    found = roster(1)
    delays = []
    for _ in range(12):
        found.fork_not_before = 0.0
        found.count_boot_failure(NOW)
        delays.append(found.fork_not_before - NOW)
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-1] == BACKOFF_LIMIT_S
    assert delays == sorted(delays)


def test_one_at_a_time_after_failures() -> None:
    found = roster(4, (1, R))
    found.count_boot_failure(NOW)
    assert plan(found) == []
    assert plan(found, NOW + 0.5) == [p.Fork(1, 2)]
    found.add_worker(2, 2, 1, NOW)
    assert plan(found, NOW + 0.6) == []


def test_ten_tries_a_minute_until_one_lasts() -> None:
    """With many workers each try is one of many: all are ready at once, and all die at once."""
    found = roster(30, (1, R))
    next(iter(found.workers.values())).ready_at = NOW - 60
    found.count_boot_failure(NOW - 5)
    for n in range(TRIES):
        assert plan(found) == [p.Fork(1, n + 2)]
        added = found.add_worker(n + 2, n + 2, 1, NOW)
        added.phase, added.ready_at = R, NOW + 1
    assert plan(found, NOW + STABLE_S) == []
    assert found.next_try_at(NOW + 5) == NOW + TRIES_S == p.next_deadline(found, LIMITS, NOW + 5)
    assert plan(found, NOW + 1 + STABLE_S) == [p.Fork(1, TRIES + 2)], "one has lasted"
    found.count_boot_failure(NOW + 30)
    found.fork_not_before = 0.0
    assert plan(found, NOW + 59) == []
    assert plan(found, NOW + TRIES_S) == [p.Fork(1, TRIES + 2)]
    found.forget_boot_failures()
    assert len(plan(found, NOW + 31)) == 30 - TRIES - 1


@pytest.mark.parametrize(
    ("ready_since", "failed_ago", "forgiven"),
    [
        ([100.0, 100.0], STABLE_S, True),
        ([100.0, 100.0], STABLE_S - 0.1, False),
        ([100.0, STABLE_S - 0.1], 50.0, False),  # the newest has to prove itself
        ([100.0], 50.0, False),  # one that is missing may be the one that fails
    ],
)
def test_forgiveness(ready_since: list[float], failed_ago: float, forgiven: bool) -> None:
    found = roster(2, *[(1, R)] * len(ready_since))
    for worker, since in zip(found.workers.values(), ready_since, strict=True):
        worker.ready_at = NOW - since
    found.count_boot_failure(NOW - failed_ago)
    found.forgive(NOW)
    assert (found.boot_failures == 0) is forgiven
    assert (found.fork_not_before == 0) is forgiven


def test_a_zygotes_failure_is_forgiven_when_its_successor_lasts() -> None:
    found = roster(1, (1, R))
    found.count_zygote_failure(NOW - 50)
    found.generations[1].ready_at = NOW - STABLE_S + 0.1
    found.forgive(NOW)
    assert found.zygote_failures == 1
    found.forgive(NOW + 0.1)
    assert found.zygote_failures == 0


# -- bounds


def test_a_turn_is_bounded() -> None:
    assert len(plan(roster(1000))) == p.FORKS_AT_ONCE
    assert plan(roster(1000, *[(1, S)] * p.FORKS_AT_ONCE)) == []
    assert len(plan(roster(1000, *[(1, B)] * p.FORKS_AT_ONCE))) == p.FORKS_AT_ONCE


# -- stopping


def stopping(found: Roster, *, quick: bool) -> Roster:
    found.stopping, found.quick = True, quick
    return found


@pytest.mark.parametrize("quick", [False, True])
def test_stop(quick: bool) -> None:
    found = stopping(roster(2, (1, R), (1, B)), quick=quick)
    assert plan(found) == [
        p.Retire(1, "the server stops", quick=quick),
        p.Retire(2, "the server stops", quick=True),
        p.EndZygote(1),
    ]


def test_stop_forks_nobody_and_finishes() -> None:
    found = stopping(roster(2), quick=False)
    assert plan(found) == [p.EndZygote(1)]
    found.generations[1].see(GenerationEvent.END)
    assert plan(found) == []
    found.generations[1].see(GenerationEvent.ZYGOTE_DIED)
    found.generations[1].zygote_pid = None
    assert plan(found) == [p.Finished()]


def test_who_retires_already_is_told_once_that_the_server_stops() -> None:
    found = stopping(roster(1, (1, X), (1, R)), quick=False)
    told = [action for action in plan(found) if isinstance(action, p.Retire)]
    assert told == [p.Retire(1, "the server stops"), p.Retire(2, "the server stops")]
    for record in found.workers.values():
        record.phase, record.retire_at, record.graceful_s, record.told_to_stop = X, NOW, 30.0, True
    assert plan(found) == [p.EndZygote(1)]


def test_quick_stop_after_a_graceful_one() -> None:
    found = stopping(roster(1, (1, X)), quick=True)
    assert p.Retire(1, "the server stops", quick=True) in plan(found)
    found.workers[1].graceful_s, found.workers[1].told_to_stop = 0.0, True
    assert p.Kill(1, "it did not end in time") in plan(found, NOW + 1)


# -- the state in one word


@pytest.mark.parametrize(
    ("found", "changes", "expected"),
    [
        (roster(1, (1, R)), {}, ("serving", "")),
        (roster(1, (1, R)), {"stopping": True}, ("stopping", "waiting for requests in flight")),
        (roster(1), {"ever_ready": False}, ("booting", "")),
        (roster(2, (1, R), (1, B)), {}, ("serving", "1 of 2 workers serve, 1 boot")),
        (roster(2, (1, R)), {}, ("degraded", "1 of 2 workers serve, 0 boot")),
        (roster(2, (1, B), (1, B)), {}, ("degraded", "0 of 2 workers serve, 2 boot")),
        (roster(2, (1, R), (2, R), generations=2), {}, ("serving", "generations are mixed")),
        (roster(1, (1, R), (1, Q)), {}, ("serving", "1 in quarantine")),
        (rolling(roster(1, (1, R), (2, B), generations=2)), {}, ("reloading", "")),
        (
            roster(1, (1, R)),
            {"boot_failures": 3, "fork_not_before": NOW + 7},
            ("degraded", "3 failed boots in a row, next try in 7 s"),
        ),
        (roster(1, (1, R)), {"zygote_failures": 1}, ("serving", "")),
        (failed(roster(1, (1, R))), {}, ("serving", "the reload to generation 2 failed")),
        (failed(roster(1, (1, R)), commanded=False), {}, ("serving", "")),
        (failed(roster(1, (3, R), generations=3)), {}, ("serving", "")),
    ],
)  # fmt: skip
def test_condition(found: Roster, changes: dict[str, object], expected: tuple[str, str]) -> None:
    for name, value in changes.items():
        setattr(found, name, value)
    assert condition(found, NOW) == expected


def test_condition_without_a_zygote() -> None:
    found = roster(1, (1, R))
    found.generations[1].phase = GenerationPhase.ENDED
    found.count_zygote_failure(NOW)
    state, why = condition(found, NOW)
    assert state == "degraded" and "does not load" in why


def test_reloading_to() -> None:
    found = roster(1, (1, R))
    assert reloading_to(found) is None
    found.add_generation(NOW, roll=False)
    assert reloading_to(found) is None, "a zygote that replaces a lost one reloads nothing"
    found.add_generation(NOW, roll=True)
    del found.generations[2]
    assert reloading_to(found) == 3
    assert reloading_to(rolling(roster(1, (1, R), (2, B), generations=2))) == 2


WORN = {1: "recycled after 100 requests", 2: "recycled after 101 requests"}


@pytest.mark.parametrize(
    ("found", "surge", "expected"),
    [
        # One by one: the successor first, in the slot of whom it replaces.
        (roster(2, (1, R), (1, R)), 1, [p.Fork(1, 1)]),
        (roster(2, (1, R), (1, R)), 2, [p.Fork(1, 1), p.Fork(1, 2)]),
        (roster(2, (1, R), (1, R), (1, B)), 1, []),
        (roster(2, (1, R), (1, R), (1, R)), 1, [p.Retire(1, WORN[1])]),
        (roster(2, (1, X), (1, R), (1, R)), 1, []),
        (roster(1, (1, R)), 1, [p.Fork(1, 1)]),
        # Who is worn goes first when there are too many.
        (roster(1, (1, R), (1, R)), 1, [p.Retire(1, WORN[1])]),
        # Not while a reload rolls, which replaces everybody anyway.
        (rolling(roster(2, (2, R), (2, R), generations=2)), 1, [p.ReloadDone(2)]),
    ],
)
def test_recycling(found: Roster, surge: int, expected: list[p.Action]) -> None:
    actions = plan(found, surge=surge, worn=WORN)
    assert sorted(map(str, actions)) == sorted(map(str, expected))


def test_worn_workers_are_better_than_none() -> None:
    found = roster(2, (1, R), (1, R))
    found.boot_failures = 1
    assert plan(found, worn=WORN) == []


def test_who_is_in_quarantine_is_replaced_and_left_alone() -> None:
    assert plan(roster(2, (1, Q), (1, R))) == [p.Fork(1, 1)]
    assert plan(roster(2, (1, Q), (1, R), (1, R))) == []
    done = rolling(roster(1, (1, Q), (2, R), generations=2))
    assert plan(done, silent=frozenset({1})) == [p.ReloadDone(2)]
    assert p.Retire(1, "the server stops", quick=False) in plan(stopping(done, quick=False))
