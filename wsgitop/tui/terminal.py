"""What the terminal can do, and what happens when it goes away."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Mapping

from wsgitop.errors import TerminalError
from wsgitop.tui.theme import ANSI, ASCII_SIGNS, DARK, LIGHT, UNICODE_SIGNS, Look, Palette
from wsgitop.tui.themes import palette_of

OTHER_WAYS = (
    "use `wsgitop ctl status` to see a running server, or `wsgitop demo --once` for one picture of the demo"
)

MANY_COLORS = ("256color", "direct", "kitty", "alacritty", "ghostty", "wezterm", "foot")
"""Marks of TERM values that mean more than sixteen colours."""


def require_terminal(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse what cannot show the interface.

    Raises TerminalError when input or output is not a terminal, or when TERM names one that only prints.
    """
    for stream, name in (
        (sys.__stdin__, "input"),
        (sys.__stdout__, "output"),
        (sys.__stderr__, "error output"),
    ):
        # Textual draws on the error output and reads the input; with the output redirected nobody meant to
        # see a screen.
        if stream is None or not _is_terminal(stream.fileno()):
            raise TerminalError(f"the {name} is not a terminal, and the interface needs one", OTHER_WAYS)
    term = environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        raise TerminalError(f"TERM is {term or 'not set'}: this terminal cannot move its cursor", OTHER_WAYS)


def _is_terminal(fileno: int) -> bool:
    try:
        return os.isatty(fileno)
    except OSError:
        return False


def look_for(
    environ: Mapping[str, str] = os.environ, *, encoding: str | None = None, theme: str = ""
) -> Look:
    """Colours and alphabet for a terminal, from what the environment says about it.

    NO_COLOR (https://no-color.org: present and not empty) wins, then ``theme``, which was asked for by name.
    Sixteen colours are assumed unless TERM or COLORTERM promise more; a light background is taken from
    COLORFGBG, which several terminals set. Raises UsageError for an unknown theme.
    """
    encoding = encoding if encoding is not None else getattr(sys.__stdout__, "encoding", None) or "ascii"
    signs = UNICODE_SIGNS if "utf" in encoding.lower() else ASCII_SIGNS
    no_color = bool(environ.get("NO_COLOR"))
    palette: Palette = (
        ANSI if no_color or not _has_many_colors(environ) else LIGHT if _is_light(environ) else DARK
    )
    if theme and not no_color:
        palette = palette_of(theme)
    return Look(palette=palette, signs=signs, color=not no_color)


def _has_many_colors(environ: Mapping[str, str]) -> bool:
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return True
    term = environ.get("TERM", "").lower()
    return any(mark in term for mark in MANY_COLORS)


def _is_light(environ: Mapping[str, str]) -> bool:
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return background.isdigit() and int(background) in (7, 15)


def end_with_terminal(fileno: int) -> None:
    """End the process when its terminal is gone, even if nobody sends SIGHUP (or it was set to be ignored).

    A daemon thread waits for the hang-up; it costs nothing until then. Without it the input thread would read
    end-of-file for ever, and the writing thread would block the interface. The process then dies of SIGHUP:
    there is no screen to restore, and whoever holds the other end of a pipe of ours learns of it from the
    kernel.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def wait() -> None:
        poll = select.poll()
        poll.register(fileno, 0)  # no events asked for: only hang-up and error are reported
        while not any(mask & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, mask in poll.poll()):
            pass
        os.kill(os.getpid(), signal.SIGHUP)

    threading.Thread(target=wait, name="wsgitop-terminal", daemon=True).start()
