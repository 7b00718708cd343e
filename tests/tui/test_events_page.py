"""The page of all events: what it shows, and its keys."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.drive import driving
from tests.tui.fake import EPOCH, EVENTS, FakeServer
from tests.tui.test_screens import ASCII, DARK_LOOK, compare, draw
from wsgitop.snapshot import Event
from wsgitop.tui.screens.events import Events, chosen, details
from wsgitop.tui.widgets.listing import Listing
from wsgitop.tui.widgets.text_pane import TextPane

pytestmark = pytest.mark.tui

ORDER = Event(
    sequence=7,
    at=EPOCH - 60,
    severity="info",
    kind="order",
    text="scale change=-1: 7 workers",
    actor="bob (pid 77)",
)


def with_order() -> FakeServer:
    server = FakeServer()
    server.known_events = (*EVENTS, ORDER)
    return server


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_looks(size: tuple[int, int]) -> None:
    text = asyncio.run(draw(size, DARK_LOOK, "a", "end", "k", server=with_order()))
    compare(f"events-{size[0]}x{size[1]}", text)


def test_in_ascii() -> None:
    assert asyncio.run(draw((80, 24), ASCII, "a", "j", server=with_order())).isascii()


def test_who_scaled_us_down_takes_two_keys() -> None:
    text = asyncio.run(draw((60, 15), DARK_LOOK, "a", "w", server=with_order()))
    assert "bob        scale change=-1: 7 workers" in text
    assert "alice      TTOU: 7 workers wanted" in text
    assert "respawned" not in text, "nobody caused that"


def test_keys() -> None:
    async def scenario() -> None:
        async with driving(with_order()) as driver:
            await driver.press("7")
            page = driver.app.screen
            assert isinstance(page, Events)
            listed = page.rows.listed()
            assert listed.rows[0] == listed.selected == ORDER, "the newest first, orders as well"
            assert len(listed.rows) == 7
            await driver.press("v")
            assert [event.severity for event in page.rows.listed().rows] == ["warning", "error"]
            assert "warnings and errors" in driver.text
            await driver.press("v")
            assert page.rows.listed().selected == EVENTS[1]
            assert "errors only" in driver.text
            assert "time.sleep(60)" in page.query_one(TextPane).plain
            await driver.press("y")
            assert "time.sleep(60)" in driver.app.clipboard
            await driver.press("enter")
            assert isinstance(driver.app.focused, TextPane)
            await driver.press("tab")
            assert isinstance(driver.app.focused, Listing)
            await driver.press("v", "w")
            assert {event.actor for event in page.rows.listed().rows} == {"alice", "bob (pid 77)"}
            await driver.press("w", "s")
            assert page.rows.listed().sort == "severity"
            assert page.rows.listed().rows[0] == EVENTS[1]
            await driver.press("I")
            assert page.rows.listed().rows[-1] == EVENTS[1]
            await driver.press("less_than_sign", "slash", *"scale alice", "enter")
            assert page.rows.listed().rows == (EVENTS[4], EVENTS[3])
            await driver.press("escape", "escape")
            assert driver.app.screen is driver.app.overview

    asyncio.run(scenario())


def test_the_newest_is_selected_until_one_goes_elsewhere_and_paused_it_stands() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with driving(server) as driver:
            await driver.press("a")
            page = driver.app.screen
            assert isinstance(page, Events)
            server.push(ORDER)
            await driver.until(lambda: page.rows.listed().selected == ORDER)
            await driver.press("j")
            server.clock.pass_s(5)
            newer = Event(sequence=8, at=server.clock.now, severity="good", kind="scale", text="8 serve")
            server.push(newer)
            await driver.until(lambda: page.rows.listed().rows[0] == newer)
            assert page.rows.listed().selected == EVENTS[5]
            await driver.press("p")
            server.push(Event(sequence=9, at=server.clock.now, severity="info", kind="x", text="meanwhile"))
            await driver.until(lambda: driver.app.model.last_sequence == 9)
            assert "meanwhile" not in driver.text
            await driver.press("p")
            assert "meanwhile" in driver.text
            server.cut()
            await driver.until(lambda: "lost the server" in driver.text)

    asyncio.run(scenario())


def test_the_strip_of_the_overview_leaves_out_orders_that_went_well() -> None:
    text = asyncio.run(draw((120, 40), DARK_LOOK, server=with_order()))
    assert "scale change=-1" not in text and "HUP: generation" in text


def test_which_events_are_chosen() -> None:
    assert chosen(EVENTS, "info", by_somebody=False) == EVENTS
    assert [event.sequence for event in chosen(EVENTS, "warning", by_somebody=True)] == [4]


def test_details_say_who_it_was() -> None:
    def text(event: Event) -> str:
        return "\n".join("".join(piece[0] for piece in line) for line in details(event))

    assert "who         bob (pid 77)" in text(ORDER)
    assert "the master by itself" in text(EVENTS[0])
    own = Event(sequence=0, at=EPOCH, severity="warning", kind="interface", text="lost the server")
    assert "this interface noticed it" in text(own) and "number" not in text(own)
