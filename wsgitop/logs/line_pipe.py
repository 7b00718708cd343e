"""A pipe that many processes write lines to and one thread reads: how the access log's lines reach the master
when they are to go to syslog.

Who runs this: the reading thread is the pipe's own and does nothing but read and hand on, so that writers,
who never wait for it, lose nothing. It owns the read end; the write end is the master's, and its children
inherit copies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
from collections.abc import Callable

READ_BYTES = 64 * 1024
PIPE_BYTES = 1024 * 1024
LINE_LIMIT_BYTES = 64 * 1024


class LinePipe:
    """``take`` is called with whole lines, in the pipe's thread. ``write_fd`` is for those who write. Raises
    OSError if no pipe can be had.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._read_fd, self.write_fd = os.pipe()
        try:
            self._wake_reader, self._wake_writer = os.pipe()
        except OSError:
            os.close(self._read_fd)
            os.close(self.write_fd)
            raise
        # Writers that cannot open it for themselves, since they are another user, must not wait either.
        os.set_blocking(self.write_fd, False)
        os.set_blocking(self._read_fd, False)
        with contextlib.suppress(OSError):  # the user's allowance for pipes may be used up
            fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._partial = b""
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="wsgitop-lines", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Hand on what is there, and end, also if others keep the write end open."""
        os.close(self.write_fd)
        os.close(self._wake_writer)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            os.close(self._read_fd)
            os.close(self._wake_reader)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._read_fd, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        ends = False
        while not ends:
            ends = any(fd == self._wake_reader for fd, _ in poll.poll())
            while self._read():
                pass
            if not ends and self._ended:
                break
        if self._partial:
            self._take(self._partial + b"\n")

    def _read(self) -> bool:
        """Hand on what is there; true if there may be more."""
        try:
            data = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._ended = True
            return False
        lines, newline, self._partial = (self._partial + data).rpartition(b"\n")
        if newline:
            self._take(lines + newline)
        elif len(self._partial) > LINE_LIMIT_BYTES:
            self._take(self._partial + b"\n")
            self._partial = b""
        return True
