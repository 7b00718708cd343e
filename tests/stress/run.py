"""One run: a server, its clients, and somebody who reloads and scales it meanwhile."""

from __future__ import annotations

import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stress.client import StressClient, Tally
from tests.stress.ledger import Ledger, Record
from tests.stress.script import Mix, scripts
from tests.support.server import Server
from tests.support.waiting import eventually

HERE = Path(__file__).parent
SHOWN = 8
"""So many faults are worth reading."""
_FAILED = re.compile(r"Error handling request ")
_TIMED_OUT = re.compile(r"Timeout: [A-Z]+ ")
_ALARMS = re.compile(
    r"^.*(?:Internal error|Fatal Python error|did not obey|Cut off by the end|SIGKILL|Cannot accept).*$", re.M
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. ``every_s`` is about how often the server is reloaded or scaled, 0: never. ``stop_at``: the
    server is told to end when this share of the requests is answered, 0: when all are.
    """

    workers: int
    threads: int
    requests: int
    seed: int
    connections: int = 40
    every_s: float = 0.0
    hangs: float = 0.0
    timeout_s: float = 30.0
    keepalive_s: float = 2.0
    stop_at: float = 0.0
    arguments: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What came of it. ``faults`` are all that must not happen, for people."""

    plan: Plan
    duration_s: float
    counts: Counter[str]
    record: Counter[str]
    actions: Counter[str]
    totals: dict[str, Any]
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        plan = self.plan
        lines = [
            (
                f"shape {plan.workers}x{plan.threads}, seed {plan.seed}, {plan.requests} requests over "
                f"{plan.connections} connections in {self.duration_s:.1f} s "
                f"({self.counts['answered'] / self.duration_s:.0f} answers a second)"
            ),
            *(
                f"  {count:9d} {name}"
                for name, count in sorted(self.counts.items(), key=lambda item: -item[1])
            ),
            (
                f"  by the application: {self.record['C']} calls, {self.record['I']} iterables with close(), "
                f"{self.record['X']} exceptions, {self.record['H']} hangs"
            ),
        ]
        if self.totals:
            lines.append(
                f"  by the server: {self.totals['requests']} requests, {self.totals['errors']} errors"
            )
        if self.actions:
            lines.append(
                "  meanwhile: " + ", ".join(f"{n} {name}" for name, n in sorted(self.actions.items()))
            )
        lines += [f"FAILURE {fault}" for fault in self.faults[:SHOWN]] or ["  no failure"]
        if len(self.faults) > SHOWN:
            lines.append(f"and {len(self.faults) - SHOWN} more")
        return "\n".join(lines)


class Disturbance:
    """Reloads and scales the server at random times, within one worker of what it began with."""

    def __init__(self, server: Server, plan: Plan) -> None:
        self.actions: Counter[str] = Counter()
        self._server = server
        self._every_s = plan.every_s
        self._rng = random.Random(f"{plan.seed} {plan.workers}x{plan.threads}")
        self._extra = 0
        self._workers = plan.workers
        self._next_s = time.monotonic() + plan.every_s / 2

    def __call__(self) -> None:
        """Called some times a second."""
        now_s = time.monotonic()
        if not self._every_s or now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s * self._rng.uniform(0.3, 1.7)
        self._send(self._rng.choice(("SIGHUP", "SIGHUP", "SIGTTIN", "SIGTTOU")))

    def _send(self, name: str) -> None:
        if name == "SIGTTIN":
            name = "SIGTTOU" if self._extra == 1 else name
        elif name == "SIGTTOU" and (self._extra == -1 or self._workers + self._extra == 1):
            name = "SIGTTIN"
        self._extra += {"SIGTTIN": 1, "SIGTTOU": -1}.get(name, 0)
        self.actions[name] += 1
        self._server.signal(signal.Signals[name])


def stress(plan: Plan) -> Report:
    """Run it. Everything that it has started and made is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="wsgitop-stress-"))
    try:
        return _stress(plan, directory)
    finally:
        shutil.rmtree(directory)


def _stress(plan: Plan, directory: Path) -> Report:
    arguments = (
        "--workers", str(plan.workers), "--threads", str(plan.threads),
        "--keep-alive", f"{plan.keepalive_s:g}",
        "--timeout", f"{plan.timeout_s:g}", "--body-buffer", "65536", "--response-buffer", "65536",
        *plan.arguments,
    )  # fmt: skip
    ledger = Ledger(plan.requests)
    totals: dict[str, Any] = {}
    faults: list[str] = []
    with Server(
        "application:application", *arguments, cwd=HERE, env={"STRESS_RECORD": str(directory)}
    ) as server:
        server.wait_until_serving()
        disturbance = Disturbance(server, plan)

        def each_turn() -> None:
            if plan.stop_at and client.tally.counts["answered"] >= plan.stop_at * plan.requests:
                if not client.stopped:
                    client.stop()
                    server.signal(signal.SIGTERM)
            else:
                disturbance()

        client = StressClient(
            ("127.0.0.1", server.port),
            scripts(plan.seed, plan.requests, Mix(plan.keepalive_s, plan.timeout_s, plan.hangs)),
            connections=plan.connections,
            each_turn=each_turn,
            keepalive_s=plan.keepalive_s,
            seen=ledger.put,
        )
        started_s = time.monotonic()
        tally = client.run()
        duration_s = time.monotonic() - started_s
        if not client.stopped:
            quiet = _Quiet(server)
            try:
                eventually(quiet, 20 + 2.5 * plan.timeout_s * bool(plan.hangs), what="rest")
            except AssertionError as error:
                faults.append(f"the server does not come to rest: {error}")
            totals = quiet.status["totals"]
        status = server.stop()
        if status:
            faults.append(f"the server ended with status {status}")
        log = server.log()
    record = ledger.compare(directory, stopped=client.stopped)
    faults += [str(failure) for failure in tally.failures] + record.faults
    faults += _sums(tally, record, totals, log, plan)
    return Report(plan, duration_s, tally.counts, record.sums, disturbance.actions, totals, faults)


class _Quiet:
    """Whether nothing is under way in the server any more."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.status: dict[str, Any] = {}

    def __call__(self) -> bool:
        self.status = status = self._server.status()
        workers = status["workers"]
        return (
            status["master"]["reloading_to"] is None
            and len(workers) == status["master"]["workers_wanted"]
            and all(w["state"] == "idle" and not w["connections"] for w in workers)
            and not any(w["threads_busy"] for w in workers)
        )


def _sums(tally: Tally, record: Record, totals: dict[str, Any], log: str, plan: Plan) -> list[str]:
    """What does not add up."""
    sums = record.sums
    counts = tally.counts
    wrong = []

    def equal(what: str, is_: int, expected: int) -> None:
        if is_ != expected:
            wrong.append(f"{what}: {is_} instead of {expected}")

    if totals:
        equal("the server's count of requests", totals["requests"], sums["C"])
        equal("the server's count of errors", totals["errors"], sums["X"] + sums["H"] + sums["R"])
        ends = ("answered", "wrong", "cut by the client", "lost", "spoilt", "abandoned")
        equal("requests that came to an end", sum(counts[end] for end in ends), plan.requests)
    equal("log entries of exceptions", len(_FAILED.findall(log)), sums["X"])
    equal("log entries of timeouts", len(_TIMED_OUT.findall(log)), sums["H"])
    wrong += [f"in the log: {line}" for line in sorted(set(_ALARMS.findall(log)))[:5]]
    return wrong
