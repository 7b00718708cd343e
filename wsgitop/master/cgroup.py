"""What the control groups allow this server, and what they have done to it: memory, cores, kills.

Every function answers None where the kernel does not say. ``root`` and ``membership`` are where to look, for
tests. Sources: Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.events) and
cgroup-v1/memory.rst (memory.limit_in_bytes, memory.usage_in_bytes, memory.oom_control).
"""

from __future__ import annotations

from pathlib import Path

from wsgitop.settings.cgroups import CGROUP_OF_SELF, CGROUP_ROOT, groups
from wsgitop.settings.workers import cpu_quota

V1_MEMORY_MOUNTS = ("memory",)
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of a page; no machine has an exbibyte."""


def memory_limit_bytes(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int | None:
    """The memory that this process and its relatives in the group may use: the tightest limit above them.

    None: there is no limit, or none that can be read.
    """
    tightest = _tightest(root, membership)
    return None if tightest is None else tightest[0]


def memory_current_bytes(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int | None:
    """The memory in use by the group that sets the limit of :func:`memory_limit_bytes`, so that the two can
    be compared; without a limit that of this process's own group.
    """
    tightest = _tightest(root, membership)
    if tightest is not None:
        return _current(tightest[1])
    for _, directory in groups("memory", V1_MEMORY_MOUNTS, root, membership):
        used = _current(directory)
        if used is not None:
            return used
    return None


def oom_kill_count(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int | None:
    """How many processes of the group the kernel has killed for want of memory, whosever the limit was."""
    for version, directory in groups("memory", V1_MEMORY_MOUNTS, root, membership):
        count = _keyed(directory / ("memory.events" if version == 2 else "memory.oom_control"), "oom_kill")
        if count is not None:
            return count  # the kernel counts a kill for the victim's group: those above say no more
    return None


def cpu_limit(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> float | None:
    """Cores worth of CPU time that are granted; None: no limit, or none that can be read."""
    return cpu_quota(root, membership)


def _tightest(root: Path, membership: Path) -> tuple[int, Path] | None:
    """The smallest limit and the group that sets it; the innermost of several."""
    found: tuple[int, Path] | None = None
    for version, directory in groups("memory", V1_MEMORY_MOUNTS, root, membership):
        limit = _number(directory / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if limit is not None and limit < UNLIMITED_BYTES and (found is None or limit < found[0]):
            found = limit, directory
    return found


def _current(directory: Path) -> int | None:
    used = _number(directory / "memory.current")
    return _number(directory / "memory.usage_in_bytes") if used is None else used


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # ValueError: "max", too
        return None


def _keyed(path: Path, key: str) -> int | None:
    """The value of ``key`` in a file of lines ``key value``."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        name, _, value = line.partition(" ")
        if name == key and value.isdecimal():
            return int(value)
    return None
