"""The selected worker at the side of a wide screen: who it is, how it does, what it is serving."""

from __future__ import annotations

from collections.abc import Callable

from textual.strip import Strip

from wsgitop.snapshot import WorkerSnapshot
from wsgitop.tui import figures
from wsgitop.tui.model import WINDOW_S, Trail, View
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets import plot
from wsgitop.tui.widgets.canvas import Drawn, Line, frame_bottom, frame_top, framed
from wsgitop.tui.widgets.table import STATE_COLORS, state_word

LABEL_CELLS = 13


class WorkerPane(Drawn):
    """Figures, four small graphs of the last minute, and the requests in flight, the oldest first."""

    def inputs(self, view: View) -> tuple[object, ...]:
        return (view.snapshot, view.selected)

    def draw(self, view: View, look: Look, width: int, height: int) -> list[Strip]:
        worker = view.selected
        inner = width - 2
        if worker is None:
            title, lines = "worker", [Line(look, inner).strip()]
        else:
            title = f"worker {worker.slot} {look.signs.dot} pid {worker.pid}"
            lines = [
                *self._identity(worker, look, inner),
                *self._graphs(view, worker, look, inner, max(2, min(4, (height - 24) // 4))),
                *self._requests(worker, look, inner),
            ]
        room = height - 2
        lines = lines[:room] + [Line(look, inner).strip() for _ in range(room - len(lines))]
        body = [framed(look, width, line) for line in lines]
        return [frame_top(look, width, title), *body, frame_bottom(look, width)]

    @staticmethod
    def _identity(worker: WorkerSnapshot, look: Look, width: int) -> list[Strip]:
        def row(label: str, text: str, color: str = "text", *, bold: bool = False) -> Strip:
            return _label(look, width, label).put(text, color, bold=bold).strip()

        threads = f"{worker.threads_busy} busy of {worker.threads}"
        latency = _label(look, width, "latency ms")
        for name, value, color in (
            ("p50", worker.p50_ms, "p50"),
            ("p95", worker.p95_ms, "p95"),
            ("p99", worker.p99_ms, "text"),
        ):
            latency.put(f"{name} ", "faint").put(f"{figures.milliseconds(value):<6} ", color, bold=True)
        memory = _label(look, width, "memory").put(figures.size(worker.rss_bytes), "memory", bold=True)
        if worker.pss_bytes is not None:
            memory.put("  of its own ", "faint").put(figures.size(worker.pss_bytes), "text")
        errors = _label(look, width, "requests").put(str(worker.requests), "text", bold=True)
        errors.put("  errors ", "faint").put(str(worker.errors), "error" if worker.errors else "muted")
        return [
            row("state", state_word(worker), STATE_COLORS[worker.state], bold=True),
            row("generation", str(worker.generation)),
            row("started", f"{figures.clock(worker.started_at)}, {figures.age(worker.age_s)} ago"),
            row("threads", threads),
            row("connections", str(worker.connections)),
            row("heartbeat", figures.beat(worker.heartbeat_age_s)),
            errors.strip(),
            latency.strip(),
            memory.strip(),
            row("cpu", f"{figures.percent(worker.cpu_percent)}%", "cpu", bold=True),
            Line(look, width).strip(),
        ]

    @staticmethod
    def _graphs(view: View, worker: WorkerSnapshot, look: Look, width: int, rows: int) -> list[Strip]:
        now = view.snapshot.at if view.snapshot is not None else 0.0
        graphs: tuple[
            tuple[str, str, Callable[[Trail], float | None], Callable[[float], str], float], ...
        ] = (
            ("req/s", "rps", lambda trail: trail.rps, figures.scale, 5),
            ("p95 ms", "p95", lambda trail: trail.p95_ms, figures.milliseconds, 10),
            ("cpu %", "cpu", lambda trail: trail.cpu_percent, lambda top: f"{top:.0f}%", 100),
            ("memory", "memory", lambda trail: trail.rss_bytes, lambda top: figures.size(int(top)), 1 << 20),
        )
        lines = []
        cells = width - LABEL_CELLS - 2
        for name, color, pick, scale, least in graphs:
            samples = plot.picked(view.trail, lambda trail: trail.at, pick)
            values = plot.columns(
                samples, now, cells, window_s=WINDOW_S, hold_s=max(2.5, view.interval_s * 1.5)
            )
            unit = float(least) if least >= 1 << 20 else 1.0
            top = (
                plot.ceiling([None if value is None else value / unit for value in values], least / unit)
                * unit
            )
            for index, segments in enumerate(plot.plot(look, [plot.Series(values, color)], rows, top)):
                line = Line(look, width).gap(1).put(name if index == 0 else "", "faint")
                label = scale(top) if index == 0 else "0" if index == rows - 1 else ""
                line.to(LABEL_CELLS - len(label)).put(label, "faint").gap(1).extend(segments, cells)
                lines.append(line.strip())
        lines.append(Line(look, width).strip())
        return lines

    @staticmethod
    def _requests(worker: WorkerSnapshot, look: Look, width: int) -> list[Strip]:
        lines = [
            Line(look, width).gap(1).put(f"in flight {len(worker.in_flight)}", "muted", bold=True).strip()
        ]
        for request in sorted(worker.in_flight, key=lambda request: -request.elapsed_s):
            slow = request.elapsed_s >= 5
            line = Line(look, width).gap(1)
            line.put(f"{figures.elapsed(request.elapsed_s):>6} ", "warning" if slow else "muted", bold=slow)
            line.put(f"{request.method} ", "accent").put(request.path, "text")
            lines.append(line.strip())
            if request.client:
                lines.append(
                    Line(look, width)
                    .gap(8)
                    .put(f"from {request.client}, thread {request.thread}", "faint")
                    .strip()
                )
        if not worker.in_flight:
            lines.append(Line(look, width).gap(1).put("nothing: waiting for a request", "faint").strip())
        return lines


def _label(look: Look, width: int, label: str) -> Line:
    return Line(look, width).gap(1).put(label, "faint").to(LABEL_CELLS + 1)
