"""The application: it joins the feed, the model and the screens, and holds the keys that work on every
screen."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import on, work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.scrollbar import ScrollBar, ScrollBarRender

from wsgitop.errors import InterfaceFault
from wsgitop.snapshot import Severity, WorkerSnapshot
from wsgitop.tui import terminal
from wsgitop.tui.actions import METHOD_OF
from wsgitop.tui.alarms import failed_generation
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.in_flight import Flight
from wsgitop.tui.model import Model, View
from wsgitop.tui.operations import Operations
from wsgitop.tui.screens.overview import Overview
from wsgitop.tui.screens.page import Page
from wsgitop.tui.source import (
    Feed,
    Happened,
    LinkLost,
    LinkUp,
    Logged,
    LogRefused,
    LogsBegin,
    Pictured,
    Remembered,
    SourceFactory,
)
from wsgitop.tui.theme import Look, textual_theme
from wsgitop.tui.themes import palette_of

if TYPE_CHECKING:
    from textual.command import Provider

    from wsgitop.tui.screens.asking import Asking

Choice = Literal["stop", "leave", "quit"]

STARTED_S = 1.0
"""The first picture is there by then."""

OPERATOR_ACTIONS = frozenset({"reload", "scale", "scale_to", "undo_scale", "signal_menu", "cancel"})
OPERATOR_KEYS = {
    "H": "reload",
    "plus": "scaling",
    "minus": "scaling",
    "equals_sign": "scaling",
    "u": "undoing",
    "x": "signals",
    "c": "cancelling",
}


class PlainScrollBar(ScrollBarRender):
    """A scroll bar of whole cells."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


@dataclass(frozen=True)
class InterfaceResult:
    """How the user left.

    ``stop`` and ``leave`` say what the owner of the server decided about it; everybody else says ``quit``.
    ``by_signal`` is the number of the signal that ended the interface, 0 when it was a key.
    """

    choice: Choice
    by_signal: int = 0


def pages() -> dict[str, type[Page]]:
    """The pages by subject, imported when the first of them is opened."""
    from wsgitop.tui.screens.deaths import Deaths
    from wsgitop.tui.screens.events import Events
    from wsgitop.tui.screens.log import Log
    from wsgitop.tui.screens.reload import ReloadPage
    from wsgitop.tui.screens.requests import Requests
    from wsgitop.tui.screens.settings import SettingsPage
    from wsgitop.tui.screens.worker import Worker

    kinds = (Worker, Requests, ReloadPage, Deaths, Log, Events, SettingsPage)
    return {page.SUBJECT: page for page in kinds}


def _collect_garbage() -> None:
    """From now on, but never among what the start has made: it stays."""
    gc.freeze()
    gc.enable()


def _palette_provider() -> type[Provider]:
    from wsgitop.tui.screens.commands import Commands

    return Commands


