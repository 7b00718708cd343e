"""What must be reached: a table of figures, each compared with what was measured. Reports, never fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.results import Results

Measured = Callable[[Results], float | None]

OURS, OURS_4, OURS_4X2 = "wsgitop 1×8", "wsgitop 4×1", "wsgitop 4×2"
GTHREAD, GRANIAN, BJOERN = "gunicorn gthread 1×8", "granian 1×8", "bjoern 1×1"
LOGGING = ", access log"


@dataclass(frozen=True)
class Check:
    """One figure and its bound: ``at_least``, or ``at_most``, ``wanted``."""

    scenario: str
    text: str
    measured: Measured
    wanted: float
    at_most: bool = False
    unit: str = "×"


@dataclass(frozen=True)
class Outcome:
    """A check and what was measured; None if that was not possible."""

    text: str
    value: float | None
    bound: float
    at_most: bool
    unit: str

    @property
    def wanted(self) -> str:
        """The bound, as shown."""
        return f"{'≤' if self.at_most else '≥'} {self.bound:,g} {self.unit}".rstrip()

    @property
    def shown(self) -> str:
        """What was measured, as shown."""
        return "–" if self.value is None else f"{self.value:,.{2 if self.unit else 0}f} {self.unit}".rstrip()

    @property
    def reached(self) -> bool | None:
        """None: not measured."""
        if self.value is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def verdict(self) -> str:
        """In words, with how much is missing, as a share of the bound."""
        if self.value is None:
            return "not measured"
        if self.reached:
            return "reached"
        return f"missed by {abs(self.value - self.bound) / self.bound:.1%}"


def ratio(scenario: str, figure: str, server: str, other: str) -> Measured:
    """A figure of ``server`` over that of ``other``."""
    return lambda results: results.ratio(scenario, figure, server, other)


def figure(scenario: str, name: str, server: str, divisor: float = 1.0) -> Measured:
    """A figure of ``server``."""

    def measured(results: Results) -> float | None:
        value = results.figure(scenario, server, name)
        return None if value is None else value / divisor

    return measured


def mixed_limit(results: Results) -> float | None:
    """Requests/s that 4 × 1 threads can reach in the mixed load.

    A request takes 0.5 ms of sleep on average and the CPU time of a hello, and four are served at a time; and
    no load that sleeps is faster than the same one that does not. The best round of hello counts: a limit is
    what would be possible, not what something else on the machine left.
    """
    rows = results.rounds.get("hello4", {}).get(OURS_4)
    if not rows:
        return None
    cpu_s = min(row.cpu_us for row in rows) / 1e6
    return min(4 / (0.01 * 0.050 + cpu_s), max(row.rps for row in rows))


def share_of_mixed_limit(results: Results) -> float | None:
    """What wsgitop reaches of it."""
    limit, reached = mixed_limit(results), results.figure("mixed4", OURS_4, "rps")
    return reached / limit if limit and reached is not None else None


CHECKS = (
    Check("hello", "hello: req/s to bjoern", ratio("hello", "rps", OURS, BJOERN), 0.6),
    Check(
        "hello", "hello: CPU/request to granian", ratio("hello", "cpu_us", OURS, GRANIAN), 0.8, at_most=True
    ),
    Check("hello", "hello: req/s to gunicorn gthread", ratio("hello", "rps", OURS, GTHREAD), 15),
    Check("django", "Django: req/s to gunicorn gthread", ratio("django", "rps", OURS, GTHREAD), 4),
    Check("django", "Django: req/s to granian", ratio("django", "rps", OURS, GRANIAN), 1.2),
    Check("mixed", "mixed 1 × 8: req/s to granian", ratio("mixed", "rps", OURS, GRANIAN), 0.95),
    Check(
        "mixed4", "mixed 4 × 1: share of the arithmetic limit (which needs hello4)", share_of_mixed_limit, 0.9
    ),
    Check("slow", "slow 1 × 8: share of the arithmetic limit", figure("slow", "limit_share", OURS), 0.95),
    Check("slow", "slow 1 × 8: p99", figure("slow", "p99_ms", OURS), 100, at_most=True, unit="ms"),
    Check("slow4", "slow 4 × 2: p99", figure("slow4", "p99_ms", OURS_4X2), 110, at_most=True, unit="ms"),
    Check(
        "cpu",
        "CPU-bound mixed: p99 to gunicorn gthread",
        ratio("cpu", "p99_ms", OURS, GTHREAD),
        1,
        at_most=True,
    ),
    Check("cpu", "CPU-bound mixed: req/s to gunicorn gthread", ratio("cpu", "rps", OURS, GTHREAD), 1),
    Check(
        "idle10k",
        "memory of each of 10,000 idle connections",
        figure("idle10k", "held_bytes", OURS, 1024),
        16,
        at_most=True,
        unit="KiB",
    ),
    Check("idle10k", "of 10,000 idle connections, held", figure("idle10k", "held", OURS), 10_000, unit=""),
    Check(
        "slowheads",
        "of 10,000 slow heads, held",
        figure("slowheads", "held", OURS),
        10_000,
        unit="",
    ),
    Check(
        "slowheads",
        "p99 of a normal client beside 10,000 slow heads",
        figure("slowheads", "p99_ms", OURS),
        50,
        at_most=True,
        unit="ms",
    ),
    Check("log", "access log on: req/s to off", ratio("log", "rps", OURS + LOGGING, OURS), 0.8),
)


def outcomes(results: Results, scenarios: set[str]) -> list[Outcome]:
    """Of the checks whose scenarios took part."""
    return [
        Outcome(check.text, check.measured(results), check.wanted, check.at_most, check.unit)
        for check in CHECKS
        if check.scenario in scenarios
    ]
