"""Connecting to a unix socket, whatever the length of its path.

sockaddr_un has room for 108 bytes (unix(7)). A longer path is reached through a descriptor of its directory
on Linux; elsewhere it cannot be.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from pathlib import Path

from wsgitop.errors import CannotConnect, Refused

ADDRESS_LIMIT_BYTES = 104 if sys.platform == "darwin" else 108
RUNNING = "See what is running with `wsgitop ctl status`, or start a server with `wsgitop serve`."


def connect(path: str) -> socket.socket:
    """A connected, non-blocking socket. Raises CannotConnect, Refused."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Connecting to a unix socket is immediate, or fails because too many are waiting already.
    sock.setblocking(False)
    try:
        _connect(sock, path)
    except OSError as error:
        sock.close()
        raise _fault(path, error) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) < ADDRESS_LIMIT_BYTES or sys.platform != "linux":
        sock.connect(path)
        return
    directory_fd = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory_fd}/{Path(path).name}")
    finally:
        os.close(directory_fd)


def _fault(path: str, error: OSError) -> CannotConnect | Refused:
    refused_by_file = error.errno == errno.ECONNREFUSED and _is_other_file(path)
    match errno.ENOTSOCK if refused_by_file else error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return CannotConnect(f"there is no control socket {path}", RUNNING)
        case errno.ECONNREFUSED:
            return CannotConnect(
                f"no master answers at {path}: it was left behind by one that is gone", RUNNING
            )
        case errno.EACCES | errno.EPERM:
            return Refused(
                f"{path} belongs to another user",
                "Run this as the user who runs the server, or as root; or have yourself let in with "
                "--control-allow, and name the socket for others.",
            )
        case errno.EAGAIN:
            return CannotConnect(
                f"the master at {path} has too many clients waiting", "Try again in a moment."
            )
        case errno.EPROTOTYPE | errno.ENOTSOCK:
            return CannotConnect(f"{path} is not a control socket", RUNNING)
    return CannotConnect(f"cannot connect to {path}: {error.strerror or error}", RUNNING)


def _is_other_file(path: str) -> bool:
    """Whether something else than a socket has this name: it refuses connections as a socket without a
    master does."""
    try:
        return not stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False
