"""The server's figures as text for Prometheus: OpenMetrics 1.0, or the older text format 0.0.4. Pure.

Names end with their unit, counters with ``_total``. How many lines there are depends on the number of
workers and listeners, never on what clients send: see :mod:`wsgitop.master.accounts`. The meaning of each is
in docs/metrics.md. Source: https://github.com/OpenObservability/OpenMetrics/blob/main/specification/
OpenMetrics.md and https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, get_args

from wsgitop.master.accounts import BOUNDS_S, Counters, Place
from wsgitop.snapshot import (
    DeathCause,
    GenerationState,
    MasterState,
    Snapshot,
    WorkerSnapshot,
    WorkerState,
    printable,
)

Format = Literal["openmetrics", "text"]
CONTENT_TYPES: Final[Mapping[Format, str]] = {
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "text": "text/plain; version=0.0.4; charset=utf-8",
}
VALUE_LIMIT: Final = 200
"""Characters of a label's value."""

Kind = Literal["counter", "gauge", "histogram", "info"]
Number = int | float


class Figures(NamedTuple):
    """What the text is made of. ``accounts`` are the counters of all workers ever, ``place`` tells where a
    worker of a generation (first) and a slot is counted. ``reloads`` are by outcome, ``deaths`` by process
    and cause. ``clients`` are those of the control socket; None: there is none.
    """

    snapshot: Snapshot
    accounts: Mapping[Place, Counters]
    place: Callable[[int, int], Place]
    reloads: Mapping[str, int]
    deaths: Mapping[tuple[str, DeathCause], int]
    master_cpu_s: float
    zygotes_cpu_s: float
    clients: int | None = None


def render(figures: Figures, form: Format) -> str:
    """The text, in one of the two formats."""
    text = _Text(form)
    _server(text, figures)
    _workers(text, figures)
    _accounts(text, figures)
    return text.end()


def label_value(text: str) -> str:
    """As it stands between the quotes: what could steer a terminal is made visible, what is special in the
    format escaped.
    """
    shown = printable(text, VALUE_LIMIT)
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class _Text:
    """Collects families and their lines. One that has no line is left out."""

    def __init__(self, form: Format) -> None:
        self._openmetrics = form == "openmetrics"
        self._lines: list[str] = []

    def family(
        self, name: str, kind: Kind, about: str, samples: Iterable[tuple[str, Number]], unit: str = ""
    ) -> None:
        """A family. ``samples`` are pairs of labels, as made by :func:`_labels`, and values."""
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        lines = [f"{name}{suffix}{labels} {value}" for labels, value in samples]
        self.block(name, kind, about, lines, unit)

    def block(self, name: str, kind: Kind, about: str, lines: Sequence[str], unit: str = "") -> None:
        """A family whose lines are complete."""
        if not lines:
            return
        if self._openmetrics:
            head = [f"# TYPE {name} {kind}", f"# HELP {name} {about}"]
            if unit:
                head.insert(1, f"# UNIT {name} {unit}")
        else:
            # This format knows the suffix as part of the name, and has no type for information.
            if kind in ("counter", "info"):
                name = f"{name}{'_total' if kind == 'counter' else '_info'}"
            kind = "gauge" if kind == "info" else kind
            head = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        self._lines += [*head, *lines]

    def one(self, name: str, kind: Kind, about: str, value: Number | None, unit: str = "") -> None:
        """A family of one figure; None: not known."""
        if value is not None:
            self.family(name, kind, about, [("", value)], unit)

    def end(self) -> str:
        """All of it."""
        return "\n".join([*self._lines, *(["# EOF"] if self._openmetrics else []), ""])


def _labels(*pairs: tuple[str, str]) -> str:
    return "{" + ",".join(f'{name}="{label_value(value)}"' for name, value in pairs) + "}"


