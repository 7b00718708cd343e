"""The page of the settings: what it shows, when it asks, and its keys."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.tui.drive import driving
from tests.tui.fake import SETTINGS, FakeServer
from tests.tui.test_screens import ASCII, DARK_LOOK, compare, draw
from wsgitop.control.messages import SettingShown
from wsgitop.control.settings_shown import shown
from wsgitop.errors import CannotConnect
from wsgitop.settings.table import Settings
from wsgitop.snapshot import Snapshot
from wsgitop.tui.screens.settings import SettingsPage, details
from wsgitop.tui.widgets.text_pane import TextPane

pytestmark = pytest.mark.tui


def real() -> FakeServer:
    """A server with all settings that there are."""
    server = FakeServer()
    settings = Settings(
        wsgi_app="shop.wsgi:application", bind=("0.0.0.0:8000",), workers=8, raw_env=("DB_PASSWORD=x",)
    )
    file = "/srv/shop/gunicorn.conf.py"
    sources = {"wsgi_app": "command line", "bind": "command line", "workers": file, "raw_env": file}
    server.settings = shown(settings, sources)
    return server


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_looks(size: tuple[int, int]) -> None:
    text = asyncio.run(draw(size, DARK_LOOK, "o", "slash", "w", "o", "r", "k", "enter", server=real()))
    compare(f"settings-{size[0]}x{size[1]}", text)


def test_in_ascii() -> None:
    text = asyncio.run(draw((80, 24), ASCII, "o", server=real()))
    assert text.isascii()
    assert "DB_PASSWORD=(hidden)" in text


def test_keys() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            await driver.press("8")
            page = driver.app.screen
            assert isinstance(page, SettingsPage)
            await driver.until(lambda: page.rows.listed().rows)
            names = [one.name for one in page.rows.listed().rows]
            assert names == ["workers", "bind", "raw_env", "threads"], "changed ones first"
            assert "settings 4 · 3 changed" in driver.text
            await driver.press("C")
            assert len(page.rows.listed().rows) == 3
            assert "3 changed, only these" in driver.text
            await driver.press("C", "end")
            assert "comes from  its default" in page.query_one(TextPane).plain
            await driver.press("y")
            assert "Threads of each worker." in driver.app.clipboard
            await driver.press("s", "s")
            assert page.rows.listed().rows[0].name == "bind"
            await driver.press("enter")
            assert isinstance(driver.app.focused, TextPane)
            await driver.press("slash", *"--env", "enter")
            assert [one.name for one in page.rows.listed().rows] == ["raw_env"]
            await driver.press("escape", "escape")
            assert driver.app.screen is driver.app.overview

    asyncio.run(scenario())


def test_it_asks_once_and_again_after_a_reload() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with driving(server) as driver:
            await driver.press("o")
            page = driver.app.screen
            assert isinstance(page, SettingsPage)
            await driver.until(lambda: page.rows.listed().rows)
            server.settings = (*SETTINGS, SettingShown("new", "1", "0", "command line"))
            await driver.tick()
            await driver.tick()
            assert len(page.rows.listed().rows) == 4
            await driver.press("p")
            made = server.make
            server.make = lambda: _of_generation(made(), 8)
            await driver.tick()
            assert len(page.rows.listed().rows) == 4, "paused, it stands"
            await driver.press("p")
            await driver.until(lambda: len(page.rows.listed().rows) == 5)
            server.cut()
            await driver.until(lambda: not driver.app.model.is_connected)
            assert len(page.rows.listed().rows) == 5, "what was there stays"
            server.settings = SETTINGS[:1]
            server.come_back()
            await driver.until(lambda: len(page.rows.listed().rows) == 1)

    asyncio.run(scenario())


def _of_generation(picture: Snapshot, generation: int) -> Snapshot:
    return msgspec.structs.replace(
        picture, master=msgspec.structs.replace(picture.master, generation=generation)
    )


def test_a_question_that_fails_is_said_and_asked_again() -> None:
    async def scenario() -> None:
        server = FakeServer()
        server.question_fault = CannotConnect("the link is gone")
        async with driving(server) as driver:
            await driver.press("o")
            page = driver.app.screen
            assert isinstance(page, SettingsPage)
            await driver.until(lambda: "the link is gone" in driver.text)
            server.question_fault = None
            await driver.tick()
            await driver.until(lambda: len(page.rows.listed().rows) == 4)
            assert "the link is gone" not in driver.text

    asyncio.run(scenario())


def test_details_of_a_setting_without_flags_and_value() -> None:
    setting = SettingShown("post_fork", "", "", "", "Hooks", "Called in a worker.", ())
    text = "\n".join("".join(piece[0] for piece in line) for line in details(setting))
    assert "value       (empty)" in text and "flags       none" in text
