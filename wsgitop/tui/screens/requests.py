"""Requests: what the server is working on now, the oldest first, and what took longest lately."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from wsgitop.control.messages import RequestsResult, SlowRequest
from wsgitop.snapshot import Severity, WorkerSnapshot
from wsgitop.tui import figures
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.in_flight import (
    ORDERS,
    SLOW_ORDERS,
    Flight,
    Flights,
    severity_of,
    slow_words,
    words,
    worker_of,
)
from wsgitop.tui.lists import ListModel
from wsgitop.tui.model import View
from wsgitop.tui.screens.lists_page import ListsPage
from wsgitop.tui.source import Source
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.footer import Hint
from wsgitop.tui.widgets.listing import Cell, ListColumn, Listing
from wsgitop.tui.widgets.table import STATE_COLORS, state_word
from wsgitop.tui.widgets.text_pane import Pieces, TextPane, labelled

ASKED = 200
AGES_S = 0.25
"""How often ages are counted on between two answers."""
TALL = 34
"""From this height on all about the selected request is shown below."""


def _age(elapsed_s: float) -> Cell:
    severity = severity_of(elapsed_s)
    return Cell(figures.elapsed(elapsed_s), "muted" if severity == "info" else severity, severity == "error")


COLUMNS: tuple[ListColumn[Flight], ...] = (
    ListColumn("elapsed", "ELAPSED", 7, 99, lambda f: _age(f.elapsed_s)),
    ListColumn("method", "METHOD", 7, 95, lambda f: Cell(f.told.request.method, "accent"), left=True),
    ListColumn("path", "PATH", 22, 98, lambda f: Cell(f.told.request.path), left=True, flexible=True),
    ListColumn("client", "CLIENT", 21, 70, lambda f: Cell(f.told.request.client, "muted"), left=True),
    ListColumn("slot", "#", 4, 90, lambda f: Cell(str(f.told.slot))),
    ListColumn("pid", "PID", 7, 60, lambda f: Cell(str(f.told.pid), "muted")),
    ListColumn("thread", "THR", 4, 50, lambda f: Cell(str(f.told.request.thread), "muted")),
    ListColumn("generation", "GEN", 4, 40, lambda f: Cell(str(f.told.generation), "muted")),
)


def slow_severity(slow: SlowRequest) -> Severity:
    """How bad the end was, whatever time it took."""
    if slow.cut:
        return "error"
    return "warning" if slow.status >= 500 or not slow.status else "info"


def _end(slow: SlowRequest) -> Cell:
    severity = slow_severity(slow)
    text = f"{slow.status or figures.UNKNOWN}{' cut' if slow.cut else ''}"
    return Cell(text, "muted" if severity == "info" else severity, severity == "error")


SLOW_COLUMNS: tuple[ListColumn[SlowRequest], ...] = (
    ListColumn("at", "ENDED", 8, 80, lambda s: Cell(figures.clock(s.at), "muted")),
    ListColumn("elapsed", "ELAPSED", 7, 99, lambda s: _age(s.elapsed_s)),
    ListColumn("status", "STATUS", 7, 95, _end),
    ListColumn("method", "METHOD", 7, 90, lambda s: Cell(s.method, "accent"), left=True),
    ListColumn("path", "PATH", 22, 98, lambda s: Cell(s.path), left=True, flexible=True),
    ListColumn("client", "CLIENT", 21, 70, lambda s: Cell(s.client, "muted"), left=True),
    ListColumn("slot", "#", 4, 60, lambda s: Cell(str(s.slot))),
)


def details(row: Flight | SlowRequest | None, workers: tuple[WorkerSnapshot, ...]) -> list[Pieces]:
    """All about one request: nothing of it is cut off here."""
    if row is None:
        return []
    if isinstance(row, Flight):
        told, request = row.told, row.told.request
        method, path, client, slot, pid, generation = (
            request.method, request.path, request.client, told.slot, told.pid, told.generation,
        )  # fmt: skip
        age, where = _age(row.elapsed_s), f"thread {request.thread} of worker "
        worker = next((one for one in workers if identity(one) == row.worker), None)
        took = f"running for {figures.elapsed(row.elapsed_s)}"
    else:
        method, path, client, slot, pid, generation = (
            row.method, row.path, row.client, row.slot, row.pid, row.generation,
        )  # fmt: skip
        key, end = worker_of(row, workers), _end(row)
        worker = next((one for one in workers if identity(one) == key), None)
        age, where = Cell(end.text, end.color), ""
        how = f"status {row.status}" if row.status else "nothing was answered"
        began = figures.clock(row.at - row.elapsed_s)
        took = f"{figures.elapsed(row.elapsed_s)}, {began} to {figures.clock(row.at)}; {how}"
        took += ", cut" if row.cut else ""
    lines: list[Pieces] = [((f"{method} ", "accent", True), (path, "text", True))]
    lines += labelled(
        (
            ("time", took, age.color if age.color != "muted" else "text"),
            ("client", client or figures.UNKNOWN, "text"),
            ("worker", f"{where}{slot}, pid {pid}, generation {generation}", "text"),
        ),
        9,
    )
    if worker is None:
        return [*lines, (("         ", "muted", False), ("not there any more (d: why)", "muted", False))]
    lines.append(
        (
            ("         ", "muted", False),
            (state_word(worker), STATE_COLORS[worker.state], True),
            (f", {worker.threads_busy} of {worker.threads} threads busy, cpu ", "muted", False),
            (f"{figures.percent(worker.cpu_percent)}%", "cpu", False),
            (", memory ", "muted", False),
            (figures.size(worker.rss_bytes), "memory", False),
        )
    )
    return lines


class Requests(ListsPage):
    """Those in flight above, the slowest finished ones below, and on a tall screen all about the chosen."""

    SUBJECT = "requests"
    ASKS = True
    HINTS = (
        Hint("Esc", "back", "screen.back", 99),
        Hint("⏎", "worker", "screen.choose", 85),
        Hint("c", "cancel", "screen.cancel", 90, operator=True),
        Hint("/", "filter", "screen.filter", 80),
        Hint("s", "sort", "screen.step_sort(1)", 70),
        Hint("Tab", "slowest", "app.focus_next", 60),
        Hint("y", "copy path", "screen.copy", 50),
        Hint("p", "pause", "app.pause", 40),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel", "cancel", tooltip="cut the chosen request; asks first"),
        Binding("y", "copy", "copy", tooltip="copy the path of the chosen request"),
    ]
    DEFAULT_CSS = """
    Requests #flights { height: 3fr; min-height: 6; }
    Requests #slowest { height: 2fr; min-height: 5; }
    Requests TextPane { height: 7; display: none; }
    Requests.-tall TextPane { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._flights = Flights()
        self._now = 0.0
        self._in_flight: ListModel[Flight] = ListModel(
            identity=lambda flight: flight.key, words=words, orders=ORDERS
        )
        self._slowest: ListModel[SlowRequest] = ListModel(
            identity=lambda slow: slow, words=slow_words, orders=SLOW_ORDERS
        )
        self.lists = {"flights": self._in_flight, "slowest": self._slowest}
        self.rows = self._in_flight

    def body(self) -> ComposeResult:
        signs = look_of(self).signs
        yield Listing(
            COLUMNS,
            title="in flight",
            empty="nothing is in flight",
            sign=lambda flight: Cell(_sign(signs.severity(severity_of(flight.elapsed_s)), signs.info),
                                     severity_of(flight.elapsed_s)),
            id="flights",
        )  # fmt: skip
        yield Listing(
            SLOW_COLUMNS,
            title="slowest",
            empty="nothing has finished in the last 15 minutes",
            sign=lambda slow: Cell(_sign(signs.severity(slow_severity(slow)), signs.info),
                                   slow_severity(slow)),
            id="slowest",
        )  # fmt: skip
        yield TextPane(title="the chosen request")

    def on_mount(self) -> None:
        super().on_mount()
        self.set_interval(AGES_S, self._count_on)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.height >= TALL, "-tall")

    # -- data ------------------------------------------------------------------------------------------------

    async def ask(self, source: Source) -> RequestsResult:
        return await source.requests(limit=ASKED)

    def take(self, answer: RequestsResult) -> None:
        self._flights.take(answer, self.main.model.now())
        self._slowest.take(answer.slowest)

    def _count_on(self) -> None:
        """Ages go on, unless the picture is frozen, or nobody knows whether they do."""
        known = self.view.stale_s is None and not self.main.model.is_paused
        if known and self._flights.total and self.main.seen is self:
            self.update(self.view)

    def update(self, view: View) -> None:
        if view.stale_s is None and view.paused_s is None:
            self._now = self.main.model.now()
        rows = self._flights.rows(self._now)
        self._in_flight.take(rows)
        self.show_list("flights", self.trouble or self._flights.note(rows))
        self.show_list("slowest", "finished in the last 15 minutes")
        pane = self.query_one(TextPane)
        if pane.display:
            workers = view.snapshot.workers if view.snapshot is not None else ()
            pane.show(details(self._chosen_row(), workers))

    def _chosen_row(self) -> Flight | SlowRequest | None:
        row: Flight | SlowRequest | None = self.rows.listed().selected
        return row

    # -- what the user does ----------------------------------------------------------------------------------

    def open_row(self, row: Flight | SlowRequest) -> None:
        if isinstance(row, Flight):
            self.main.open_worker(row.worker, row.told.request.thread)
            return
        snapshot = self.view.snapshot
        found = worker_of(row, snapshot.workers if snapshot is not None else ())
        if found is None:
            self.main.say("warning", f"worker {row.slot} (pid {row.pid}) is not there any more (d: why)")
        else:
            self.main.open_worker(found)

    def pointed(self) -> tuple[Identity, int | None] | None:
        row = self._chosen_row()
        return (row.worker, row.told.request.thread) if isinstance(row, Flight) else None

    def action_choose(self) -> None:
        row = self._chosen_row()
        if row is not None:
            self.open_row(row)

    def action_cancel(self) -> None:
        row = self._chosen_row()
        if isinstance(row, Flight):
            self.main.cancel_request(row)
        elif row is None:
            self.main.say("warning", "nothing to cancel: nothing is in flight")
        else:
            self.main.say("warning", "nothing to cancel: this request has finished")

    def action_copy(self) -> None:
        row = self._chosen_row()
        path = row.told.request.path if isinstance(row, Flight) else row.path if row is not None else ""
        self.main.copy(path, f"the path {path}")


def _sign(sign: str, info: str) -> str:
    """What is as it should be needs no sign."""
    return " " if sign == info else sign
