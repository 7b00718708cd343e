"""``python -m tests.benchmarks tui``: the interface in a real terminal of 120×40, against its goals.

A scripted control server feeds it: real protocol and socket, figures that all change from picture to picture.
CPU is percent of one core. What else the machine does moves all figures but the bytes; the start is compared
with that of an empty Textual application, in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.checks import Outcome
from tests.benchmarks.tui import goals, measures, peers
from tests.benchmarks.tui.measures import Effort, Figures
from tests.benchmarks.tui.terminals import CannotMeasure

MEASUREMENTS: dict[str, Callable[[Effort], Figures]] = {
    "start": measures.start,
    **{f"cpu{workers}": measures.crowd(workers) for workers in measures.CROWDS},
    "keys": measures.keys,
    "memory": measures.memory,
    "master": measures.master,
    "ends": measures.ends,
}
PEERS: dict[str, Callable[[Effort], Figures]] = {"htop": peers.htop, "uwsgitop": peers.uwsgitop}
PEER_FIGURES = (
    ("start ms", "start_ms"),
    ("CPU %", "cpu"),
    ("output KB/s", "output_kb"),
    ("RSS MB", "rss_mb"),
)


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    effort = Effort(options.rounds, options.window, options.seconds, options.presses)
    wanted = options.only or [*MEASUREMENTS, "peers"]
    figures: Figures = {}
    failed: dict[str, str] = {}
    for name, measure in MEASUREMENTS.items():
        if name in wanted:
            _say(f"{name} …")
            try:
                figures |= measure(effort)
            except (CannotMeasure, OSError, AssertionError) as error:
                failed[name] = str(error)
                _say(f"{name}: {error}")
    beside = {}
    for name, measure in PEERS.items() if "peers" in wanted else ():
        _say(f"{name} …")
        beside[name] = measure(effort)
    outcomes = goals.outcomes(figures, set(wanted))
    text = markdown(figures, outcomes, beside, failed)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        document = {
            "figures": figures,
            "peers": beside,
            "failed": failed,
            "goals": [asdict(outcome) | {"verdict": outcome.verdict} for outcome in outcomes],
        }
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks tui",
        description=__doc__,
        epilog="All of it takes about ten minutes.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*MEASUREMENTS, "peers"],
        metavar="MEASUREMENT",
        help=f"only this one; can be repeated: {', '.join([*MEASUREMENTS, 'peers'])}",
    )
    parser.add_argument(
        "--seconds", type=float, default=180, help="how long memory is watched for growth (default 180)"
    )
    parser.add_argument(
        "--window", type=float, default=20, help="length of one measurement of CPU, in seconds (default 20)"
    )
    parser.add_argument(
        "--rounds", type=int, default=11, help="starts, of which the median counts (default 11)"
    )
    parser.add_argument("--presses", type=int, default=100, help="key presses (default 100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed here as well")
    return parser


def markdown(
    figures: Mapping[str, float],
    outcomes: Sequence[Outcome],
    beside: Mapping[str, Mapping[str, float]],
    failed: Mapping[str, str],
) -> str:
    """Goals first, then the neighbours, then every figure."""
    lines = ["### The interface, in a terminal of 120×40", ""]
    lines += ["| | goal | measured | |", "|---|---:|---:|---|"]
    lines += [f"| {one.text} | {one.wanted} | {one.shown} | {one.verdict} |" for one in outcomes]
    if failed:
        lines += ["", "Not measured: " + "; ".join(f"{name} ({why})" for name, why in failed.items()) + "."]
    if beside:
        ours = {
            "start_ms": figures.get("start_ms"),
            "cpu": figures.get("cpu_8"),
            "output_kb": figures.get("output_8_kb"),
            "rss_mb": figures.get("rss_8_mb"),
        }
        titles = [title for title, _ in PEER_FIGURES]
        lines += ["", "### Beside others, at 1 Hz", "", f"| | {' | '.join(titles)} |"]
        lines.append("|---" + "|---:" * len(titles) + "|")
        for name, row in {"wsgitop, 8 workers": ours, **beside}.items():
            if row:
                cells = [_shown(row.get(key)) for _, key in PEER_FIGURES]
                lines.append(f"| {name} | {' | '.join(cells)} |")
            else:
                lines.append(f"| {name} | not installed |" + " |" * (len(titles) - 1))
    lines += ["", "### All figures", ""]
    lines.append(", ".join(f"{name} {value:,.2f}" for name, value in figures.items()) + ".")
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
