"""What must be reached, as a table. Reports; never fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.checks import Outcome


@dataclass(frozen=True)
class Goal:
    """One figure of a measurement, and the most it may be."""

    measurement: str
    text: str
    figure: str
    most: float
    unit: str


GOALS = (
    Goal("start", "attach to the first real frame, to an empty Textual", "start_ratio", 1.4, "×"),
    Goal("cpu8", "CPU at 1 Hz, 8 workers", "cpu_8", 2, "%"),
    Goal("cpu100", "CPU at 1 Hz, 100 workers", "cpu_100", 4, "%"),
    Goal("cpu1000", "CPU at 1 Hz, 1,000 workers", "cpu_1000", 6, "%"),
    Goal("cpu8", "CPU paused, 8 workers", "paused_8", 0.5, "%"),
    Goal("cpu100", "CPU paused, 100 workers", "paused_100", 0.5, "%"),
    Goal("cpu1000", "CPU paused, 1,000 workers", "paused_1000", 0.5, "%"),
    Goal("cpu8", "CPU without its server, 8 workers", "offline_8", 0.5, "%"),
    Goal("cpu100", "CPU without its server, 100 workers", "offline_100", 0.5, "%"),
    Goal("cpu1000", "CPU without its server, 1,000 workers", "offline_1000", 0.5, "%"),
    Goal("keys", "key press to bytes, p50", "key_p50_ms", 30, "ms"),
    Goal("keys", "key press to bytes, p95", "key_p95_ms", 60, "ms"),
    Goal("memory", "resident memory", "rss_mb", 70, "MB"),
    Goal("memory", "its growth", "growth_mb_h", 2, "MB/h"),
    Goal("cpu8", "terminal output per tick, 8 workers", "output_8_kb", 8, "KB"),
    Goal("cpu100", "terminal output per tick, 100 workers", "output_100_kb", 8, "KB"),
    Goal("cpu1000", "terminal output per tick, 1,000 workers", "output_1000_kb", 8, "KB"),
    Goal("cpu8", "control socket at 1 Hz, 8 workers", "socket_8_kb", 4, "KB/s"),
    Goal("cpu100", "control socket at 1 Hz, 100 workers", "socket_100_kb", 40, "KB/s"),
    Goal("cpu1000", "control socket at 1 Hz, 1,000 workers", "socket_1000_kb", 350, "KB/s"),
    Goal("master", "the master's CPU for an attached client", "master_client", 0.5, "%"),
    Goal("ends", "terminal lost, to the end of the process", "lost_s", 1, "s"),
    Goal("ends", "master restarted, to the picture of it", "back_s", 2, "s"),
)


def outcomes(figures: Mapping[str, float], measurements: set[str]) -> list[Outcome]:
    """Of the goals whose measurements took part."""
    return [
        Outcome(goal.text, figures.get(goal.figure), goal.most, True, goal.unit)
        for goal in GOALS
        if goal.measurement in measurements
    ]
