"""``python -m tests.benchmarks``: wsgitop beside other servers, as Markdown and JSON.

Servers take turns within each round, so that what else the machine does hits all of them; medians of the
rounds are compared. On a shared machine read the ratios and the CPU per request, not the requests per second.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from tests.benchmarks import checks, report
from tests.benchmarks.calibration import rounds_of
from tests.benchmarks.clients import CannotMeasure, client_name
from tests.benchmarks.results import Results, Row
from tests.benchmarks.rounds import Contender, contenders, one_round
from tests.benchmarks.scenarios import SCENARIOS, Scenario
from tests.benchmarks.servers import PEERS, WSGITOP, Peer, chosen, versions
from tests.benchmarks.serving import DidNotServe

SPIN_S = 0.005


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print. The word ``tui`` in front asks for the interface instead of the server."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["tui"]:
        from tests.benchmarks.tui.program import main as measure_interface

        measure_interface(words[1:])
        return
    parser = _parser()
    options = parser.parse_args(words)
    if options.list:
        _print_list()
        return
    scenarios = [scenario for scenario in SCENARIOS if options.only is None or scenario.key in options.only]
    try:
        peers = chosen(options.servers)
    except ValueError as error:
        parser.error(str(error))
    results = Results()
    spin = rounds_of(SPIN_S)
    with tempfile.TemporaryDirectory(prefix="wsgitop-bench-") as directory:
        measure_once = partial(
            one_round, seconds=options.seconds, env={"BENCH_SPIN": str(spin)}, directory=Path(directory)
        )
        for scenario in scenarios:
            compare(scenario, peers, results, rounds=options.rounds, measure_once=measure_once)
    heading = [
        f"{', '.join(versions(peers))}.",
        f"{client_name()}, medians of {options.rounds} rounds of {options.seconds:g} s.",
        f"{SPIN_S * 1000:g} ms of pure Python are {spin:,} rounds of a loop.",
        "CPU is user and system time of all the server's processes, RSS and PSS their sums.",
    ]
    titles = {scenario.key: scenario.title for scenario in scenarios}
    outcomes = checks.outcomes(results, set(titles))
    text = report.markdown(results, titles, heading, outcomes)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(report.as_json(results, titles, heading, outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog="All of it takes about an hour; --only, --servers, --seconds and --rounds make it shorter. "
        "`python -m tests.benchmarks tui` measures the interface.",
    )
    keys = [scenario.key for scenario in SCENARIOS]
    parser.add_argument("--list", action="store_true", help="show scenarios and servers, measure nothing")
    parser.add_argument(
        "--only", action="append", choices=keys, metavar="SCENARIO", help="only this one; can be repeated"
    )
    parser.add_argument(
        "--servers", metavar="NAME,...", help="peers whose names begin so; wsgitop always takes part"
    )
    parser.add_argument("--seconds", type=float, default=4, help="length of one measurement (default 4)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the median counts (default 3)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round, and all ratios, here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed here as well")
    return parser


def _print_list() -> None:
    for scenario in SCENARIOS:
        print(f"{scenario.key:10} {scenario.title}")
    print()
    for peer in (WSGITOP, *PEERS):
        print(f"{peer.name:18} {peer.version() or 'not installed'}")


def compare(
    scenario: Scenario,
    peers: Sequence[Peer],
    results: Results,
    *,
    rounds: int,
    measure_once: Callable[[Contender, Scenario], Row],
) -> None:
    """All rounds of one scenario. Who does not serve, or fails in one round, is left out from then on."""
    taking_part: list[Contender] = []
    for contender in contenders(scenario, peers):
        if contender.reason:
            results.leave_out(scenario.key, contender.name, contender.reason)
        else:
            taking_part.append(contender)
    for number in range(rounds):
        for contender in list(taking_part):
            label = f"{scenario.key}, round {number + 1} of {rounds}, {contender.name}"
            try:
                row = measure_once(contender, scenario)
            except (DidNotServe, CannotMeasure) as error:
                _say(f"{label}: {error}\n{getattr(error, 'log', '')}")
                results.leave_out(scenario.key, contender.name, str(error))
                taking_part.remove(contender)
                continue
            results.add(scenario.key, contender.name, row)
            _say(f"{label}: {row.rps:,.0f} req/s, {row.cpu_us:.1f} µs, p99 {row.p99_ms:.1f} ms")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)  # so that no server stays behind
    main()
