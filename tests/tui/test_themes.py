"""All themes can be read, and can be chosen."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner
from textual.theme import BUILTIN_THEMES

from tests.tui.drive import Driver
from tests.tui.test_keys import drive
from tests.tui.test_screens import PLAIN
from wsgitop.cli.attach import command as attach
from wsgitop.cli.run import command as run
from wsgitop.errors import UsageError
from wsgitop.tui.terminal import look_for
from wsgitop.tui.theme import ANSI, DARK, LIGHT
from wsgitop.tui.themes import contrast, legible, luminance, names, palette_of, short_name

pytestmark = pytest.mark.tui

COLORFUL = [name for name in names() if not palette_of(name).sixteen]
WORDS = ("text", "muted", "accent", "good", "warning", "error", "info")
GRAPHS = ("rps", "p50", "p95", "p99", "busy", "queue", "cpu", "memory")


@pytest.mark.parametrize("name", COLORFUL)
def test_text_can_be_read(name: str) -> None:
    """WCAG 2 asks for 4.5:1, and for 3:1 of large text and graphs; labels that only repeat what a figure
    says, or are big, may be fainter."""
    palette = palette_of(name)
    for ground in (palette.background, palette.raised, palette.cursor):
        for word in WORDS:
            assert contrast(getattr(palette, word), ground) >= 4.2, (word, ground)
        assert contrast(palette.faint, ground) >= 3.0, ground
    for series in GRAPHS:
        assert contrast(getattr(palette, series), palette.background) >= 3.0, series
    for word in ("accent", "good", "warning", "error", "info"):
        assert contrast(getattr(palette, word), palette.on_accent) >= 4.5, word


def test_all_of_textuals_themes_are_there() -> None:
    for name, theme in BUILTIN_THEMES.items():
        palette = palette_of(name)
        assert palette is ANSI if theme.ansi else palette.dark is theme.dark
    assert set(BUILTIN_THEMES) - set(names()) == {"ansi-dark", "ansi-light"}
    assert names()[:3] == ("dark", "light", "ansi")
    assert [short_name(palette_of(name)) for name in names()] == list(names())


def test_an_unknown_theme_is_refused_with_the_names() -> None:
    with pytest.raises(UsageError) as caught:
        palette_of("pink")
    assert "no theme 'pink'" in caught.value.cause
    assert "dark, light, ansi" in caught.value.remedy and "nord" in caught.value.remedy


@pytest.mark.parametrize("command", [attach, run], ids=lambda command: command.name)
def test_the_option_is_checked_before_anything_is_started(command: object) -> None:
    result = CliRunner().invoke(command, ["--theme", "pink", "x"])  # type: ignore[arg-type]  # either command
    assert isinstance(result.exception, UsageError)


def test_contrast_and_luminance() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert luminance("#ffffff") == pytest.approx(1)
    assert legible("#808080", ["#000000"], 4.5) == "#808080", "what can be read stays as it is"
    assert legible("#202020", ["#000000"], 21) == "#ffffff"
    assert legible("#cccccc", ["#ffffff"], 4.5) < "#808080"


def test_the_environment_decides_unless_a_theme_is_asked_for() -> None:
    many, few = {"TERM": "xterm-256color"}, {"TERM": "xterm"}
    assert look_for(many, encoding="utf-8").palette is DARK
    assert look_for(few, encoding="utf-8").palette is ANSI
    assert look_for(few, encoding="utf-8", theme="nord").palette.name == "wsgitop-nord"
    assert look_for(many, encoding="utf-8", theme="ansi").palette is ANSI
    monochrome = look_for({**many, "NO_COLOR": "1"}, encoding="utf-8", theme="nord")
    assert monochrome.palette is ANSI and not monochrome.color


def grounds(driver: Driver) -> set[str]:
    return {
        segment.style.bgcolor.name
        for strip in driver.app.screen._compositor.render_strips()
        for segment in strip
        if segment.style is not None and segment.style.bgcolor is not None
    }


def test_t_goes_from_dark_to_light_and_back() -> None:
    async def scenario(driver: Driver) -> None:
        assert driver.app.look.palette is DARK
        await driver.press("T")
        assert driver.app.look.palette is LIGHT
        assert DARK.background not in grounds(driver) and LIGHT.background in grounds(driver)
        await driver.press("T")
        assert driver.app.look.palette is DARK
        assert "theme dark" in driver.said()

    drive(scenario)


@pytest.mark.parametrize("name", ["nord", "solarized-light"])
def test_the_palette_chooses_a_theme(name: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("colon")
        await driver.until(lambda: type(driver.app.screen).__name__ == "CommandPalette")
        await driver.press(*f"theme: {name}")
        await driver.until(lambda: f"theme: {name}" in driver.text)
        await driver.press("enter")
        await driver.until(lambda: driver.app.look.palette.name == f"wsgitop-{name}")
        assert palette_of(name).background in grounds(driver)
        assert not {DARK.background, DARK.raised} & grounds(driver)
        await driver.press("d")
        assert palette_of(name).background in grounds(driver), "pages too"

    drive(scenario)


def test_sixteen_colours_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")

    async def scenario(driver: Driver) -> None:
        await driver.press("T")
        assert driver.app.look.palette is ANSI
        assert "only sixteen colours here" in driver.said()

    drive(scenario, look=PLAIN)
