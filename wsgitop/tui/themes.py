"""The themes by name: the two designed ones, the terminal's own colours, and all that Textual brings.

A theme of Textual's has a dozen colours, made for widgets; ours needs more, and each must be legible on the
grounds that it is drawn on. :func:`derive` makes them, and moves those that are too close to their ground
towards white or black, as far as contrast asks for and no further (WCAG 2.2, 1.4.3 and 1.4.11).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from wsgitop.errors import UsageError
from wsgitop.tui.theme import ANSI, DARK, LIGHT, Palette, blend

if TYPE_CHECKING:
    from textual.theme import Theme

OWN = {"dark": DARK, "light": LIGHT, "ansi": ANSI}
TEXT_CONTRAST = 7.0
WORD_CONTRAST = 4.5
LEAST_CONTRAST = 3.0
"""For what repeats something that is told elsewhere, and for graphs."""
STEPS = 40


def names() -> tuple[str, ...]:
    """All themes by name, the designed ones first. Textual's own sixteen colours are our ``ansi``."""
    from textual.theme import BUILTIN_THEMES

    return (*OWN, *sorted(name for name, theme in BUILTIN_THEMES.items() if not theme.ansi))


@lru_cache
def palette_of(name: str) -> Palette:
    """The colours of a theme. Raises UsageError, which lists the names."""
    if name in OWN:
        return OWN[name]
    from textual.theme import BUILTIN_THEMES

    theme = BUILTIN_THEMES.get(name)
    if theme is None:
        raise UsageError(f"there is no theme {name!r}", f"Choose one of {', '.join(names())}.")
    return ANSI if theme.ansi else derive(theme)


def short_name(palette: Palette) -> str:
    """The name that :func:`palette_of` knows it by."""
    return next((name for name, own in OWN.items() if own is palette), palette.name.removeprefix("wsgitop-"))


def derive(theme: Theme) -> Palette:
    """Our colours out of a theme of Textual's that is not ``ansi``."""
    from textual.color import Color

    found = theme.to_color_system().generate()

    def color(name: str) -> str:
        return Color.parse(found[name]).hex6.lower()

    background, foreground = color("background"), color("foreground")
    raised = color("surface")
    if contrast(raised, background) < 1.08:
        raised = blend(background, foreground, 0.08)
    cursor = blend(background, color("primary"), 0.18)
    grounds = (background, raised, cursor)

    def word(own: str) -> str:
        return legible(own, grounds, WORD_CONTRAST)

    def graph(own: str) -> str:
        return legible(own, grounds, LEAST_CONTRAST)

    good, warning, error = (color(name) for name in ("success", "warning", "error"))
    primary, secondary, accent = (color(name) for name in ("primary", "secondary", "accent"))
    return Palette(
        name=f"wsgitop-{theme.name}",
        dark=theme.dark,
        background=background,
        raised=raised,
        text=legible(foreground, grounds, TEXT_CONTRAST),
        muted=word(blend(background, foreground, 0.65)),
        faint=graph(blend(background, foreground, 0.45)),
        rule=blend(background, foreground, 0.2),
        accent=word(primary),
        good=word(good),
        warning=word(warning),
        error=word(error),
        info=word(secondary),
        cursor=cursor,
        on_accent=background,
        rps=graph(primary),
        p50=graph(good),
        p95=graph(warning),
        p99=graph(error),
        busy=graph(secondary),
        queue=graph(error),
        cpu=graph(good),
        memory=graph(accent),
    )


def legible(color: str, grounds: Sequence[str], least: float) -> str:
    """The color, or the nearest one towards white or black that has this contrast on all the grounds."""
    light = luminance(grounds[0]) < 0.18  # where black and white contrast alike
    end = "#ffffff" if light else "#000000"
    for step in range(STEPS + 1):
        mixed = blend(color, end, step / STEPS)
        if all(contrast(mixed, ground) >= least for ground in grounds):
            return mixed
    return end


def luminance(color: str) -> float:
    """Relative luminance of ``#rrggbb``, 0 to 1 (WCAG 2.2)."""
    channels = [part / 255 for part in bytes.fromhex(color[1:])]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
