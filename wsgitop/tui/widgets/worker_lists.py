"""The columns of the two lists of the worker page: its threads, and the lives of its slot."""

from __future__ import annotations

from wsgitop.tui import figures
from wsgitop.tui.widgets.listing import Cell, ListColumn
from wsgitop.tui.worker_page import Life, ThreadRow

STATE_COLORS = {"idle": "muted", "busy": "accent", "slow": "warning"}


def _request(row: ThreadRow) -> Cell:
    if row.request is None:
        return Cell("nothing", "faint")
    return Cell(f"{row.request.method} {row.request.path}")


def _elapsed(row: ThreadRow) -> Cell:
    if row.request is None:
        return Cell("")
    slow = row.state == "slow"
    return Cell(figures.elapsed(row.request.elapsed_s), "warning" if slow else "text", slow)


THREAD_COLUMNS: tuple[ListColumn[ThreadRow], ...] = (
    ListColumn("", "THR", 3, 99, lambda row: Cell(str(row.thread))),
    ListColumn("", "STATE", 5, 90, lambda row: Cell(row.state, STATE_COLORS[row.state]), left=True),
    ListColumn("", "FOR", 5, 95, _elapsed),
    ListColumn("", "REQUEST", 18, 98, _request, left=True, flexible=True),
    ListColumn("", "CLIENT", 21, 40, lambda row: Cell(row.request.client if row.request else "", "faint"),
               left=True),
)  # fmt: skip


def life_color(life: Life) -> str:
    """How alarming a line about the slot is."""
    return "accent" if life.current else "muted" if life.severity == "info" else life.severity


def _what(life: Life) -> Cell:
    return Cell(life.what, life_color(life), life.current or life.severity == "error")


LIFE_COLUMNS: tuple[ListColumn[Life], ...] = (
    ListColumn("", "SINCE, AT", 14, 90, lambda one: Cell(figures.moment(one.at, "%m-%d %H:%M:%S"), "muted"),
               left=True),
    ListColumn("", "WHAT", 13, 99, _what, left=True),
    ListColumn("", "PID", 7, 85, lambda one: Cell("" if one.pid is None else str(one.pid))),
    ListColumn("", "GEN", 4, 45,
               lambda one: Cell("" if one.generation is None else str(one.generation), "muted")),
    ListColumn("", "LIVED", 6, 60,
               lambda one: Cell("" if one.lived_s is None else figures.age(one.lived_s))),
    ListColumn("", "REQ", 6, 40,
               lambda one: Cell("" if one.requests is None else figures.count(one.requests))),
    ListColumn("", "PEAK", 5, 35,
               lambda one: Cell("" if one.peak_bytes is None else figures.size(one.peak_bytes), "memory")),
    ListColumn("", "HOW", 20, 98, lambda one: Cell(one.text, "text" if one.current else "muted"),
               left=True, flexible=True),
)  # fmt: skip
