"""Where the master's log lines go: a file or standard error, written by a thread.

Who runs this: any thread may call ``write``; one thread of the sink writes. Why a thread: a terminal that was
stopped with Ctrl-S, or a disk that hangs, blocks a write for as long as it likes, and the master's loop must
not wait for it. The queue is bounded; what does not fit is dropped and counted, and the count is written when
there is room again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable

from wsgitop.errors import ConfigError
from wsgitop.logs.safe_path import ForeignLink, open_as_root

QUEUE_LIMIT_BYTES = 4 * 1024 * 1024


class Sink:
    """An append-only destination. ``path`` is a file, or ``-`` for the descriptor ``fallback_fd``.

    Each of ``copies`` gets all that is written, in the thread that writes it, and must not wait.
    """

    def __init__(self, path: str, fallback_fd: int = 2) -> None:
        self.path = path
        self._fallback_fd = fallback_fd
        self._fd = open_log(path, fallback_fd)
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._torn = False
        self._closing = False
        self.copies: list[Callable[[bytes], None]] = []
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="wsgitop-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue whole lines; never blocks for longer than the lock is held."""
        for copy in self.copies:
            copy(data)
        with self._change:
            if self._bytes + len(data) > QUEUE_LIMIT_BYTES:
                self._dropped += data.count(b"\n")
                return
            self._lines.append(data)
            self._bytes += len(data)
            self._change.notify()

    def reopen(self) -> None:
        """Open the path again, after log rotation. Raises ConfigError and keeps the old file."""
        fresh = open_log(self.path, self._fallback_fd)
        # Not a swap of numbers: the thread may be in the middle of a write, and a number that is closed under
        # it may be a socket a moment later.
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, within ``timeout_s``, and end. May be called again."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive() and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._lines and not self._closing:
                    self._change.wait()
                if not self._lines:
                    return
                data = b"".join(self._lines)
                self._lines.clear()
                self._bytes = 0
                if self._dropped:
                    data += b"[wsgitop] the log was too slow: %d lines were dropped\n" % self._dropped
                    self._dropped = 0
                fd = self._fd
            self._put(fd, data)

    def _put(self, fd: int, data: bytes) -> None:
        # What a disk that was full has taken the half of must not run into the next line.
        view = memoryview(b"\n" + data if self._torn else data)
        while view:
            try:
                sent = os.write(fd, view)
                self._torn = sent < len(view) and view[sent - 1] != ord("\n")
                view = view[sent:]
            except OSError:
                # A full disk or a closed terminal: there is nowhere to say it. The lines count as dropped.
                with self._change:
                    self._dropped += bytes(view).count(b"\n")
                return


_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
"""Names that cannot be opened where the stream is a socket, as under systemd, or another user's."""


def open_log(path: str, fallback_fd: int) -> int:
    """A descriptor for a log: ``-`` duplicates ``fallback_fd``, otherwise the file is opened for appending.

    Root follows no link that another user can have laid, in a directory of his: it would append to whatever
    file that user wants, and show it to who follows the log.

    Raises ConfigError, for a named pipe without a reader too.
    """
    if path == "-":
        return os.dup(fallback_fd)
    # O_NONBLOCK is for the opening: that of a named pipe would wait for a reader, and the server with it.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = open_as_root(path, flags, 0o644) if os.geteuid() == 0 else os.open(path, flags, 0o644)
    except ForeignLink as link:
        raise ConfigError(
            f"log file {path} cannot be opened: {link.name} is a link in a directory that others than root"
            " can write to",
            "Name the file itself, or keep the link in a directory of root's.",
        ) from None
    except OSError as error:
        number = _STREAMS.get(path)
        if number is not None:
            return os.dup(number)
        raise ConfigError(
            f"log file {path} cannot be opened: {error.strerror}", "Check the directory and its permissions."
        ) from None
    os.set_blocking(fd, True)
    return fd


class SinkHandler(logging.Handler):
    """The master's own log records, in the format of the error log."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Format and queue one record."""
        try:
            self._sink.write((self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - the logging module's own rule: a log call never raises into the program
            self.handleError(record)
