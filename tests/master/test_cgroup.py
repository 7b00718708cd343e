"""What the control groups say, of both versions, from files that are laid out like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgitop.master import cgroup

NO_LIMIT_V1 = "9223372036854771712"


def lay_out(directory: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, content in files.items():
        path = directory / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (directory / "self").write_text(membership)
    return directory / "fs", directory / "self"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, (None, None, None)),
        ("0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "7\n"}, (None, 7, None)),
        ("0::/a\n", {"a/memory.max": "100\n", "a/memory.current": "30\n"}, (100, 30, 70)),
        (  # cache that can be dropped is not in the way
            "0::/a\n",
            {
                "a/memory.max": "100",
                "a/memory.current": "90",
                "a/memory.stat": "anon 50\ninactive_file 40\n",
            },
            (100, 90, 50),
        ),
        (  # the group above is the tighter one
            "0::/a/b\n",
            {
                "a/memory.max": "100", "a/memory.current": "95",
                "a/b/memory.max": "60", "a/b/memory.current": "10",
            },
            (100, 95, 5),
        ),
        ("0::/a/b\n", {"memory.max": "100", "memory.current": "20"}, (100, 20, 80)),  # inside a container
        ("0::/a\n", {"a/memory.max": "100", "a/memory.current": "130"}, (100, 130, 0)),
        ("0::/a\n", {"a/memory.max": "100"}, (100, None, 100)),
        ("0::/a\n", {"a/memory.max": "rubbish", "a/memory.current": ""}, (None, None, None)),
        (
            "4:memory:/a\n0::/\n",
            {"memory/a/memory.limit_in_bytes": "100", "memory/a/memory.usage_in_bytes": "40"},
            (100, 40, 60),
        ),
        (
            "4:cpu,memory:/a\n",
            {"memory/a/memory.limit_in_bytes": NO_LIMIT_V1, "memory/a/memory.usage_in_bytes": "40"},
            (None, 40, None),
        ),
    ],
)  # fmt: skip
def test_memory(
    tmp_path: Path,
    membership: str,
    files: dict[str, str],
    expected: tuple[int | None, int | None, int | None],
) -> None:
    where = lay_out(tmp_path, membership, files)
    assert (
        cgroup.memory_limit_bytes(*where),
        cgroup.memory_current_bytes(*where),
        cgroup.memory_room_bytes(*where),
    ) == expected


@pytest.mark.parametrize(
    ("membership", "files", "count"),
    [
        ("0::/a\n", {"a/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"}, 2),
        ("4:memory:/a\n", {"memory/a/memory.oom_control": "oom_kill_disable 0\noom_kill 5\n"}, 5),
        ("4:memory:/a\n", {"memory/a/memory.oom_control": "under_oom 0\n"}, None),  # before Linux 4.13
        ("0::/a\n", {}, None),
    ],
)
def test_ends_by_the_oom_killer(
    tmp_path: Path, membership: str, files: dict[str, str], count: int | None
) -> None:
    assert cgroup.oom_kill_count(*lay_out(tmp_path, membership, files)) == count


def test_nothing_is_known_without_control_groups(tmp_path: Path) -> None:
    where = tmp_path / "none", tmp_path / "none"
    assert cgroup.memory_limit_bytes(*where) is None
    assert cgroup.memory_current_bytes(*where) is None
    assert cgroup.memory_room_bytes(*where) is None
    assert cgroup.oom_kill_count(*where) is None
    assert cgroup.cpu_limit(*where) is None


def test_cpu(tmp_path: Path) -> None:
    assert cgroup.cpu_limit(*lay_out(tmp_path, "0::/\n", {"cpu.max": "150000 100000"})) == 1.5


def test_this_machine_is_read_without_a_fault() -> None:
    limit = cgroup.memory_limit_bytes()
    assert limit is None or limit > 0
    assert cgroup.oom_kill_count() in (None, *range(1 << 20))
