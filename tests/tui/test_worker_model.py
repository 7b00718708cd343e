"""What the worker page knows of its worker: which process, which thread, which lines to draw."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.fake import DEATHS, EPOCH, EVENTS, histogram, snapshot, stack, worker
from wsgitop.control.messages import Frame, StackResult, ThreadStack
from wsgitop.snapshot import Death, Event, InFlight, WorkerSnapshot
from wsgitop.tui.arrange import identity
from wsgitop.tui.model import Trail, View
from wsgitop.tui.worker_page import ALL, Watched, bin_of, bins, short_path, stack_lines, stack_text


def seen(*these: WorkerSnapshot, sequence: int = 1, pid: int = 4242, **changes: Any) -> View:
    return View(snapshot=snapshot(sequence, EPOCH + sequence, these=these, pid=pid), **changes)


def requests(*elapsed_s: float) -> tuple[InFlight, ...]:
    """A request on each thread, running for so long; 0: none."""
    return tuple(
        InFlight(thread, "GET", f"/{thread}", "", elapsed, 7 + thread)
        for thread, elapsed in enumerate(elapsed_s)
        if elapsed
    )


def text_of(lines: Any) -> list[str]:
    return ["".join(piece[0] for piece in line) for line in lines]


# -- which process -------------------------------------------------------------------------------------------


def test_it_stays_with_its_process_and_keeps_the_last_picture() -> None:
    one = worker(3, "busy", rps=7.0)
    watched = Watched(identity(one))
    watched.take_view(seen(worker(1), one), (Trail(EPOCH, 7.0, None, None, None),))
    watched.take_stack(0, stack(one.pid, 0))
    other = worker(3, "idle", pid=one.pid, started_at=EPOCH)  # the same pid, given to somebody else
    watched.take_view(seen(worker(1), other, sequence=2), ())
    picture = watched.picture()
    assert picture is not None
    assert (picture.worker, picture.ended, picture.successor) == (one, True, other)
    assert picture.at == EPOCH + 1 and len(picture.trail) == 1, "what was known last"
    assert watched.stack is not None
    watched.follow(identity(other))
    watched.take_view(seen(worker(1), other, sequence=3), ())
    picture = watched.picture()
    assert picture is not None and (picture.worker, picture.ended, picture.successor) == (other, False, None)
    assert watched.stack is None, "it was the other's"


def test_the_youngest_of_the_slot_is_the_successor() -> None:
    one = worker(3)
    watched = Watched(identity(one))
    old, new = (worker(3, pid=pid, started_at=EPOCH + pid) for pid in (5000, 5001))
    watched.take_view(seen(new, one, old), ())
    assert watched.successor == new
    watched.take_view(seen(worker(1), sequence=2), ())
    assert watched.successor is None and watched.ended


def test_its_death_is_found_by_pid_and_time() -> None:
    one = worker(5, pid=4199, started_at=EPOCH - 1300 - 7200)
    watched = Watched(identity(one))
    watched.take_view(seen(one), ())
    watched.take_view(seen(worker(1), sequence=2), ())
    namesake = Death(
        sequence=9, at=EPOCH, process="worker", cause="crashed", text="", generation=7, pid=4199, uptime_s=3.0
    )
    watched.take_deaths((*DEATHS, namesake))
    picture = watched.picture()
    assert picture is not None and picture.death == DEATHS[1]
    assert watched.last_death == 9


def test_another_master_may_have_another_ledger() -> None:
    watched = Watched(identity(worker(1)))
    watched.take_view(seen(worker(1)), ())
    watched.take_deaths(DEATHS)
    assert watched.last_death == 3
    watched.take_view(seen(worker(1), sequence=2, pid=5151), ())
    assert watched.last_death == 0


def test_nobody_is_meant_and_nothing_has_come() -> None:
    for watched in (Watched(None), Watched((1, 2.0))):
        watched.take_view(View(), ())
        assert watched.picture() is None and watched.thread_rows() == () and watched.lives() == ()
        watched.take_view(seen(worker(1)), ())
        assert watched.picture() is None and watched.successor is None


def test_a_picture_stays_the_same_while_nothing_comes() -> None:
    watched = Watched(identity(worker(1)))
    view = seen(worker(1))
    watched.take_view(view, ())
    before = watched.picture()
    watched.take_view(view, ())
    assert watched.picture() is before
    watched.take_histogram(histogram(4251))
    assert watched.picture() is not before


# -- which thread --------------------------------------------------------------------------------------------


def test_the_oldest_request_is_looked_at_first_and_then_its_thread() -> None:
    def with_requests(*elapsed_s: float) -> WorkerSnapshot:
        return worker(1, in_flight=requests(*elapsed_s))

    watched = Watched(identity(worker(1)))
    watched.take_view(seen(with_requests()), ())
    assert watched.thread == 0, "nothing has been in flight yet"
    watched.take_view(seen(with_requests(0, 0.1, 0.5), sequence=2), ())
    assert watched.thread == 2
    watched.take_view(seen(with_requests(9.0), sequence=3), ())
    assert watched.thread == 2, "it stays"
    assert [(row.thread, row.state, row.chosen) for row in watched.thread_rows()] == [
        (0, "slow", False), (1, "idle", False), (2, "idle", True), (3, "idle", False),
    ]  # fmt: skip
    watched.choose(0)
    assert watched.thread == 0 and watched.request_of(0) == requests(9.0)[0] and not watched.request_of(1)


def test_a_stack_of_another_thread_is_not_shown() -> None:
    watched = Watched(identity(worker(1)))
    watched.take_view(seen(worker(1)), ())
    watched.choose(1)
    watched.take_stack(0, stack(4251, 0))
    assert watched.stack is None
    watched.take_stack(1, stack(4251, 1))
    assert watched.stack is not None
    watched.take_stack(1, None, "it is stopped")
    assert watched.stack is not None and watched.stack_fault == "it is stopped", "what was seen stays"
    watched.choose(ALL)
    assert watched.stack is None and watched.stack_fault == ""
    assert not any(row.chosen for row in watched.thread_rows())


def test_a_thread_that_no_worker_has_is_shown_all_the_same() -> None:
    odd = worker(1, threads=1, in_flight=(InFlight(77, "GET", "/", "", 0.1),))
    watched = Watched(identity(odd))
    watched.take_view(seen(odd), ())
    assert [row.thread for row in watched.thread_rows()] == [0, 77]


# -- the lives of the slot -----------------------------------------------------------------------------------


def test_lives_the_present_first_then_the_past_newest_first() -> None:
    one = worker(5, "retiring")
    new = worker(5, "idle", pid=5000, started_at=EPOCH)
    watched = Watched(identity(one))
    renamed = Event(sequence=9, at=EPOCH, severity="info", kind="ready", text="worker 55 (pid 1) serves")
    watched.take_view(seen(one, new, events=(*EVENTS, renamed)), ())
    watched.take_deaths(DEATHS)
    lives = watched.lives()
    assert [(life.what, life.pid) for life in lives] == [
        ("idle", 5000), ("retiring", 4255), ("respawn", None), ("timeout", 4199), ("timeout", None),
    ]  # fmt: skip
    assert lives[3].death == DEATHS[1] and lives[3].severity == "error"
    assert len({life.key for life in lives}) == len(lives)


# -- stacks --------------------------------------------------------------------------------------------------


def test_calls_of_the_application_are_marked_and_those_of_libraries_counted() -> None:
    result = stack(4253, 0)
    full = text_of(stack_lines(result, libraries=True))
    assert full == [
        "  _get_response  django/core/handlers/base.py:197", "      response = cb()",
        "▶ report  /srv/shop/views.py:17", "      rows = fetch(month)",
        "▶ fetch  /srv/shop/db.py:31", "      return cursor.fetchall()",
        "  readinto  socket.py:719", "      return self._sock.recv_into(b)",
    ]  # fmt: skip
    short = text_of(stack_lines(result, libraries=False))
    assert short == ["  … 1 call in libraries", *full[2:]], "the innermost call is always there"


def test_all_threads_have_headings() -> None:
    lines = text_of(stack_lines(stack(4253, None), libraries=False))
    assert lines[0] == "MainThread  thread 0  GET /report/2024 12.4s"
    assert "wsgitop-1  thread 1" in lines and "sentry-worker  of the application" in lines


def test_what_faulthandler_wrote_is_shown_as_it_is() -> None:
    dump = 'Thread 0x7f (most recent call first):\n  File "shop.py", line 7 in pay\n'
    result = StackResult(3, 4253, "faulthandler", text=dump)
    lines = text_of(stack_lines(result, libraries=False))
    assert "faulthandler" in lines[0] and lines[3:] == dump.rstrip().split("\n")
    assert stack_text(result) == dump


@pytest.mark.parametrize(
    ("taken_by", "beat_s", "deaf"),
    [("faulthandler", 7.0, True), ("faulthandler", 0.1, False), ("faulthandler", None, False),
     ("watchdog", 7.0, False)],
)  # fmt: skip
def test_who_had_to_be_dumped_and_is_still_silent_is_deaf(
    taken_by: Literal["watchdog", "faulthandler"], beat_s: float | None, deaf: bool
) -> None:
    one = worker(1, "stuck", heartbeat_age_s=beat_s)
    watched = Watched(identity(one))
    assert not watched.is_deaf
    watched.take_view(seen(one), ())
    watched.take_stack(0, StackResult(1, 4251, taken_by, text="Thread"))
    assert watched.is_deaf is deaf


def test_calls_left_out_and_threads_without_python() -> None:
    result = StackResult(3, 4253, "watchdog", (ThreadStack("MainThread", (), 0),), dropped=3)
    assert text_of(stack_lines(result, libraries=True)) == ["  3 calls left out: too many"]
    result = StackResult(3, 4253, "watchdog", (ThreadStack("MainThread", (), 0),))
    assert "no Python code" in text_of(stack_lines(result, libraries=True))[0]


def test_a_copied_stack_reads_like_a_traceback() -> None:
    text = stack_text(stack(4253, 0))
    assert text.startswith("worker 3 (pid 4253), MainThread, thread 0, GET /report/2024 for 12.4s (most")
    assert '  File "/srv/venv/site-packages/django/core/handlers/base.py", line 197, in _get_response' in text
    assert text.count("\n") == 8


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/srv/venv/lib/python3.13/site-packages/django/db/models/sql.py", "django/db/models/sql.py"),
        ("/usr/lib/python3.13/socket.py", "socket.py"),
        ("/usr/lib64/python3.11/json/decoder.py", "json/decoder.py"),
        ("/usr/lib/python3/dist-packages/yaml/loader.py", "yaml/loader.py"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
        ("/opt/other/thing.py", "/opt/other/thing.py"),
    ],
)
def test_paths_of_libraries(path: str, short: str) -> None:
    assert short_path(path) == short
    frame = Frame(path, 1, "f")
    lines = text_of(stack_lines(StackResult(1, 2, "watchdog", (ThreadStack("t", (frame,)),)), libraries=True))
    assert lines == [f"  f  {short}:1"]


# -- latencies -----------------------------------------------------------------------------------------------


def test_bins_are_as_fine_as_there_is_room() -> None:
    counts = histogram(4251).buckets
    assert len(bins(counts, 100)) > len(bins(counts, 15)) > len(bins(counts, 8)) >= 5
    fine = bins(counts, 15)
    assert [(one.low_ms, one.high_ms) for one in fine[:4]] == [(0.5, 1), (1, 2), (2, 5), (5, 10)]
    assert bin_of(8.0, fine) == 3 and bin_of(None, fine) is None and bin_of(99_999.0, fine) is None
    assert bins((), 5) == () and bins(counts, 0) == ()


@given(
    st.lists(st.tuples(st.floats(0.001, 4.3e6), st.integers(1, 1 << 48)), min_size=1, max_size=40),
    st.integers(1, 40),
)
def test_no_request_is_lost_between_bins(counts: list[tuple[float, int]], rows: int) -> None:
    found = bins(counts, rows)
    assert len(found) <= rows
    assert sum(one.number for one in found) == sum(number for _, number in counts)
    assert all(left.high_ms == right.low_ms for left, right in pairwise(found))
