"""How figures read on the screen: short, of a known greatest width, ``–`` for what is not known.

Pure functions from numbers to text. None of them raises, whatever the number: a screen never ends because of
a figure.
"""

from __future__ import annotations

import math
import time

UNKNOWN = "–"

_SIZE_UNITS = ("B", "K", "M", "G", "T", "P")


def count(value: int) -> str:
    """A counter in at most 6 cells: ``182201``, ``1.23M``."""
    if value < 1_000_000:
        return str(value)
    for unit, size in (("M", 1e6), ("G", 1e9), ("T", 1e12)):
        scaled = value / size
        if scaled < 999.5:
            return _three_digits(scaled) + unit
    return "≥1P"


def rate(value: float | None) -> str:
    """A figure per second in at most 5 cells: ``58.1``, ``1240``, ``12.4k``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value < 999.95:
        return f"{value:.1f}"
    if value < 9999.5:
        return f"{value:.0f}"
    if value < 999_500:
        return _three_digits(value / 1000) + "k"
    return _three_digits(min(value / 1e6, 999)) + "M"


def scale(top: float) -> str:
    """The top of a scale of rates, which is round: ``600``, ``12.0k``."""
    return f"{top:g}" if top < 10_000 else rate(top)


def milliseconds(value: float | None) -> str:
    """A latency in milliseconds in at most 5 cells: ``0.03``, ``0.4``, ``39``, ``2100``, ``12.4s`` once it
    passes ten seconds."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if 0 < value < 0.095:
        return f"{value:.2f}"
    if value < 9.95:
        return f"{value:.1f}"
    if value < 9999.5:
        return f"{value:.0f}"
    return elapsed(value / 1000)


def percent(value: float | None) -> str:
    """A share in at most 5 cells, without the sign: ``3.0``, ``99.8``, ``341``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:.1f}" if value < 99.95 else f"{min(value, 99_999):.0f}"


def size(value: int | None) -> str:
    """Bytes in at most 5 cells, in powers of 1024: ``101M``, ``1.2G``."""
    if value is None:
        return UNKNOWN
    scaled = float(value)
    for unit in _SIZE_UNITS:
        if scaled < 999.5 or unit == _SIZE_UNITS[-1]:
            if unit == "B" or scaled >= 9.95:
                return f"{min(scaled, 9999):.0f}{unit}"
            return f"{scaled:.1f}{unit}"
        scaled /= 1024
    raise AssertionError("the last unit takes everything")


def elapsed(seconds: float | None) -> str:
    """How long something has been running, in at most 5 cells: ``0.03s``, ``12.4s``, ``312s``, ``41m``,
    ``3h12``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 0.995:
        return f"{max(seconds, 0):.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    if seconds < 600:
        return f"{seconds:.0f}s"
    return age(seconds)


def age(seconds: float | None) -> str:
    """A lifetime in at most 6 cells: ``12s``, ``41m``, ``3h12m``, ``3d04h``, ``412d``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = int(max(seconds, 0))
    if whole < 100:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 100:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m" if hours < 24 else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02d}h" if days < 100 else f"{min(days, 99_999)}d"


def beat(seconds: float | None) -> str:
    """The age of a heartbeat in at most 5 cells."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    return f"{max(seconds, 0):.1f}s" if seconds < 9.95 else age(seconds)


def clock(at: float) -> str:
    """A time of day in local time, ``14:01:58``."""
    return moment(at, "%H:%M:%S")


def moment(at: float, form: str) -> str:
    """``at`` (seconds since the epoch) in local time, as strftime(3) writes it; ``–`` for what is no time.

    The server's word for it: a wrong figure must not end whoever shows it.
    """
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, OSError, ValueError):
        return UNKNOWN


def plural(number: int, noun: str) -> str:
    """``1 worker``, ``4 workers``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
