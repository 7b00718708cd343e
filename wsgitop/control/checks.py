"""What the types of the arguments cannot say: one check for each method that needs one. Pure.

A check returns what is wrong, '' if nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from wsgitop.control import messages as m

KEY_LIMIT = 128
MOST_THREADS = 1 << 16
MOST_WORKERS = 1_000_000
"""More than a server can have; what it can have is the backend's business."""
LARGEST_PID = (1 << 31) - 1
LARGEST = (1 << 63) - 1
LEVELS = ("debug", "info", "warning", "error", "critical")
_SIGNAL_NAME = re.compile(r"[A-Z][A-Z0-9]{1,11}")
_NO_OTHER = "a worker is named by pid and started_at, so that no other process can be meant"


def problem_with(method: str, arguments: Any) -> str:
    """What is wrong with the arguments of a call, '' if nothing is."""
    if isinstance(arguments, m.OrderArguments) and len(arguments.key) > KEY_LIMIT:
        return f"key has at most {KEY_LIMIT} characters"
    check = _CHECKS.get(method)
    return check(arguments) if check is not None else ""


def _scale(arguments: m.ScaleArguments) -> str:
    if (arguments.workers is None) == (arguments.change is None):
        return "give either workers or change"
    # A number of thousands of digits would stand in the log as it is.
    fits = abs(arguments.workers or arguments.change or 0) <= MOST_WORKERS
    return "" if fits else f"workers and change are at most {MOST_WORKERS}"


def _signal(arguments: m.SignalArguments) -> str:
    if not _SIGNAL_NAME.fullmatch(arguments.signal):
        return "signal is a name without SIG, such as HUP"
    return _worker(arguments) if arguments.pid is not None else ""


def _worker(
    arguments: m.WorkerArguments
    | m.StackArguments
    | m.HistogramArguments
    | m.SignalArguments
    | m.CancelArguments,
) -> str:
    if arguments.started_at is None:
        return _NO_OTHER
    return "" if 0 < (arguments.pid or 0) <= LARGEST_PID else f"pid is from 1 to {LARGEST_PID}"


def _stack(arguments: m.StackArguments) -> str:
    if arguments.thread is not None and not 0 <= arguments.thread < MOST_THREADS:
        return f"thread is from 0 to {MOST_THREADS - 1}"
    return _worker(arguments)


def _cancel(arguments: m.CancelArguments) -> str:
    problem = _worker(arguments)
    if problem:
        return problem
    named = 0 <= arguments.thread < MOST_THREADS and 0 < arguments.request <= LARGEST
    return "" if named else "thread and request name a request in flight, as `requests` shows it"


def _log_level(arguments: m.LogLevelArguments) -> str:
    return "" if arguments.level in LEVELS else f"level is one of {', '.join(LEVELS)}"


def _tail(arguments: m.EventsArguments | m.DeathsArguments) -> str:
    return "" if arguments.limit >= 1 and arguments.after >= 0 else "after is at least 0, limit at least 1"


def _history(arguments: m.HistoryArguments) -> str:
    return "" if arguments.seconds >= 1 else "seconds is at least 1"


def _log(arguments: m.LogArguments) -> str:
    return "" if arguments.lines >= 1 else "lines is at least 1"


def _requests(arguments: m.RequestsArguments) -> str:
    return "" if arguments.limit >= 1 else "limit is at least 1"


_CHECKS: dict[str, Callable[[Any], str]] = {
    "scale": _scale,
    "signal": _signal,
    "quarantine": _worker,
    "release": _worker,
    "retire": _worker,
    "stack": _stack,
    "histogram": _worker,
    "cancel": _cancel,
    "loglevel": _log_level,
    "events": _tail,
    "deaths": _tail,
    "history": _history,
    "requests": _requests,
    "log": _log,
}
