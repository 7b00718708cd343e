"""The logs for those who follow them over the control socket: lines as they come, bounded.

Who runs this: the loop of the master; lines of the error log are handed in by any thread. While nobody
follows a log it costs next to nothing: the last lines of the error log are remembered. The error log is
copied where it is written. The access log goes from the workers straight to its file, which is read from its
end while somebody follows it, four times a second; behind a rotation it goes on with the file that was opened
then, and a truncated one is read from its beginning. What comes faster than it can be passed on is dropped
and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from wsgitop.control.publisher import LogName
from wsgitop.errors import ActionFailed
from wsgitop.logs.sink import Sink
from wsgitop.master.reload_logs import AccessLog
from wsgitop.snapshot import printable

LINE_LIMIT: Final = 4000
PENDING_LIMIT: Final = 500
"""Lines of a log that wait for the loop; a traceback has a hundred."""
MARK: Final = "[wsgitop]"
"""Before a line that is not the log's own."""
LOOK_S: Final = 0.25
PAST_BYTES: Final = 64 * 1024
"""Of the error log that are remembered for who comes later."""
READ_BYTES: Final = 128 * 1024
"""Of the access log at each look; behind more than that the look goes on at the end of the file."""


class LogStreams:
    """Follows the logs. ``access_log`` tells the access log in force, its path '' for none, '-' for standard
    output. ``publish`` takes lines of a log and how many were lost before them, ``end`` the line that tells
    followers of a log that no more will come; both are set by whoever has subscribers.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sink: Sink, access_log: Callable[[], AccessLog]
    ) -> None:
        self._loop = loop
        self._access_log = access_log
        self._lock = threading.Lock()
        self._error_wanted = False
        self._pending: deque[bytes] = deque()
        self._past: deque[bytes] = deque()
        self._past_bytes = 0
        self._lost = 0
        self._scheduled = False
        self._tail: Tail | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.publish: Callable[[LogName, Sequence[str], int], None] = lambda _log, _lines, _dropped: None
        self.end: Callable[[LogName, str], None] = lambda _log, _text: None
        sink.copies = [*sink.copies, self._take]

    def follow(self, error_log: bool, access_log: bool) -> None:
        """Which of them are followed from now on. Raises ActionFailed for an access log that is no file."""
        if access_log and self._tail is None:
            tail = Tail(self._access_log)
            if not tail.find(from_end=True):
                raise self._no_access_log()
            self._tail = tail
            self._timer = self._loop.call_later(LOOK_S, self._look)
        elif not access_log:
            self._stop_tail()
        with self._lock:
            self._error_wanted = error_log
            if not error_log:
                self._pending.clear()
                self._lost = 0

    def past_lines(self, log: LogName, count: int) -> list[str]:
        """The last lines of a log, as far as they are remembered.

        Those who follow it have them all when this returns, and nobody gets one of them later: who follows
        from here on gets each line once.
        """
        if log == "error":
            with self._lock:
                data = b"".join(self._past)
                waiting = self._taken()
            self._publish_errors(*waiting)
            lines = [line for line in data.split(b"\n") if line]
        elif self._tail is not None:
            self._read_on(self._tail)
            lines = self._tail.last() if self._tail is not None else []
        else:
            tail = Tail(self._access_log)
            lines = tail.last() if tail.find(from_end=True) else []
            tail.close()
        return [as_shown(line) for line in lines[-count:]]

    def close(self) -> None:
        """Follow nothing any more."""
        self.follow(False, False)

    # -- error log

    def _take(self, data: bytes) -> None:
        """In any thread: a piece of the error log, for those who come later and those who follow it."""
        with self._lock:
            # Both with the same lock: no line may be past for who comes now, and pending as well.
            self._past.append(data[-PAST_BYTES:])
            self._past_bytes += len(self._past[-1])
            while self._past_bytes > PAST_BYTES:
                self._past_bytes -= len(self._past.popleft())
            if not self._error_wanted:
                return
            for line in data.split(b"\n"):
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
            self._scheduled = False
            waiting = self._taken()
        self._publish_errors(*waiting)

    def _taken(self) -> tuple[list[bytes], int]:
        """With the lock: the lines that wait, and how many were lost behind them."""
        waiting = list(self._pending), self._lost
        self._pending.clear()
        self._lost = 0
        return waiting

    def _publish_errors(self, lines: list[bytes], lost: int) -> None:
        if lines:
            self.publish("error", [as_shown(line) for line in lines], 0)
        # The newest were dropped, so the count belongs behind these lines, before the next ones.
        if lost:
            self.publish("error", [], lost)

    # -- access log

    def _look(self) -> None:
        if self._tail is None:
            return
        self._timer = self._loop.call_later(LOOK_S, self._look)
        self._read_on(self._tail)

    def _read_on(self, tail: Tail) -> None:
        lines, dropped = tail.read()
        if lines or dropped:
            self.publish("access", [as_shown(line) for line in lines], dropped)
        if not tail.is_open:  # a reload has changed the log to one that cannot be followed
            self._stop_tail()
            self.end("access", f"{MARK} the lines end here: {self._no_access_log().cause}")

    def _no_access_log(self) -> ActionFailed:
        path = self._access_log().path
        if not path:
            return ActionFailed("there is no access log", "Start the server with --access-logfile FILE.")
        return ActionFailed(
            f"the access log ({path}) is no file that could be followed",
            "Follow where it goes to, or log to a file.",
        )

    def _stop_tail(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tail is not None:
            self._tail.close()
            self._tail = None


class Tail:
    """The lines that are added to the access log that ``held`` tells of.

    It is read by a copy of the descriptor that the master writes by, never by its path: who can write to its
    directory could have the master read another file to him.
    """

    def __init__(self, held: Callable[[], AccessLog]) -> None:
        self._held = held
        self._fd = -1
        self._identity = (0, 0)
        self._offset = 0
        self._partial = b""
        self._lingers = False

    @property
    def is_open(self) -> bool:
        """Whether there is a file to read."""
        return self._fd >= 0

    def find(self, *, from_end: bool) -> bool:
        """Take the file that is the log now: from its end, or from where it became the log. Whether it can be
        read.
        """
        self.close()
        log = self._held()
        if log.path in ("", "-"):
            return False
        try:
            if not stat.S_ISREG(os.fstat(log.fd).st_mode):
                return False
            # Not dup(2): the master's own descriptor can only be written to.
            self._fd = os.open(
                f"/proc/self/fd/{log.fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            )
        except OSError:
            return False
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        self._offset = self._last_start(status.st_size) if from_end else log.new_from
        return True

    def read(self) -> tuple[list[bytes], int]:
        """What has been added: whole lines, and how many were passed over. The second time after the log has
        become one that cannot be read, the tail is closed.
        """
        if not self.is_open:
            return [], 0
        lines, dropped = self._read_on()
        if self._is_replaced():
            if not self._lingers:
                self._lingers = True  # until the next look: workers change over a little later
            elif self.find(from_end=False):
                more, passed = self._read_on()
                lines, dropped = lines + more, dropped + passed
        return lines, dropped

    def last(self) -> list[bytes]:
        """The lines before the next one that :meth:`read` returns, as many as one look reads."""
        start = max(0, self._offset - READ_BYTES)
        try:
            data = os.pread(self._fd, self._offset - start, start)
        except OSError:
            return []
        lines = data.split(b"\n")[:-1]
        return [line for line in (lines[1:] if start else lines) if line]

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._partial = b""
        self._lingers = False

    def _is_replaced(self) -> bool:
        status = os.fstat(self._held().fd)
        return (status.st_dev, status.st_ino) != self._identity

    def _last_start(self, size: int) -> int:
        """Where the last line begins that is not complete, at most ``size``: the kernel may show the half of
        one that is being written.
        """
        start = max(0, size - LINE_LIMIT * 4)
        try:
            end = os.pread(self._fd, size - start, start).rfind(b"\n")
        except OSError:
            return size
        return start + end + 1 if end >= 0 or not start else size

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
