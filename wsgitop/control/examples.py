"""An example of each control method, for the reference and for its test against a live server.

Values are made up, and the same server is meant in all of them: pid 4242, generation 7, its first worker
is process 4251.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from wsgitop.control import messages as m
from wsgitop.snapshot import (
    Death,
    Event,
    GenerationSnapshot,
    InFlight,
    ListenerSnapshot,
    MasterSnapshot,
    Second,
    Snapshot,
    Totals,
    WorkerSnapshot,
)

PID = 4251
STARTED_AT = 1764403200.25
"""Of the worker that the examples name."""
NOW = 1764406800.0
REQUEST = 864213579000


class Example(NamedTuple):
    """Arguments, and what came back."""

    arguments: msgspec.Struct
    result: msgspec.Struct


_IN_FLIGHT = InFlight(0, "GET", "/report", "192.0.2.7:51122", 12.4, REQUEST)
_WORKER = WorkerSnapshot(
    slot=1, pid=PID, generation=7, state="busy", started_at=STARTED_AT, age_s=3599.8, requests=182201,
    errors=3, rps=58.1, p50_ms=8.2, p95_ms=39.0, p99_ms=120.1, cpu_percent=47.0, rss_bytes=105906176,
    pss_bytes=48234496, threads=2, threads_busy=1, connections=9, heartbeat_age_s=0.01,
    in_flight=(_IN_FLIGHT,), rps_history=(55.0, 58.1),
)  # fmt: skip
_MASTER = MasterSnapshot(
    pid=4242, generation=7, state="serving", started_at=1764403199.0, uptime_s=3601.0,
    bind=("0.0.0.0:8000",), control="/run/shop/control.sock", app="shop.wsgi:application", name="shop.wsgi",
    host="web-3", user="shop", version="0.1.0", python="3.13.0", workers_wanted=1, threads=2,
    cpu_percent=0.3, rss_bytes=34603008,
)  # fmt: skip
_SNAPSHOT = Snapshot(
    sequence=3601,
    at=NOW,
    master=_MASTER,
    totals=Totals(
        requests=182201, errors=3, rps=58.1, errors_per_s=0.0, p50_ms=8.2, p95_ms=39.0, p99_ms=120.1,
        threads=2, threads_busy=1, queue=0, backlog=2048, cpu_percent=47.3, rss_bytes=176160768,
    ),
    workers=(_WORKER,),
    generations=(GenerationSnapshot(7, "ready", 4250, 35651584, 1),),
    listeners=(ListenerSnapshot("0.0.0.0:8000", 2048, 0),),
)  # fmt: skip
_TARGET = m.WorkerArguments(pid=PID, started_at=STARTED_AT)


def _outcome(text: str, elapsed_s: float = 0.0, workers: int = 1, generation: int = 7) -> m.Outcome:
    return m.Outcome(text=text, generation=generation, workers=workers, elapsed_s=elapsed_s)


EXAMPLES: dict[str, Example] = {
    "hello": Example(
        m.NoArguments(),
        m.Hello(
            m.PROTOCOL, "0.1.0", 4242, "viewer", "shop.wsgi:application",
            ("hello", "status", "workers"), ("keys", "logs"),
        ),
    ),
    "status": Example(m.NoArguments(), _SNAPSHOT),
    "workers": Example(m.NoArguments(), m.WorkersResult((_WORKER,))),
    "requests": Example(
        m.RequestsArguments(limit=10),
        m.RequestsResult(
            (m.RequestInFlight(1, PID, STARTED_AT, 7, _IN_FLIGHT),),
            (
                m.SlowRequest(
                    NOW - 60, 1, PID, 7, "GET", "/export", "192.0.2.7:51090", 200, 4.31
                ),
            ),
            1,
        ),
    ),
    "events": Example(
        m.EventsArguments(after=41, limit=1),
        m.EventsResult(
            (Event(42, NOW, "good", "serving", "generation 7 serves: 1 of 1 workers", "alice (pid 4300)"),)
        ),
    ),
    "deaths": Example(
        m.DeathsArguments(limit=1),
        m.DeathsResult(
            (
                Death(
                    3, NOW - 600, "worker", "timeout", "worker 1 (pid 4199) exceeded --timeout", 6, 4199,
                    slot=1, worker=4, signal="SIGKILL", uptime_s=7200.5, served_s=7199.0, requests=9902,
                    serving=(InFlight(0, "GET", "/report", "", 30.1),), master=4242,
                ),
            )
        ),
    ),
    "history": Example(
        m.HistoryArguments(seconds=1),
        m.HistoryResult((Second(NOW, 58.1, 8.2, 39.0, 120.1, 2, 1, 0, 47.3, 176160768),)),
    ),
    "histogram": Example(
        m.HistogramArguments(pid=PID, started_at=STARTED_AT),
        m.HistogramResult(1, PID, 10, ((8.192, 411), (9.216, 102), (40.96, 17), (131.072, 1))),
    ),
    "settings": Example(
        m.SettingsArguments(changed=True),
        m.SettingsResult(
            (
                m.SettingShown(
                    "threads", "2", "1", "command line", "Workers",
                    "Threads of each worker. 1 keeps the application single-threaded, in the main thread.",
                    ("--threads",),
                ),
            )
        ),
    ),
    "log": Example(
        m.LogArguments(lines=1),
        m.LogResult(("[2025-11-29 09:00:00 +0000] [4251] [INFO] Booting worker with pid: 4251",)),
    ),
    "metrics": Example(
        m.NoArguments(),
        m.MetricsResult("# TYPE wsgitop_workers gauge\nwsgitop_workers{state=\"busy\"} 1\n# EOF\n"),
    ),
    "subscribe": Example(
        m.SubscribeArguments(interval_s=1.0, error_log=True), m.Subscribed(1.0, _SNAPSHOT)
    ),
    "unsubscribe": Example(m.NoArguments(), m.NoArguments()),
    "reload": Example(
        m.OrderArguments(key="deploy-1234"), _outcome("generation 8 serves", 2.104, generation=8)
    ),
    "scale": Example(m.ScaleArguments(change=1), _outcome("2 workers", 0.141, workers=2)),
    "signal": Example(
        m.SignalArguments(signal="USR1", pid=PID, started_at=STARTED_AT),
        _outcome("SIGUSR1 sent to worker 1 (pid 4251)"),
    ),
    "quarantine": Example(
        _TARGET, _outcome("worker 1 (pid 4251) is put aside to be looked at", 0.2)
    ),
    "release": Example(_TARGET, _outcome("worker 1 (pid 4251) serves again", 0.1)),
    "retire": Example(_TARGET, _outcome("worker 1 (pid 4251) retires", 0.4)),
    "stack": Example(
        m.StackArguments(pid=PID, started_at=STARTED_AT, thread=0),
        m.StackResult(
            1, PID, "watchdog",
            (
                m.ThreadStack(
                    "MainThread",
                    (
                        m.Frame("/srv/shop/views.py", 88, "report", "rows = fetch(month)", True),
                        m.Frame("/srv/shop/db.py", 31, "fetch", "return cursor.fetchall()", True),
                    ),
                    0,
                    _IN_FLIGHT,
                ),
            ),
        ),
    ),
    "cancel": Example(
        m.CancelArguments(pid=PID, started_at=STARTED_AT, thread=0, request=REQUEST),
        m.Cancelled(
            text="GET /report was answered with an error; the thread still runs it", generation=7, workers=1,
            elapsed_s=1.002, end="disconnected", answered=True,
        ),
    ),
    "loglevel": Example(
        m.LogLevelArguments(level="debug"), _outcome("the log has everything from debug on")
    ),
    "reopen": Example(m.OrderArguments(), _outcome("log files reopened")),
    "upgrade": Example(m.OrderArguments(), _outcome("process 4400 is the master", 3.2)),
    "stop": Example(m.StopArguments(), _outcome("the server has stopped", 0.9, workers=0)),
}  # fmt: skip
