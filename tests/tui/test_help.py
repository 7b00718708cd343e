"""The help knows every key, action, alarm and state, and can be read on any screen."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.drive import Driver
from tests.tui.fake import FakeServer
from tests.tui.test_keys import drive
from tests.tui.test_screens import ASCII, DARK_LOOK, compare, draw
from wsgitop.snapshot import WorkerState
from wsgitop.tui.actions import ACTIONS
from wsgitop.tui.alarms import KINDS
from wsgitop.tui.app import WsgitopApp, pages
from wsgitop.tui.screens.help import STATES, Topic, bindings_of, described, key_text, topics
from wsgitop.tui.screens.overview import Overview
from wsgitop.tui.screens.page import ListPage, Page
from wsgitop.tui.widgets.table import STATE_COLORS, WorkerTable

pytestmark = pytest.mark.tui


def told(found: tuple[list[Topic], list[Topic]]) -> set[tuple[str, str]]:
    return {(row.word, row.text) for half in found for topic in half for row in topic.rows}


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_looks(size: tuple[int, int]) -> None:
    compare(f"help-{size[0]}x{size[1]}", asyncio.run(draw(size, DARK_LOOK, "question_mark")))


def test_in_ascii() -> None:
    assert asyncio.run(draw((100, 60), ASCII, "question_mark")).isascii()


def test_the_help_names_every_key_of_every_screen() -> None:
    async def scenario(driver: Driver) -> None:
        words = told(topics(driver.app))
        expected = [*described(WsgitopApp.BINDINGS), *bindings_of(Overview), *bindings_of(WorkerTable)]
        for page in pages().values():
            expected += bindings_of(page, inherited=False)
        assert len(expected) > 30
        for binding in expected:
            assert (key_text(binding), binding.tooltip or binding.description) in words, binding.key

    drive(scenario)


def test_of_a_page_its_own_keys_come_first() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("d")
        todo, _ = topics(driver.app)
        assert todo[0].title == "Here: deaths"
        words = [row.word for row in todo[0].rows]
        assert words.count("Esc") == 1, "what a subclass binds anew counts once"
        assert {"y", "/", "s >"} <= set(words)
        assert todo[1].title == "Moving" and "↓ j" in {row.word for row in todo[1].rows}
        assert "On the page overview" in {topic.title for topic in todo}
        assert "On the page deaths" not in {topic.title for topic in todo}
        await driver.press("question_mark")
        await driver.dialog("Help")
        assert "Here: deaths" in driver.text

    drive(scenario)


def test_the_legends_are_complete() -> None:
    async def scenario(driver: Driver) -> None:
        words = told(topics(driver.app))
        for kind in KINDS.values():
            assert (kind.word, kind.help) in words
        for action in ACTIONS.values():
            assert action.keys or (f"m {action.key}", f"{action.name}: {action.summary}") in words
        assert set(STATES) == set(STATE_COLORS) == set(WorkerState.__args__)  # type: ignore[attr-defined]

    drive(scenario)


def test_it_scrolls_to_its_end_and_closes() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("question_mark")
        await driver.dialog("Help")
        before = driver.text
        await driver.press("j")
        assert driver.text != before
        await driver.press("k")
        assert driver.text == before
        await driver.press("end")
        await driver.until(lambda: "under way" in driver.text)
        for key in ("question_mark", "q", "enter", "escape"):
            await driver.press(key)
            await driver.until(lambda: driver.app.screen is driver.app.overview)
            await driver.press("question_mark")
            await driver.dialog("Help")

    drive(scenario, size=(60, 15))


def test_a_viewer_is_told_what_is_not_for_him() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("question_mark")
        await driver.dialog("Help")
        assert "You are a viewer here" in driver.text

    drive(scenario, FakeServer(role="viewer"))


def test_bindings_of_a_class_and_its_bases() -> None:
    own = {binding.key for binding in bindings_of(ListPage, inherited=False)}
    all_of_them = {binding.key for binding in bindings_of(ListPage)}
    assert own <= all_of_them
    assert {"escape"} == {binding.key for binding in bindings_of(Page)}
