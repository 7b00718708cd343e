"""The server as plain text: aligned columns, nothing that needs a colour or a width.

Whatever came from the server is made harmless to the terminal here, whether or not the server did so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from wsgitop.control.messages import Frame, RequestsResult, StackResult, ThreadStack
from wsgitop.snapshot import (
    Event,
    GenerationSnapshot,
    InFlight,
    MasterSnapshot,
    ReloadSnapshot,
    Snapshot,
    Totals,
    WorkerSnapshot,
    printable,
    printable_lines,
)
from wsgitop.tui import figures

IN_FLIGHT_SHOWN = 3
TEXT_LIMIT = 60

_WORKER_HEADS = (
    "SLOT", "PID", "GEN", "STATE", "AGE", "REQUESTS", "ERRORS", "RPS", "P50", "P95", "P99", "CPU%", "RSS",
    "BUSY", "IN FLIGHT",
)  # fmt: skip
_SERVING_HEADS = ("SINCE", "SLOT", "PID", "GEN", "THREAD", "CLIENT", "REQUEST")
_OVER_HEADS = ("TOOK", "ENDED", "SLOT", "PID", "GEN", "STATUS", "CLIENT", "REQUEST")
_REQUEST_LEFT = frozenset({"STATUS", "CLIENT", "REQUEST"})
_LEFT = frozenset({"STATE", "IN FLIGHT"})


def status_text(snapshot: Snapshot) -> str:
    """The whole picture."""
    master, totals = snapshot.master, snapshot.totals
    uptime = figures.age(master.uptime_s)
    held = sum(1 for worker in snapshot.workers if worker.state == "quarantined")
    live = sum(1 for worker in snapshot.workers if worker.state != "booting") - held
    present = f"{live} of {snapshot.master.workers_wanted}"
    if held:
        present += f" and {held} in quarantine"
    rows = [
        (
            "master",
            f"{master.pid}, {master.state}, generation {master.generation}, up {uptime}",
        ),
        ("application", _text(master.app)),
        ("bind", ", ".join(_text(address) for address in master.bind)),
        ("control", _text(master.control, 0)),
        *([("for others", _text(master.control_shared, 0))] if master.control_shared else []),
        (
            "workers",
            f"{present}, {totals.threads_busy} of {totals.threads} threads busy",
        ),
        ("queue", "–" if totals.queue is None else f"{totals.queue} of {totals.backlog}"),
        ("requests", f"{totals.requests}, {figures.rate(totals.rps)} a second, {totals.errors} errors"),
        ("latency", _latency(totals.p50_ms, totals.p95_ms, totals.p99_ms)),
        (
            "load",
            f"cpu {figures.percent(totals.cpu_percent)} %, memory {_memory(totals)}",
        ),
    ]
    if master.reload is not None:
        rows.insert(1, ("reload", reload_text(master.reload)))
    if master.memory_limit_bytes is not None or master.cpu_limit is not None:
        rows.append(("limits", _limits(master)))
    if master.state_reason:
        rows.insert(1, ("because", _text(master.state_reason, 200)))
    head = "\n".join(f"{name:<12}{value}" for name, value in rows)
    parts = [head, workers_text(snapshot.workers)]
    if len(snapshot.generations) > 1 or any(generation.error for generation in snapshot.generations):
        parts.append(_generations_text(snapshot.generations))
    return "\n\n".join(parts) + "\n"


def reload_text(reload: ReloadSnapshot) -> str:
    """``to generation 8, replacing: 2 of 4 workers are new, 2 old are left (3.1 s)``."""
    left = f"{reload.ready} of {reload.workers} workers are new, {reload.old} old are left"
    return f"to generation {reload.to_generation}, {reload.stage}: {left} ({reload.elapsed_s:.1f} s)"


def _limits(master: MasterSnapshot) -> str:
    """What the control group allows."""
    words = []
    if master.memory_limit_bytes is not None:
        used, limit = figures.size(master.memory_used_bytes), figures.size(master.memory_limit_bytes)
        words.append(f"memory {used} of {limit}")
    if master.cpu_limit is not None:
        words.append(f"{master.cpu_limit:g} cores")
    return ", ".join(words) + " (control group)"


def workers_text(workers: Sequence[WorkerSnapshot]) -> str:
    """A line for each worker."""
    return table(_WORKER_HEADS, [_worker_row(worker) for worker in workers], left=_LEFT)


def requests_text(found: RequestsResult) -> str:
    """A line for each request in flight, and one for each of those that took longest."""
    serving = [
        (
            figures.elapsed(one.request.elapsed_s),
            str(one.slot),
            str(one.pid),
            str(one.generation),
            str(one.request.thread),
            _text(one.request.client),
            f"{_text(one.request.method, 16)} {_text(one.request.path, 200)}",
        )
        for one in found.in_flight
    ]
    over = [
        (
            figures.elapsed(slow.elapsed_s),
            figures.moment(slow.at, "%H:%M:%S"),
            str(slow.slot),
            str(slow.pid),
            str(slow.generation),
            f"{slow.status or '–'}{' cut' if slow.cut else ''}",
            _text(slow.client),
            f"{_text(slow.method, 16)} {_text(slow.path, 200)}",
        )
        for slow in found.slowest
    ]
    parts = [f"in flight: {found.total}" + _more(found.total - len(serving))]
    if serving:
        parts[0] += "\n" + table(_SERVING_HEADS, serving, left=_REQUEST_LEFT)
    if over:
        parts.append("slowest of the last 15 minutes\n" + table(_OVER_HEADS, over, left=_REQUEST_LEFT))
    return "\n\n".join(parts)


def _more(count: int) -> str:
    return f" ({count} of them not shown)" if count > 0 else ""


def stack_text(found: StackResult) -> str:
    """Each thread's calls, the innermost last; those of the application are marked."""
    taken = (
        "by its watchdog" if found.taken_by == "watchdog" else "by faulthandler: its watchdog does not run"
    )
    parts = [f"worker {found.slot} (pid {found.pid}), taken {taken}"]
    parts += [_thread_text(thread) for thread in found.threads]
    if found.text:
        parts.append(printable_lines(found.text))
    if found.dropped:
        parts.append(f"{found.dropped} calls in the middle were left out")
    return "\n\n".join(parts)