class WsgitopApp(App[InterfaceResult]):
    """The interface.

    ``owns_server``: the server was started by this command, so quitting has to say what becomes of it.
    ``server_ended`` tells its owner that it has ended, and will not come back. ``log_path`` is where the
    server's output goes, named in that question. ``clock`` (monotonic) and ``wall``
    (since the epoch) are for tests. ``guards_terminal`` takes over SIGTERM, SIGINT and SIGHUP, as
    :func:`run_interface` does; without it the application can run headless anywhere.
    """

    TITLE = "wsgitop"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_palette_provider}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("H", "reload", "reload", tooltip="load the code again, workers one by one (HUP)"),
        Binding("plus", "scale(1)", "add", key_display="+", tooltip="one worker more (TTIN), at once"),
        Binding("minus", "scale(-1)", "remove", key_display="-", tooltip="one worker fewer (TTOU), at once"),
        Binding(
            "equals_sign",
            "scale_to",
            "scale",
            key_display="=",
            tooltip="so many workers: asks for the number",
        ),
        Binding("u", "undo_scale", "undo", tooltip="undo the last change of scale made here"),
        Binding("m", "menu", "actions", tooltip="all that can be done, in a menu"),
        Binding("2", "open('worker')", "worker", tooltip="all about the selected worker (Enter on its row)"),
        Binding("S", "open_stack", "stack", tooltip="where the selected worker is in the code, live"),
        Binding(
            "r,3",
            "open('requests')",
            "requests",
            key_display="r 3",
            tooltip="what is in flight, and what took long",
        ),
        Binding(
            "g,4",
            "open('reload')",
            "generations",
            key_display="g 4",
            tooltip="reloads, and generations of the code",
        ),
        Binding("d", "open('deaths')", "deaths", tooltip="how workers have ended, and why"),
        Binding("l,6", "open('log')", "log", key_display="l 6", tooltip="error log and access log"),
        Binding(
            "a,7", "open('events')", "events", key_display="a 7", tooltip="what happened, and who did it"
        ),
        Binding(
            "o,8",
            "open('settings')",
            "settings",
            key_display="o 8",
            tooltip="settings, and where they come from",
        ),
        Binding("T", "swap_theme", "theme", tooltip="dark or light; the palette has other themes by name"),
        Binding("e", "export", "export", tooltip="write the picture or the screen to a file"),
        Binding("p", "pause", "pause", tooltip="freeze the picture; nothing is lost meanwhile"),
        Binding("left_square_bracket", "interval(-1)", "refresh faster", key_display="["),
        Binding("right_square_bracket", "interval(1)", "refresh slower", key_display="]"),
        Binding("colon", "command_palette", "palette", key_display=": ^p", tooltip="all actions by name"),
        Binding("question_mark", "help", "help", key_display="?", tooltip="this help"),
        Binding("q", "leave", "quit"),
        Binding("ctrl+c", "interrupt", "quit", key_display="^c", tooltip="quit; asks first", priority=True),
        Binding(
            "ctrl+z",
            "suspend_process",
            "suspend",
            key_display="^z",
            tooltip="suspend; `fg` comes back",
            priority=True,
        ),
        Binding("ctrl+q", "leave", show=False, priority=True),
    ]

    def __init__(
        self,
        source_factory: SourceFactory,
        *,
        target_label: str,
        owns_server: bool,
        log_path: str = "",
        server_ended: Callable[[], bool] = lambda: False,
        look: Look | None = None,
        interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        guards_terminal: bool = False,
    ) -> None:
        self.look = look if look is not None else terminal.look_for()
        # Without ansi_color the colours of a monochrome screen would still go out, as shades of grey.
        super().__init__(ansi_color=True if self.look.palette.sixteen else None)
        self.target_label = target_label
        self.owns_server = owns_server
        self.log_path = log_path
        self._server_ended = server_ended
        self._guards_terminal = guards_terminal
        self.wall = wall
        self.model = Model(clock=clock, wall=wall)
        self.model.interval_s = interval_s
        self.feed = Feed(source_factory, self.post_message, interval_s=interval_s)
        self.operations = Operations(
            self.model, lambda: self.feed.source, changed=self.show, failure=self._show_text
        )
        # Blocks of an eighth of a cell are no ASCII.
        ScrollBar.renderer = PlainScrollBar if self.look.is_ascii else ScrollBarRender
        self.register_theme(textual_theme(self.look.palette))
        self.theme = self.look.palette.name
        self.fixed_colors = self.look.palette.sixteen

    # -- life ------------------------------------------------------------------------------------------------

    def get_driver_class(self) -> type[Driver]:
        found = super().get_driver_class()
        if found.__name__ != "LinuxDriver" or "TEXTUAL_DRIVER" in os.environ:  # another system's, or a wish
            return found
        from wsgitop.tui.driver import TerminalDriver

        return TerminalDriver

    def on_load(self) -> None:
        # Before the screen is taken over: from here on a signal must give the terminal back.
        if self._guards_terminal:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._end_by_signal, number)
            terminal.end_with_terminal(sys.__stdin__.fileno() if sys.__stdin__ is not None else 0)
        # Connecting goes on while the screen is being set up, so that its first frame has figures.
        self._run_feed()

    def _end_by_signal(self, number: int) -> None:
        self.exit(InterfaceResult("stop" if self.owns_server else "quit", by_signal=number))

    def get_default_screen(self) -> Overview:
        return Overview(self.target_label)

    def on_mount(self) -> None:
        # Ages of what the interface itself says (stale, paused, under way) go on while no picture comes.
        self.set_interval(1.0, self._tick)
        if self._guards_terminal:
            self.set_timer(STARTED_S, _collect_garbage)

    @work(exclusive=True, group="feed", exit_on_error=False)
    async def _run_feed(self) -> None:
        await self.feed.run()

    def _tick(self) -> None:
        if not self.screen_stack:  # it is ending
            return
        view = self.seen.view
        if view.stale_s is not None or view.paused_s is not None or view.sayings or view.snapshot is None:
            self.seen.refresh_ages()

    @property
    def overview(self) -> Overview:
        screen = self.screen_stack[0]
        assert isinstance(screen, Overview)
        return screen

    def show(self) -> None:
        """Draw what the model holds now, where it is seen: a dialog lies over a page or the overview."""
        if self.is_running and self.screen_stack:
            self.seen.refresh_view()

    @property
    def seen(self) -> Overview | Page:
        """The uppermost screen that is no dialog."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, (Overview, Page)):
                return screen
        return self.overview

    def copy(self, text: str, what: str) -> None:
        """Put text into the terminal's clipboard (OSC 52) and say so."""
        if not text:
            self.say("warning", "nothing copied: there is nothing")
            return
        self.copy_to_clipboard(text)
        self.say("good", f"copied {what}")

    def action_open(self, subject: str) -> None:
        """Open a page. One that is open already comes to the top again, without what lay over it."""
        page = pages()[subject]
        if any(type(screen) is page for screen in self.screen_stack):
            while type(self.screen) is not page:
                self.pop_screen()
            return
        self.push_screen(page())

    def action_open_stack(self) -> None:
        """The worker page with the stack in front: of the worker under the cursor of the page, of the one
        that is open, or of the selected one."""
        seen = self.seen
        pointed = seen.pointed() if isinstance(seen, Page) and seen.SUBJECT != "worker" else None
        worker, thread = pointed or (None, None)
        self.open_worker(worker, thread, on_stack=True)

    def open_worker(
        self, worker: Identity | None, thread: int | None = None, *, on_stack: bool = False
    ) -> None:
        """The page of a worker, None: of the one it shows already, or of the selected one. ``thread``: look
        at this thread."""
        from wsgitop.tui.screens.worker import Worker

        if worker is not None and not self.model.select(worker):
            self.say("warning", f"the worker with pid {worker[0]} is not there any more (d: why)")
            return
        if not any(isinstance(screen, Worker) for screen in self.screen_stack):
            self.push_screen(Worker(worker, thread=thread, on_stack=on_stack))
            return
        self.action_open(Worker.SUBJECT)
        page = self.screen
        assert isinstance(page, Worker)
        if worker is not None:
            page.follow(worker, thread=thread, on_stack=on_stack)
        elif on_stack:
            page.go_to("stack")

    def open_death(self, sequence: int) -> None:
        """The death ledger, with the cursor on one end."""
        from wsgitop.tui.screens.deaths import Deaths

        self.action_open(Deaths.SUBJECT)
        page = self.screen
        assert isinstance(page, Deaths)
        page.rows.select(sequence)

    @on(Driver.SignalResume)
    def _resumed(self) -> None:
        """`fg`: the terminal has forgotten the picture, which Textual takes for granted."""
        self.refresh(layout=True)

    # -- what the server sends -------------------------------------------------------------------------------

    @on(LinkUp)
    def _link_up(self, message: LinkUp) -> None:
        self.model.connected(message.hello)
        self.show()

    @on(LinkLost)
    def _link_lost(self, message: LinkLost) -> None:
        ended = self.owns_server and self._server_ended()
        reason = "the server has ended; q leaves and names its log" if ended else message.reason
        if self.model.lost(reason, ended=ended):
            self.show()

    @on(Pictured)
    def _pictured(self, message: Pictured) -> None:
        self.model.take_snapshot(message.snapshot)
        if not self.model.is_paused:
            self.show()

    @on(Remembered)
    def _remembered(self, message: Remembered) -> None:
        self.model.take_history(message.seconds)
        if not self.model.is_paused:
            self.show()

    @on(Happened)
    def _happened(self, message: Happened) -> None:
        self.model.take_events(message.events)
        if not self.model.is_paused:
            self.show()

    @on(LogsBegin)
    @on(Logged)
    @on(LogRefused)
    def _heard(self, message: LogsBegin | Logged | LogRefused) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, Page):
                screen.hear(message)

    # -- keys ------------------------------------------------------------------------------------------------

    def say(self, severity: Severity, text: str) -> None:
        self.operations.say(severity, text)

    def is_greyed(self, action: str) -> bool:
        """Operator actions are greyed for a viewer, and those that this server does not offer. (It refuses
        them as well: this is only manners.)"""
        if self.model.role == "viewer" and action in OPERATOR_ACTIONS:
            return True
        method = METHOD_OF.get(action)
        return method is not None and bool(self.model.hindrance(method))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if self.is_greyed(action) else True

    def explain_key(self, key: str) -> None:
        """Say why a greyed key does nothing."""
        if self.model.role == "viewer" and key in OPERATOR_KEYS:
            self.say(
                "warning",
                f"{OPERATOR_KEYS[key]} is for operators; you are a viewer here (connect as its user)",
            )
            return
        bindings = (*self.seen.BINDINGS, *self.BINDINGS)
        for binding in bindings:
            if isinstance(binding, Binding) and key in binding.key.split(","):
                method = METHOD_OF.get(binding.action.partition("(")[0])
                trouble = self.model.hindrance(method) if method is not None else ""
                if trouble:
                    self.say("warning", f"{binding.description}: {trouble}")
                return

    def action_pause(self) -> None:
        paused = self.model.toggle_pause()
        self.say("info", "paused: the picture stands, everything is still recorded" if paused else "going on")

    def action_interval(self, step: int) -> None:
        before = self.model.interval_s
        interval_s = self.model.step_interval(step)
        self.feed.set_interval(interval_s)
        bound = " already: that is the limit" if interval_s == before else ""
        self.say("info", f"a picture every {interval_s:g} s{bound}")

    @property
    def asking(self) -> Asking:
        """The questions before orders. Imported when the first is asked."""
        from wsgitop.tui.screens.asking import Asking

        return Asking(self)

    @property
    def targets(self) -> tuple[WorkerSnapshot, ...]:
        """Whom an order for workers is for, as they are now: on a worker's page for that one, if it is there,
        on the overview for those that are marked, otherwise for the selected one.
        """
        seen, view = self.seen, self.model.view()
        if isinstance(seen, Overview):
            return view.targets
        if seen.SUBJECT == "worker":
            snapshot, pointed = self.model.snapshot, seen.pointed()
            present = snapshot.workers if snapshot is not None and pointed is not None else ()
            return tuple(worker for worker in present if pointed and identity(worker) == pointed[0])
        # Marks cannot be seen elsewhere.
        return (view.selected,) if view.selected is not None else ()

    @work(group="questions", exit_on_error=False)
    async def action_act(self, name: str) -> None:
        """One of the rows of tui/actions.py."""
        await self.asking.act(name, self.targets, seen=False)

    @work(group="questions", exit_on_error=False)
    async def action_menu(self) -> None:
        await self.asking.menu(self.targets)

    def action_reload(self) -> None:
        self.action_act("reload")

    def action_scale_to(self) -> None:
        self.action_act("scale")

    def action_scale(self, change: int) -> None:
        self.run_worker(self.operations.scale(change), group="operations", exit_on_error=False)

    def action_undo_scale(self) -> None:
        self.run_worker(self.operations.undo_scale(), group="operations", exit_on_error=False)

    @work(group="questions", exit_on_error=False)
    async def signal_workers(self, workers: tuple[WorkerSnapshot, ...]) -> None:
        """Ask which signal, ask again, send it. The targets are fixed here, before anything can move."""
        await self.asking.signal(workers)

    def signal_worker(self, worker: WorkerSnapshot | None) -> None:
        """The same for one."""
        self.signal_workers((worker,) if worker is not None else ())

    @work(group="questions", exit_on_error=False)
    async def cancel_request(self, flight: Flight) -> None:
        """Ask, then cut this very request of this very process. Both are fixed before anything can move."""
        await self.asking.cancel(flight)

    def show_failure(self, view: View) -> None:
        """The newest text that explains a failure: a generation that did not come up, or an event with
        details."""
        failed = failed_generation(view.snapshot) if view.snapshot is not None else None
        told = next((event for event in view.events if event.detail), None)
        if told is not None:
            self._show_text("why", told.text, told.detail)
        elif failed is not None and failed.error:
            self._show_text(f"generation {failed.number} failed", "", failed.error)
        else:
            self.say("info", "nothing to explain: no failure with details is known")

    def _show_text(self, title: str, heading: str, text: str) -> None:
        from wsgitop.tui.screens.dialogs import TextDialog

        self.push_screen(TextDialog(title, heading, text))

    def action_help(self) -> None:
        from wsgitop.tui.screens.help import Help, topics

        self.push_screen(Help(*topics(self), viewer=self.model.role == "viewer"))

    @work(group="questions", exit_on_error=False)
    async def action_export(self) -> None:
        from wsgitop.tui.screens.exporting import export

        await export(self)

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        """The screen as SVG. Leading blanks are kept: converters other than browsers would drop them."""
        svg = super().export_screenshot(title=title, simplify=simplify)
        return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)

    def screen_lines(self) -> list[str]:
        """The screen as text."""
        return [strip.text for strip in self.screen._compositor.render_strips()]

    # -- looks -----------------------------------------------------------------------------------------------

    def action_swap_theme(self) -> None:
        """Dark to light and back, from any other theme to the designed one of the other kind."""
        self.action_theme("light" if self.look.palette.dark else "dark")

    def action_theme(self, name: str) -> None:
        """A theme by its name. A terminal of sixteen colours has only its own."""
        if self.fixed_colors:
            self.say("info", "there are only sixteen colours here, the terminal's own; no other theme fits")
            return
        palette = palette_of(name)
        self.register_theme(textual_theme(palette))
        self.look = Look(palette=palette, signs=self.look.signs, color=self.look.color)
        self.theme = palette.name
        for screen in self.screen_stack:
            if isinstance(screen, (Overview, Page)):
                screen.redraw()
        self.say("info", f"theme {name}")

    # -- leaving ---------------------------------------------------------------------------------------------

    async def action_leave(self) -> None:
        """q: out, or for the owner of a server the question what becomes of it."""
        if self.owns_server:
            self._ask_owner()
        else:
            self.exit(InterfaceResult("quit"))

    async def action_quit(self) -> None:
        await self.action_leave()

    @work(group="questions", exclusive=True, exit_on_error=False)
    async def _ask_owner(self) -> None:
        from wsgitop.tui.screens.dialogs import Leave

        if self._server_ended():
            self.exit(InterfaceResult("stop"))
            return
        log = f"\nIts output goes on to {self.log_path}" if self.log_path else ""
        question = f"What becomes of the server at {self.target_label}?{log}\n\nctrl+c again stops it."
        choice = await self.push_screen_wait(Leave(question))
        if choice == "stop":
            self.exit(InterfaceResult("stop"))
        elif choice == "leave":
            self.exit(InterfaceResult("leave"))

    @work(group="questions", exclusive=True, exit_on_error=False)
    async def _ask_quit(self) -> None:
        from wsgitop.tui.screens.dialogs import QuitConfirm

        question = "Leave the interface? The server goes on.\n\nctrl+c again leaves as well."
        if await self.push_screen_wait(QuitConfirm("Quit", question, yes="Quit")):
            self.exit(InterfaceResult("quit"))

    def action_interrupt(self) -> None:
        """ctrl+c: always asks. On a dialog it is the dialog's own (priority bindings are looked up from
        here down)."""
        from wsgitop.tui.screens.dialogs import Dialog

        if isinstance(self.screen, Dialog):
            self.screen.action_interrupt()
        elif self.owns_server:
            self._ask_owner()
        else:
            self._ask_quit()


