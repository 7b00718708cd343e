"""The lines of the error log, read again: which level, which process, what text.

Zygotes and workers write lines, not records; what wants to know more than the bytes (syslog, the counters of
statsd, who looks at the log) reads it out of them. What an application prints by itself has no level.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_HEAD = re.compile(rb"\[[^\]\n]*\] \[(\d+)\] \[(CRITICAL|ERROR|WARNING|INFO|DEBUG)\] ")
_COUNTED = re.compile(
    rb"^\[[^\]\n]*\] \[\d+\] \[(CRITICAL|ERROR|WARNING)\] [^\n]*\n(Traceback \(most recent call last\):)?",
    re.MULTILINE,
)

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""The least severe first."""
_SHOWN_HEAD = re.compile(r"(?:\[(\d[^\]]{7,})\] )?(?:\[(\d+)\] )?\[(CRITICAL|ERROR|WARNING|INFO|DEBUG)\] ?")


class Entry(NamedTuple):
    """One line. ``level`` and ``pid`` are '' where nothing tells them; the lines of a traceback have those of
    the line before it.
    """

    level: str
    pid: str
    text: bytes


def entries(data: bytes) -> Iterator[Entry]:
    """The lines of a piece of the error log, empty ones left out."""
    level = pid = ""
    for line in data.split(b"\n"):
        head = _HEAD.match(line)
        if head is not None:
            pid, level = head[1].decode(), head[2].decode()
            yield Entry(level, pid, line[head.end() :])
        elif line.strip():
            yield Entry(level, pid, line)


class Head(NamedTuple):
    """What a line of text says of itself before its message: the time and the pid as they are written, ''
    where they are not. ``end`` is where the message begins.
    """

    time: str
    pid: str
    level: str
    end: int


def head_of(line: str) -> Head | None:
    """The head of a line, None for one that has none."""
    match = _SHOWN_HEAD.match(line)
    return None if match is None else Head(match[1] or "", match[2] or "", match[3], match.end())


class LevelReader:
    """Tells the level of one line after the other: a line without one (a traceback's, for example) belongs to
    the line before it. '' before anything had a level.
    """

    def __init__(self) -> None:
        self._level = ""

    def level_of(self, line: str) -> str:
        """The level of the next line."""
        head = head_of(line)
        if head is not None:
            self._level = head.level
        return self._level


def is_at_least(level: str, least: str) -> bool:
    """Whether ``level`` is ``least`` or worse. What has no level always is: nobody knows better."""
    return not level or LEVELS.index(level) >= LEVELS.index(least)


class LevelCounter:
    """Counts records by level: ``critical``, ``error``, ``warning``, and ``exception`` for an error with a
    traceback. Counters only grow.

    ``take`` is run by whoever writes to the log, one thread after the other; anybody may read ``counts``.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("critical", "error", "warning", "exception"), 0)

    def take(self, data: bytes) -> None:
        """Count what is in a piece of the error log."""
        for found in _COUNTED.finditer(data):
            level = found[1].decode().lower()
            self.counts["exception" if level == "error" and found[2] else level] += 1
