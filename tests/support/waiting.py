"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from wsgitop.errors import WsgitopError

T = TypeVar("T")


def eventually(predicate: Callable[[], T], deadline_s: float = 10.0, *, what: str = "") -> T:
    """Call ``predicate`` until it returns something true, and return that.

    Fails with the last value, or the last exception, when ``deadline_s`` seconds have passed.
    """
    end = time.monotonic() + deadline_s
    pause_s = 0.005
    while True:
        last: object
        try:
            value = predicate()
            if value:
                return value
            last = value
        except (AssertionError, OSError, LookupError, WsgitopError) as error:
            last = error
        if time.monotonic() > end:
            name = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"{name} did not come true within {deadline_s:g} s; last: {last!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)
