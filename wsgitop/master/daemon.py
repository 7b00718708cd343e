"""Going into the background (-D): the launcher stays until the server serves, and ends with its outcome.

Who runs this: the command, before anything of the master exists; it has one thread then, so that it may fork,
which the master never does. Twice, with a session in between, so that no terminal can become the server's.
Launcher and server talk over a tether as `wsgitop run` and its server do (transport.launcher): the server
says once that it serves, and the launcher's end before that stops it.

Until then the server writes to the launcher's standard error, so that a failing start says why where somebody
looks; a log file would hold it back, and a pipe would need somebody to copy it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator

from wsgitop.errors import ActionFailed
from wsgitop.logs.sink import open_log
from wsgitop.transport.launcher import LEAVE, VARIABLE

PR_SET_CHILD_SUBREAPER = 36
UMASK = 0o022
"""gunicorn's for a daemon, whatever it was started with."""
NOWHERE = "the server is in the background, and its log goes nowhere"
NOWHERE_REMEDY = "Give --error-logfile FILE to keep it."


def go_into_background() -> int | None:
    """Fork the server away. In the server: None, go on. In the launcher: its exit status, once it is known.

    Raises ActionFailed in the launcher if the server was ended by somebody before it served; its own faults
    it has told by itself.
    """
    # The server is an orphan once the process between has ended; this makes it ours, so that the exit status
    # of a failing start is known.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    ours, theirs = socket.socketpair()
    middle = os.fork()
    if middle:
        theirs.close()
        return _wait(ours, middle)
    ours.close()
    os.setsid()
    server = os.fork()
    if server:
        os.write(theirs.fileno(), b"%d\n" % server)
        os._exit(0)
    os.umask(UMASK)
    _point_at(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 0, 1)
    os.environ[VARIABLE] = str(theirs.detach())
    return None


def let_go_of_terminal(errorlog: str) -> None:
    """In the server, when it serves: what would still go to the launcher's standard error goes to the error
    log, or nowhere. To be called again when the log has been reopened. Raises ConfigError.
    """
    _point_at(open_log(os.devnull if errorlog == "-" else errorlog, fallback_fd=2), 2)


def _point_at(fd: int, *numbers: int) -> None:
    for number in numbers:
        os.dup2(fd, number)
    if fd not in numbers:
        os.close(fd)


def _wait(sock: socket.socket, middle: int) -> int:
    """In the launcher: the outcome of the start."""
    os.waitpid(middle, 0)
    with sock:
        lines = _lines(sock)
        server = int(next(lines, "0"))
        if next(lines, None) is not None:
            # From now on the end of this process says nothing.
            sock.sendall(LEAVE)
            return 0
    if not server:
        raise ActionFailed("the server could not be started: no process could be forked")
    _, wait_status = os.waitpid(server, 0)
    status = os.waitstatus_to_exitcode(wait_status)
    if status < 0:
        name = signal.Signals(-status).name
        raise ActionFailed(f"the server (pid {server}) was killed by {name} before it served")
    if status == 0:
        raise ActionFailed(f"the server (pid {server}) was told to stop before it served")
    return status


def _lines(sock: socket.socket) -> Iterator[bytes]:
    """What the server says, line by line, until it has nothing more to say."""
    received = b""
    while True:
        while b"\n" not in received:
            try:
                chunk = sock.recv(4096)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return
            received += chunk
        line, _, received = received.partition(b"\n")
        yield line
