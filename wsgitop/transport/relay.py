"""Pumping bytes between standard streams and a socket, in both directions at once.

Two threads with blocking calls, one for each direction: each holds one block and takes the next when that is
written, so that a slow reader slows down the writer on the other side and nothing piles up here. Not
descriptors that do not block, as an event loop would want them: that is a property of the open file, which
others (a shell, a terminal) share.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading

BLOCK_BYTES = 64 * 1024


def pump(sock: socket.socket, in_fd: int = 0, out_fd: int = 1) -> None:
    """Carry bytes from ``in_fd`` to ``sock`` and from there to ``out_fd``.

    The end of the input is passed on, what the other side then still says is written. Returns when the other
    side has ended, or nobody reads any more.
    """
    sock.setblocking(True)
    # It may be waiting for input for ever when the answers have ended: the interpreter does not wait for it.
    threading.Thread(target=_ask, args=(in_fd, sock), daemon=True).start()
    _answer(sock, out_fd)


def _ask(in_fd: int, sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := _read(in_fd):
            sock.sendall(block)
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _answer(sock: socket.socket, out_fd: int) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    # For no event: that its reader is gone is told unasked, also while there is nothing to write.
    poller.register(out_fd, 0)
    with contextlib.suppress(OSError):
        while True:
            if any(fd == out_fd for fd, _events in poller.poll()):
                return
            block = sock.recv(BLOCK_BYTES)
            if not block:
                return
            _write(out_fd, block)


def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, BLOCK_BYTES)
        except BlockingIOError:
            _wait(fd, select.POLLIN)


def _write(fd: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            _wait(fd, select.POLLOUT)


def _wait(fd: int, events: int) -> None:
    """For descriptors that somebody else has made non-blocking."""
    poller = select.poll()
    poller.register(fd, events)
    poller.poll()
