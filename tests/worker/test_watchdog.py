"""The watchdog beside a crew that does what threads do at the worst moment."""

from __future__ import annotations

import fcntl
import os
import socket
from types import SimpleNamespace
from typing import Any

from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board
from wsgitop.worker.handover import Crew
from wsgitop.worker.seat import Seat
from wsgitop.worker.watchdog import Watchdog


class Lock:
    """A lock that somebody else gets first."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __enter__(self) -> None:
        self._before()

    def __exit__(self, *exc: object) -> None:
        pass


def test_connections_are_not_given_away_under_a_thread_that_has_come_back() -> None:
    board = Board.create(1)
    seat = Seat(0, board.thread(0, 0))
    seat.response = SimpleNamespace(cut=True)  # type: ignore[assignment]
    crew = Crew([seat], lambda connection: None)
    done: list[str] = []
    engine: Any = SimpleNamespace(
        crew=crew,
        settings=SimpleNamespace(timeout=1.0),
        caretaker=SimpleNamespace(abandon=lambda: done.append("abandoned")),
        refuse_rest=lambda: done.append("refused"),
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watchdog = Watchdog(
            engine=engine,
            channel=ours,  # type: ignore[arg-type]
            row=board.row(0)[: at.PROCESS_WORDS],
            signals_fd=theirs.fileno(),
            on_signals=lambda: None,
            on_retire=lambda: None,
            show_state=lambda state: None,
            exit_now=lambda status: done.append(f"exit {status}"),
            quit_now=lambda: None,
        )
        watchdog._check_end(1.0)
        assert done == ["abandoned"]

        def come_back() -> None:
            seat.rest()
            crew.leader = seat

        lock = crew.lock
        crew.lock = Lock(come_back)  # type: ignore[assignment]
        watchdog._check_end(100.0)
        assert done == ["abandoned"]
        crew.lock = lock

        # The thread serves again, and then it is stuck anew: answers have their time again.
        for came_back in (False, True):
            if came_back:
                seat.rest()
                watchdog._check_end(200.0)
            done.clear()
            crew.leader = None
            seat.response = SimpleNamespace(cut=True)  # type: ignore[assignment]
            watchdog._check_end(300.0 + came_back * 100)
            assert done == ["abandoned"]
        os.close(watchdog._wake_fd)
    board.close()


def test_it_watches_descriptors_of_any_number() -> None:
    board = Board.create(1)
    crew = Crew([Seat(0, board.thread(0, 0))], lambda connection: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        far = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500)
        watchdog = Watchdog(
            engine=SimpleNamespace(crew=crew, settings=SimpleNamespace(timeout=1.0)),  # type: ignore[arg-type]
            channel=ours,  # type: ignore[arg-type]
            row=board.row(0)[: at.PROCESS_WORDS],
            signals_fd=far,
            on_signals=lambda: None,
            on_retire=lambda: None,
            show_state=lambda state: None,
            exit_now=lambda status: None,
            quit_now=lambda: None,
        )
        assert watchdog._wait(0.0) == []
        ours.send(b"x")
        assert watchdog._wait(None) == [far]
        os.close(far)
        os.close(watchdog._wake_fd)
    board.close()
