"""What the control groups say, in both versions and where they say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgitop.master import cgroup

MIB = 1024 * 1024
NO_LIMIT = "9223372036854771712"


class Tree:
    """A made-up file system of control groups."""

    def __init__(self, directory: Path, membership: str, files: dict[str, str]) -> None:
        self.places = directory / "fs", directory / "self"
        self.places[1].write_text(membership)
        for name, content in files.items():
            path = self.places[0] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


@pytest.mark.parametrize(
    ("membership", "files", "limit", "used"),
    [
        ("0::/\n", {}, None, None),
        ("", {"memory.max": "1000"}, None, None),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "77\n"}, None, 77),
        ("0::/\n", {"memory.max": f"{64 * MIB}\n", "memory.current": "77\n"}, 64 * MIB, 77),
        ("0::/\n", {"memory.max": "rubbish", "memory.current": "\n"}, None, None),
        # The tightest group above counts, and its use is the one to compare with.
        (
            "0::/a/b\n",
            {
                "a/memory.max": "500",
                "a/memory.current": "400",
                "a/b/memory.max": "max",
                "a/b/memory.current": "3",
            },
            500,
            400,
        ),
        (
            "0::/a/b\n",
            {
                "a/memory.max": "500",
                "a/memory.current": "400",
                "a/b/memory.max": "20",
                "a/b/memory.current": "3",
            },
            20,
            3,
        ),
        ("0::/a/b\n", {"a/memory.current": "400", "a/b/memory.current": "3"}, None, 3),
        # Inside a container the group's own directory may not be there.
        ("0::/system.slice/x\n", {"memory.max": "500", "memory.current": "9"}, 500, 9),
        ("0::/../x\n", {"memory.max": "500", "memory.current": "9"}, 500, 9),
        (
            "4:memory:/d\n0::/\n",
            {"memory/d/memory.limit_in_bytes": "900", "memory/d/memory.usage_in_bytes": "10"},
            900,
            10,
        ),
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": NO_LIMIT, "memory/memory.usage_in_bytes": "10"},
            None,
            10,
        ),
    ],
)
def test_the_memory_limit_and_what_is_used_of_it(
    tmp_path: Path, membership: str, files: dict[str, str], limit: int | None, used: int | None
) -> None:
    tree = Tree(tmp_path, membership, files)
    assert cgroup.memory_limit_bytes(*tree.places) == limit
    assert cgroup.memory_current_bytes(*tree.places) == used


@pytest.mark.parametrize(
    ("membership", "files", "count"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n"}, 1),
        ("0::/\n", {"memory.events": "low 0\noom 2\n"}, None),
        ("0::/\n", {"memory.events": "oom_kill many\n"}, None),
        ("0::/a\n", {"memory.events": "oom_kill 9\n", "a/memory.events": "oom_kill 2\n"}, 2),
        ("0::/a\n", {"memory.events": "oom_kill 9\n"}, 9),
        (
            "4:memory:/d\n",
            {"memory/d/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"},
            5,
        ),
        # Before Linux 4.13 it was not counted.
        ("4:memory:/d\n", {"memory/d/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, None),
    ],
)
def test_how_often_the_kernel_has_killed_for_want_of_memory(
    tmp_path: Path, membership: str, files: dict[str, str], count: int | None
) -> None:
    assert cgroup.oom_kill_count(*Tree(tmp_path, membership, files).places) == count


def test_the_cpu_limit(tmp_path: Path) -> None:
    assert cgroup.cpu_limit(*Tree(tmp_path, "0::/\n", {"cpu.max": "150000 100000"}).places) == 1.5
    assert cgroup.cpu_limit(tmp_path / "none", tmp_path / "none") is None


def test_the_real_ones_can_be_asked() -> None:
    for answer in (cgroup.memory_limit_bytes(), cgroup.memory_current_bytes(), cgroup.oom_kill_count()):
        assert answer is None or answer >= 0
