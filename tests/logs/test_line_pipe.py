"""Lines from many processes to one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from wsgitop.logs.line_pipe import LINE_LIMIT_BYTES, LinePipe


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = sorted(Path("/proc/self/fd").iterdir())
    yield
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_whole_lines_are_handed_on() -> None:
    taken: list[bytes] = []
    pipe = LinePipe(taken.append)
    pipe.start()
    os.write(pipe.write_fd, b"one\ntw")
    eventually(lambda: taken == [b"one\n"])
    os.write(pipe.write_fd, b"o\nthr")
    eventually(lambda: taken == [b"one\n", b"two\n"])
    pipe.close()
    assert taken[2:] == [b"thr\n"], "what is left at the end"


def test_a_line_without_end_is_cut() -> None:
    taken: list[bytes] = []
    pipe = LinePipe(taken.append)
    pipe.start()
    os.write(pipe.write_fd, b"x" * (LINE_LIMIT_BYTES + 1))
    eventually(lambda: sum(map(len, taken)) > LINE_LIMIT_BYTES)
    pipe.close()


def test_the_end_does_not_wait_for_other_writers() -> None:
    taken: list[bytes] = []
    pipe = LinePipe(taken.append)
    other = os.dup(pipe.write_fd)
    pipe.start()
    os.write(other, b"last words\n")
    pipe.close()
    assert taken == [b"last words\n"]
    os.close(other)


def test_writers_that_are_gone_do_not_keep_the_thread_busy() -> None:
    taken: list[bytes] = []
    pipe = LinePipe(taken.append)
    other = os.dup(pipe.write_fd)
    pipe.start()
    os.close(other)
    os.write(pipe.write_fd, b"still\n")
    eventually(lambda: taken == [b"still\n"])
    pipe.close()
