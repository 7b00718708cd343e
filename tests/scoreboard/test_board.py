"""The shared memory: rows, text under a sequence number, and what another process can do to it."""

from __future__ import annotations

import errno
import mmap
import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import MAX_BOARD_BYTES, Board, RequestText, read_text, text_bytes, write_text

FULL = (1 << 64) - 1


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(threads=2)
    yield board
    board.close()


def test_rows_do_not_overlap(board: Board) -> None:
    for index in range(2):
        board.thread(3, index)[:] = memoryview(b"\xff" * at.THREAD_WORDS * 8).cast("Q")
    assert not any(board.row(2)) and not any(board.row(4))
    assert not any(board.row(3)[: at.PROCESS_WORDS])
    assert all(board.row(3)[at.PROCESS_WORDS :])
    board.clear(3)
    assert not any(board.row(3))


@pytest.mark.parametrize(("row", "thread"), [(-1, 0), (10**6, 0), (0, 2), (0, -1)])
def test_outside(board: Board, row: int, thread: int) -> None:
    with pytest.raises(IndexError):
        board.thread(row, thread)


@pytest.mark.parametrize("threads", [1, 8, 256])
def test_size_is_bounded(threads: int) -> None:
    board = Board.create(threads)
    try:
        assert board.rows >= 8
        assert os.fstat(board.fd).st_size <= MAX_BOARD_BYTES
    finally:
        board.close()


@pytest.mark.parametrize("size", [0, 4096, 1 << 40])
def test_nobody_can_cut_the_ground_from_under_the_master(board: Board, size: int) -> None:
    with pytest.raises(OSError) as caught:
        os.ftruncate(board.fd, size)
    assert caught.value.errno == errno.EPERM


def test_text(board: Board) -> None:
    block = board.thread(0, 0)
    text = text_bytes(block)
    write_text(block, text, b"GET", b"/a/path", b"127.0.0.1:5000")
    assert read_text(block) == RequestText(b"GET", b"/a/path", b"127.0.0.1:5000")
    write_text(block, text, b"M" * 99, b"/" + b"p" * 999, b"c" * 99)
    assert read_text(block) == RequestText(
        b"M" * at.METHOD_BYTES, b"/" + b"p" * (at.PATH_BYTES - 1), b"c" * at.CLIENT_BYTES
    )
    write_text(block, text, b"", b"/", b"")
    assert read_text(block) == RequestText(b"", b"/", b"")


def test_text_that_is_being_written_is_not_shown(board: Board) -> None:
    block = board.thread(0, 0)
    write_text(block, text_bytes(block), b"GET", b"/", b"me")
    block[at.TEXT_SEQUENCE] |= 1
    assert read_text(block) is None


def test_text_of_a_writer_that_died_in_the_middle_can_be_written_again(board: Board) -> None:
    block = board.thread(0, 0)
    block[at.TEXT_SEQUENCE] = 7
    write_text(block, text_bytes(block), b"GET", b"/", b"me")
    assert block[at.TEXT_SEQUENCE] % 2 == 0
    assert read_text(block) == RequestText(b"GET", b"/", b"me")


def test_corrupt_lengths_are_capped(board: Board) -> None:
    block = board.thread(0, 0)
    block[at.TEXT_LENGTHS] = FULL
    text = read_text(block)
    assert text is not None
    assert [len(part) for part in text] == [at.METHOD_BYTES, at.PATH_BYTES, at.CLIENT_BYTES]


def test_no_torn_text_under_a_racing_writer(board: Board) -> None:
    block = board.thread(0, 0)
    texts = [(bytes([letter]) * 9, bytes([letter]) * 170, bytes([letter]) * 40) for letter in b"ab"]
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        text = text_bytes(block)
        while True:
            for method, path, client in texts:
                write_text(block, text, method, path, client)
                for _ in range(200):  # as long as a request: else a reader hardly ever finds a whole text
                    pass
    try:
        seen: Counter[RequestText] = Counter()

        def enough() -> bool:
            for _ in range(500):
                found = read_text(block)
                if found is not None and found.path:
                    seen[found] += 1
            return sum(seen.values()) > 1000 and len(seen) >= 2

        eventually(enough, what="texts to read")
        assert set(seen) == {RequestText(*text) for text in texts}, "parts of two requests mixed"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_attached_in_another_process(board: Board) -> None:
    pid = os.fork()
    if pid == 0:
        attached = Board.attach(os.dup(board.fd), board.rows, board.threads)
        attached.row(5)[at.PID] = os.getpid()
        write_text(attached.thread(5, 1), text_bytes(attached.thread(5, 1)), b"PUT", b"/there", b"-")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert board.row(5)[at.PID] == pid
    assert read_text(board.thread(5, 1)) == RequestText(b"PUT", b"/there", b"-")


def test_close_gives_everything_back() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as in the master, no objects in between

    before = descriptors()
    boards = [Board.create(1) for _ in range(5)]
    view = boards[0].row(0)
    for board in boards:
        board.close()
    assert descriptors() == before + 1, "one is still looked at"
    view.release()
    del boards, board
    assert descriptors() == before


def test_a_mapping_of_the_wrong_size_is_refused(board: Board) -> None:
    with pytest.raises((ValueError, OSError)):
        mmap.mmap(board.fd, os.fstat(board.fd).st_size + mmap.PAGESIZE)
