"""The pid file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsgitop.errors import PidfileError
from wsgitop.master.pidfile import Pidfile


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_written_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    pidfile = Pidfile(str(path))
    pidfile.create()
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == [path], "nothing temporary stays"
    pidfile.remove()
    assert list(tmp_path.iterdir()) == []
    pidfile.remove()


@pytest.mark.parametrize(
    "found", ["", "\n", "nonsense", "0", "-1", "99999999999999999999", "1 2", "\x00\xff", "own", "ended"]
)
def test_stale_is_replaced(tmp_path: Path, found: str) -> None:
    path = tmp_path / "site.pid"
    text = {"own": str(os.getpid()), "ended": str(ended_process())}.get(found, found)
    path.write_bytes(text.encode("latin-1"))
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_of_a_living_process_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    path.write_text(f"{os.getppid()}\n")
    pidfile = Pidfile(str(path))
    with pytest.raises(PidfileError, match=f"belongs to process {os.getppid()}"):
        pidfile.create()
    pidfile.remove()
    assert path.read_text() == f"{os.getppid()}\n"


def test_taken_over_by_another_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    pidfile = Pidfile(str(path))
    pidfile.create()
    path.write_text("1\n")
    pidfile.remove()
    assert path.exists()


@pytest.mark.parametrize("where", ["missing/site.pid", "directory"])
def test_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(PidfileError) as caught:
        Pidfile(str(tmp_path / where)).create()
    assert "cannot be written" in str(caught.value) and "--pid" in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["directory"]
