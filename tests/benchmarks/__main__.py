"""``python -m tests.benchmarks [--seconds N] [--rounds N]``: wsgitop beside gunicorn, as Markdown and JSON.

Servers take turns within each round, so that what else the machine does hits all of them; medians of the
rounds are compared. On a shared machine read the ratios and the CPU per request, not the requests per second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.clients import client_name, measure
from tests.benchmarks.servers import Contender, contenders, running, versions
from tests.support.django_site import PROJECT, make_database
from tests.support.server import APPS


@dataclass(frozen=True)
class Site:
    """One thing to serve."""

    name: str
    app: str
    path: str
    cwd: Path


SITES = (
    Site("hello (14 bytes, no framework)", "hello:plain", "/", APPS),
    Site("Django, a view behind four middlewares", "djhello:application", "/", APPS),
    Site("Django admin, the login page", "rmadmin.wsgi:application", "/admin/login/", PROJECT),
)


@dataclass(frozen=True)
class Row:
    """One server on one site, in one round or as the median of all."""

    rps: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    failed: float


def one_round(contender: Contender, site: Site, env: dict[str, str], seconds: float, connections: int) -> Row:
    """Start, warm up, measure, stop."""
    with running(contender, site.app, site.cwd, env) as server:
        measure(server.port, site.path, seconds=1, connections=connections)
        cpu_before_s = server.cpu_s()
        figures = measure(server.port, site.path, seconds=seconds, connections=connections)
        cpu_s = server.cpu_s() - cpu_before_s
        return Row(
            rps=figures.requests / figures.duration_s,
            cpu_us=cpu_s / max(1, figures.requests) * 1e6,
            p50_ms=figures.p50_ms,
            p99_ms=figures.p99_ms,
            rss_mb=server.rss_bytes() / 1e6,
            failed=figures.failed,
        )


def median(rows: list[Row]) -> Row:
    """Field by field."""
    return Row(
        *(statistics.median(values) for values in zip(*(asdict(row).values() for row in rows), strict=True))
    )


def markdown(results: dict[str, dict[str, Row]], heading: str) -> str:
    """One table for each site."""
    lines = [heading]
    for site, by_name in results.items():
        best = next(iter(by_name.values())).rps
        lines += [
            f"\n### {site}\n",
            "| server | req/s | ratio | CPU µs/req | p50 ms | p99 ms | RSS MB | failed |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {name} | {r.rps:,.0f} | {r.rps / best:.2f} | {r.cpu_us:.0f} "
            f"| {r.p50_ms:.1f} | {r.p99_ms:.1f} | {r.rss_mb:.0f} | {r.failed:.0f} |"
            for name, r in by_name.items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="length of one measurement (default 4)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the median counts (default 3)"
    )
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write all figures to this file as well")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="wsgitop-bench-") as directory:
        database = Path(directory, "db.sqlite3")
        make_database(database)
        env = {"RMADMIN_DATABASE": str(database)}
        results: dict[str, dict[str, Row]] = {}
        everything: list[dict[str, object]] = []
        for site in SITES:
            rounds: dict[str, list[Row]] = {}
            for number in range(options.rounds):
                for contender in contenders(options.workers, options.threads):
                    row = one_round(contender, site, env, options.seconds, options.connections)
                    rounds.setdefault(contender.name, []).append(row)
                    everything.append(
                        {"site": site.name, "server": contender.name, "round": number, **asdict(row)}
                    )
                    print(
                        f"{site.name}, round {number + 1}, {contender.name}: {row.rps:,.0f} req/s",
                        file=sys.stderr,
                    )
            results[site.name] = {name: median(rows) for name, rows in rounds.items()}
    heading = (
        f"{versions()}; {options.connections} keep-alive connections by {client_name()}, "
        f"medians of {options.rounds} rounds of {options.seconds:g} s"
    )
    print(markdown(results, heading))
    if options.json:
        options.json.write_text(json.dumps({"heading": heading, "rounds": everything}, indent=1) + "\n")


if __name__ == "__main__":
    main()
