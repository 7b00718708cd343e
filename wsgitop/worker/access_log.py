"""The access log: a line for each request, written at once, with one write, to a descriptor that all workers
share.

What the descriptor is decides what a write may cost. A file takes a line at once. A pipe, a terminal or a
socket takes it when its reader has read: to wait for a reader that is slow, or that somebody has stopped with
Ctrl-S, would stop the site. So these are written to without ever waiting; what they do not take is kept, up
to a limit, and written by a thread of its own as soon as they do. Beyond the limit lines are lost and
counted. A log of another time may be missed; the site may not.

To be written at once a line in a pipe must be no longer than PIPE_BUF, else lines of several workers mix and
what is in one could pass for another: there, the texts of a longer one are shortened.
"""

from __future__ import annotations

import atexit
import errno
import functools
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from wsgitop.http.head import Request
from wsgitop.logs.error_log import LOGGER
from wsgitop.worker.log_line import Line, compile_line
from wsgitop.wsgi.response import Response

KEPT_BYTES: Final = 1024 * 1024
"""How much is kept for a slow reader."""
QUIET_S: Final = 60.0
"""The error log says at most so often that lines are lost."""
FAREWELL_S: Final = 0.5
"""How long a worker that ends waits for a slow reader of what is kept."""


class AccessWriter(Protocol):
    """What takes a line for each finished request; the methods are those of :class:`AccessLog`."""

    def write(
        self,
        request: Request,
        response: Response,
        environ: Mapping[str, object],
        client: str,
        elapsed_ns: int,
    ) -> None: ...

    def reopen(self, fd: int) -> None: ...

    def close(self) -> None: ...


