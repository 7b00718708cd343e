"""How many workers ``auto`` means: one for each core that this process may really use.

Three things limit that: the cores of the machine, the scheduler affinity (sched_getaffinity(2), taskset,
cpusets) and the CPU quota of the control groups the process is in (Documentation/admin-guide/cgroup-v2.rst,
``cpu.max``; cgroup-v1/cpu ``cpu.cfs_quota_us``), where the tightest ancestor counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_OF_SELF = Path("/proc/self/cgroup")
V1_CPU_MOUNTS = ("cpu,cpuacct", "cpu", "cpuacct,cpu")


def count_workers(wanted: int | Literal["auto"]) -> int:
    """The number of workers the setting ``workers`` means here and now; at least 1."""
    return wanted if isinstance(wanted, int) else usable_cores()


def usable_cores(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> int:
    """Cores of this process, at least 1.

    A quota of a core and a half counts as two: the second worker has use for it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root, membership)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF) -> float | None:
    """Cores worth of CPU time that the control groups grant; None: no limit, or none that can be read."""
    try:
        lines = membership.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    quotas: list[float] = []
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            for directory in ancestors(root, group):
                quotas.extend(_v2_quota(directory / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for mount in V1_CPU_MOUNTS:
                for directory in ancestors(root / mount, group):
                    quotas.extend(_v1_quota(directory))
    return min(quotas, default=None)


def ancestors(root: Path, group: str) -> Iterator[Path]:
    """The group's directory and those above it.

    Inside a container the path may not exist; then the root speaks for it.
    """
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])


def _v2_quota(path: Path) -> list[float]:
    try:
        quota, period = path.read_text().split()
        return [] if quota == "max" else _cores(int(quota), int(period))
    except (OSError, ValueError):
        return []


def _v1_quota(directory: Path) -> list[float]:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        period = int((directory / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return []
    return _cores(quota, period)


def _cores(quota_us: int, period_us: int) -> list[float]:
    return [quota_us / period_us] if quota_us > 0 and period_us > 0 else []
