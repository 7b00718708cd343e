"""The death ledger as plain text: a line for each end, or all about one."""

from __future__ import annotations

from collections.abc import Sequence

from wsgitop.cli.tables import table
from wsgitop.snapshot import Death, printable
from wsgitop.tui import figures

TEXT_LIMIT = 100
_HEADS = ("TIME", "WHO", "PID", "GEN", "CAUSE", "STATUS", "UPTIME", "REQUESTS", "PEAK", "SERVING", "BY")
_LEFT = frozenset({"TIME", "WHO", "CAUSE", "STATUS", "SERVING", "BY"})
_CURVE_POINTS = 10


def deaths_text(deaths: Sequence[Death]) -> str:
    """A line for each, oldest first."""
    if not deaths:
        return "no worker and no zygote has ended yet"
    return table(_HEADS, [_row(death) for death in deaths], left=_LEFT)


def death_text(death: Death) -> str:
    """All about one."""
    rows = [
        ("time", figures.moment(death.at, "%Y-%m-%d %H:%M:%S")),
        (
            "process",
            f"{_who(death)}, pid {death.pid}, generation {death.generation}, of master {death.master}",
        ),
        ("cause", f"{death.cause} ({_status(death)})"),
        ("because", _text(death.text, 0)),
        ("next step", _text(death.next_step, 0)),
        ("by", _text(death.actor)),
        ("uptime", _uptime(death)),
        ("requests", f"{death.requests}, {death.errors} errors" if death.process == "worker" else ""),
        ("memory", _memory(death)),
        *(("serving", _request(death, number)) for number in range(len(death.serving))),
    ]
    parts = ["\n".join(f"{name:<12}{value}" for name, value in rows if value)]
    if death.stack:
        parts.append("Stack:\n" + "\n".join(f"  {_text(line, 0)}" for line in death.stack.split("\n")))
    if death.lines:
        parts.append("Last lines:\n" + "\n".join(f"  {_text(line, 0)}" for line in death.lines))
    return "\n\n".join(parts)


def _row(death: Death) -> tuple[str, ...]:
    serving = _request(death, 0) if death.serving else ""
    more = len(death.serving) - 1
    return (
        figures.moment(death.at, "%Y-%m-%d %H:%M:%S"),
        _who(death),
        str(death.pid),
        str(death.generation),
        death.cause,
        _status(death),
        figures.age(death.uptime_s),
        str(death.requests) if death.process == "worker" else "",
        figures.size(death.peak_rss_bytes),
        f"{serving} and {more} more" if more > 0 else serving,
        _text(death.actor),
    )


def _who(death: Death) -> str:
    return "zygote" if death.process == "zygote" else f"worker {death.slot}"


def _status(death: Death) -> str:
    return _text(death.signal) if death.status is None else f"exit {death.status}"


def _uptime(death: Death) -> str:
    ready = "never ready" if death.served_s is None else f"ready for {figures.age(death.served_s)}"
    return f"{figures.age(death.uptime_s)}, {ready}"


def _memory(death: Death) -> str:
    peak = f"{figures.size(death.peak_rss_bytes)} at most"
    points = death.memory
    if len(points) < 2:
        return peak if death.peak_rss_bytes is not None else ""
    last = len(points) - 1
    chosen = sorted({round(last * n / (_CURVE_POINTS - 1)) for n in range(_CURVE_POINTS)})
    curve = "  ".join(f"{figures.age(points[n][0])} {figures.size(points[n][1])}" for n in chosen)
    return f"{peak}; over time: {curve}"


def _request(death: Death, number: int) -> str:
    request = death.serving[number]
    return f"{_text(request.method, 16)} {_text(request.path, 60)} {figures.elapsed(request.elapsed_s)}"


def _text(text: str, limit: int = TEXT_LIMIT) -> str:
    return printable(text, limit)
