"""How results are written down: Markdown for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from tests.benchmarks.checks import Outcome
from tests.benchmarks.results import Results, Row

Column = tuple[str, Callable[[Row], str]]

COLUMNS: tuple[Column, ...] = (
    ("req/s", lambda row: f"{row.rps:,.0f}"),
    ("CPU µs/req", lambda row: f"{row.cpu_us:,.1f}" if row.cpu_us < 100 else f"{row.cpu_us:,.0f}"),
    ("p50 ms", lambda row: f"{row.p50_ms:,.2f}"),
    ("p99 ms", lambda row: f"{row.p99_ms:,.1f}"),
    ("RSS MB", lambda row: f"{row.rss_mb:,.0f}"),
    ("PSS MB", lambda row: f"{row.pss_mb:,.0f}"),
    ("failed", lambda row: f"{row.failed:,.0f}"),
)
# Only where somebody has such a figure.
EXTRA_COLUMNS: dict[str, Column] = {
    "limit_share": ("share of limit", lambda row: _or_dash(row.limit_share, "{:.2f}")),
    "held": ("held", lambda row: _or_dash(row.held, "{:,.0f}")),
    "held_bytes": ("KiB each", lambda row: _or_dash(row.held_bytes, "{:.1f}", 1024)),
}


def _or_dash(value: float | None, form: str, divisor: float = 1.0) -> str:
    return "–" if value is None else form.format(value / divisor)


def _times(mine: float, theirs: float) -> str:
    return f"{mine / theirs:,.2f}" if theirs else "–"


def markdown(
    results: Results, titles: Mapping[str, str], heading: Sequence[str], outcomes: Sequence[Outcome]
) -> str:
    """A table for each scenario, and one of what must be reached."""
    lines = list(heading)
    for scenario, title in titles.items():
        rows = results.medians(scenario)
        lines += ["", f"### {title}", ""]
        if rows:
            lines += table(rows)
        if missing := results.left_out.get(scenario):
            lines += ["", "Left out: " + "; ".join(f"{name} ({why})" for name, why in missing.items()) + "."]
    if outcomes:
        lines += ["", "### What must be reached", "", "| | wanted | measured | |", "|---|---:|---:|---|"]
        lines += [f"| {o.text} | {o.wanted} | {o.shown} | {o.verdict} |" for o in outcomes]
    return "\n".join(lines) + "\n"


def table(rows: Mapping[str, Row]) -> list[str]:
    """One scenario. The ratios are those of the first row, which is wsgitop's, to each."""
    extra = [
        column
        for name, column in EXTRA_COLUMNS.items()
        if any(getattr(row, name) is not None for row in rows.values())
    ]
    columns = (*COLUMNS, *extra)
    first_name, first = next(iter(rows.items()))
    titles = ["server", *(title for title, _ in columns), f"{first_name} ÷ it: req/s", "CPU"]
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for name, row in rows.items():
        cells = [name, *(show(row) for _, show in columns)]
        cells += [_times(first.rps, row.rps), _times(first.cpu_us, row.cpu_us)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def as_json(
    results: Results, titles: Mapping[str, str], heading: Sequence[str], outcomes: Sequence[Outcome]
) -> str:
    """Everything, each round too."""
    scenarios = {}
    for scenario, title in titles.items():
        medians = results.medians(scenario)
        first = next(iter(medians), "")
        scenarios[scenario] = {
            "title": title,
            "medians": {name: asdict(row) for name, row in medians.items()},
            "ratios": {
                name: {
                    figure: results.ratio(scenario, figure, first, name)
                    for figure in ("rps", "cpu_us", "p50_ms", "p99_ms", "rss_mb", "pss_mb")
                }
                for name in medians
            },
            "rounds": {
                name: [asdict(row) for row in rows] for name, rows in results.rounds.get(scenario, {}).items()
            },
            "left_out": results.left_out.get(scenario, {}),
        }
    document = {
        "heading": list(heading),
        "scenarios": scenarios,
        "checks": [asdict(outcome) | {"verdict": outcome.verdict} for outcome in outcomes],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
