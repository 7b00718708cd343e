"""A log-linear histogram of latencies in microseconds: eight buckets per power of two, relative error at most
6 %.

The bucket of a value is found with two integer operations, so that a worker can afford it for every request;
the idea is HdrHistogram's. Buckets reach 2^32 µs (71 minutes); what is longer is counted in the last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wsgitop.scoreboard.layout import BUCKETS

LIMIT_US = 1 << 32
"""First value that no longer has a bucket of its own."""

MOST = 1 << 48
"""No worker gets so far; a row that was overwritten may hold more."""


def bucket(value_us: int) -> int:
    """The bucket that counts a latency of ``value_us`` microseconds (negative: as 0)."""
    if value_us < 8:
        return value_us if value_us > 0 else 0
    shift = value_us.bit_length() - 4
    index = (shift << 3) + (value_us >> shift)
    return index if index < BUCKETS else BUCKETS - 1


def bounds_us(index: int) -> tuple[int, int]:
    """The half-open range of microseconds that bucket ``index`` counts."""
    if index < 16:
        return index, index + 1
    shift = (index >> 3) - 1
    low = (8 + (index & 7)) << shift
    return low, low + (1 << shift)


def middle_us(index: int) -> float:
    """The value that stands for bucket ``index``: the harmonic middle, which has the least relative error."""
    low, high = bounds_us(index)
    return 2 * low * high / (low + high)


def filled_ms(counts: Sequence[int]) -> tuple[tuple[float, int], ...]:
    """The buckets in which something was counted: their upper bound in milliseconds, and how much. Whatever
    stands there can be carried by a message: a count is cut at MOST.
    """
    return tuple(
        (bounds_us(index)[1] / 1000, min(count, MOST)) for index, count in enumerate(counts) if count > 0
    )


def percentile_ms(counts: Sequence[int], share: float) -> float | None:
    """The latency in milliseconds that ``share`` (0 to 1) of the counted requests did not exceed; None:
    nothing counted.
    """
    total = sum(counts)
    if not total:
        return None
    rank = min(total, max(1, math.ceil(share * total)))
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return middle_us(index) / 1000
    return middle_us(len(counts) - 1) / 1000
