"""The scoreboard itself: made by the master, attached by zygote and workers, read by the master alone.

Who runs this: ``Board.create`` and the ``read_*`` functions run in the master, ``Board.attach`` in zygote and
workers. ``ThreadBlock`` belongs to one thread of a worker, which is the only one to write through it.
Why a memfd with seals: it needs no name in a file system, dies with its users, and a worker cannot shrink it,
which would kill the master by SIGBUS. Why whole words through ``memoryview.cast('Q')``: a word is stored by
one instruction, where ``struct.pack_into`` with an explicit byte order copies bytes, so that a reader could
see half of a number.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from typing import NamedTuple

from wsgitop.scoreboard import layout as at

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
MAX_BOARD_BYTES = 256 * 1024 * 1024
MAX_ROWS = 1024


class Board:
    """A mapped scoreboard of ``rows`` rows for workers of ``threads`` threads; ``words`` is all of it."""

    def __init__(self, fd: int, rows: int, threads: int) -> None:
        size = at.board_bytes(rows, threads)
        self.fd = fd
        self.rows = rows
        self.threads = threads
        self._row_words = at.row_words(threads)
        self._map = mmap.mmap(fd, size)
        self.words: memoryview = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, threads: int) -> Board:
        """A new, zeroed and sealed scoreboard with as many rows as are sensible for this many threads."""
        rows = max(8, min(MAX_ROWS, MAX_BOARD_BYTES // at.board_bytes(1, threads)))
        fd = os.memfd_create("wsgitop-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, at.board_bytes(rows, threads))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return cls(fd, rows, threads)

    @classmethod
    def attach(cls, fd: int, rows: int, threads: int) -> Board:
        """Map a scoreboard that the master made. ``rows`` and ``threads`` come with the descriptor."""
        return cls(fd, rows, threads)

    def row(self, row: int) -> memoryview:
        """The words of one row."""
        if not 0 <= row < self.rows:
            raise IndexError(f"scoreboard row {row} of {self.rows}")
        start = row * self._row_words
        return self.words[start : start + self._row_words]

    def thread(self, row: int, thread: int) -> memoryview:
        """The words of one thread's block."""
        if not 0 <= thread < self.threads:
            raise IndexError(f"thread {thread} of {self.threads}")
        start = at.PROCESS_WORDS + thread * at.THREAD_WORDS
        return self.row(row)[start : start + at.THREAD_WORDS]

    def clear(self, row: int) -> None:
        """Zero a row; only for rows that no process uses."""
        words = self.row(row)
        words.cast("B")[:] = bytes(len(words) * at.WORD_BYTES)

    def close(self) -> None:
        """Close the descriptor, and unmap if no view is left; otherwise the last view to go unmaps."""
        os.close(self.fd)
        with contextlib.suppress(BufferError):
            self.words.release()
            self._map.close()


class RequestText(NamedTuple):
    """What a thread is serving, as raw bytes; whoever shows it escapes it first."""

    method: bytes
    path: bytes
    client: bytes


_PATH_AT = at.METHOD_BYTES
_CLIENT_AT = at.METHOD_BYTES + at.PATH_BYTES


def write_text(block: memoryview, text: memoryview, method: bytes, path: bytes, client: bytes) -> None:
    """Put method, path and client into a thread's block. ``text`` is :func:`text_bytes` of that block, made
    once.

    The sequence is odd in between, so a reader that meets a half-written text can tell.
    """
    method = method[: at.METHOD_BYTES]
    path = path[: at.PATH_BYTES]
    client = client[: at.CLIENT_BYTES]
    sequence = block[at.TEXT_SEQUENCE]
    block[at.TEXT_SEQUENCE] = sequence | 1
    # One copy of the whole is cheaper than three of its parts.
    whole = method.ljust(at.METHOD_BYTES) + path.ljust(at.PATH_BYTES) + client
    text[: len(whole)] = whole
    block[at.TEXT_LENGTHS] = len(method) | len(path) << 16 | len(client) << 32
    block[at.TEXT_SEQUENCE] = (sequence | 1) + 1


def text_bytes(block: memoryview) -> memoryview:
    """The text region of a thread's block as bytes."""
    return block[at.TEXT : at.TEXT + at.TEXT_WORDS].cast("B")


def read_text(block: memoryview) -> RequestText | None:
    """Method, path and client of a thread's block; None if it was being written each time (three tries)."""
    for _ in range(3):
        before = block[at.TEXT_SEQUENCE]
        if before & 1:
            continue
        lengths = block[at.TEXT_LENGTHS]
        data = bytes(text_bytes(block))
        if block[at.TEXT_SEQUENCE] == before:
            # Lengths come from another process: cap them, a corrupt row may spoil its own figures only.
            method = min(lengths & 0xFFFF, at.METHOD_BYTES)
            path = min(lengths >> 16 & 0xFFFF, at.PATH_BYTES)
            client = min(lengths >> 32 & 0xFFFF, at.CLIENT_BYTES)
            return RequestText(
                data[:method], data[_PATH_AT : _PATH_AT + path], data[_CLIENT_AT : _CLIENT_AT + client]
            )
    return None
