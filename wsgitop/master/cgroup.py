"""What the control groups of this process allow and have counted: memory, ends by the OOM killer, CPU.

Read anew at each call, since limits can be changed while the server runs. Both versions are known: v2
(Documentation/admin-guide/cgroup-v2.rst, ``memory.max``, ``memory.current``, ``memory.events``) and v1
(cgroup-v1/memory.rst, ``memory.limit_in_bytes``, ``memory.usage_in_bytes``, ``memory.oom_control``). Limits
of all groups above count too, so the tightest one speaks. None always means: not known, or no limit. Each
function takes the root of the file system and the list of memberships, for tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wsgitop.settings.workers import CGROUP_OF_SELF, CGROUP_ROOT, ancestors, cpu_quota

UNLIMITED_BYTES = 1 << 60
"""Version 1 says "no limit" by a number near 2^63."""


class _Names(NamedTuple):
    """How a version calls its files, and the words in them."""

    limit: str
    current: str
    kills: str
    cache: str


_V2 = _Names("memory.max", "memory.current", "memory.events", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control", "total_inactive_file")


class _Group(NamedTuple):
    """One group that has a limit. ``cache_bytes`` of what is used is cache that goes when memory is short."""

    limit_bytes: int
    current_bytes: int | None
    cache_bytes: int

    @property
    def room_bytes(self) -> int:
        """What may still be used; a group whose use is not known has its whole limit."""
        return self.limit_bytes - max(0, (self.current_bytes or 0) - self.cache_bytes)


def memory_limit_bytes(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int | None:
    """The memory that the server may use, by the group that has least room left."""
    group = _tightest(root, membership)
    return None if group is None else group.limit_bytes


def memory_current_bytes(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int | None:
    """The memory in use, with file cache, in the group of :func:`memory_limit_bytes`; without a limit in the
    process's own group."""
    group = _tightest(root, membership)
    if group is not None:
        return group.current_bytes
    for names, directory in _directories(root, membership):
        current = _number(directory / names.current)
        if current is not None:
            return current
    return None


def memory_room_bytes(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int | None:
    """What may still be used before something is killed: the limit less what is in use. Cache that the kernel
    gives up without ado is not in the way."""
    group = _tightest(root, membership)
    return None if group is None else max(0, group.room_bytes)


class MemoryFigures(NamedTuple):
    """The three above, read once."""

    limit_bytes: int | None
    current_bytes: int | None
    room_bytes: int | None


def memory_figures(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> MemoryFigures:
    """Limit, use and room at one moment."""
    group = _tightest(root, membership)
    if group is None:
        return MemoryFigures(None, memory_current_bytes(root, membership), None)
    return MemoryFigures(group.limit_bytes, group.current_bytes, max(0, group.room_bytes))


def oom_kill_count(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int | None:
    """Processes of the own group and those below that the OOM killer has ended so far."""
    for names, directory in _directories(root, membership):
        count = _entry(directory / names.kills, "oom_kill")
        if count is not None:
            return count
    return None


def cpu_limit(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> float | None:
    """Cores worth of CPU time."""
    return cpu_quota(root, membership)


def _tightest(root: Path, membership: Path) -> _Group | None:
    groups = []
    for names, directory in _directories(root, membership):
        limit = _number(directory / names.limit)
        if limit is not None and limit < UNLIMITED_BYTES:
            cache = _entry(directory / "memory.stat", names.cache) or 0
            groups.append(_Group(limit, _number(directory / names.current), cache))
    return min(groups, key=lambda group: group.room_bytes, default=None)


def _directories(root: Path, membership: Path) -> list[tuple[_Names, Path]]:
    """The group's directories and those above, the nearest first."""
    try:
        lines = membership.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            found += [(_V2, directory) for directory in ancestors(root, group)]
        elif "memory" in controllers.split(","):
            found += [(_V1, directory) for directory in ancestors(root / "memory", group)]
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())  # "max" is no limit
    except (OSError, ValueError):
        return None


def _entry(path: Path, name: str) -> int | None:
    """One line of a file of names and numbers."""
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        return None
    return None
