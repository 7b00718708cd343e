"""Who meets whom, in which order, and what happens to one that does not serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks.clients import CannotMeasure, Load, Request
from tests.benchmarks.results import Row
from tests.benchmarks.rounds import Contender, contenders
from tests.benchmarks.scenarios import SCENARIOS, Scenario
from tests.benchmarks.servers import WSGITOP, Job, Peer, chosen
from tests.benchmarks.serving import DidNotServe

ROW = Row(rps=1000, cpu_us=50, p50_ms=1, p99_ms=10, rss_mb=70, pss_mb=40, failed=0)
LOAD = Load(Request("/"))


def _peer(name: str, **options: Any) -> Peer:
    return Peer(name, lambda job: (name,), ("wsgitop",), **options)


THREADED = _peer("threaded", workers=False, logs=True)
SINGLE = _peer("single", threads=False)
ABSENT = Peer("absent", lambda job: ("absent",), ("a-package-that-nobody-has",))
ALL = (WSGITOP, THREADED, SINGLE, ABSENT)


def _names(scenario: Scenario) -> list[str]:
    return [f"{c.name} ({c.reason})" if c.reason else c.name for c in contenders(scenario, ALL)]


def test_each_gets_as_many_threads_as_it_can_have() -> None:
    assert _names(Scenario("x", "", LOAD, shapes=((1, 8), (1, 1)))) == [
        "wsgitop 1×8",
        "wsgitop 1×1",
        "threaded 1×8",
        "single 1×1",
        "absent (not installed)",
    ]


def test_who_has_no_workers_stays_out_where_several_are_asked_for() -> None:
    assert _names(Scenario("x", "", LOAD, shapes=((4, 2),))) == [
        "wsgitop 4×2",
        "threaded (has no worker processes)",
        "single 4×1",
        "absent (not installed)",
    ]


def test_who_has_an_access_log_comes_with_and_without_it() -> None:
    assert _names(Scenario("x", "", LOAD, log_too=True)) == [
        "wsgitop 1×8",
        "wsgitop 1×8, access log",
        "threaded 1×8",
        "threaded 1×8, access log",
        "single (has no access log)",
        "absent (not installed)",
    ]


def test_wsgitop_alone() -> None:
    assert _names(Scenario("x", "", LOAD, alone=True)) == ["wsgitop 1×8"]


def test_names_of_peers_may_be_cut_short_but_not_made_up() -> None:
    assert [peer.name for peer in chosen("bj,GUNICORN")] == [
        "wsgitop",
        "bjoern",
        "gunicorn gthread",
        "gunicorn sync",
    ]
    assert chosen("wsgitop") == (WSGITOP,)
    for wrong in ("nobody", "", "bjoern,"):
        with pytest.raises(ValueError, match="--list"):
            chosen(wrong)


def test_every_command_serves_the_job_it_was_given() -> None:
    job = Job("module:app", 12345, workers=3, threads=7)
    for peer in chosen(None):
        words = peer.command(job)
        assert "module:app" in words, peer.name
        assert any("12345" in word for word in words), peer.name
        assert not peer.workers or "3" in words, peer.name
        assert not peer.threads or any(word.endswith("7") for word in words), peer.name


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is started. Who was measured; waitress does not start, cheroot fails in its second round."""
    order: list[str] = []

    def measure(contender: Contender, scenario: Scenario, **_: object) -> Row:
        order.append(contender.name)
        if contender.name == "waitress 1×8":
            raise DidNotServe("ended with status 3", "Traceback\nImportError: no such thing\n")
        if contender.name == "cheroot 1×8" and order.count(contender.name) == 2:
            raise CannotMeasure("wrk ended with status 1")
        return ROW

    monkeypatch.setattr(program, "one_round", measure)
    monkeypatch.setattr(Peer, "version", lambda peer: "1.0")
    return order


def test_servers_take_turns_and_a_broken_one_is_left_out(
    measured: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "x.json"), "--markdown", str(tmp_path / "x.md")]
    program.main(["--only", "slow", "--servers", "waitress,cheroot", "--rounds", "3", *files])
    ours, theirs = "wsgitop 1×8", "cheroot 1×8"
    assert measured == [ours, "waitress 1×8", theirs, ours, theirs, ours]

    printed = capsys.readouterr()
    assert (tmp_path / "x.md").read_text() + "\n" == printed.out
    assert "waitress 1×8 (ended with status 3: ImportError: no such thing)" in printed.out
    assert "Traceback" in printed.err and "Traceback" not in printed.out
    slow = json.loads((tmp_path / "x.json").read_text())["scenarios"]["slow"]
    assert {name: len(rows) for name, rows in slow["rounds"].items()} == {ours: 3, theirs: 1}
    assert set(slow["left_out"]) == {"waitress 1×8", theirs}


def test_list_measures_nothing(measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    program.main(["--list"])
    printed = capsys.readouterr().out
    assert all(scenario.key in printed for scenario in SCENARIOS) and "granian" in printed
    assert not measured


def test_wrong_names_are_refused(measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--only", "nothing"], ["--servers", "nobody"]):
        with pytest.raises(SystemExit) as ended:
            program.main(wrong)
        assert ended.value.code == 2
    assert "nobody" in capsys.readouterr().err and not measured
