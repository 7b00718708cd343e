"""Colours and signs: two designed themes, one for terminals with sixteen colours, and an alphabet for those
with only ASCII.

Nothing is told by colour alone: every state also has a word or a sign, so that NO_COLOR loses no information.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, cast

from rich.style import Style

from wsgitop.snapshot import Severity

if TYPE_CHECKING:
    from textual.theme import Theme
    from textual.widget import Widget


@dataclass(frozen=True)
class Palette:
    """The colours of one theme, as Rich and Textual both read them (``#rrggbb``, or the name of one of the
    sixteen)."""

    name: str
    dark: bool
    background: str
    raised: str
    """Behind the header and the footer."""
    text: str
    muted: str
    faint: str
    rule: str
    accent: str
    good: str
    warning: str
    error: str
    info: str
    cursor: str
    """Behind the selected row; empty: draw it reversed."""
    on_accent: str
    """Text upon a coloured ground."""
    rps: str
    p50: str
    p95: str
    p99: str
    busy: str
    queue: str
    cpu: str
    memory: str
    sixteen: bool = False

    def style(self, color: str, *, bold: bool = False, on: str = "") -> Style:
        """Text in one of the colours above, on the ground of the screen or on another."""
        return _style(getattr(self, color), bold, getattr(self, on) if on else self.background)

    def chip(self, color: str) -> Style:
        """A word upon a coloured ground. Reversed rather than set on a colour, so that it stands out
        without colour too."""
        return _chip(getattr(self, color), self.on_accent)

    def severity(self, severity: Severity) -> str:
        return "muted" if severity == "info" else severity

    def shade(self, color: str, share: float) -> Style:
        """The colour, faded into the background: ``share`` 1 is the colour itself. Sixteen colours do not
        fade."""
        full = getattr(self, color)
        if self.sixteen:
            return _style(full, False, self.background)
        return _style(blend(self.background, full, share), False, self.background)


@lru_cache(512)
def _style(color: str, bold: bool, background: str) -> Style:
    return Style(color=color, bold=bold or None, bgcolor=background)


@lru_cache(64)
def _chip(color: str, text: str) -> Style:
    return Style(color=color, bgcolor=text, bold=True, reverse=True)


@lru_cache(512)
def blend(low: str, high: str, share: float) -> str:
    """The colour between two of ``#rrggbb``: ``share`` 0 is the first, 1 the second."""
    pairs = zip(bytes.fromhex(low[1:]), bytes.fromhex(high[1:]), strict=True)
    return "#" + bytes(round(a + (b - a) * share) for a, b in pairs).hex()


DARK = Palette(
    name="wsgitop-dark",
    dark=True,
    background="#0d1117",
    raised="#161c26",
    text="#d8dee9",
    muted="#8b97a8",
    faint="#6b7584",
    rule="#2b3443",
    accent="#4cc2ff",
    good="#5fd7a0",
    warning="#f2b94b",
    error="#ff6f74",
    info="#6fb7ff",
    cursor="#1d2c42",
    on_accent="#0d1117",
    rps="#4cc2ff",
    p50="#49d3bb",
    p95="#d9a441",
    p99="#b5606c",
    busy="#9d8cff",
    queue="#ff6f74",
    cpu="#7ddc7f",
    memory="#d28cf0",
)

LIGHT = Palette(
    name="wsgitop-light",
    dark=False,
    background="#fcfcfa",
    raised="#eceef1",
    text="#1c2430",
    muted="#5c6777",
    faint="#7a8391",
    rule="#cdd4dd",
    accent="#0a6ebd",
    good="#17703f",
    warning="#8a5600",
    error="#c62f3b",
    info="#2468b5",
    cursor="#d9e8f8",
    on_accent="#ffffff",
    rps="#1582d4",
    p50="#0f9a86",
    p95="#c68413",
    p99="#c37c81",
    busy="#6f5be0",
    queue="#d8404b",
    cpu="#2b8a3e",
    memory="#a04fc4",
)

ANSI = Palette(
    name="wsgitop-ansi",
    dark=True,
    background="default",
    raised="default",
    text="default",
    muted="default",
    faint="bright_black",
    rule="bright_black",
    accent="cyan",
    good="green",
    warning="yellow",
    error="red",
    info="blue",
    cursor="",
    on_accent="default",
    rps="cyan",
    p50="green",
    p95="yellow",
    p99="red",
    busy="magenta",
    queue="red",
    cpu="green",
    memory="magenta",
    sixteen=True,
)


