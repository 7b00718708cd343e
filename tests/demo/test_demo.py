"""``wsgitop demo --once`` and ``--json``, whole: they print, stop everything, and leave no file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.support.processes import lives
from tests.support.server import command, free_port
from tests.support.waiting import eventually
from wsgitop.cli.main import main

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.mark.every_python
def test_json(runtime_dir: Path, tmp_path: Path) -> None:
    result = command("demo", "--json", runtime_dir=runtime_dir, env={"TMPDIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    snapshot = json.loads(result.stdout)
    assert snapshot["master"]["app"] == "wsgitop.demo.site:application"
    assert snapshot["totals"]["requests"] > 50
    # Which worker wakes first is the kernel's choice: one may not have had a visitor yet.
    assert sum(worker["requests"] for worker in snapshot["workers"]) > 50
    assert len(snapshot["workers"]) >= 2

    pids = [snapshot["master"]["pid"], *(worker["pid"] for worker in snapshot["workers"])]
    eventually(lambda: not any(map(lives, pids)), what="the end of all it started")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_once(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("wsgitop.demo.main.LIFE_BEFORE_SNAPSHOT_S", 0.0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    port = free_port()
    assert main(["demo", "--once", "--workers", "2", "--port", str(port)]) == 0
    out = capfd.readouterr().out
    assert f"127.0.0.1:{port}" in out
    assert "\x1b" not in out, "no escape sequences where there is no terminal"


def test_modules_in_the_working_directory_do_not_stop_the_visitors(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random.py", "http.py"):
        (tmp_path / name).write_text("raise SystemExit('not the standard library')\n")
    monkeypatch.setattr("wsgitop.demo.main.LIFE_BEFORE_SNAPSHOT_S", 0.0)
    monkeypatch.setattr("wsgitop.demo.main.SNAPSHOT_DEADLINE_S", 10.0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--once"]) == 0


def test_without_visitors_it_ends_and_says_so(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wsgitop.demo.main.SNAPSHOT_DEADLINE_S", 0.2)
    monkeypatch.setattr("wsgitop.demo.main.visitors", lambda _port: contextlib.nullcontext())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    assert main(["demo", "--once"]) == 3
    assert "no visitor of the demo was served" in capsys.readouterr().err
