"""What has grown since the last look, over lives and deaths of workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsgitop.master.gauge import WorkerGauge
from wsgitop.master.statistics import Statistics
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board

THREADS = 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("serve", "die", "look", "take")), st.integers(0, 2), st.integers(0, THREADS - 1)
        ),
        max_size=60,
    )
)
def test_every_request_is_told_once(steps: list[tuple[str, int, int]]) -> None:
    board = Board.create(THREADS)
    statistics = Statistics()
    workers = {row: row for row in range(3)}  # by row
    gauges = {worker: WorkerGauge(board, row) for row, worker in workers.items()}
    served = 0
    told = [0, 0, 0]

    def take() -> None:
        growth = statistics.take()
        assert growth.requests >= 0 and min(growth.classes) >= 0 and min(growth.buckets) >= 0
        told[0] += growth.requests
        told[1] += growth.classes[1]
        told[2] += growth.buckets[7]

    try:
        for action, row, thread in steps:
            worker = workers[row]
            if action == "serve":
                block = board.thread(row, thread)
                block[at.REQUESTS] += 1
                block[at.STATUS_1XX + 1] += 1
                block[at.HISTOGRAM + 7] += 1
                served += 1
            elif action == "die":
                statistics.forget(worker, gauges.pop(worker))
                board.clear(row)
                workers[row] = worker + 3
                gauges[worker + 3] = WorkerGauge(board, row)
            elif action == "look":
                statistics.read(gauges)
            else:
                take()
        statistics.read(gauges)
        take()
        assert told == [served] * 3
    finally:
        gauges.clear()
        board.close()


def test_a_corrupt_row_spoils_its_own_figures_only() -> None:
    board = Board.create(1)
    statistics = Statistics()
    gauge = WorkerGauge(board, 0)
    board.thread(0, 0)[at.REQUESTS] = (1 << 64) - 1
    statistics.read({1: gauge})
    board.thread(0, 0)[at.REQUESTS] = 5
    statistics.read({1: gauge})
    assert statistics.take().requests == 1 << 48
    board.thread(0, 0)[at.REQUESTS] = 6
    statistics.read({1: gauge})
    assert statistics.take().requests == 1
    del gauge
    board.close()
