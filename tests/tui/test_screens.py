"""What the screens look like, as text beside this file; ``WSGITOP_DRAW=1`` draws them anew.

Colours are left to other tests: text tells what is where, and survives a change of theme.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.tui.drive import driving
from tests.tui.fake import FakeServer, snapshot, worker
from wsgitop.errors import ActionFailed
from wsgitop.tui.theme import ANSI, ASCII_SIGNS, DARK, LIGHT, Look

pytestmark = pytest.mark.tui

SCREENS = Path(__file__).parent / "screens"

DARK_LOOK, LIGHT_LOOK = Look(palette=DARK), Look(palette=LIGHT)
PLAIN = Look(palette=ANSI, color=False)
ASCII = Look(palette=ANSI, signs=ASCII_SIGNS, color=False)

SIZES = [(60, 15), (80, 24), (100, 30), (120, 40), (200, 60)]


def compare(name: str, text: str) -> None:
    path = SCREENS / f"{name}.txt"
    if os.environ.get("WSGITOP_DRAW"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


async def draw(size: tuple[int, int], look: Look, *keys: str, server: FakeServer | None = None) -> str:
    async with driving(server, size=size, look=look) as driver:
        for _ in range(3):
            await driver.tick()
        await driver.press(*keys)
        lines = driver.lines
        assert len(lines) == size[1]
        return driver.text


@pytest.mark.every_python
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_overview(size: tuple[int, int]) -> None:
    text = asyncio.run(draw(size, DARK_LOOK))
    compare(f"overview-{size[0]}x{size[1]}", text)
    assert text.rstrip().endswith("? help  q quit"), "the way out is never cut"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_light_theme_says_the_same(size: tuple[int, int]) -> None:
    assert asyncio.run(draw(size, LIGHT_LOOK)) == (SCREENS / f"overview-{size[0]}x{size[1]}.txt").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_without_color(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario() -> None:
        async with driving(size=size, look=PLAIN) as driver:
            for _ in range(3):
                await driver.tick()
            compare(f"no-color-{size[0]}x{size[1]}", driver.text)
            strips = driver.app.screen._compositor.render_strips()
            colors = {
                color.name
                for strip in strips
                for segment in strip
                if segment.style is not None
                for color in (segment.style.color, segment.style.bgcolor)
                if color is not None
            }
            assert colors <= {"default"}
            reversed_lines = [
                strip.text
                for strip in strips
                if sum(part.cell_length for part in strip if part.style and part.style.reverse) > size[0] / 2
            ]
            assert len(reversed_lines) == 1, "the selected row, and only it, is reversed"
            assert "4251" in reversed_lines[0]

    asyncio.run(scenario())


def test_in_ascii() -> None:
    text = asyncio.run(draw((100, 30), ASCII))
    compare("ascii-100x30", text)
    assert text.isascii()


def test_a_dialog_in_ascii() -> None:
    assert asyncio.run(draw((100, 30), ASCII, "H")).isascii()


@pytest.mark.parametrize(
    ("name", "size", "keys"),
    [
        ("reload", (80, 24), ["H"]),
        ("signal-menu", (120, 40), ["j", "j", "x"]),
        ("signal-confirm", (80, 24), ["j", "j", "x", "k"]),
        ("filter", (80, 24), ["slash", "b", "u", "s"]),
        ("nothing-matches", (80, 24), ["slash", "z", "z", "z", "enter"]),
        ("paused", (60, 15), ["p"]),
    ],
)
def test_keys_and_dialogs(name: str, size: tuple[int, int], keys: list[str]) -> None:
    compare(name, asyncio.run(draw(size, DARK_LOOK, *keys)))


def test_a_failed_reload_shows_why() -> None:
    server = FakeServer()
    server.failure = ActionFailed(
        "generation 8 did not come up: shop.wsgi cannot be imported",
        "fix it and reload again; generation 7 goes on",
        detail='Traceback (most recent call last):\n  File "/srv/shop/settings.py", line 88\n'
        "[bold]DEBUG = Tru[/]\nNameError: name 'Tru' is not defined\n",
    )
    text = asyncio.run(draw((100, 30), DARK_LOOK, "H", "tab", "enter", server=server))
    compare("failed-reload", text)
    assert "[bold]DEBUG = Tru[/]" in text, "text is never taken for markup"


def test_the_alarms() -> None:
    server = FakeServer()
    server.make = lambda: snapshot(server.sequence, server.clock.now, 8, state="degraded", failed=True)
    compare("alarms", asyncio.run(draw((120, 15), DARK_LOOK, server=server)))


def test_before_two_samples_exist_figures_are_not_known() -> None:
    server = FakeServer()
    young = worker(
        1, "idle", rps=None, p50_ms=None, p95_ms=None, p99_ms=None, cpu_percent=None, rss_bytes=None
    )
    server.make = lambda: snapshot(server.sequence, server.clock.now, these=(young,))
    row = next(
        line for line in asyncio.run(draw((120, 40), DARK_LOOK, server=server)).split("\n") if "4251" in line
    )
    assert row.count("–") == 6  # RPS, p50, p95, CPU%, RSS, BEAT


@pytest.mark.parametrize("size", [(59, 24), (80, 14), (20, 5)])
def test_too_small(size: tuple[int, int]) -> None:
    text = asyncio.run(draw(size, DARK_LOOK))
    assert f"too small: {size[0]}×{size[1]}" in text
    assert "wsgitop needs 60×15" in text
    assert "4251" not in text


def test_growing_brings_the_screen_back() -> None:
    async def scenario() -> None:
        async with driving(size=(40, 10)) as driver:
            assert "too small" in driver.text
            await driver.pilot.resize_terminal(120, 40)
            await driver.pilot.pause()
            assert "too small" not in driver.text
            assert "4251" in driver.text
            await driver.pilot.resize_terminal(80, 24)
            await driver.pilot.pause()
            assert driver.text.rstrip().endswith("? help  q quit")

    asyncio.run(scenario())


def test_no_line_is_longer_than_the_screen_and_the_way_out_stays() -> None:
    async def scenario() -> None:
        async with driving(size=(60, 30)) as driver:
            for width in range(60, 220, 7):
                await driver.pilot.resize_terminal(width, 30)
                await driver.pilot.pause()
                assert all(
                    strip.cell_length == width for strip in driver.app.screen._compositor.render_strips()
                )
                assert driver.text.rstrip().endswith("? help  q quit")

    asyncio.run(scenario())
