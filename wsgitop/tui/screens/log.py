"""The logs of the server: error log, access log, or both in the order of time.

They are followed while the page is to be seen, and not otherwise. Paused, the picture stands and lines are
collected all the same.
"""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from wsgitop.tui.log_model import LOGS, OVERLAP_S, SHOWN, LogModel
from wsgitop.tui.model import View
from wsgitop.tui.screens.page import Page, PageFilter
from wsgitop.tui.source import Logged, LogRefused, LogsBegin
from wsgitop.tui.theme import look_of
from wsgitop.tui.widgets.footer import Hint
from wsgitop.tui.widgets.log_pane import LogPane
from wsgitop.tui.widgets.text_pane import Pieces, line_of

TITLES = {"error": "error log", "access": "access log", "both": "error and access log"}


class Log(Page):
    """One pane of lines."""

    SUBJECT = "log"
    AUTO_FOCUS = "LogPane"
    HINTS = (
        Hint("Esc", "back", "screen.back", 99),
        Hint("a", "which log", "screen.which", 90),
        Hint("f", "follow", "screen.follow", 85),
        Hint("/", "filter", "screen.filter", 80),
        Hint("v", "level", "screen.level", 75),
        Hint("w", "wrap", "screen.wrap", 60),
        Hint("y", "copy", "screen.copy", 50),
        Hint("p", "pause", "app.pause", 70),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "which", "which log", tooltip="error log, access log, or both"),
        Binding("f", "follow", "follow", key_display="f End", tooltip="go to the newest line and stay there"),
        Binding(
            "slash", "filter", "filter", key_display="/", tooltip="filter as you type; a leading ! inverts"
        ),
        Binding("v", "level", "level", tooltip="least severity: all, info, warning, error"),
        Binding("w", "wrap", "wrap", tooltip="break long lines, or cut them (← → move along them)"),
        Binding("y", "copy", "copy", tooltip="copy the lines that can be seen"),
        Binding("escape", "back", "back", key_display="Esc", tooltip="clear the filter, or go back"),
    ]
    DEFAULT_CSS = """
    Log.-ascii LogPane { border: ascii $rule; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines = LogModel()
        self._refusal: tuple[str, str] | None = None
        self._was_stale = False

    def body(self) -> ComposeResult:
        yield LogPane(self.lines)

    # -- what the feed tells ---------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        self._follow_shown()

    def on_screen_suspend(self) -> None:
        if self.main.seen is not self:  # not a mere dialog
            self.main.feed.follow_logs(error=False, access=False)

    def on_unmount(self) -> None:
        if not any(isinstance(screen, Log) for screen in self.main.screen_stack):
            self.main.feed.follow_logs(error=False, access=False)

    def _follow_shown(self) -> None:
        shown = self.lines.shown
        self._refusal = None
        self.main.feed.follow_logs(error=shown != "access", access=shown != "error")

    def hear(self, message: Message) -> None:
        if isinstance(message, LogsBegin):
            wanted = {"error": message.error, "access": message.access}
            self.lines.begin(log for log in LOGS if wanted[log])
        elif isinstance(message, Logged):
            self.lines.take(message.lines)
            if self.lines.is_joining:
                self.set_timer(OVERLAP_S, self.refresh_view)
        elif isinstance(message, LogRefused):
            self._refused(message)
        self.refresh_view()

    def _refused(self, message: LogRefused) -> None:
        again = self._refusal is not None
        self._refusal = (message.cause, message.remedy)
        if self.lines.shown == "both" and not again and self.main.model.role != "viewer":
            # It is the access log that cannot be followed: nothing else is refused to an operator.
            self.main.feed.follow_logs(error=True, access=False)

    # -- what is shown ---------------------------------------------------------------------------------------

    def update(self, view: View) -> None:
        if self._was_stale and view.stale_s is None and self._refusal is not None:
            self._follow_shown()  # another server may be of another mind
        self._was_stale = view.stale_s is not None
        self.lines.pause(paused=view.paused_s is not None)
        self.lines.settle()
        pane = self.query_one(LogPane)
        pane.notice = self._notice()
        pane.show(self._title())

    def _title(self) -> str:
        lines, dot = self.lines, f" {look_of(self).signs.dot} "
        count, total = len(lines.lines), lines.total
        parts = [f"{TITLES[lines.shown]} {count if count == total else f'{count} of {total}'}"]
        if lines.least:
            parts.append(f"{lines.least.lower()} or worse")
        if lines.filter:
            parts.append(f"filter {lines.filter}")
        if lines.missed:
            parts.append(f"{lines.missed} missed")
        return dot.join(parts)

    def _notice(self) -> tuple[Pieces, ...]:
        lines = self.lines
        if self._refusal is not None:
            cause, remedy = self._refusal
            if not remedy and self.main.model.role == "viewer":
                remedy = "Connect as the server's user."
            sign = look_of(self).signs.severity("error")
            notice: list[Pieces] = [((f"{sign} ", "error", True), (cause, "error", True))]
            other = "a: another log." if lines.shown == "access" else ""
            notice += [line_of(f"  {' '.join((remedy, other)).strip()}", "muted")] if remedy or other else []
            return tuple(notice)
        if lines.lines:
            return ()
        if lines.filter.strip():
            return (line_of("no line matches the filter; Esc clears it", "muted"),)
        if lines.least and lines.total:
            return (line_of(f"nothing is {lines.least.lower()} or worse; v shows more", "muted"),)
        return (line_of("nothing has been written yet; what comes is shown here", "muted"),)

    def redraw(self) -> None:
        super().redraw()
        self.query_one(LogPane).redraw()

    # -- what the user does ----------------------------------------------------------------------------------

    @on(LogPane.Scrolled)
    def _scrolled(self) -> None:
        self.refresh_view()

    def action_which(self) -> None:
        shown = SHOWN[(SHOWN.index(self.lines.shown) + 1) % len(SHOWN)]
        self.lines.show_log(shown)
        self._follow_shown()
        self.refresh_view()

    def action_follow(self) -> None:
        self.lines.follow()
        self.refresh_view()

    def action_level(self) -> None:
        self.lines.step_least()
        self.refresh_view()

    def action_wrap(self) -> None:
        pane = self.query_one(LogPane)
        pane.wraps = not pane.wraps
        self.refresh_view()

    def action_copy(self) -> None:
        seen = self.query_one(LogPane).entries_seen()
        self.main.copy("\n".join(entry.text for entry in seen), f"{len(seen)} lines")

    @on(Input.Changed)
    def _filter_changed(self, event: Input.Changed) -> None:
        self.lines.set_filter(event.value)
        self.refresh_view()

    def focus_body(self) -> None:
        self.query_one(LogPane).focus()

    def action_back(self) -> None:
        """Escape: first the filter goes, then the page."""
        if self.has_class("-filtering") or self.lines.filter:
            self.query_one(PageFilter).value = ""
            self.lines.set_filter("")
            self.action_leave_filter()
            self.refresh_view()
            return
        super().action_back()
