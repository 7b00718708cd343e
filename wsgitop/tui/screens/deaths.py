"""The death ledger: how workers and zygotes have ended, and all about the selected end."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from wsgitop.snapshot import Death, InFlight, Severity
from wsgitop.tui import figures
from wsgitop.tui.lists import ListModel, Order
from wsgitop.tui.model import View
from wsgitop.tui.screens.page import ListPage
from wsgitop.tui.source import Source
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.footer import Hint
from wsgitop.tui.widgets.listing import Cell, ListColumn, Listing
from wsgitop.tui.widgets.text_pane import Pieces, TextPane, labelled, line_of

ASKED = 200
EXPECTED = frozenset({"retired", "recycled", "scaled down", "replaced", "stopped"})
"""Causes that are somebody's decision."""


def severity_of(death: Death) -> Severity:
    """How alarming an end is."""
    if death.cause in EXPECTED:
        return "info"
    return "warning" if death.cause in ("quarantined", "killed") else "error"


def _cause(death: Death) -> Cell:
    severity = severity_of(death)
    return Cell(death.cause, "muted" if severity == "info" else severity, severity == "error")


def _serving(death: Death) -> Cell:
    if death.serving:
        first = death.serving[0]
        more = f" +{len(death.serving) - 1}" if len(death.serving) > 1 else ""
        return Cell(f"{figures.elapsed(first.elapsed_s):>5}{more} {first.method} {first.path}", "warning")
    return Cell(death.text, "muted")


COLUMNS: tuple[ListColumn[Death], ...] = (
    ListColumn(
        "at", "WHEN", 14, 95, lambda d: Cell(figures.moment(d.at, "%m-%d %H:%M:%S"), "muted"), left=True
    ),
    ListColumn("cause", "CAUSE", 13, 99, _cause, left=True),
    ListColumn("slot", "#", 3, 80, lambda d: Cell("z" if d.slot is None else str(d.slot), "muted")),
    ListColumn("", "PID", 7, 90, lambda d: Cell(str(d.pid))),
    ListColumn("", "GEN", 4, 50, lambda d: Cell(str(d.generation), "muted")),
    ListColumn("uptime", "LIVED", 6, 60, lambda d: Cell(figures.age(d.uptime_s))),
    ListColumn("requests", "REQ", 6, 40, lambda d: Cell(figures.count(d.requests))),
    ListColumn("peak", "PEAK", 5, 45, lambda d: Cell(figures.size(d.peak_rss_bytes), "memory")),
    ListColumn("", "SERVING, OR WHAT IS KNOWN", 20, 98, _serving, left=True, flexible=True),
)
ORDERS: tuple[Order[Death], ...] = (
    Order("at", lambda d: d.at),
    Order("cause", lambda d: d.cause, largest_first=False),
    Order("slot", lambda d: d.slot, largest_first=False),
    Order("uptime", lambda d: d.uptime_s, largest_first=False),
    Order("requests", lambda d: d.requests),
    Order("peak", lambda d: d.peak_rss_bytes),
)


def details(death: Death) -> list[Pieces]:
    """All that is known about an end."""
    how = f"status {death.status}" if death.status is not None else death.signal or figures.UNKNOWN
    severity = severity_of(death)
    lines = [line_of(death.text, "text" if severity == "info" else severity, bold=True)]
    if death.next_step:
        lines.append((("next step   ", "muted", False), (death.next_step, "accent", False)))
    lines.append(line_of(""))
    served = figures.UNKNOWN if death.served_s is None else figures.age(death.served_s)
    lines += labelled(
        (
            ("when", figures.moment(death.at, "%Y-%m-%d %H:%M:%S"), "text"),
            ("how", f"{how}{f', by {death.actor}' if death.actor else ''}", "text"),
            (
                "process",
                f"{death.process} {death.pid}, generation {death.generation}, master {death.master}",
                "text",
            ),
            ("lived", f"{figures.age(death.uptime_s)}, served for {served}", "text"),
            ("requests", f"{death.requests}, {death.errors} errors", "text"),
            ("memory", f"{figures.size(death.peak_rss_bytes)} at most{_memory_curve(death)}", "memory"),
        )
    )
    if death.serving:
        lines += [line_of(""), line_of("It was serving", "accent", bold=True)]
        lines += [_request(one) for one in death.serving]
    if death.stack:
        lines += [line_of(""), line_of("Its last stack", "accent", bold=True)]
        lines += [line_of(f"  {text}") for text in death.stack.rstrip().split("\n")]
    if death.lines:
        lines += [line_of(""), line_of("The last it wrote", "accent", bold=True)]
        lines += [line_of(f"  {text}", "muted") for text in death.lines]
    return lines


def _request(one: InFlight) -> Pieces:
    return (
        (f"  {figures.elapsed(one.elapsed_s):>6}  ", "warning", True),
        (f"{one.method} {one.path}", "text", False),
        (f"  {one.client}", "faint", False),
    )


def _memory_curve(death: Death) -> str:
    points = [size for _, size in death.memory]
    if len(points) < 2:
        return ""
    steps = max(1, len(points) // 6)
    shown = [*points[::steps][:6], points[-1]]
    return "; over its life " + " → ".join(figures.size(size) for size in shown)


class Deaths(ListPage):
    """The ledger above, the selected end below."""

    SUBJECT = "deaths"
    ASKS = True
    HINTS = (
        Hint("Esc", "back", "screen.back", 99),
        Hint("/", "filter", "screen.filter", 80),
        Hint("s", "sort", "screen.step_sort(1)", 70),
        Hint("Tab", "text", "app.focus_next", 60),
        Hint("y", "copy", "screen.copy", 50),
        Hint("p", "pause", "app.pause", 40),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy", tooltip="copy all about the selected end"),
    ]
    DEFAULT_CSS = """
    Deaths Listing { height: 2fr; }
    Deaths TextPane { height: 3fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: ListModel[Death] = ListModel(
            identity=lambda death: death.sequence,
            words=lambda d: (
                f"{d.cause} #{d.slot} {d.pid} gen{d.generation} {d.signal} {d.text} "
                + " ".join(f"{one.method} {one.path}" for one in d.serving)
            ),
            orders=ORDERS,
        )
        self._shown: Death | None = None

    def body(self) -> ComposeResult:
        yield Listing(
            COLUMNS,
            title="deaths",
            empty="nobody has died yet",
            sign=lambda death: Cell(look_of(self).signs.severity(severity_of(death)), _cause(death).color),
        )
        yield TextPane(title="the selected end")

    async def ask(self, source: Source) -> tuple[Death, ...]:
        return await source.deaths(limit=ASKED)

    def take(self, answer: tuple[Death, ...]) -> None:
        self.rows.take(reversed(answer))

    def update(self, view: View) -> None:
        listed = self.rows.listed()
        note = self.trouble or "kept over restarts"
        self.query_one(Listing).show(listed, note)
        death = listed.selected
        pane = self.query_one(TextPane)
        if death is None:
            pane.show((), title="the selected end")
        elif death != self._shown:
            pane.show(details(death), title=f"{death.process} {death.pid}")
            pane.scroll_home(animate=False)
        self._shown = death

    def action_copy(self) -> None:
        self.main.copy(self.query_one(TextPane).plain, "all about the selected end")
