"""What a worker sees of the other workers of its generation: their rows of the scoreboard.

It decides how greedily a worker accepts and which connections it passes on. Connections that arrive together
wake one idle worker each; if the first of them took all, the others would find nothing and stay idle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board

PROMPT_NS = 2_000_000
"""A worker whose queue was empty within this time serves what comes at once."""
ROWS_LOOKED_AT = 64
"""The master gives out the lowest free rows first, so that these are the ones in use."""
UNUSED_ROWS_IN_A_ROW = 4
"""Behind so many there are no more workers; a reload leaves fewer between those that serve."""


class Siblings:
    """The other rows of ``board``. Reading them costs well under a microsecond each."""

    def __init__(self, board: Board, own_row: int) -> None:
        rows = [row for row in range(min(board.rows, ROWS_LOOKED_AT)) if row != own_row]
        self._rows = [board.row(row) for row in rows]
        blocks = [at.PROCESS_WORDS + thread * at.THREAD_WORDS for thread in range(board.threads)]
        self._states = [block + at.THREAD_STATE for block in blocks]
        self._requests = [block + at.REQUESTS for block in blocks]

    def idle(self) -> bool:
        """Another worker accepts connections and has a thread with nothing to do."""
        return self.idle_threads() > 0

    def idle_threads(self) -> int:
        """Threads of other workers that accept connections, with nothing to do.

        Between two requests every thread is idle for a moment. One that has a queue behind it, which has not
        been empty for a while, is not meant.
        """
        recently_ns = time.monotonic_ns() - PROMPT_NS
        return sum(
            self._idle_threads(row)
            for row in self._accepting()
            if row[at.LOAD] < row[at.THREADS] or row[at.DRAINED_NS] > recently_ns
        )

    def count(self) -> int:
        """How many others accept connections."""
        return sum(1 for _ in self._accepting())

    def least_load(self) -> int | None:
        """What the least loaded of the other workers has to do; None: there is no other."""
        return min((row[at.LOAD] for row in self._accepting()), default=None)

    def served(self) -> tuple[int, int]:
        """Requests that others that accept connections have finished since boot, and how many they are."""
        finished = workers = 0
        for row in self._accepting():
            workers += 1
            finished += sum(row[requests] for requests in self._requests)
        return finished, workers

    def _accepting(self) -> Iterator[memoryview]:
        unused = 0
        for row in self._rows:
            if row[at.READY_NS]:
                unused = 0
                yield row
            else:
                unused += 1
                if unused == UNUSED_ROWS_IN_A_ROW:
                    return

    def _idle_threads(self, row: memoryview) -> int:
        return sum(row[state] == at.THREAD_IDLE for state in self._states)
