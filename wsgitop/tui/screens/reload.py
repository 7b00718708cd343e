"""Reload: generations side by side, the reload under way worker by worker, and how the past ones went."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from wsgitop.snapshot import Event, Snapshot, WorkerSnapshot
from wsgitop.tui import figures
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.lists import ListModel
from wsgitop.tui.model import View
from wsgitop.tui.reloads import (
    ORDERS,
    SLOT_ORDERS,
    Reload,
    SlotRow,
    overall,
    past_reloads,
    severity_of,
    slot_rows,
    slot_words,
    target_of,
    typical_boot_s,
    typical_load_s,
    words,
)
from wsgitop.tui.screens.lists_page import ListsPage
from wsgitop.tui.source import Source
from wsgitop.tui.theme import Look, look_of
from wsgitop.tui.widgets.footer import Hint
from wsgitop.tui.widgets.generations import Generations, Progress, ProgressBar
from wsgitop.tui.widgets.listing import Cell, ListColumn, Listing
from wsgitop.tui.widgets.table import STATE_COLORS, state_word
from wsgitop.tui.widgets.text_pane import Pieces, TextPane, labelled, line_of

EVENTS_ASKED = 1000
MOVES_S = 0.25
"""How often bars move, and how often pictures are asked for, while a reload is under way."""
QUICK_WORKERS = 100
"""Up to this many: a picture of more takes its time, and their reload takes longer anyway."""
SHORT, TALL = 22, 32
BAR_CELLS = 12
STEP_COLORS = {
    "waiting": "muted", "booting": "accent", "handing over": "warning", "done": "good", "leaving": "muted",
}  # fmt: skip


def _worker(worker: WorkerSnapshot | None) -> Cell:
    if worker is None:
        return Cell("")
    return Cell(f"{worker.pid:<7} {state_word(worker)}", STATE_COLORS[worker.state])


def slot_columns(look: Look) -> tuple[ListColumn[SlotRow], ...]:
    """The columns of the slots, with bars in the alphabet of the terminal."""
    full, begun, rest = tuple(look.signs.shades)

    def bar(row: SlotRow) -> Cell:
        filled = round(row.share * BAR_CELLS)
        block = full if row.step in ("done", "handing over") else begun
        return Cell(block * filled + rest * (BAR_CELLS - filled), STEP_COLORS[row.step])

    def step(row: SlotRow) -> Cell:
        text = f"{row.step} +{row.more}" if row.more else row.step
        held = max(row.old.in_flight, key=lambda one: one.elapsed_s, default=None) if row.old else None
        if row.step in ("handing over", "leaving") and held is not None:
            text += f": {figures.elapsed(held.elapsed_s)} {held.method} {held.path}"
        return Cell(text, STEP_COLORS[row.step], row.step == "done")

    return (
        ListColumn("slot", "#", 4, 99, lambda row: Cell(str(row.slot))),
        ListColumn("", "OLD", 18, 80, lambda row: _worker(row.old), left=True),
        ListColumn("", "GEN", 4, 50, lambda row: Cell(str(row.old.generation) if row.old else "", "muted")),
        ListColumn("share", "", BAR_CELLS, 97, bar, left=True),
        ListColumn("", "NEW", 18, 90, lambda row: _worker(row.new), left=True),
        ListColumn("step", "STEP", 12, 98, step, left=True, flexible=True),
    )


def _seconds(value: float | None, color: str = "text") -> Cell:
    return Cell(figures.elapsed(value), color if value is not None else "faint")


def _ending(reload: Reload) -> Cell:
    severity = severity_of(reload)
    return Cell(reload.ending, "text" if severity == "info" else severity, severity == "error")


def _outcome(reload: Reload) -> Cell:
    text = reload.text if reload.ending != "done" else ""
    by = " ".join(part for part in (reload.what, f"by {reload.actor}" if reload.actor else "") if part)
    return Cell(text or by, "error" if reload.ending == "failed" else "muted")


COLUMNS: tuple[ListColumn[Reload], ...] = (
    ListColumn(
        "at", "WHEN", 14, 90, lambda r: Cell(figures.moment(r.at, "%m-%d %H:%M:%S"), "muted"), left=True
    ),
    ListColumn("generation", "GEN", 4, 97, lambda r: Cell(str(r.number))),
    ListColumn("ending", "ENDING", 10, 99, _ending, left=True),
    ListColumn("took", "TOOK", 6, 98, lambda r: _seconds(r.took_s)),
    ListColumn("", "LOAD", 5, 50, lambda r: _seconds(r.loaded_s, "muted")),
    ListColumn("boot", "BOOT", 5, 60, lambda r: _seconds(median(r.boots_s) if r.boots_s else None, "muted")),
    ListColumn("", "WHY, OR BY WHOM", 16, 95, _outcome, left=True, flexible=True),
)


def details(reload: Reload) -> list[Pieces]:
    """All that is known about a reload, its traceback last."""
    severity = severity_of(reload)
    color = "text" if severity == "info" else severity
    by = f", by {reload.actor}" if reload.actor else ""
    lines = [line_of(f"{reload.ending}: {reload.text}" if reload.text else reload.ending, color, bold=True)]
    stages = [
        f"code loaded after {figures.elapsed(reload.loaded_s)}" if reload.loaded_s is not None else "",
        f"served by new workers after {figures.elapsed(reload.serving_s)}" if reload.serving_s else "",
        f"over after {figures.elapsed(reload.took_s)}" if reload.took_s is not None else "",
    ]
    boots = figures.UNKNOWN
    if reload.boots_s:
        boots = (
            f"{figures.plural(len(reload.boots_s), 'worker')}, "
            f"{figures.elapsed(median(reload.boots_s))} each, {figures.elapsed(max(reload.boots_s))} at most"
        )
    when = figures.moment(reload.at, "%Y-%m-%d %H:%M:%S")
    lines += labelled(
        (
            ("when", f"{when}{f', {reload.what}' if reload.what else ''}{by}", "text"),
            ("stages", ", ".join(stage for stage in stages if stage) or figures.UNKNOWN, "text"),
            ("boots", boots, "text"),
        ),
        9,
    )
    if reload.detail:
        lines += [line_of(""), *(line_of(text) for text in reload.detail.rstrip().split("\n"))]
    return lines


@dataclass(frozen=True)
class _Known:
    """Events and what was read from them, so that it is read once."""

    pushed: tuple[Event, ...] = ()
    asked: tuple[Event, ...] = ()
    reloads: tuple[Reload, ...] = ()


class ReloadPage(ListsPage):
    """Generations above, slots while a reload is under way, past reloads and all about the selected one."""

    SUBJECT = "reload"
    ASKS = True
    AUTO_FOCUS = ""  # which list there is to focus turns out with the first picture
    HINTS = (
        Hint("Esc", "back", "screen.back", 99),
        Hint("H", "reload", "app.reload", 95, operator=True),
        Hint("Tab", "next list", "app.focus_next", 85),
        Hint("y", "copy traceback", "screen.copy", 80),
        Hint("⏎", "worker", "screen.choose", 30),
        Hint("/", "filter", "screen.filter", 50),
        Hint("s", "sort", "screen.step_sort(1)", 40),
        Hint("p", "pause", "app.pause", 60),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy", tooltip="copy the traceback, or all about the selected reload"),
    ]
    DEFAULT_CSS = """
    ReloadPage Generations { height: 6; }
    ReloadPage ProgressBar { height: 1; }
    ReloadPage #slots { display: none; max-height: 45%; }
    ReloadPage #past { height: 1fr; min-height: 4; }
    ReloadPage TextPane { height: 1fr; min-height: 4; }
    ReloadPage.-short Generations { height: 2; }
    ReloadPage.-short #slots { max-height: 100%; }
    ReloadPage.-moving ProgressBar { height: 2; }
    ReloadPage.-moving #slots, ReloadPage.-mixed #slots { display: block; }
    ReloadPage.-moving TextPane, ReloadPage.-mixed TextPane { display: none; }
    ReloadPage.-tall.-moving TextPane, ReloadPage.-tall.-mixed TextPane { display: block; }
    ReloadPage.-short.-moving #past, ReloadPage.-short.-mixed #past { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._slots: ListModel[SlotRow] = ListModel(
            identity=lambda row: row.slot, words=slot_words, orders=SLOT_ORDERS
        )
        self._past: ListModel[Reload] = ListModel(
            identity=lambda reload: (reload.number, reload.at), words=words, orders=ORDERS
        )
        self.lists = {"slots": self._slots, "past": self._past}
        self.rows = self._past
        self._known = _Known()
        self._asked: tuple[Event, ...] = ()
        self._asked_of: Source | None = None
        self._newest: tuple[int, float] | None = None
        self._sampled = (0, 0.0)
        self._shown: tuple[object, ...] = ()

    def body(self) -> ComposeResult:
        look = look_of(self)
        yield Generations().data_bind(ReloadPage.view)
        yield ProgressBar()
        yield Listing(slot_columns(look), title="slots", empty="no workers", id="slots")
        yield Listing(
            COLUMNS,
            title="reloads",
            empty="none yet",
            sign=lambda reload: Cell(look.signs.severity(severity_of(reload)), _ending(reload).color),
            id="past",
        )
        yield TextPane(title="the selected reload")

    def on_mount(self) -> None:
        super().on_mount()
        if self.has_class("-moving"):
            self.rows = self._slots
            self.refresh_view()
        self.focus_body()
        self.set_interval(MOVES_S, self._move_on)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.height < SHORT, "-short")
        self.set_class(event.size.height >= TALL, "-tall")

    # -- data ------------------------------------------------------------------------------------------------

    async def ask(self, source: Source) -> tuple[Event, ...] | None:
        # Once for each connection: later events come by themselves.
        if source is self._asked_of:
            return None
        found = await source.events(limit=EVENTS_ASKED)
        self._asked_of = source
        return found

    def take(self, answer: tuple[Event, ...] | None) -> None:
        if answer is not None:
            self._asked = answer

    def _reloads(self, view: View) -> tuple[Reload, ...]:
        known = self._known
        if known.pushed is not view.events or known.asked is not self._asked:
            both = {(event.at, event.sequence): event for event in (*self._asked, *view.events)}
            told = (event for event in both.values() if event.sequence)
            self._known = known = _Known(view.events, self._asked, past_reloads(told))
        return known.reloads

    def _later_s(self, snapshot: Snapshot, view: View) -> float:
        """The time since the picture was taken, as far as it goes on."""
        sequence, at = self._sampled
        now = self.main.model.now()
        if sequence != snapshot.sequence:
            self._sampled = (snapshot.sequence, now)
            return 0.0
        return 0.0 if view.stale_s is not None or view.paused_s is not None else now - at

    def _move_on(self) -> None:
        if self.main.seen is self and self.has_class("-moving") and not self.main.model.is_paused:
            self.update(self.view)

    def update(self, view: View) -> None:
        reloads, snapshot = self._reloads(view), view.snapshot
        target = target_of(snapshot) if snapshot is not None else None
        running = snapshot.master.reload if snapshot is not None else None
        self.set_class(running is not None, "-moving")
        self.set_class(running is None and target is not None, "-mixed")
        self._quicken(view)
        if target is None and self.rows is self._slots:
            self.rows = self._past
            self.focus_body()
        rows: tuple[SlotRow, ...] = ()
        later_s = self._later_s(snapshot, view) if snapshot is not None else 0.0
        if snapshot is not None and target is not None:
            rows = slot_rows(snapshot.workers, target, boot_s=typical_boot_s(reloads), later_s=later_s)
        done, begun = overall(rows, running.workers if running is not None else 0)
        progress = Progress(
            running,
            running.elapsed_s + later_s if running is not None else 0.0,
            done,
            begun,
            typical_load_s([reload for reload in reloads if reload.ending != "under way"]),
            reloads[0] if reloads else None,
            mixed=running is None and target is not None,
        )
        self.query_one(ProgressBar).show(view, progress)
        self._slots.take(rows)
        before = self._past.listed().selected
        self._past.take(reloads)
        if reloads and (before is None or self._newest == (before.number, before.at)):
            # Whoever looks at the newest one wants to see the next one, too.
            self._past.select((reloads[0].number, reloads[0].at))
        self._newest = (reloads[0].number, reloads[0].at) if reloads else None
        # No more room than there are slots: the rest is for the past ones.
        slots = self.query_one("#slots", Listing)
        if self.has_class("-short"):
            slots.styles.height = "1fr"
        elif slots.styles.height is None or slots.styles.height.value != len(rows) + 3:
            slots.styles.height = len(rows) + 3
        self.show_list("slots")
        self.show_list("past", self.trouble)
        self._show_details(self._past.listed().selected)

    def _show_details(self, reload: Reload | None) -> None:
        pane = self.query_one(TextPane)
        if reload is None:
            pane.show((), title="the selected reload")
            self._shown = ()
            return
        shown = (reload.number, reload.at, reload.ending, pane.size)
        text = details(reload)
        if shown != self._shown:
            # The last line of a traceback is the one that names the fault.
            pane.show(text, title=f"reload to generation {reload.number}", at_end=bool(reload.detail))
            if not reload.detail:
                pane.scroll_to(y=0, animate=False, immediate=True)
            self._shown = shown
        else:
            pane.show(text, title=f"reload to generation {reload.number}")

    # -- the pace --------------------------------------------------------------------------------------------

    def _quicken(self, view: View) -> None:
        """A reload is often over after a second or two: while one is seen, pictures come faster."""
        snapshot, source = view.snapshot, self.main.feed.source
        moving = snapshot is not None and snapshot.master.reload is not None
        cheap = snapshot is not None and len(snapshot.workers) <= QUICK_WORKERS
        near = source is not None and not source.is_remote
        quick = moving and cheap and near and self.main.seen is self and view.paused_s is None
        interval_s = self.main.model.interval_s
        self.main.feed.set_interval(min(MOVES_S, interval_s) if quick else interval_s)

    def on_screen_suspend(self) -> None:
        self.main.feed.set_interval(self.main.model.interval_s)

    # -- what the user does ----------------------------------------------------------------------------------

    def open_row(self, row: SlotRow | Reload) -> None:
        if isinstance(row, SlotRow):
            worker = row.new or row.old
            if worker is not None:
                self.main.open_worker(identity(worker))

    def pointed(self) -> tuple[Identity, int | None] | None:
        row = self.rows.listed().selected
        worker = (row.new or row.old) if isinstance(row, SlotRow) else None
        return (identity(worker), None) if worker is not None else None

    def action_choose(self) -> None:
        row = self.rows.listed().selected
        if row is not None:
            self.open_row(row)

    def action_copy(self) -> None:
        reload = self._past.listed().selected
        if reload is not None and reload.detail:
            self.main.copy(reload.detail, f"the traceback of the reload to generation {reload.number}")
        else:
            self.main.copy(self.query_one(TextPane).plain, "all about the selected reload")
