"""The logs for those who follow them over the control socket: lines as they come, bounded.

Who runs this: the loop of the master; lines of the error log are handed in by any thread. While nobody
follows a log it costs next to nothing: the last lines of the error log are remembered. The error log is
copied where it is written. The access log goes from the workers straight to its file, which is read from its
end while somebody follows it, four times a second; a rotated or truncated file is found again. What comes
faster than it can be passed on is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from wsgitop.control.publisher import LogName
from wsgitop.errors import ActionFailed
from wsgitop.logs.sink import Sink
from wsgitop.snapshot import printable

LINE_LIMIT: Final = 4000
PENDING_LIMIT: Final = 500
"""Lines of a log that wait for the loop; a traceback has a hundred."""
LOOK_S: Final = 0.25
PAST_BYTES: Final = 64 * 1024
"""Of the error log that are remembered for who comes later."""
READ_BYTES: Final = 128 * 1024
"""Of the access log at each look; behind more than that the look goes on at the end of the file."""


class LogStreams:
    """Follows the logs. ``access_log`` tells the path of the access log in force, '' for none, '-' for
    standard output. ``publish`` takes lines of a log and how many were lost before them; it is set by whoever
    has subscribers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sink: Sink, access_log: Callable[[], str]) -> None:
        self._loop = loop
        self._sink = sink
        self._access_log = access_log
        self._error_wanted = False
        self._lock = threading.Lock()
        self._pending: deque[bytes] = deque()
        self._past: deque[bytes] = deque()
        self._past_bytes = 0
        self._lost = 0
        self._scheduled = False
        self._tail: Tail | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.publish: Callable[[LogName, Sequence[str], int], None] = lambda _log, _lines, _dropped: None
        sink.copies = [*sink.copies, self._keep]

    def follow(self, error_log: bool, access_log: bool) -> None:
        """Which of them are followed from now on. Raises ActionFailed for an access log that is no file."""
        if access_log and self._tail is None:
            path = self._access_log()
            if not path:
                raise ActionFailed("there is no access log", "Start the server with --access-logfile FILE.")
            tail = Tail(path)
            if not tail.find(from_end=True):
                tail.close()
                raise ActionFailed(
                    f"the access log ({path}) is no file that could be followed",
                    "Follow where it goes to, or log to a file.",
                )
            self._tail = tail
            self._timer = self._loop.call_later(LOOK_S, self._look)
        elif not access_log:
            self._stop_tail()
        if error_log and not self._error_wanted:
            self._sink.copies = [*self._sink.copies, self._take]
        elif not error_log and self._error_wanted:
            # A new list: other threads may be walking over the old one.
            self._sink.copies = [copy for copy in self._sink.copies if copy != self._take]
        self._error_wanted = error_log

    def past_lines(self, log: LogName, count: int) -> list[str]:
        """The last lines of a log, as far as they are remembered; without those that are on the way to who
        follows it, so that nobody gets them twice."""
        if log == "error":
            with self._lock:
                data = b"".join(self._past)
                on_the_way = len(self._pending) + self._lost
            lines = [line for line in data.split(b"\n") if line]
            del lines[max(0, len(lines) - on_the_way) :]
        else:
            lines = Tail(self._access_log()).last(self._tail)
        return [as_shown(line) for line in lines[-count:]]

    def close(self) -> None:
        """Follow nothing any more."""
        self.follow(False, False)

    # -- error log

    def _keep(self, data: bytes) -> None:
        """In any thread: a piece of the error log, for those who come later."""
        with self._lock:
            self._past.append(data[-PAST_BYTES:])
            self._past_bytes += len(self._past[-1])
            while self._past_bytes > PAST_BYTES:
                self._past_bytes -= len(self._past.popleft())

    def _take(self, data: bytes) -> None:
        """In any thread: a piece of the error log."""
        with self._lock:
            lines = data.split(b"\n")
            for line in lines:
                if not line:
                    continue
                if len(self._pending) >= PENDING_LIMIT:
                    self._lost += 1
                else:
                    self._pending.append(line[: LINE_LIMIT * 4])
            if self._scheduled or not (self._pending or self._lost):
                return
            self._scheduled = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        with self._lock:
            lines, lost = list(self._pending), self._lost
            self._pending.clear()
            self._lost = 0
            self._scheduled = False
        # The newest were dropped, so the count belongs behind these lines, before the next ones.
        self.publish("error", [as_shown(line) for line in lines], 0)
        if lost:
            self.publish("error", [], lost)

    # -- access log

    def _look(self) -> None:
        tail = self._tail
        if tail is None:
            return
        self._timer = self._loop.call_later(LOOK_S, self._look)
        path = self._access_log()
        if path != tail.path:  # a reload has changed it
            tail.close()
            self._tail = tail = Tail(path)
        lines, dropped = tail.read()
        if lines or dropped:
            self.publish("access", [as_shown(line) for line in lines], dropped)

    def _stop_tail(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tail is not None:
            self._tail.close()
            self._tail = None


class Tail:
    """The lines that are added to the file ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._identity = (0, 0)
        self._offset = 0
        self._partial = b""

    def find(self, *, from_end: bool) -> bool:
        """Open the file, at its end or its beginning; whether there is one that can be read."""
        if self.path in ("", "-"):
            return False
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return False
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            return False
        self.close()
        self._fd = fd
        self._identity = (status.st_dev, status.st_ino)
        self._offset = status.st_size if from_end else 0
        return True

    def read(self) -> tuple[list[bytes], int]:
        """What has been added: whole lines, and how many were passed over. Never raises for a file that is
        gone: it is looked for again.
        """
        if self._fd < 0 and not self.find(from_end=False):
            return [], 0
        lines, dropped = self._read_on()
        if self._is_replaced():
            more, passed = self._read_on()  # what came before it was renamed
            lines, dropped = lines + more, dropped + passed
            self.find(from_end=False)
        return lines, dropped

    def last(self, followed: Tail | None = None) -> list[bytes]:
        """The lines at the end of the file, as many as one look reads, but not what the tail ``followed`` has
        yet to read; the tail is closed afterwards.
        """
        if not self.find(from_end=True):
            return []
        if followed is not None and followed._identity == self._identity:
            self._offset = min(self._offset, followed._offset)
        try:
            start = max(0, self._offset - READ_BYTES)
            data = os.pread(self._fd, self._offset - start, start)
        except OSError:
            return []
        finally:
            self.close()
        lines = data.split(b"\n")[:-1]
        return [line for line in (lines[1:] if start else lines) if line]

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._partial = b""

    def _is_replaced(self) -> bool:
        try:
            status = Path(self.path).stat()
        except OSError:
            return False  # rotated away, and not made again yet: the old one may still be written to
        return (status.st_dev, status.st_ino) != self._identity

    def _read_on(self) -> tuple[list[bytes], int]:
        size = os.fstat(self._fd).st_size
        if size < self._offset:  # truncated
            self._offset, self._partial = 0, b""
        passed_over = 0
        if size - self._offset > READ_BYTES:
            passed_over = self._skip_to(size - READ_BYTES)
        try:
            data = os.pread(self._fd, READ_BYTES, self._offset)
        except OSError:
            return [], passed_over
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[-LINE_LIMIT * 4 :]
        return [line for line in lines if line], passed_over

    def _skip_to(self, offset: int) -> int:
        """Go on behind the first line end from ``offset``; about how many lines that leaves out."""
        skipped = offset - self._offset
        ahead = os.pread(self._fd, LINE_LIMIT * 4, offset)
        end = ahead.find(b"\n")
        self._offset = offset + end + 1
        self._partial = b""
        longest = max(1, len(ahead) // max(1, ahead.count(b"\n")))
        return max(1, skipped // longest)


def as_shown(line: bytes) -> str:
    """A line of a log for a terminal: nothing in it can steer one."""
    return printable(line.decode("utf-8", "backslashreplace").expandtabs(), LINE_LIMIT)
