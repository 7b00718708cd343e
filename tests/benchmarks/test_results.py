"""Medians, ratios, checks, and how they are written down."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.benchmarks import report
from tests.benchmarks.checks import (
    BJOERN,
    CHECKS,
    GRANIAN,
    LOGGING,
    OURS,
    OURS_4,
    OURS_4X2,
    Outcome,
    mixed_limit,
    outcomes,
    share_of_mixed_limit,
)
from tests.benchmarks.results import Results, Row, median
from tests.benchmarks.rounds import contenders
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.servers import PEERS, WSGITOP, Peer

ROW = Row(rps=1000, cpu_us=50, p50_ms=1, p99_ms=10, rss_mb=70, pss_mb=40, failed=0)


def _results(**servers: Row) -> Results:
    results = Results()
    for server, row in servers.items():
        results.add("hello", server, row)
    return results


def test_median_of_each_field_by_itself() -> None:
    rows = [
        replace(ROW, rps=10, p99_ms=3, held=None),
        replace(ROW, rps=30, p99_ms=1, held=5.0),
        replace(ROW, rps=20, p99_ms=2, held=7.0),
    ]
    assert median(rows) == replace(ROW, rps=20, p99_ms=2, held=6.0)


def test_ratio_of_medians() -> None:
    results = Results()
    for ours, theirs in ((10, 40), (30, 60), (1000, 50)):
        results.add("hello", "a", replace(ROW, rps=ours))
        results.add("hello", "b", replace(ROW, rps=theirs))
    assert results.ratio("hello", "rps", "a", "b") == 30 / 50
    assert results.ratio("hello", "rps", "a", "not there") is None
    assert results.ratio("not measured", "rps", "a", "b") is None


def test_a_server_that_served_nothing_has_no_figures() -> None:
    results = _results(a=ROW, dead=replace(ROW, rps=0, p99_ms=0))
    assert results.ratio("hello", "p99_ms", "a", "dead") is None
    assert results.figure("hello", "dead", "p99_ms") is None


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [
        (0.8, False, "reached"),
        (0.6, False, "missed by 25.0%"),
        (0.8, True, "reached"),
        (1.0, True, "missed by 25.0%"),
        (None, True, "not measured"),
    ],
)
def test_verdict(value: float | None, at_most: bool, verdict: str) -> None:
    assert Outcome("what", value, 0.8, at_most, "×").verdict == verdict


def test_the_limit_of_the_mixed_load() -> None:
    results = Results()
    assert mixed_limit(results) is None
    # Four at once, each half a millisecond of sleep and 125 µs of work.
    results.add("hello4", OURS_4, replace(ROW, rps=50_000, cpu_us=125))
    assert mixed_limit(results) == pytest.approx(6400)
    results.add("mixed4", OURS_4, replace(ROW, rps=5760))
    assert share_of_mixed_limit(results) == pytest.approx(0.9)


def test_the_limit_of_the_mixed_load_is_never_above_what_the_server_can_do() -> None:
    results = Results()
    for rps in (1000, 3000, 2000):
        results.add("hello4", OURS_4, replace(ROW, rps=rps, cpu_us=125))
    assert mixed_limit(results) == 3000


def test_checks_of_what_took_part_only() -> None:
    results = Results()
    results.add("hello", OURS, replace(ROW, rps=100, cpu_us=10))
    results.add("hello", BJOERN, replace(ROW, rps=125))
    results.add("hello", GRANIAN, replace(ROW, cpu_us=10))
    verdicts = {outcome.text: outcome.verdict for outcome in outcomes(results, {"hello"})}
    assert verdicts == {
        "hello: req/s to bjoern": "reached",
        "hello: CPU/request to granian": "missed by 25.0%",
        "hello: req/s to gunicorn gthread": "not measured",
    }


def test_every_check_finds_its_figures_when_everybody_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in checks, scenarios and servers are strings: a misspelt one would never be measured."""
    monkeypatch.setattr(Peer, "version", lambda peer: "1.0")
    results = Results()
    for scenario in SCENARIOS:
        for contender in contenders(scenario, (WSGITOP, *PEERS)):
            results.add(scenario.key, contender.name, replace(ROW, limit_share=1.0, held=1.0, held_bytes=1.0))
    for name in (OURS, OURS + LOGGING):
        assert name in results.medians("log")
    assert OURS_4X2 in results.medians("slow4")
    missing = [o.text for o in outcomes(results, {s.key for s in SCENARIOS}) if o.value is None]
    assert not missing
    assert {check.scenario for check in CHECKS} <= {scenario.key for scenario in SCENARIOS}


def test_markdown_shows_ratios_of_the_first_to_each_and_only_columns_that_have_figures() -> None:
    results = _results(ours=ROW, theirs=replace(ROW, rps=4000, cpu_us=12.5, held=3.0))
    results.leave_out("hello", "third", "not installed")
    text = report.markdown(results, {"hello": "Hello"}, ["heading"], outcomes(results, {"hello"}))
    lines = text.splitlines()
    titles = next(line for line in lines if line.startswith("| server"))
    assert "held" in titles and "limit" not in titles and "ours ÷ it" in titles
    cells = [cell.strip() for cell in next(line for line in lines if "| theirs" in line).split("|")]
    assert cells[1:3] == ["theirs", "4,000"] and cells[-4:-1] == ["3", "0.25", "4.00"]
    assert "Left out: third (not installed)." in text
    assert "| hello: req/s to bjoern | ≥ 0.6 × | – | not measured |" in lines


def test_json_has_every_round_and_ratios_both_programs_and_people_can_trust() -> None:
    results = _results(ours=ROW, theirs=replace(ROW, rps=4000))
    results.add("hello", "ours", replace(ROW, rps=3000))
    document = json.loads(
        report.as_json(results, {"hello": "Hello"}, ["heading"], outcomes(results, {"hello"}))
    )
    hello = document["scenarios"]["hello"]
    assert [row["rps"] for row in hello["rounds"]["ours"]] == [1000, 3000]
    assert hello["medians"]["ours"]["rps"] == 2000
    assert hello["ratios"]["theirs"]["rps"] == 0.5
    assert document["checks"][0]["verdict"] == "not measured"