def _server(text: _Text, figures: Figures) -> None:
    """Of the server as a whole."""
    snapshot = figures.snapshot
    master, totals = snapshot.master, snapshot.totals
    text.family(
        "wsgitop_build", "info", "The versions of wsgitop and of the master's Python.",
        [(_labels(("version", master.version), ("python", master.python)), 1)],
    )  # fmt: skip
    text.family(
        "wsgitop_server", "info", "What is served, and the name of the server.",
        [(_labels(("app", master.app), ("name", master.name)), 1)],
    )  # fmt: skip
    text.one("wsgitop_start_time_seconds", "gauge", "When the master started, since 1970.",
             master.started_at, "seconds")  # fmt: skip
    text.one("wsgitop_uptime_seconds", "gauge", "How long the master runs.", master.uptime_s, "seconds")
    text.family(
        "wsgitop_state", "gauge", "1 for the state that the server is in.",
        [(_labels(("state", state)), int(state == master.state)) for state in get_args(MasterState)],
    )  # fmt: skip
    text.one("wsgitop_generation", "gauge", "The generation of the code that serves.", master.generation)
    states = [generation.state for generation in snapshot.generations]
    text.family(
        "wsgitop_generations", "gauge", "Generations of the code that are remembered, by state.",
        [(_labels(("state", state)), states.count(state)) for state in get_args(GenerationState)],
    )  # fmt: skip
    text.family(
        "wsgitop_reloads", "counter", "Reloads that were ordered and are over, by outcome.",
        [(_labels(("outcome", outcome)), count) for outcome, count in sorted(figures.reloads.items())],
    )  # fmt: skip
    text.family(
        "wsgitop_deaths", "counter", "Processes that have ended, by cause.",
        [
            (_labels(("process", process), ("cause", cause)), figures.deaths.get((process, cause), 0))
            for process in ("worker", "zygote")
            for cause in get_args(DeathCause)
        ],
    )  # fmt: skip
    addresses = {listener.address: listener for listener in snapshot.listeners}
    places = [(_labels(("listener", address)), listener) for address, listener in addresses.items()]
    text.family(
        "wsgitop_listener_queue", "gauge", "Connections that wait to be accepted.",
        [(labels, listener.queue) for labels, listener in places if listener.queue is not None],
    )  # fmt: skip
    text.family(
        "wsgitop_listener_backlog", "gauge", "Connections that may wait to be accepted.",
        [(labels, listener.backlog) for labels, listener in places],
    )  # fmt: skip
    text.one("wsgitop_master_cpu_seconds", "counter", "CPU time of the master.",
             round(figures.master_cpu_s, 6), "seconds")  # fmt: skip
    text.one("wsgitop_zygote_cpu_seconds", "counter", "CPU time of all zygotes, those that are gone too.",
             round(figures.zygotes_cpu_s, 6), "seconds")  # fmt: skip
    text.one("wsgitop_master_resident_memory_bytes", "gauge", "Resident memory of the master.",
             master.rss_bytes, "bytes")  # fmt: skip
    zygotes = [g.zygote_rss_bytes for g in snapshot.generations if g.zygote_rss_bytes is not None]
    text.one("wsgitop_zygote_resident_memory_bytes", "gauge", "Resident memory of the zygotes.",
             sum(zygotes), "bytes")  # fmt: skip
    text.one("wsgitop_proportional_memory_bytes", "gauge",
             "Memory of all processes, shared pages counted once.", totals.pss_bytes, "bytes")  # fmt: skip
    text.one("wsgitop_control_clients", "gauge", "Clients of the control socket.", figures.clients)


def _workers(text: _Text, figures: Figures) -> None:
    """Of the workers that live."""
    workers = figures.snapshot.workers
    text.one("wsgitop_workers_wanted", "gauge", "Workers that there are to be.",
             figures.snapshot.master.workers_wanted)  # fmt: skip
    states = [worker.state for worker in workers]
    text.family(
        "wsgitop_workers", "gauge", "Workers, by state.",
        [(_labels(("state", state)), states.count(state)) for state in get_args(WorkerState)],
    )  # fmt: skip
    there: dict[Place, list[WorkerSnapshot]] = {}
    for worker in workers:  # one that retires may share its slot with one that follows
        there.setdefault(figures.place(worker.generation, worker.slot), []).append(worker)
    places = [(_place_labels(place), there[place]) for place in sorted(there)]
    for name, about, unit, value in _GAUGES:
        samples = []
        for labels, found in places:
            known = [figure for figure in map(value, found) if figure is not None]
            if known:
                samples.append((f"{{{labels}}}", sum(known)))
        text.family(name, "gauge", about, samples, unit)


