"""After kill -9 of the master: remove its control socket, so that nothing of it stays behind.

The master cannot do it any more, and the zygote is the process that learns of it first. Whether the master
really is gone is told by its lock: the kernel gives it up with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Mapping

from wsgitop.control.runtime_dir import LOCK_SUFFIX, discover
from wsgitop.errors import ControlSocketError

PATIENCE_S = 1.0
"""The kernel closes a dead process's descriptors one after another: the lock may go a moment after the
channel.
"""


def remove_leftovers(control_socket: str, environ: Mapping[str, str]) -> None:
    """Remove the socket and what lies beside it, once nobody holds its lock. ``environ``: as the master's."""
    deadline = time.monotonic() + PATIENCE_S
    while os.path.lexists(control_socket) and time.monotonic() < deadline:
        # Discovery removes what it finds dead in the runtime directory.
        with contextlib.suppress(ControlSocketError, OSError):
            discover(environ)
        with contextlib.suppress(OSError):
            _remove_unlocked(control_socket)
        time.sleep(0.02)


def _remove_unlocked(path: str) -> None:
    """Remove a socket outside the runtime directory, if its lock is free. Raises OSError."""
    lock_fd = os.open(path + LOCK_SUFFIX, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108 - beside lstat, and the same call
        os.unlink(path + LOCK_SUFFIX)  # noqa: PTH108
    finally:
        os.close(lock_fd)