def _thread_text(thread: ThreadStack) -> str:
    name = _text(thread.name) if thread.thread is None else f"thread {thread.thread} ({_text(thread.name)})"
    request = thread.request
    if request is not None:
        path = _text(request.path, 200)
        name += f": {_text(request.method, 16)} {path}, {figures.elapsed(request.elapsed_s)}"
    elif thread.thread is not None:
        return f"{name}: idle"  # where the server waits is nobody's concern
    lines = [name]
    for frame, same in itertools.groupby(thread.frames):
        lines.append(_frame_text(frame))
        again = sum(1 for _ in same) - 1
        if again:
            lines.append(f"  … and {again} times more")
    return "\n".join(lines)


def _frame_text(frame: Frame) -> str:
    mark = ">" if frame.application else " "
    text = f"{mark} {_text(frame.file, 0)}:{frame.line} in {_text(frame.function, 0)}"
    return f"{text}\n      {_text(frame.code, 0)}" if frame.code else text


def events_text(events: Iterable[Event]) -> str:
    """A line for each event."""
    return "".join(f"{event_line(event)}\n" for event in events)


def event_line(event: Event) -> str:
    """``2026-05-09 14:01:58  good     reload   generation 7 serves  by alice (pid 4242)``."""
    at = figures.moment(event.at, "%Y-%m-%d %H:%M:%S")
    who = f"  by {_text(event.actor)}" if event.actor else ""
    return f"{at}  {event.severity:<8} {_text(event.kind):<10} {_text(event.text, 200)}{who}"


def snapshot_line(snapshot: Snapshot) -> str:
    """One line of ``ctl watch``."""
    totals, master = snapshot.totals, snapshot.master
    queue = "–" if totals.queue is None else str(totals.queue)
    return (
        f"{figures.clock(snapshot.at)}  {master.state:<9} gen {master.generation}"
        f"  workers {len(snapshot.workers)}"
        f"  {figures.rate(totals.rps):>6} req/s  {_latency(totals.p50_ms, totals.p95_ms, totals.p99_ms)}"
        f"  busy {totals.threads_busy}/{totals.threads}  queue {queue}  errors {totals.errors}"
        f"  cpu {figures.percent(totals.cpu_percent)} %  memory {_memory(totals)}"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: frozenset[str] = frozenset()) -> str:
    """Aligned columns, figures to the right; the columns named in ``left`` to the left."""
    widths = [max(len(line[column]) for line in (heads, *rows)) for column in range(len(heads))]
    lines = []
    for line in (heads, *rows):
        cells = (
            cell.ljust(width) if head in left else cell.rjust(width)
            for cell, width, head in zip(line, widths, heads, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _worker_row(worker: WorkerSnapshot) -> tuple[str, ...]:
    return (
        str(worker.slot),
        str(worker.pid),
        str(worker.generation),
        worker.state,
        figures.age(worker.age_s),
        str(worker.requests),
        str(worker.errors),
        figures.rate(worker.rps),
        figures.milliseconds(worker.p50_ms),
        figures.milliseconds(worker.p95_ms),
        figures.milliseconds(worker.p99_ms),
        figures.percent(worker.cpu_percent),
        figures.size(worker.rss_bytes),
        f"{worker.threads_busy}/{worker.threads}",
        _in_flight(worker.in_flight),
    )


def _in_flight(requests: Sequence[InFlight]) -> str:
    longest = sorted(requests, key=lambda request: -request.elapsed_s)
    shown = ", ".join(
        f"{_text(request.method, 16)} {_text(request.path)} {figures.elapsed(request.elapsed_s)}"
        for request in longest[:IN_FLIGHT_SHOWN]
    )
    more = len(longest) - IN_FLIGHT_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _generations_text(generations: Sequence[GenerationSnapshot]) -> str:
    rows = [
        (str(generation.number), generation.state, str(generation.workers), _text(generation.error, 120))
        for generation in generations
    ]
    return table(("GENERATION", "STATE", "WORKERS", "ERROR"), rows, left=frozenset({"STATE", "ERROR"}))


def _latency(p50_ms: float | None, p95_ms: float | None, p99_ms: float | None) -> str:
    p50, p95, p99 = (figures.milliseconds(value) for value in (p50_ms, p95_ms, p99_ms))
    return f"p50 {p50}  p95 {p95}  p99 {p99} ms"


def _memory(totals: Totals) -> str:
    pss = f" (pss {figures.size(totals.pss_bytes)})" if totals.pss_bytes is not None else ""
    return figures.size(totals.rss_bytes) + pss


def _text(text: str, limit: int = TEXT_LIMIT) -> str:
    return printable(text, limit)
