"""The server as plain text: aligned columns, nothing that needs a colour or a width.

Whatever came from the server is made harmless to the terminal here, whether or not the server did so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
)
from wsgitop.tui import figures

IN_FLIGHT_SHOWN = 3
TEXT_LIMIT = 60

_WORKER_HEADS = (
    "SLOT", "PID", "GEN", "STATE", "AGE", "REQUESTS", "ERRORS", "RPS", "P50", "P95", "P99", "CPU%", "RSS",
    "BUSY", "IN FLIGHT",
)  # fmt: skip
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
