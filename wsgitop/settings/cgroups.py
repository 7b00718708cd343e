"""Where the control groups of this process are in the file system: what both versions have in common.

Version 2 is one tree (Documentation/admin-guide/cgroup-v2.rst); version 1 has one for each controller, or for
a few together (cgroup-v1/cgroups.rst). A limit may be set on any group above a process, so whoever looks for
one has to look at them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_OF_SELF = Path("/proc/self/cgroup")

Version = Literal[1, 2]


def groups(
    controller: str, mounts: tuple[str, ...], root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_SELF
) -> Iterator[tuple[Version, Path]]:
    """The directories of this process's group and of those above it, the innermost first.

    ``mounts`` are the directories below ``root`` where version 1 may have ``controller``. Some may not exist:
    inside a container the path of the group is often that of the host; then the root speaks for it.
    """
    try:
        lines = membership.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            for directory in _ancestors(root, group):
                yield 2, directory
        elif controller in controllers.split(","):
            for mount in mounts:
                for directory in _ancestors(root / mount, group):
                    yield 1, directory


def _ancestors(root: Path, group: str) -> Iterator[Path]:
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])
