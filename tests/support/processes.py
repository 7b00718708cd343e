"""Looking at processes from outside, and making sure that none stays behind."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil

from tests.support.waiting import eventually


def lives(pid: int) -> bool:
    """Whether there is such a process, and not as a zombie: an orphan is one until init finds the time."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session_members(session: int) -> list[psutil.Process]:
    """The living processes of a session, zombies left out, in order of start.

    The session id outlives the death of its leader, so this finds the orphans of a master that was killed,
    which a walk from parent to child would not.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def end_session(session: int) -> list[str]:
    """Kill whatever is left of a session. Returns what had to be killed, for the test to complain about."""
    left = []
    for process in session_members(session):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(f"{process.pid} {' '.join(process.cmdline())}")
            process.send_signal(signal.SIGKILL)
    eventually(lambda: not session_members(session), 5, what="the end of all processes")
    return left
