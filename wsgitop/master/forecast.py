"""What a change of the number of workers is expected to cost in memory, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Iterable

MIB = 1024 * 1024

Memory = tuple[int | None, int | None]
"""PSS and RSS of a worker that serves, in bytes; None: not known."""


def forecast(
    change: int, workers: Iterable[Memory], limit_bytes: int | None, room_bytes: int | None
) -> tuple[str, bool]:
    """One line about ``change`` workers more (or fewer, if negative), and whether they fit in what the
    control group allows; ('', True) while nothing is known of the workers.

    A worker is taken to cost what those that serve cost on average: their share of memory (PSS), or what they
    hold (RSS), which counts shared pages several times and so says too much.
    """
    there = list(workers)
    costs = [pss for pss, _ in there if pss is not None]
    kind = "PSS"
    if not costs:
        costs = [rss for _, rss in there if rss is not None]
        kind = "RSS, so rather less"
    if not costs or not change:
        return "", True
    expected = round(sum(costs) / len(costs)) * change
    text = f"expected memory {expected / MIB:+,.0f} MiB ({kind})"
    if limit_bytes is None or room_bytes is None:
        return text, True
    text += f"; {room_bytes / MIB:,.0f} of {limit_bytes / MIB:,.0f} MiB are free in the control group"
    return text, expected <= room_bytes
