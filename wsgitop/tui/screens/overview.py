"""The first screen: header, the last minute, the workers, what happened, the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.reactive import var
from textual.screen import Screen
from textual.widgets import Input, Static

from wsgitop.tui.arrange import identity
from wsgitop.tui.model import View
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.canvas import Drawn
from wsgitop.tui.widgets.events import EventStrip
from wsgitop.tui.widgets.footer import KeyHints
from wsgitop.tui.widgets.graphs import Figures, Graphs
from wsgitop.tui.widgets.header import Banner, Header
from wsgitop.tui.widgets.pane import WorkerPane
from wsgitop.tui.widgets.table import WorkerTable

if TYPE_CHECKING:
    from textual import events

    from wsgitop.tui.app import WsgitopApp

LEAST_WIDTH, LEAST_HEIGHT = 60, 15


class Overview(Screen[None]):
    """It holds one view and hands it to its parts; what the user does goes to the model of the
    application."""

    SUBJECT = "overview"
    AUTO_FOCUS = "WorkerTable"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it as an instance variable
        (0, "-too-narrow"),
        (LEAST_WIDTH, "-narrow"),
        (100, "-medium"),
        (160, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012 - as above
        (0, "-too-short"),
        (LEAST_HEIGHT, "-short"),
        (28, "-middling"),
        (36, "-tall"),
        (50, "-very-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "filter",
            key_display="/",
            tooltip="filter as you type; Esc clears, a leading ! inverts",
        ),
        Binding("escape", "clear_filter", "clear the filter, then the marks", show=False),
        Binding("s,greater_than_sign", "step_sort(1)", "sort by the next column", key_display="s >"),
        Binding("less_than_sign", "step_sort(-1)", "sort by the previous column", key_display="<"),
        Binding("I", "invert_sort", "sort the other way round"),
        Binding("space", "mark", "mark", tooltip="mark the worker: signals and orders then go to all marked"),
        Binding("x", "signal_menu", "signal", tooltip="send a signal to the selected worker (asks first)"),
        Binding("y", "copy_pid", "copy", tooltip="copy the pid of the selected worker"),
        Binding("v", "why", "why", tooltip="show why the last failure happened (its traceback)"),
    ]
    DEFAULT_CSS = """
    Overview { layout: vertical; background: $background; layers: base notice; }
    Overview > * { layer: base; }
    Overview Header, Overview KeyHints, Overview Banner { height: 1; }
    Overview Banner { display: none; }
    Overview.-stale Banner { display: block; }
    Overview Figures { height: 2; }
    Overview Graphs { display: none; }
    Overview #body { height: 1fr; }
    Overview #left { width: 1fr; }
    Overview WorkerTable {
        height: 1fr; border: round $rule; background: $background; padding: 0;
        border-title-background: $background; scrollbar-size-vertical: 1; overflow-x: hidden;
    }
    Overview.-ascii WorkerTable { border: ascii $rule; }
    Overview WorkerPane { display: none; width: 62; }
    Overview EventStrip { height: 1; }
    Overview #filter-line { display: none; height: 1; background: $raised; }
    Overview.-filtering #filter-line { display: block; }
    Overview #filter-mark { width: 10; color: $accent; text-style: bold; }
    Overview #filter { height: 1; border: none; padding: 0; background: $raised; width: 1fr; }
    Overview.-medium.-middling Figures, Overview.-medium.-tall Figures, Overview.-medium.-very-tall Figures,
    Overview.-wide.-middling Figures, Overview.-wide.-tall Figures, Overview.-wide.-very-tall Figures {
        display: none;
    }
    Overview.-medium.-middling Graphs, Overview.-wide.-middling Graphs { display: block; height: 5; }
    Overview.-medium.-tall Graphs, Overview.-wide.-tall Graphs { display: block; height: 7; }
    Overview.-medium.-very-tall Graphs, Overview.-wide.-very-tall Graphs { display: block; height: 9; }
    Overview.-middling EventStrip { height: 4; }
    Overview.-tall EventStrip { height: 7; }
    Overview.-very-tall EventStrip { height: 12; }
    Overview.-wide.-tall WorkerPane, Overview.-wide.-very-tall WorkerPane { display: block; }
    Overview #too-small {
        display: none; layer: notice; width: 100%; height: 100%; content-align: center middle;
        text-align: center; background: $background; color: $warning;
    }
    Overview.-too-narrow #too-small, Overview.-too-short #too-small { display: block; }
    """

    view: var[View] = var(View, init=False)

    def __init__(self, target_label: str) -> None:
        super().__init__()
        self._target_label = target_label

    @property
    def main(self) -> WsgitopApp:
        return cast("WsgitopApp", self.app)

    def compose(self) -> ComposeResult:
        yield Header(self._target_label, wall=self.main.wall).data_bind(Overview.view)
        yield Banner().data_bind(Overview.view)
        yield Figures().data_bind(Overview.view)
        yield Graphs().data_bind(Overview.view)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield WorkerTable().data_bind(Overview.view)
                yield EventStrip().data_bind(Overview.view)
            yield WorkerPane().data_bind(Overview.view)
        with Horizontal(id="filter-line"):
            yield Static(" filter / ", id="filter-mark", markup=False)
            yield FilterInput(id="filter", select_on_focus=False, compact=True)
        yield KeyHints().data_bind(Overview.view)
        yield Static("", id="too-small", markup=False)

    def on_mount(self) -> None:
        self.set_class(look_of(self).is_ascii, "-ascii")
        self.query_one("#filter", Input).cursor_blink = False
        self.refresh_view()

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        if width < LEAST_WIDTH or height < LEAST_HEIGHT:
            text = f"too small: {width}×{height}\nwsgitop needs {LEAST_WIDTH}×{LEAST_HEIGHT}"
            self.query_one("#too-small", Static).update(look_of(self).plain(text))

    def refresh_view(self) -> None:
        """Take a new view of the model and show it."""
        self.view = self.main.model.view()

    def refresh_ages(self) -> None:
        """No news, but time has passed: only what shows it is drawn again."""
        view = self.main.model.view()
        for drawn in self.query(Drawn):
            if isinstance(drawn, (Header, Banner, EventStrip)):
                drawn.view = view

    def watch_view(self, view: View) -> None:
        self.set_class(view.stale_s is not None, "-stale")

    def redraw(self) -> None:
        """Everything again, in new colours."""
        for drawn in self.query(Drawn):
            drawn.redraw(everything=True)
        table = self.query_one(WorkerTable)
        table.redraw()

    # -- what the user does ----------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        # Bubbles up here only when nothing has taken it; a greyed key gets its explanation.
        self.main.explain_key(event.key)

    @on(WorkerTable.Moved)
    def _moved(self, event: WorkerTable.Moved) -> None:
        self.main.model.touch()
        self.main.model.move(event.rows)
        self.refresh_view()

    @on(WorkerTable.RowAsked)
    def _row_asked(self, event: WorkerTable.RowAsked) -> None:
        self.main.model.touch()
        if event.row < 0:
            self.main.model.move_to_end()
        else:
            self.main.model.move_to(event.row)
        self.refresh_view()

    @on(WorkerTable.SortAsked)
    def _sort_asked(self, event: WorkerTable.SortAsked) -> None:
        self.main.model.sort_by(event.column)
        self.refresh_view()

    @on(WorkerTable.Chosen)
    def _chosen(self) -> None:
        if self.view.selected is not None:
            self.main.open_worker(identity(self.view.selected))

    def action_step_sort(self, step: int) -> None:
        self.main.model.step_sort(step)
        self.refresh_view()

    def action_invert_sort(self) -> None:
        self.main.model.invert_sort()
        self.refresh_view()

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    def action_clear_filter(self) -> None:
        """Escape: clear the filter and go back to the table; if there is none, take the marks away."""
        if not self.main.model.filter and not self.has_class("-filtering"):
            self.main.model.clear_marks()
        self.query_one("#filter", Input).value = ""
        self.main.model.set_filter("")
        self.action_leave_filter()

    def action_leave_filter(self) -> None:
        self.remove_class("-filtering")
        self.query_one(WorkerTable).focus()
        self.refresh_view()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        self.main.model.set_filter(event.value)
        self.refresh_view()

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self) -> None:
        self.action_leave_filter()

    def action_mark(self) -> None:
        self.main.model.touch()
        self.main.model.toggle_mark()
        self.refresh_view()

    def action_signal_menu(self) -> None:
        self.main.signal_workers(self.view.targets)

    def action_copy_pid(self) -> None:
        worker = self.view.selected
        if worker is None:
            self.main.say("warning", "nothing copied: no worker is selected")
            return
        self.main.copy(str(worker.pid), f"the pid of worker {worker.slot}: {worker.pid}")

    def action_why(self) -> None:
        self.main.show_failure(self.view)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if self.main.is_greyed(action) else True


class FilterInput(Input):
    """Up and down leave the filter as it is and go on in the table."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("down,up", "screen.leave_filter", show=False)]
