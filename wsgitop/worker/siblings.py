"""What a worker sees of the other workers of its generation: their rows of the scoreboard.

It decides how greedily a worker accepts. Connections that arrive together wake one idle worker each; if the
first of them took all, the others would find nothing and stay idle, for as long as those connections live.
"""

from __future__ import annotations

from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board

ROWS_LOOKED_AT = 64
"""The master gives out the lowest free rows first, so that these are the ones in use."""
UNUSED_ROWS_IN_A_ROW = 4
"""Behind so many there are no more workers; a reload leaves fewer between those that serve."""


class Siblings:
    """The other rows of ``board``. Reading them costs well under a microsecond each."""

    def __init__(self, board: Board, own_row: int) -> None:
        rows = [row for row in range(min(board.rows, ROWS_LOOKED_AT)) if row != own_row]
        self._rows = [board.row(row) for row in rows]
        self._states = [
            at.PROCESS_WORDS + thread * at.THREAD_WORDS + at.THREAD_STATE for thread in range(board.threads)
        ]

    def idle(self) -> bool:
        """Another worker accepts connections and has a thread with nothing to do."""
        unused = 0
        for row in self._rows:
            if not row[at.READY_NS]:
                unused += 1
                if unused == UNUSED_ROWS_IN_A_ROW:
                    return False
                continue
            unused = 0
            for state in self._states:
                if row[state] == at.THREAD_IDLE:
                    return True
        return False
