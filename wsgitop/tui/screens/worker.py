"""One worker: its figures, its threads and where they are in the code, its last minute, the lives of its
slot.

The page is pinned to one process. Where there is little room, one of its parts is seen at a time, and Tab
goes to the next.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Any, ClassVar, NamedTuple, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from wsgitop.control.faults import TargetGone
from wsgitop.control.messages import HistogramResult, RequestInFlight, StackResult
from wsgitop.errors import CannotConnect, WsgitopError
from wsgitop.snapshot import Death
from wsgitop.tui import figures
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.in_flight import Flight
from wsgitop.tui.lists import ListModel, Order
from wsgitop.tui.model import View
from wsgitop.tui.screens.page import Page
from wsgitop.tui.source import Source
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.footer import Hint
from wsgitop.tui.widgets.listing import Cell, Listing
from wsgitop.tui.widgets.text_pane import Pieces, TextPane, line_of
from wsgitop.tui.widgets.worker_lists import LIFE_COLUMNS, THREAD_COLUMNS, life_color
from wsgitop.tui.widgets.worker_parts import LastMinute, Latencies, Part, WorkerFigures, grid_rows
from wsgitop.tui.worker_page import ALL, Life, ThreadRow, Watched, stack_lines, stack_text

T = TypeVar("T")

FULL_WIDTH, FULL_HEIGHT = 100, 30
"""From here on all parts are seen at once."""
MIDDLING, TALL = 36, 50
LEAST_FRAMED = 20
"""Below this height the figures have no frame, and the threads are a part like the others."""
STACK_PACE_S = 0.95
"""A stack is asked for at most once a second, whatever the refresh rate."""
DUMP_PACE_S = 10.0
"""How long to wait after faulthandler had to show it, which fills the log."""
DEATHS_ASKED = 200


class Asked(NamedTuple):
    """What came of one round of questions about ``target``; None was not asked for."""

    target: Identity | None
    thread: int
    deaths: tuple[Death, ...]
    stack: StackResult | str | None = None
    histogram: HistogramResult | str | None = None


class Worker(Page):
    """``target`` is the worker, otherwise it is the one selected on the overview. ``thread``: look at this
    thread first; ``on_stack``: the stack has the focus.
    """

    SUBJECT = "worker"
    ASKS = True
    AUTO_FOCUS = ""
    PARTS: ClassVar[tuple[str, ...]] = ("threads", "stack", "latency", "minute", "lives")
    HINTS = (
        Hint("Esc", "back", "screen.back", 99),
        Hint("Tab", "next part", "screen.next_part(1)", 95),
        Hint("Enter", "choose", "screen.choose", 85),
        Hint("c", "cut request", "screen.cancel", 80, operator=True),
        Hint("x", "signal", "screen.signal_menu", 75, operator=True),
        Hint("n", "successor", "screen.follow_successor", 60),
        Hint("L", "libraries", "screen.toggle_libraries", 50),
        Hint("y", "copy", "screen.copy", 45),
        Hint("p", "pause", "app.pause", 70),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "next_part(1)", "next part", key_display="Tab",
                tooltip="to the next part of the page; shift+Tab goes back"),
        Binding("shift+tab", "next_part(-1)", show=False),
        Binding("space,enter", "choose", "choose", key_display="space Enter",
                tooltip="the stack of this thread; all about this end"),
        Binding("c", "cancel", "cut request", tooltip="cut the request of the thread (asks first)"),
        Binding("x", "signal_menu", "signal", tooltip="send a signal to this worker (asks first)"),
        Binding("n", "follow_successor", "successor", tooltip="go to the worker that has its slot now"),
        Binding("T", "all_threads", "all threads",
                tooltip="all stacks, of the application's threads too; and back"),
        Binding("L", "toggle_libraries", "libraries", tooltip="calls in libraries: shown, or counted"),
        Binding("y", "copy", "copy", tooltip="copy the stack, with whole paths"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    Worker #middle { height: 1fr; }
    Worker #left { width: 2fr; height: 1fr; }
    Worker #stack { width: 3fr; height: 1fr; }
    Worker #latency { height: 1fr; }
    Worker Listing:focus { border: round $accent; }
    Worker.-ascii Listing:focus, Worker.-ascii TextPane:focus { border: ascii $accent; }
    Worker.-parts #middle { layout: vertical; }
    Worker.-parts #left, Worker.-parts #stack { width: 1fr; }
    """

    def __init__(
        self, target: Identity | None = None, *, thread: int | None = None, on_stack: bool = False
    ) -> None:
        super().__init__()
        self.watched = Watched(target)
        if thread is not None:
            self.watched.choose(thread)
        self.part = "stack" if on_stack else "threads"
        """Which part has the focus."""
        self.libraries = True
        self._below = "stack"
        self._stack_asked = -math.inf
        self._stack_wanted = True
        """Now, whatever the pace."""
        self._shown_stack: tuple[object, ...] = ()
        self._has_stack = False
        self.threads: ListModel[ThreadRow] = ListModel(
            identity=lambda row: row.thread,
            words=lambda row: str(row.thread),
            orders=(Order("", lambda row: row.thread, largest_first=False),),
        )
        self.lives: ListModel[Life] = ListModel(
            identity=lambda life: life.key, words=lambda life: life.text, orders=(Order("", lambda _life: 0),)
        )

    # -- frame -----------------------------------------------------------------------------------------------

    def body(self) -> ComposeResult:
        yield WorkerFigures("figures")
        with Horizontal(id="middle"):
            with Vertical(id="left"):
                yield Listing(
                    THREAD_COLUMNS, title="threads", empty="not known yet", id="threads",
                    sign=lambda row: Cell(look_of(self).signs.live if row.chosen else " ", "accent"),
                )  # fmt: skip
                yield Latencies("latency")
            yield TextPane(title="stack", id="stack")
        yield LastMinute("minute")
        yield Listing(
            LIFE_COLUMNS, title="lives", empty="nothing is known", id="lives",
            sign=lambda life: Cell(look_of(self).signs.severity(life.severity), life_color(life)),
        )  # fmt: skip

    def on_mount(self) -> None:
        if self.watched.target is None:
            selected = self.main.model.view().selected
            self.watched.target = identity(selected) if selected is not None else None
        super().on_mount()
        self.threads.select(self.watched.thread)
        self.call_after_refresh(self.go_to, self.part)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < FULL_WIDTH or event.size.height < FULL_HEIGHT, "-parts")
        if self.is_set_up:
            self._arrange()

    def on_screen_resume(self) -> None:
        self.ask_soon()

    def _arrange(self) -> None:
        """Which parts are seen, and how high each of them is; what is left goes to stack and latencies."""
        width, height = self.size
        least, by_parts = height < LEAST_FRAMED, self.has_class("-parts")
        seen = set(self.PARTS)
        if by_parts:
            seen = {self.part} if least else {"threads", self._below}
        for part in self.PARTS:
            self.query_one(f"#{part}").display = part in seen
        left, middle = self.query_one("#left"), self.query_one("#middle")
        left.display = bool(seen & {"threads", "latency"})
        middle.display = left.display or "stack" in seen
        threads = len(self.watched.thread_rows())
        alone = seen <= {"threads"}
        shares = (height - 3) // 3
        self.query_one("#threads").styles.height = "1fr" if alone else max(4, min(threads + 3, shares))
        left.styles.height = "1fr" if alone or "latency" in seen or not by_parts else "auto"
        middle.styles.height = "1fr" if alone or seen & {"latency", "stack"} else "auto"
        grid = 2 if least else min(grid_rows(width - 2), 3 if height < FULL_HEIGHT else 9)
        ended = self.watched.ended and not least
        head = self.query_one(WorkerFigures)
        head.styles.height = grid + 1 if least else grid + 2 + ended
        parts = self.PARTS
        head.next_part = parts[(parts.index(self.part) + 1) % len(parts)] if by_parts else ""
        head.redraw()
        tall = height >= TALL
        minute, lives = (12, 13) if tall else (7, 8) if height >= MIDDLING else (5, 5)
        lives = max(5, min(lives, len(self.lives.listed().rows) + 3)) if tall else lives
        self.query_one("#minute").styles.height = "1fr" if by_parts else minute
        self.query_one("#lives").styles.height = "1fr" if by_parts else lives

    def go_to(self, part: str) -> None:
        """Give a part the focus; where one is seen at a time, show it."""
        self.part = part
        if part != "threads":
            self._below = part
        self._arrange()
        self.query_one(f"#{part}").focus()

    def focus_body(self) -> None:
        self.go_to(self.part)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if event.widget.id in self.PARTS:
            self.part = event.widget.id
            if self.part != "threads":
                self._below = self.part

    def action_next_part(self, step: int) -> None:
        parts = self.PARTS if self.has_class("-parts") else ("threads", "stack", "lives")
        here = parts.index(self.part) if self.part in parts else 0
        self.go_to(parts[(here + step) % len(parts)])

    # -- what is shown ---------------------------------------------------------------------------------------

    def update(self, view: View) -> None:
        watched = self.watched
        before = (watched.thread, watched.ended, len(watched.thread_rows()), len(self.lives.listed().rows))
        trail = self.main.model.trail_of(watched.target) if watched.target is not None else ()
        watched.take_view(view, trail)
        self.lives.take(watched.lives())
        after = (watched.thread, watched.ended, len(watched.thread_rows()), len(self.lives.listed().rows))
        if before[0] != after[0]:
            self.threads.select(watched.thread)
            self._ask_stack_soon()
        if before[1:] != after[1:]:
            self._arrange()
        picture = watched.picture()
        for part in self.query(Part):
            part.picture = picture
            part.view = view
        rows = watched.thread_rows()
        self.threads.take(rows)
        busy = sum(row.request is not None for row in rows)
        self.query_one("#threads", Listing).show(self.threads.listed(), f"{busy} busy")
        slot = f"slot {watched.worker.slot} · " if watched.worker is not None else ""
        note = self.trouble or f"{slot}Enter: all about an end"
        self.query_one("#lives", Listing).show(self.lives.listed(), note)
        self._show_stack()

    def _show_stack(self) -> None:
        """Bring the stack up to date. What stood at its end stays there: the innermost call is seen."""
        watched, role = self.watched, self.main.model.role
        pane = self.query_one("#stack", TextPane)
        inputs = (watched.stack, watched.stack_fault, watched.thread, watched.target, watched.ended,
                  self.libraries, role, self.main.model.is_paused)  # fmt: skip
        if inputs == self._shown_stack:
            return
        same = self._shown_stack[2:4] == inputs[2:4] and self._has_stack
        self._shown_stack = inputs
        self._has_stack = watched.stack is not None
        follows = not same or pane.scroll_offset.y >= pane.max_scroll_y
        single = watched.stack is not None and watched.thread != ALL
        innermost_last = single and watched.stack is not None and watched.stack.taken_by == "watchdog"
        pane.show(self._stack_lines(), title=self._stack_title(), at_end=follows and innermost_last)
        if not same and not innermost_last:
            pane.scroll_home(animate=False, immediate=True, force=True)

    def _stack_title(self) -> str:
        watched = self.watched
        parts = ["stack of all threads" if watched.thread == ALL else f"stack of thread {watched.thread}"]
        found = watched.stack
        if found is not None and len(found.threads) == 1 and found.threads[0].request is not None:
            request = found.threads[0].request
            parts.append(f"{figures.elapsed(request.elapsed_s)} {request.method} {request.path}")
        if watched.ended:
            parts.insert(1, "its last")
        elif self.main.model.is_paused:
            parts.insert(1, "paused")
        return " · ".join(parts)

    def _stack_lines(self) -> tuple[Pieces, ...]:
        watched = self.watched
        if self.main.model.role == "viewer":
            return (
                line_of("Stacks are for operators; you are a viewer here.", "muted"),
                line_of("Connect as the user that the server runs as to see them.", "faint"),
            )
        lines: tuple[Pieces, ...] = ()
        if watched.stack_fault and not watched.ended:
            lines = (line_of(f"not shown: {watched.stack_fault}", "warning", bold=True), line_of(""))
        if watched.stack is not None:
            return (*lines, *stack_lines(watched.stack, libraries=self.libraries))
        if lines:
            return lines
        if watched.ended:
            return (line_of("it ended before its stack was seen; its death may tell one (d)", "muted"),)
        if self.main.model.is_paused:
            return (line_of("paused: nothing is asked for; p goes on", "muted"),)
        return (line_of("asking…", "muted"),)

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask_stack_soon(self) -> None:
        self._stack_wanted = True
        self.ask_soon()

    def pointed(self) -> tuple[Identity, int | None] | None:
        target = self.watched.target
        return (target, self.watched.thread) if target is not None else None

    async def ask(self, source: Source) -> Asked:
        watched = self.watched
        target, thread = watched.target, watched.thread
        deaths = source.deaths(after=watched.last_death, limit=DEATHS_ASKED)
        if target is None or watched.ended or self.main.seen is not self:
            return Asked(target, thread, await deaths)
        pid, started_at = target
        now = asyncio.get_running_loop().time()
        dumped = watched.stack is not None and watched.stack.taken_by == "faulthandler"
        due = now - self._stack_asked >= (DUMP_PACE_S if dumped else STACK_PACE_S) and not watched.is_deaf
        if self.main.model.role == "viewer" or not (due or self._stack_wanted):
            found, histogram = await asyncio.gather(deaths, _answer(source.histogram(pid, started_at)))
            return Asked(target, thread, found, histogram=histogram)
        self._stack_asked, self._stack_wanted = now, False
        wanted = None if thread == ALL else thread
        found, histogram, stack = await asyncio.gather(
            deaths,
            _answer(source.histogram(pid, started_at)),
            _answer(source.stack(pid, thread=wanted, started_at=started_at)),
        )
        return Asked(target, thread, found, stack, histogram)

    def take(self, answer: Asked) -> None:
        watched = self.watched
        watched.take_deaths(answer.deaths)
        if answer.target != watched.target:
            return
        if isinstance(answer.stack, StackResult):
            watched.take_stack(answer.thread, answer.stack)
        elif answer.stack is not None:
            watched.take_stack(answer.thread, None, answer.stack)
        if isinstance(answer.histogram, HistogramResult):
            watched.take_histogram(answer.histogram)
        elif answer.histogram is not None:
            watched.take_histogram(None, answer.histogram)

    # -- keys ------------------------------------------------------------------------------------------------

    @on(Listing.Moved)
    def _moved(self, event: Listing.Moved) -> None:
        rows = self._rows_of(event.listing)
        rows.touch()
        rows.move(event.rows)
        self.refresh_view()

    @on(Listing.RowAsked)
    def _row_asked(self, event: Listing.RowAsked) -> None:
        rows = self._rows_of(event.listing)
        rows.touch()
        rows.move_to(event.row)
        self.refresh_view()

    def _rows_of(self, listing: Listing[Any]) -> ListModel[Any]:
        return self.lives if listing.id == "lives" else self.threads

    @on(Listing.Chosen, "#threads")
    def _thread_chosen(self) -> None:
        row = self.threads.listed().selected
        if row is not None:
            self._look_at(row.thread)

    @on(Listing.Chosen, "#lives")
    def _life_chosen(self) -> None:
        life = self.lives.listed().selected
        if life is None:
            return
        if life.death is not None:
            self.main.open_death(life.death.sequence)
        elif life.current and self.watched.successor is not None and life.pid == self.watched.successor.pid:
            self.action_follow_successor()
        else:
            self.main.say("info", "nothing more is known of it; d shows how workers have ended")

    def action_choose(self) -> None:
        if self.part == "lives":
            self._life_chosen()
        elif self.part == "threads":
            self._thread_chosen()
        else:
            self._look_at(self.watched.thread)

    def _look_at(self, thread: int) -> None:
        self.watched.choose(thread)
        self._ask_stack_soon()
        self.refresh_view()

    def action_all_threads(self) -> None:
        """All threads, the application's own too; again: the thread of the cursor."""
        row = self.threads.listed().selected
        back = row.thread if row is not None else 0
        self._look_at(back if self.watched.thread == ALL else ALL)

    def action_toggle_libraries(self) -> None:
        self.libraries = not self.libraries
        shown = "shown" if self.libraries else "counted, but for the innermost"
        self.main.say("info", f"calls in libraries are {shown}")

    def action_copy(self) -> None:
        stack = self.watched.stack
        self.main.copy(stack_text(stack) if stack is not None else "", "the stack")

    def action_signal_menu(self) -> None:
        worker = self.watched.worker
        if worker is not None and self.watched.ended:
            self.main.say("warning", f"no signal sent: worker {worker.slot} (pid {worker.pid}) has ended")
            return
        self.main.signal_worker(worker)

    def action_follow_successor(self) -> None:
        watched, successor = self.watched, self.watched.successor
        if watched.worker is None:
            return
        slot = watched.worker.slot
        if successor is None:
            why = "nobody has its slot yet" if watched.ended else "it is still there"
            self.main.say("info", f"worker {slot} has no successor: {why}")
            return
        self.follow(identity(successor))
        self.main.say("good", f"this is worker {slot}, pid {successor.pid}, now")

    def follow(self, target: Identity, *, thread: int | None = None, on_stack: bool = False) -> None:
        """Show another worker."""
        self.watched.follow(target, thread)
        self._ask_stack_soon()
        self.refresh_view()
        self.threads.select(self.watched.thread)
        self.go_to("stack" if on_stack else self.part)

    def action_cancel(self) -> None:
        """Ask, then cut the request of the thread under the cursor or, elsewhere, of the one looked at."""
        watched, worker = self.watched, self.watched.worker
        row = self.threads.listed().selected
        thread = row.thread if row is not None and self.part == "threads" else watched.thread
        if worker is None or watched.ended:
            self.main.say("warning", "nothing cut: the worker is not there any more")
            return
        request = watched.request_of(thread)
        if request is None:
            what = "choose a thread first" if thread == ALL else f"thread {thread} serves no request"
            self.main.say("info", f"nothing cut: {what}")
            return
        told = RequestInFlight(worker.slot, worker.pid, worker.started_at, worker.generation, request)
        self.main.cancel_request(Flight(told, request.elapsed_s, began=0.0))


async def _answer(call: Awaitable[T]) -> T | str | None:
    """The answer, or why there is none; None when the worker is gone, which the next picture will tell.
    Raises CannotConnect."""
    try:
        return await call
    except CannotConnect:
        raise
    except TargetGone:
        return None
    except WsgitopError as fault:
        return fault.cause
