"""Who meets in a scenario, and one measurement of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.clients import Load, measure
from tests.benchmarks.crowd import allow_descriptors, crowd
from tests.benchmarks.results import Row
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.servers import WSGITOP, Job, Peer
from tests.benchmarks.serving import serving
from tests.support.server import free_port

WARM_UP_S = 1.0
HOLD_S = 300  # longer than any crowd is needed


@dataclass(frozen=True)
class Contender:
    """A server in a shape; or why it cannot take part."""

    peer: Peer
    workers: int
    threads: int
    logs: bool = False
    reason: str = ""

    @property
    def name(self) -> str:
        """As the tables show it."""
        if self.reason:
            return self.peer.name
        return f"{self.peer.name} {self.workers}×{self.threads}" + (", access log" if self.logs else "")


def contenders(scenario: Scenario, peers: Sequence[Peer]) -> Iterator[Contender]:
    """wsgitop in every shape, then the peers in the first, each with as many threads as it can have."""
    for peer in peers:
        if peer is not WSGITOP and scenario.alone:
            continue
        for workers, threads in scenario.shapes if peer is WSGITOP else scenario.shapes[:1]:
            reason = ""
            if peer.version() is None:
                reason = "not installed"
            elif workers > 1 and not peer.workers:
                reason = "has no worker processes"
            elif scenario.log_too and not peer.logs:
                reason = "has no access log"
            shape = (workers, threads if peer.threads else 1)
            yield Contender(peer, *shape, reason=reason)
            if scenario.log_too and not reason:
                yield Contender(peer, *shape, logs=True)


def one_round(
    contender: Contender, scenario: Scenario, seconds: float, env: Mapping[str, str], directory: Path
) -> Row:
    """Start, warm up, gather the crowd, measure, stop."""
    job = _job(contender, scenario, directory)
    allow_descriptors(job.connections + 200)  # for the server as well
    load = scenario.load
    with serving(
        contender.peer.command(job),
        port=job.port,
        probe=load.request,
        expected=scenario.answer,
        env=env,
    ) as server:
        measure(job.port, load, WARM_UP_S)
        alone_bytes = server.rss_bytes()
        with crowd(job.port, scenario.idle, scenario.slow_heads) as held:
            cpu_before_s = server.cpu_s()
            figures = measure(job.port, load, seconds)
            cpu_s = server.cpu_s() - cpu_before_s
            count = held.held() if scenario.held else None
            rss_bytes = server.rss_bytes()
            rps = figures.requests / figures.duration_s
            return Row(
                rps=rps,
                cpu_us=cpu_s / max(1, figures.requests) * 1e6,
                p50_ms=figures.p50_ms,
                p99_ms=figures.p99_ms,
                rss_mb=rss_bytes / 1e6,
                pss_mb=server.pss_bytes() / 1e6,
                failed=figures.failed,
                limit_share=_share_of_limit(rps, contender, scenario, load),
                held=count,
                held_bytes=(rss_bytes - alone_bytes) / count if count else None,
            )


def _job(contender: Contender, scenario: Scenario, directory: Path) -> Job:
    log = directory / "access.log"
    log.unlink(missing_ok=True)
    return Job(
        app=scenario.app,
        port=free_port(),
        workers=contender.workers,
        threads=contender.threads,
        access_log=log if contender.logs else None,
        keep_alive_s=HOLD_S if scenario.idle else Job.keep_alive_s,
        header_timeout_s=HOLD_S if scenario.slow_heads else Job.header_timeout_s,
        connections=max(Job.connections, scenario.held + scenario.load.connections + 100),
    )


def _share_of_limit(rps: float, contender: Contender, scenario: Scenario, load: Load) -> float | None:
    """Each thread can only do so many sleeps a second, and each connection too."""
    if not scenario.sleep_s:
        return None
    at_once = min(contender.workers * contender.threads, load.connections)
    return rps / (at_once / scenario.sleep_s)
