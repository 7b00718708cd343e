"""The page of the death ledger: what it shows, and its keys."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.drive import driving
from tests.tui.fake import DEATHS, FakeServer
from tests.tui.test_screens import ASCII, DARK_LOOK, compare, draw
from wsgitop.errors import CannotConnect
from wsgitop.tui.screens.deaths import Deaths, details
from wsgitop.tui.widgets.text_pane import TextPane

pytestmark = pytest.mark.tui


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_looks(size: tuple[int, int]) -> None:
    compare(f"deaths-{size[0]}x{size[1]}", asyncio.run(draw(size, DARK_LOOK, "d", "j")))


def test_in_ascii() -> None:
    assert asyncio.run(draw((100, 30), ASCII, "d", "j")).isascii()


def test_keys() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            await driver.press("d")
            page = driver.app.screen
            assert isinstance(page, Deaths)
            await driver.until(lambda: len(page.rows.listed().rows) == 3)
            assert page.rows.listed().selected == DEATHS[2], "the newest first"
            await driver.press("j")
            assert "GET /report/2024" in page.query_one(TextPane).plain
            await driver.press("y")
            assert "copied all about the selected end" in driver.said()
            assert "printed by the application" in driver.app.clipboard
            await driver.press("s", "s")
            assert page.rows.listed().sort == "slot" and page.rows.listed().selected == DEATHS[1]
            await driver.press("slash", *"zygote")
            assert [death.pid for death in page.rows.listed().rows] == [4100]
            await driver.press("escape")
            assert len(page.rows.listed().rows) == 3
            await driver.press("tab")
            assert isinstance(driver.app.focused, TextPane)
            await driver.press("escape")
            assert driver.app.screen is driver.app.overview

    asyncio.run(scenario())


def test_it_asks_again_and_not_while_paused() -> None:
    async def scenario() -> None:
        server = FakeServer()
        server.deaths = ()
        async with driving(server) as driver:
            await driver.press("d")
            page = driver.app.screen
            assert isinstance(page, Deaths)
            assert "nobody has died yet" in driver.text
            await driver.press("p")
            server.deaths = DEATHS
            page.ask_soon()
            await driver.tick()
            assert not page.rows.listed().rows
            await driver.press("p")
            page.ask_soon()
            await driver.until(lambda: page.rows.listed().rows)

    asyncio.run(scenario())


def test_a_question_that_fails_is_said_and_what_was_there_stays() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with driving(server) as driver:
            await driver.press("d")
            page = driver.app.screen
            assert isinstance(page, Deaths)
            await driver.until(lambda: page.rows.listed().rows)
            server.question_fault = CannotConnect("the link is gone")
            page.ask_soon()
            await driver.until(lambda: "the link is gone" in driver.text)
            assert len(page.rows.listed().rows) == 3

    asyncio.run(scenario())


def test_details_of_an_end_that_little_is_known_of() -> None:
    text = "\n".join("".join(piece[0] for piece in line) for line in details(DEATHS[0]))
    assert "status 1" in text and "served for –" in text and "It was serving" not in text


def test_news_before_the_page_is_set_up_wait_for_it() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            driver.app.action_open("deaths")
            driver.app.show()  # before any of its parts is there
            page = driver.app.screen
            assert isinstance(page, Deaths) and not page.is_set_up
            await driver.until(lambda: page.is_set_up and page.rows.listed().rows)
            driver.app.pop_screen()
            page.refresh_view()
            await driver.until(lambda: not page.is_set_up)
            page.refresh_view()

    asyncio.run(scenario())
