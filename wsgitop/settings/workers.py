"""How many workers ``auto`` means: one for each core that this process may really use.

Three things limit that: the cores of the machine, the scheduler affinity (sched_getaffinity(2), taskset,
cpusets) and the CPU quota of the control groups the process is in (Documentation/admin-guide/cgroup-v2.rst,
``cpu.max``; cgroup-v1/cpu ``cpu.cfs_quota_us``), where the tightest ancestor counts.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

from wsgitop.settings.cgroups import CGROUP_OF_SELF, CGROUP_ROOT, groups

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
    quotas: list[float] = []
    for version, directory in groups("cpu", V1_CPU_MOUNTS, root, membership):
        quotas.extend(_v2_quota(directory / "cpu.max") if version == 2 else _v1_quota(directory))
    return min(quotas, default=None)


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
