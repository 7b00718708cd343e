"""The memory of a process over its whole life in few points. Pure: times and figures come from the caller."""

from __future__ import annotations

POINTS = 60
FIRST_INTERVAL_S = 1.0


class MemoryCurve:
    """At most POINTS points, evenly spread; when there would be more, two neighbours become one.

    A point keeps the most of its time and not the last or the mean: what somebody looks for who asks why a
    process ran out of memory is the peak.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._interval_s = FIRST_INTERVAL_S
        self._points: list[tuple[float, int]] = []

    def add(self, now: float, rss_bytes: int) -> None:
        """Take a sample."""
        points = self._points
        age_s = max(0.0, now - self._started)
        if points and age_s - points[-1][0] < self._interval_s:
            points[-1] = points[-1][0], max(points[-1][1], rss_bytes)
            return
        points.append((age_s, rss_bytes))
        while len(points) > POINTS:
            self._interval_s *= 2
            merged: list[tuple[float, int]] = []
            for point in points:
                if merged and point[0] - merged[-1][0] < self._interval_s:
                    merged[-1] = merged[-1][0], max(merged[-1][1], point[1])
                else:
                    merged.append(point)
            points = self._points = merged

    def points(self) -> tuple[tuple[float, int], ...]:
        """Pairs of seconds since the start and bytes, in order of time."""
        return tuple((round(age_s, 1), rss_bytes) for age_s, rss_bytes in self._points)

    def peak_bytes(self) -> int | None:
        """The most that was seen; None before the first sample."""
        return max((rss_bytes for _, rss_bytes in self._points), default=None)
