"""How many workers ``auto`` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgitop.settings.workers import count_workers, cpu_quota, usable_cores


def test_auto_is_at_least_one_and_a_number_is_itself() -> None:
    assert count_workers("auto") >= 1
    assert count_workers(7) == 7


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 0.5),
        (
            "0::/a/b\n",
            {"cpu.max": "200000 100000"},
            2.0,
        ),  # inside a container: the group's own directory is not there
        ("0::/../x\n", {"cpu.max": "100000 100000"}, 1.0),
        (
            "3:cpu,cpuacct:/d\n",
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "25000", "cpu,cpuacct/d/cpu.cfs_period_us": "50000"},
            0.5,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "rubbish"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_the_control_groups(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None
) -> None:
    for name, content in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "self").write_text(membership)
    assert cpu_quota(tmp_path / "fs", tmp_path / "self") == quota
    assert cpu_quota(tmp_path / "fs", tmp_path / "none") is None


def test_a_quota_below_a_core_means_one_worker(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("1000 100000")
    (tmp_path / "self").write_text("0::/\n")
    assert usable_cores(tmp_path, tmp_path / "self") == 1
