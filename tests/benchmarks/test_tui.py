"""The measurements of the interface: what is reported, and that a program in a terminal is measured."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as everything
from tests.benchmarks.tui import goals, program
from tests.benchmarks.tui.measures import Effort, Figures
from tests.benchmarks.tui.terminals import CannotMeasure, in_terminal


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started: one goal is met, one is missed, one cannot be measured."""

    def cannot(effort: Effort) -> Figures:
        raise CannotMeasure("it did not start")

    measurements = {
        "start": lambda effort: {"start_ratio": 1.2, "start_ms": 300.0 + effort.rounds},
        "keys": lambda effort: {"key_p50_ms": 45.0, "key_p95_ms": 50.0},
        "ends": cannot,
    }
    monkeypatch.setattr(program, "MEASUREMENTS", measurements)
    monkeypatch.setattr(
        program, "PEERS", {"htop": lambda effort: {"cpu": 0.5, "rss_mb": 4.4}, "uwsgitop": lambda effort: {}}
    )


def test_what_is_missed_is_reported_and_fails_nothing(
    scripted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything.main(
        ["tui", "--rounds", "5", "--json", str(tmp_path / "x"), "--markdown", str(tmp_path / "y")]
    )
    printed = capsys.readouterr().out
    assert (tmp_path / "y").read_text() + "\n" == printed
    assert "| attach to the first real frame, to an empty Textual | ≤ 1.4 × | 1.20 × | reached |" in printed
    assert "| key press to bytes, p50 | ≤ 30 ms | 45.00 ms | missed by 50.0% |" in printed
    assert "Not measured: ends (it did not start)." in printed
    assert "| wsgitop, 8 workers | 305.0 | – | – | – |" in printed
    assert "| htop | – | 0.5 | – | 4.4 |" in printed
    assert "| uwsgitop | not installed |" in printed
    document = json.loads((tmp_path / "x").read_text())
    verdicts = {goal["text"]: goal["verdict"] for goal in document["goals"]}
    assert verdicts["key press to bytes, p95"] == "reached"
    assert verdicts["terminal lost, to the end of the process"] == "not measured"


def test_only_what_was_asked_for_is_measured(scripted: None, capsys: pytest.CaptureFixture[str]) -> None:
    program.main(["--only", "keys"])
    printed = capsys.readouterr().out
    assert "key press" in printed
    assert "attach" not in printed and "htop" not in printed


def test_every_goal_belongs_to_a_measurement() -> None:
    assert {goal.measurement for goal in goals.GOALS} <= set(program.MEASUREMENTS)
    assert len({goal.figure for goal in goals.GOALS}) == len(goals.GOALS)


SCRIPT = """
import sys, time
print("READY", flush=True)
for line in sys.stdin:
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
    print("DONE", flush=True)
"""


@pytest.mark.pty
@pytest.mark.process
def test_a_program_in_a_terminal_is_measured() -> None:
    with in_terminal([sys.executable, "-c", SCRIPT]) as measured:
        assert measured.until(b"READY\r\n") - measured.began > 0
        idle, output = measured.cost(0.3)
        assert idle < 20 and output == 0
        pressed = measured.press(b"\n")
        busy, output = measured.cost(1.0)
        assert 5 < busy < 60, "three tenths of a second of one"
        assert output >= len("DONE")
        assert measured.until(b"DONE") > pressed
        assert measured.rss_bytes() > 1e6
        with pytest.raises(CannotMeasure, match="NEVER"):
            measured.until(b"NEVER", 0.1)
        began = time.monotonic()
        assert measured.lose_terminal() <= time.monotonic() - began < 5