def run_interface(
    source_factory: SourceFactory,
    *,
    target_label: str,
    owns_server: bool,
    log_path: str = "",
    server_ended: Callable[[], bool] = lambda: False,
    mouse: bool = True,
    interval_s: float = 1.0,
    theme: str = "",
    loop: asyncio.AbstractEventLoop | None = None,
) -> InterfaceResult:
    """Show the interface until the user leaves it.

    ``theme`` is the name of its colours, '' for those that suit the terminal. ``loop`` runs it, if there is
    one already in which a connection was made; it stays open.
    Raises TerminalError when there is no terminal that can show it. When the terminal disappears the process
    dies of SIGHUP, and this never returns. Raises InterfaceFault when it fails by a fault of its own.
    """
    terminal.require_terminal(os.environ)
    if os.environ.get("NO_COLOR") == "":
        # Empty means unset (https://no-color.org); Textual would take it for set.
        del os.environ["NO_COLOR"]
    app = WsgitopApp(
        source_factory,
        target_label=target_label,
        owns_server=owns_server,
        log_path=log_path,
        server_ended=server_ended,
        interval_s=interval_s,
        look=terminal.look_for(theme=theme),
        guards_terminal=True,
    )
    result = app.run(mouse=mouse, loop=loop)
    if result is None:
        # Textual ends without a value when it failed; by then it has printed why.
        raise InterfaceFault(
            "the interface has failed, as told above",
            "The server is stopped."
            if owns_server
            else "The server goes on; `wsgitop attach` shows it again.",
        )
    return result