def _accounts(text: _Text, figures: Figures) -> None:
    """Of all workers that live or lived."""
    accounts = [(_place_labels(place), counters) for place, counters in figures.accounts.items()]
    for name, about, unit, value in _COUNTERS:
        samples = [(f"{{{labels}}}", value(counters)) for labels, counters in accounts]
        text.family(name, "counter", about, samples, unit)
    for name, about, label, values in _SPLIT:
        lines = []
        for labels, counters in accounts:
            lines += [
                f'{name}_total{{{labels},{label}="{word}"}} {count}' for word, count in values(counters)
            ]
        text.block(name, "counter", about, lines)
    name = "wsgitop_request_latency_seconds"
    lines = []
    for labels, counters in accounts:
        lines += [
            f'{name}_bucket{{{labels},le="{bound}"}} {count}'
            for bound, count in zip(_BOUNDS, counters.latencies, strict=True)
        ]
        lines.append(f"{name}_count{{{labels}}} {counters.latencies[-1]}")
        lines.append(f"{name}_sum{{{labels}}} {counters.latency_sum_ns / 1e9}")
    about = "How long requests took, from complete request to finished response."
    text.block(name, "histogram", about, lines, "seconds")


def _place_labels(place: Place) -> str:
    generation, slot = place.labels()
    return f'generation="{generation}",slot="{slot}"'


_BOUNDS: Final = (*(str(bound) for bound in BOUNDS_S), "+Inf")
_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")

_GAUGES: Final[tuple[tuple[str, str, str, Callable[[WorkerSnapshot], int | None]], ...]] = (
    ("wsgitop_requests_in_flight", "Requests that the application has in hand.", "",
     lambda worker: len(worker.in_flight)),
    ("wsgitop_threads", "Threads that serve requests.", "", lambda worker: worker.threads),
    ("wsgitop_threads_busy", "Threads that are busy with a request.", "",
     lambda worker: worker.threads_busy),
    ("wsgitop_connections", "Connections of clients that are open.", "",
     lambda worker: worker.connections),
    ("wsgitop_worker_resident_memory_bytes", "Resident memory of workers.", "bytes",
     lambda worker: worker.rss_bytes),
    ("wsgitop_worker_proportional_memory_bytes", "Memory of workers, their part of shared pages counted.",
     "bytes", lambda worker: worker.pss_bytes),
)  # fmt: skip

_COUNTERS: Final[tuple[tuple[str, str, str, Callable[[Counters], Number]], ...]] = (
    ("wsgitop_requests", "Requests that the application was given and that are over.", "",
     lambda counters: counters.requests),
    ("wsgitop_request_errors", "Requests answered 5xx, or cut.", "", lambda counters: counters.errors),
    ("wsgitop_requests_rejected", "Requests refused without the application.", "",
     lambda counters: counters.rejected),
    ("wsgitop_received_bytes", "Bytes of requests, heads and bodies.", "bytes",
     lambda counters: counters.received_bytes),
    ("wsgitop_sent_bytes", "Bytes of responses.", "bytes", lambda counters: counters.sent_bytes),
    ("wsgitop_connections_accepted", "Connections accepted.", "", lambda counters: counters.accepted),
    ("wsgitop_handovers", "Threads that gave the lead away because their request took long.", "",
     lambda counters: counters.handovers),
    ("wsgitop_worker_cpu_seconds", "CPU time of workers.", "seconds",
     lambda counters: counters.cpu_us / 1e6),
)  # fmt: skip

_SPLIT: Final[tuple[tuple[str, str, str, Callable[[Counters], Iterable[tuple[str, int]]]], ...]] = (
    ("wsgitop_responses", "Responses of the application, by class of status.", "status",
     lambda counters: zip(_CLASSES, counters.responses, strict=True)),
    ("wsgitop_connections_migrated", "Connections passed from worker to worker.", "direction",
     lambda counters: (("in", counters.migrated_in), ("out", counters.migrated_out))),
)  # fmt: skip