@dataclass(frozen=True)
class Signs:
    """The signs the screens are drawn with. ``levels`` goes from nothing to a full cell, ``frame`` is
    top left, top right, bottom left, bottom right, horizontal, vertical."""

    levels: str
    shades: str
    """The full cells of the first, second and third series where colours cannot tell them apart."""
    frame: str
    live: str
    stale: str
    paused: str
    cursor: str
    marked: str
    good: str
    bad: str
    warning: str
    info: str
    running: str
    down: str
    up: str
    dot: str
    ellipsis: str
    arrow: str
    dash: str

    def severity(self, severity: Severity) -> str:
        return {"info": self.info, "good": self.good, "warning": self.warning, "error": self.bad}[severity]


UNICODE_SIGNS = Signs(
    levels=" ▁▂▃▄▅▆▇█",
    shades="█▒░",
    frame="╭╮╰╯─│",
    live="●",
    stale="○",
    paused="‖",
    cursor="▸",
    marked="◆",
    good="✓",
    bad="✗",
    warning="!",
    info="·",
    running="»",
    down="▼",
    up="▲",
    dot="·",
    ellipsis="…",
    arrow="→",
    dash="–",
)

ASCII_SIGNS = Signs(
    levels=" ..::||##",
    shades="#=-",
    frame="++++-|",
    live="*",
    stale="o",
    paused="=",
    cursor=">",
    marked="*",
    good="+",
    bad="x",
    warning="!",
    info="-",
    running=">",
    down="v",
    up="^",
    dot="|",
    ellipsis="~",
    arrow=">",
    dash="-",
)


@dataclass(frozen=True)
class Look:
    """All that drawing needs to know of the terminal."""

    palette: Palette = DARK
    signs: Signs = UNICODE_SIGNS
    color: bool = True
    """False under NO_COLOR: then series are told apart by shade."""

    @property
    def is_ascii(self) -> bool:
        return self.signs is ASCII_SIGNS

    def plain(self, text: str) -> str:
        """Text of our own in the alphabet of the terminal; text from outside only loses what has no ASCII
        sign."""
        if not self.is_ascii or text.isascii():
            return text
        return text.translate(_TO_ASCII).encode("ascii", "replace").decode()


_TO_ASCII = str.maketrans(
    {"–": "-", "…": "~", "→": ">", "·": "|", "×": "x", "≥": ">", "▸": ">", "▶": ">", "▼": "v", "▲": "^"}
)


class _HasLook(Protocol):
    look: Look


def look_of(widget: Widget) -> Look:
    """The look of the application a widget belongs to."""
    return cast("_HasLook", widget.app).look


def textual_theme(palette: Palette) -> Theme:
    """The same colours for the widgets that Textual draws itself: dialogs, buttons, the palette, scroll
    bars."""
    from textual.theme import BUILTIN_THEMES, Theme

    if palette.sixteen:
        base = BUILTIN_THEMES["ansi-dark"]
        return Theme(
            name=palette.name,
            primary=base.primary,
            secondary=base.secondary,
            warning=base.warning,
            error=base.error,
            success=base.success,
            accent="ansi_cyan",
            foreground=base.foreground,
            background=base.background,
            surface=base.surface,
            panel=base.panel,
            boost=base.boost,
            dark=True,
            ansi=True,
            variables={
                **base.variables,
                "rule": "ansi_bright_black",
                "raised": "ansi_default",
                "block-cursor-background": "ansi_blue",
                "block-cursor-foreground": "ansi_bright_white",
                "block-cursor-text-style": "bold",
            },
        )
    return Theme(
        name=palette.name,
        primary=palette.accent,
        secondary=palette.info,
        warning=palette.warning,
        error=palette.error,
        success=palette.good,
        accent=palette.accent,
        foreground=palette.text,
        background=palette.background,
        surface=palette.raised,
        panel=palette.raised,
        dark=palette.dark,
        variables={
            "rule": palette.rule,
            "raised": palette.raised,
            # The marked row of a menu, as that of the tables: its words keep their colours.
            "block-cursor-background": palette.cursor,
            "block-cursor-foreground": palette.text,
            "block-cursor-text-style": "bold",
            "button-focus-text-style": "bold",
            "button-color-foreground": palette.text,
            "scrollbar": palette.rule,
            "scrollbar-hover": palette.faint,
            "scrollbar-active": palette.accent,
            "scrollbar-background": palette.background,
            "scrollbar-background-hover": palette.background,
            "scrollbar-background-active": palette.background,
            "scrollbar-corner-color": palette.background,
        },
    )