class AccessLog:
    """Writes lines to ``fd``, which it takes over and which :meth:`reopen` replaces under running threads.

    ``text`` is the format. Raises ConfigError.
    """

    def __init__(self, fd: int, text: str) -> None:
        self._fd = fd
        self._text = text
        self._line = compile_line(text)
        self._short_line: Line | None = None
        self._longest_bytes = sys.maxsize
        self._socket: socket.socket | None = None
        self._send: Callable[[bytes], int]
        self._take_over()
        # All below is changed with the lock held. While all is well none of it is: a write then looks at one
        # flag.
        self._lock = threading.Lock()
        self._troubled = False
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._keeper: threading.Thread | None = None
        self._torn = False  # what was written last ends within a line
        self._lost = 0
        self._complained = False
        self._quiet_until_s = 0.0

    # -- for any thread --------------------------------------------------------------------------------

    def write(
        self,
        request: Request,
        response: Response,
        environ: Mapping[str, object],
        client: str,
        elapsed_ns: int,
    ) -> None:
        """One line for a finished request. ``client`` is its address, '' on a unix socket; ``elapsed_ns`` is
        from the call of the application to the end of the response; ``environ`` serves %({name}e)s only,
        since an application may have changed or emptied it.
        """
        try:
            line = self._line(request, response, environ, client, elapsed_ns)
            if len(line) > self._longest_bytes:
                if self._short_line is None:
                    self._short_line = compile_line(self._text, self._longest_bytes)
                line = self._short_line(request, response, environ, client, elapsed_ns)
        except Exception as error:  # noqa: BLE001 - what an application has put into environ costs its line only
            with self._lock:
                self._lose(1, repr(error))
            return
        if not self._troubled:
            try:
                sent = self._send(line)
            except OSError as error:
                self._go_on(line, 0, error)
            else:
                if sent != len(line):
                    self._go_on(line, sent, None)
        else:
            self._write_in_trouble(line)

    def reopen(self, fd: int) -> None:
        """Go on with another file. ``fd`` is taken over; the number in use stays the same, so no line is lost
        or split.
        """
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self._take_over()

    def close(self) -> None:
        """Let go of the descriptor, in a process that the application forked."""
        if self._socket is not None:
            self._socket.detach()
        os.close(self._fd)

    # -- the descriptor --------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Find out how to write to the descriptor without waiting for a reader."""
        fd = self._fd
        mode = os.fstat(fd).st_mode
        send: Callable[[bytes], int] = functools.partial(os.write, fd)
        longest_bytes = select.PIPE_BUF
        if stat.S_ISSOCK(mode):
            if self._socket is None:
                # SOCK_NONBLOCK is for the object only. It must not touch the flags of what others share.
                kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_UNIX, kind, fileno=fd)
            send = functools.partial(_send_to_socket, self._socket)
        elif stat.S_ISFIFO(mode) or os.isatty(fd):
            if not self._unshare():
                send = self._send_if_writable
        else:
            longest_bytes = sys.maxsize
        self._send = send
        self._longest_bytes = longest_bytes

    def _unshare(self) -> bool:
        """Open the pipe or terminal once more: O_NONBLOCK belongs to what was opened, and that is shared with
        whoever started the server, perhaps a shell. False: it cannot be, being another user's.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fresh = os.open(f"/proc/self/fd/{self._fd}", flags)
        except OSError:
            return False
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)
        return True

    def _send_if_writable(self, line: bytes) -> int:
        """For a descriptor that may block: it does not after this look, unless a sibling is quicker."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.write(self._fd, line)

    # -- trouble ---------------------------------------------------------------------------------------

    def _write_in_trouble(self, line: bytes) -> None:
        with self._lock:
            if self._kept:
                self._keep(line)
                return
            if self._torn:
                line = b"\n" + line
        try:
            sent = self._send(line)
        except OSError as error:
            self._go_on(line, 0, error)
        else:
            self._go_on(line, sent, None)

    def _go_on(self, line: bytes, sent: int, error: OSError | None) -> None:
        """Behind a write that took ``sent`` bytes of a line, or failed."""
        with self._lock:
            self._troubled = True
            if sent:
                self._torn = sent < len(line)
            if self._torn and not error and not self._kept:
                # Once more: either the rest goes, or the reason for the short write comes out.
                line = line[sent:]
                try:
                    sent = self._send(line)
                    self._torn = sent < len(line)
                except OSError as reason:
                    sent, error = 0, reason
            if error is not None and not isinstance(error, BlockingIOError):
                self._lose(1, error)
            elif sent < len(line):
                self._keep(line[sent:])
            else:
                self._calm_down()

    def _calm_down(self) -> None:
        """Something was written. With the lock held."""
        if self._lost and (self._complained or time.monotonic() >= self._quiet_until_s):
            LOGGER.warning("The access log is written again; lines lost: %d", self._lost)
            self._lost = 0
            self._complained = False
        self._troubled = bool(self._kept or self._torn or self._lost)

    def _lose(self, count: int, cause: object) -> None:
        """Say why, but not for each of many lines. With the lock held."""
        self._troubled = True
        self._lost += count
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + QUIET_S
            self._complained = True
            LOGGER.error("Cannot write the access log: %s; lines are lost", cause)

    # -- a slow reader ---------------------------------------------------------------------------------

    def _keep(self, line: bytes) -> None:
        """With the lock held."""
        if self._kept_bytes + len(line) > KEPT_BYTES:
            self._lose(1, "its reader is too slow")
            return
        self._kept.append(line)
        self._kept_bytes += len(line)
        if self._keeper is not None:
            return
        self._keeper = threading.Thread(target=self._write_kept, name="wsgitop-access-log", daemon=True)
        try:
            self._keeper.start()
        except RuntimeError:  # no more threads can be had: the next line tries again
            self._keeper = None
        else:
            atexit.register(self._bid_farewell, os.getpid())

    def _write_kept(self) -> None:
        """The life of the keeper: until nothing is kept any more."""
        while self._keeper is not None:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll(1000)  # not for ever: the descriptor may be another's meanwhile
            line = self._kept[0]  # nobody else takes from it
            try:
                sent = self._send(line)
            except BlockingIOError:
                continue
            except OSError as error:
                with self._lock:
                    self._lose(len(self._kept), error)
                    self._kept.clear()
                    self._kept_bytes = 0
                    self._keeper = None
                break
            with self._lock:
                self._kept_bytes -= sent
                self._torn = sent < len(line)
                if self._torn:
                    self._kept[0] = line[sent:]
                else:
                    self._kept.popleft()
                if not self._kept:
                    self._keeper = None
                    self._calm_down()
        atexit.unregister(self._bid_farewell)

    def _bid_farewell(self, pid: int) -> None:
        """When the process ends, and not in one that the application has forked."""
        keeper = self._keeper
        if keeper is not None and pid == os.getpid():
            keeper.join(FAREWELL_S)


def _send_to_socket(sock: socket.socket, line: bytes) -> int:
    return sock.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
