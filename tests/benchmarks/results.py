"""The figures of a run: a row for each server in each scenario."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Row:
    """One server in one scenario: in one round, or the median of all. What was not measured is None."""

    rps: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    pss_mb: float
    failed: float
    limit_share: float | None = None  # of the requests/s that arithmetic allows
    held: float | None = None  # of the connections to be held, those that were there at the end
    held_bytes: float | None = None  # resident memory for each of them


def median(rows: Sequence[Row]) -> Row:
    """Field by field; a field that a round lacks is left out of account."""
    values: dict[str, float | None] = {}
    for name in (field.name for field in fields(Row)):
        there = [value for row in rows if (value := getattr(row, name)) is not None]
        values[name] = statistics.median(there) if there else None
    return Row(**values)  # type: ignore[arg-type]


class Results:
    """Rows of all rounds, by scenario and server, in the order in which they came."""

    def __init__(self) -> None:
        self.rounds: dict[str, dict[str, list[Row]]] = {}
        self.left_out: dict[str, dict[str, str]] = {}

    def add(self, scenario: str, server: str, row: Row) -> None:
        """Note one round."""
        self.rounds.setdefault(scenario, {}).setdefault(server, []).append(row)

    def leave_out(self, scenario: str, server: str, reason: str) -> None:
        """Note that a server cannot take part in a scenario, or could not in one round."""
        self.left_out.setdefault(scenario, {})[server] = reason

    def medians(self, scenario: str) -> dict[str, Row]:
        """The median of each server that took part."""
        return {server: median(rows) for server, rows in self.rounds.get(scenario, {}).items()}

    def figure(self, scenario: str, server: str, name: str) -> float | None:
        """The median of one figure; None if it was not measured, or nothing was served."""
        rows = self.rounds.get(scenario, {}).get(server)
        row = median(rows) if rows else None
        value = getattr(row, name) if row and row.rps > 0 else None
        return float(value) if value is not None else None

    def ratio(self, scenario: str, name: str, server: str, other: str) -> float | None:
        """``server``'s figure over ``other``'s."""
        mine, theirs = self.figure(scenario, server, name), self.figure(scenario, other, name)
        return mine / theirs if mine is not None and theirs else None
