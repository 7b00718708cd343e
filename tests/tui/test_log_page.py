"""The page of the logs: what it shows, and its keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.tui.drive import Driver, driving
from tests.tui.fake import FakeServer
from tests.tui.test_screens import ASCII, DARK_LOOK, compare
from wsgitop.control.messages import LogLine
from wsgitop.errors import ActionFailed, Refused
from wsgitop.tui.screens.log import Log
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets.log_pane import LogPane, marked

pytestmark = pytest.mark.tui

ERROR_LINES = (
    "[2025-10-09 08:51:57 +0000] [4242] [INFO] HUP by alice: reload, loading generation 7",
    "[2025-10-09 08:51:58 +0000] [4251] [INFO] worker 1 serves",
    "[2025-10-09 08:52:40 +0000] [4253] [WARNING] GET /report/2024 takes longer than 5 s",
    "[2025-10-09 08:53:02 +0000] [4253] [ERROR] unhandled exception in GET /report/2024?full=1",
    "Traceback (most recent call last):",
    '  File "/srv/shop/views.py", line 17, in report',
    "    rows = fetch(month)",
    "KeyError: 'month'",
    "[2025-10-09 08:53:05 +0000] [4255] [DEBUG] cache: 812 hits, 3 misses",
    "[2025-10-09 08:53:11 +0000] [4242] [CRITICAL] worker 5 was killed by the kernel: out of memory",
)
ACCESS_LINES = (
    '203.0.113.5 - - [09/Oct/2025:08:52:58 +0000] "GET /cart HTTP/1.1" 200 512 "-" "Mozilla/5.0"',
    '203.0.113.7 - alice [09/Oct/2025:08:53:02 +0000] "GET /report/2024?full=1 HTTP/1.1" 500 162 "-" "curl"',
    '203.0.113.9 - - [09/Oct/2025:08:53:06 +0000] "GET /wp-login.php HTTP/1.1" 404 95 "-" "masscan/1.3"',
)


def serving() -> FakeServer:
    server = FakeServer()
    server.past_lines = {"error": ERROR_LINES, "access": ACCESS_LINES}
    return server


@asynccontextmanager
async def looking(
    server: FakeServer | None = None, *, size: tuple[int, int] = (120, 40), look: Look = DARK_LOOK
) -> AsyncIterator[tuple[Driver, Log]]:
    """The page, with what the error log had."""
    server = server or serving()
    async with driving(server, size=size, look=look) as driver:
        await driver.press("l")
        page = driver.app.screen
        assert isinstance(page, Log)
        if server.log_fault is None:
            await driver.until(lambda: page.lines.lines, "the past lines")
        yield driver, page


def more(server: FakeServer, *texts: str, dropped: int = 0) -> None:
    for text in texts:
        server.push(LogLine("error", f"[2025-10-09 08:54:00 +0000] [4251] [INFO] {text}", dropped))


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_looks(size: tuple[int, int]) -> None:
    async def scenario() -> None:
        async with looking(size=size) as (driver, page):
            await driver.press("a", "a")
            await driver.until(lambda: len(page.lines.lines) == 13)
            if size[0] < 100:
                await driver.press("w", "k")
            compare(f"log-{size[0]}x{size[1]}", driver.text)

    asyncio.run(scenario())


def test_in_ascii() -> None:
    async def scenario() -> None:
        async with looking(size=(80, 24), look=ASCII) as (driver, page):
            more(driver.server, "größer", dropped=3)
            await driver.until(lambda: page.lines.missed)
            await driver.press("p")
            assert driver.text.isascii()
            assert "3 lines were missed here" in driver.text

    asyncio.run(scenario())


def test_levels_keep_their_words_and_have_a_colour() -> None:
    async def scenario() -> None:
        async with looking() as (driver, _):
            strips = driver.app.screen._compositor.render_strips()
            colors = {
                segment.text.strip(): segment.style.color.name
                for strip in strips
                for segment in strip
                if segment.style is not None and segment.style.color is not None
            }
            palette = DARK_LOOK.palette
            assert colors["WARNING"] == palette.warning
            assert colors["ERROR"] == colors["CRITICAL"] == palette.error
            assert colors["KeyError: 'month'"] == palette.error, "a traceback belongs to its line"
            assert colors["worker 1 serves"] == palette.text

    asyncio.run(scenario())


def test_following_stops_where_one_looks_back() -> None:
    async def scenario() -> None:
        async with looking(size=(80, 15)) as (driver, page):
            server = driver.server
            more(server, *(f"line {n}" for n in range(20)))
            await driver.until(lambda: "line 19" in driver.text)
            await driver.press("k", "pageup")
            assert "line 19" not in driver.text and not page.lines.is_following
            before = driver.text
            more(server, "late", "later")
            await driver.until(lambda: page.lines.fresh == 2)
            assert "2 new lines · f follows" in driver.text
            assert driver.text.split("\n")[2:10] == before.split("\n")[2:10], "nothing moves"
            await driver.press("f")
            assert page.lines.is_following and "later" in driver.text
            await driver.press("home")
            assert "HUP by alice" in driver.text
            await driver.press("end")
            assert page.lines.is_following
            await driver.press("up", "up", "pagedown", "j")
            assert page.lines.is_following
            pane = page.query_one(LogPane)
            await driver.pilot._post_mouse_events([_wheel_up()], pane, offset=(5, 3))
            assert not page.lines.is_following
            await driver.press("down", "down", "down")
            assert page.lines.is_following

    asyncio.run(scenario())


def _wheel_up() -> type:
    from textual.events import MouseScrollUp

    return MouseScrollUp


def test_filter_and_level() -> None:
    async def scenario() -> None:
        async with looking() as (driver, page):
            await driver.press("slash", *"month")
            assert len(page.lines.lines) == 2
            assert "2 of 10 · filter month" in driver.text
            await driver.press("enter")
            assert isinstance(driver.app.focused, LogPane)
            await driver.press("v", "v", "v")
            assert "error or worse" in driver.text
            await driver.press("escape")
            assert len(page.lines.lines) == 6
            await driver.press("slash", *"!trace", "down")
            assert len(page.lines.lines) == 5
            await driver.press("slash", "escape", "v")
            assert len(page.lines.lines) == 10
            await driver.press("slash", *"zzz", "escape", "escape")
            assert driver.app.screen is driver.app.overview

    asyncio.run(scenario())


def test_what_to_do_where_nothing_is_shown() -> None:
    async def scenario() -> None:
        server = FakeServer()
        server.past_lines = {"error": ERROR_LINES[:2]}
        async with looking(server) as (driver, page):
            await driver.press("v", "v")
            assert "nothing is warning or worse; v shows more" in driver.text
            await driver.press("v", "v", "slash", *"zzz", "enter")
            assert "no line matches the filter; Esc clears it" in driver.text
            await driver.press("escape", "a")
            assert not page.lines.lines
            assert "nothing has been written yet" in driver.text
            await driver.press("y")
            assert "nothing copied" in driver.said()

    asyncio.run(scenario())


def test_long_lines_are_broken_or_moved_along() -> None:
    async def scenario() -> None:
        async with looking(size=(80, 24)) as (driver, page):
            more(driver.server, "begin " + "x" * 100 + " end")
            await driver.until(lambda: "begin" in driver.text)
            assert " end" not in driver.text
            await driver.press("w")
            assert "begin" in driver.text and " end" in driver.text
            await driver.press("right")
            assert "begin" in driver.text, "there is nothing at the side of broken lines"
            await driver.press("w", "right", "right", "right", "right")
            assert " end" in driver.text and "begin" not in driver.text
            await driver.press(*["right"] * 9)
            assert page.query_one(LogPane)._pan <= 160
            await driver.press(*["left"] * 9)
            assert "begin" in driver.text

    asyncio.run(scenario())


def test_copy_has_the_lines_as_they_were_written() -> None:
    async def scenario() -> None:
        async with looking() as (driver, _):
            await driver.press("y")
            assert driver.app.clipboard == "\n".join(ERROR_LINES)
            assert "copied 10 lines" in driver.said()

    asyncio.run(scenario())


def test_paused_the_picture_stands_and_lines_are_collected() -> None:
    async def scenario() -> None:
        async with looking() as (driver, page):
            await driver.press("p")
            more(driver.server, "while paused")
            await driver.until(lambda: page.lines.fresh == 1)
            assert "while paused" not in driver.text
            assert "paused · 1 line since" in driver.text
            await driver.press("slash", *"alice", "enter")
            assert len(page.lines.lines) == 1, "what is frozen can be filtered"
            await driver.press("escape", "p")
            assert "while paused" in driver.text

    asyncio.run(scenario())


def test_it_is_followed_while_it_is_seen_and_not_otherwise() -> None:
    async def scenario() -> None:
        async with looking() as (driver, page):
            server = driver.server
            assert server.follows == (True, False)
            await driver.press("a")
            await driver.until(lambda: server.follows == (False, True))
            await driver.press("a")
            await driver.until(lambda: server.follows == (True, True))
            await driver.press("question_mark")
            await driver.pilot.pause()
            assert server.follows == (True, True), "under the help it is still seen"
            await driver.press("escape", "d")
            await driver.until(lambda: server.follows == (False, False))
            await driver.press("escape")
            await driver.until(lambda: server.follows == (True, True))
            await driver.press("6")
            assert driver.app.screen is page
            await driver.press("escape")
            await driver.until(lambda: server.follows == (False, False))
            assert driver.app.screen is driver.app.overview

    asyncio.run(scenario())


def test_nothing_is_shown_twice_when_it_is_followed_anew() -> None:
    async def scenario() -> None:
        async with looking() as (driver, page):
            await driver.press("left_square_bracket")
            await driver.until(lambda: len(driver.server.intervals) == 3)
            more(driver.server, "after that")
            await driver.until(lambda: "after that" in driver.text)
            assert len(page.lines.lines) == 11

    asyncio.run(scenario())


def test_a_viewer_is_told_why_there_is_nothing() -> None:
    async def scenario() -> None:
        server = FakeServer(role="viewer")
        server.log_fault = Refused("the logs are for operators, and you are a viewer")
        async with looking(server) as (driver, _):
            await driver.until(lambda: "the logs are for operators" in driver.text)
            assert "Connect as the server's user" in driver.text
            await driver.tick()
            assert driver.app.model.is_connected, "all else goes on"
            await driver.press("a", "a")
            await driver.until(lambda: "the logs are for operators" in driver.text)

    asyncio.run(scenario())


def test_without_an_access_log_the_error_log_is_shown() -> None:
    async def scenario() -> None:
        server = serving()
        server.access_fault = ActionFailed("there is no access log", "Start it with --access-logfile FILE.")
        async with looking(server) as (driver, page):
            await driver.press("a")
            await driver.until(lambda: "there is no access log" in driver.text)
            assert "Start it with --access-logfile FILE. a: another log." in driver.text
            await driver.press("a")
            await driver.until(lambda: server.follows == (True, False))
            assert "there is no access log" in driver.text and "worker 1 serves" in driver.text
            more(server, "goes on")
            await driver.until(lambda: "goes on" in driver.text)
            await driver.press("a")
            assert "there is no access log" not in driver.text
            await driver.press("a")
            await driver.until(lambda: "there is no access log" in driver.text)
            server.access_fault = None
            server.cut()
            await driver.until(lambda: not driver.app.model.is_connected)
            assert "worker 1 serves" not in driver.text
            server.come_back()
            await driver.until(lambda: len(page.lines.lines) == 3)
            assert "there is no access log" not in driver.text, "another server may have one"

    asyncio.run(scenario())


def test_the_link_is_lost_and_what_there_was_stays() -> None:
    async def scenario() -> None:
        async with looking() as (driver, page):
            server = driver.server
            server.cut()
            await driver.until(lambda: "stale" in driver.text)
            assert "worker 1 serves" in driver.text
            server.past_lines = {"error": ("[2025-10-09 08:59:00 +0000] [5151] [INFO] here again",)}
            server.come_back()
            await driver.until(lambda: "here again" in driver.text)
            more(server, "and on")
            await driver.until(lambda: "and on" in driver.text)
            server.clock.pass_s(3)
            assert len(page.lines.lines) >= 12

    asyncio.run(scenario())


def test_the_theme_can_change() -> None:
    async def scenario() -> None:
        async with looking() as (driver, page):
            before = driver.text.splitlines()
            await driver.app.run_action("app.swap_theme")
            await driver.pilot.pause()
            after = driver.text.splitlines()
            assert "theme light" in after[-2]
            assert (after[:-2], after[-1]) == (before[:-2], before[-1])
            assert page.query_one(LogPane)._seen[0] is not None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("GET /a and /A", "/a", ["/a", "/A"]),
        ("abc", "!b", []),
        ("a.c abc", "a.c", ["a.c"]),
        ("aab", "a aa", ["aa"]),
        ("abc", "", []),
        ("", "x", []),
    ],
)
def test_words_of_the_filter_are_set_off(text: str, wanted: str, found: list[str]) -> None:
    pieces = marked(text, "text", wanted)
    assert [piece for piece, color, _ in pieces if color == "accent"] == found
    assert "".join(piece for piece, _, _ in pieces) == text
