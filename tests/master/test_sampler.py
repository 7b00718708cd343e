"""What a snapshot says of a worker that no scoreboard knows."""

from __future__ import annotations

import os
import time
from typing import Any, cast

import pytest

from wsgitop.master.processes import WorkerProcess
from wsgitop.master.roster import Roster
from wsgitop.master.sampler import Sampler
from wsgitop.master.states import WorkerEvent
from wsgitop.scoreboard.board import Board
from wsgitop.snapshot import WorkerSnapshot


def test_a_clock_that_jumps_makes_no_worker_older(monkeypatch: pytest.MonkeyPatch) -> None:
    roster, board = Roster(1), Board.create(1)
    sampler = Sampler(roster, [], app="site:app", name="site", control="", log="")
    record = roster.add_worker(1, 0, 1, time.monotonic())
    process = WorkerProcess(cast(Any, None), cast(Any, None))
    sampler.add_worker(record.worker, board, record.row, process)
    record.pid = os.getpid()  # any that can be looked at
    process.known(record.pid)
    record.see(WorkerEvent.FORKED)
    begin = time.monotonic()

    def look() -> WorkerSnapshot:
        (worker,) = sampler.sample(watched=False).workers
        return worker

    try:
        before = look()
        assert before.started_at == process.started_at != 0
        wall = time.time
        for jump_s in (86_400, -86_400):
            monkeypatch.setattr(time, "time", lambda jump_s=jump_s: wall() + jump_s)
            after = look()
            assert 0 <= after.age_s <= time.monotonic() - begin + 0.1
            assert after.started_at == before.started_at, "by this others know that it is the same process"
        real = time.monotonic_ns
        monkeypatch.setattr(time, "monotonic_ns", lambda: real() + 3_600_000_000_000)
        assert look().age_s == pytest.approx(3600, abs=5)
    finally:
        os.close(process.pidfd)
        board.close()
