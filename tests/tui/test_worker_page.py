"""The page of one worker: what it shows, its keys, and what becomes of it when the worker ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from tests.tui.drive import Driver, driving
from tests.tui.fake import DEATHS, EPOCH, FakeServer, snapshot, worker
from tests.tui.test_screens import ASCII, DARK_LOOK, PLAIN, compare
from wsgitop.control.faults import TargetGone
from wsgitop.control.messages import Frame, StackResult, ThreadStack
from wsgitop.errors import ActionFailed, CannotConnect, Refused
from wsgitop.snapshot import InFlight, WorkerSnapshot
from wsgitop.tui.screens.deaths import Deaths
from wsgitop.tui.screens.worker import Worker
from wsgitop.tui.theme import Look
from wsgitop.tui.widgets.listing import Listing
from wsgitop.tui.widgets.text_pane import TextPane
from wsgitop.tui.worker_page import ALL

pytestmark = pytest.mark.tui

STUCK = ("j", "j")
"""To the worker that is stuck: the third."""


@asynccontextmanager
async def page_open(
    server: FakeServer | None = None, *keys: str, size: tuple[int, int] = (120, 40), look: Look = DARK_LOOK
) -> AsyncIterator[tuple[Driver, Worker]]:
    """The page, opened by ``keys`` from the overview, with what it asks for."""
    async with driving(server, size=size, look=look) as driver:
        for _ in range(3):
            await driver.tick()
        await driver.press(*(keys or (*STUCK, "enter")))
        page = driver.app.screen
        assert isinstance(page, Worker)
        operator = driver.server.role == "operator"
        await driver.until(lambda: page.watched.histogram is not None or page.watched.histogram_fault)
        await driver.until(lambda: not operator or page.watched.stack or page.watched.stack_fault)
        pane = page.query_one("#stack", TextPane)
        await driver.until(lambda: not pane.display or pane.max_scroll_y == 0 or pane.show_vertical_scrollbar)
        yield driver, page


def run(
    scenario: Callable[[Driver, Worker], Awaitable[None]],
    server: FakeServer | None = None,
    *keys: str,
    **more: Any,
) -> None:
    async def whole() -> None:
        async with page_open(server, *keys, **more) as (driver, page):
            await scenario(driver, page)

    asyncio.run(whole())


def asked(driver: Driver) -> list[tuple[object, ...]]:
    return [call for call in driver.server.calls if call[0] == "stack"]


def shown_stack(page: Worker) -> str:
    return page.query_one("#stack", TextPane).plain


async def replaced(driver: Driver, slot: int, *new: WorkerSnapshot) -> None:
    """The worker of a slot goes, others come."""
    server = driver.server
    kept = tuple(one for one in server.make().workers if one.slot != slot)
    server.make = lambda: snapshot(server.sequence, server.clock.now, these=(*kept, *new), pid=server.pid)
    await driver.tick()


# -- looks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "keys"),
    [
        ("60x15", (60, 15), (*STUCK, "enter")),
        ("60x15-stack", (60, 15), (*STUCK, "S")),
        ("80x24", (80, 24), (*STUCK, "enter")),
        ("80x24-latency", (80, 24), ("enter", "tab", "tab")),
        ("80x24-minute", (80, 24), ("enter", "tab", "tab", "tab")),
        ("80x24-lives", (80, 24), ("j", "j", "j", "j", "enter", "shift+tab")),
        ("120x40", (120, 40), (*STUCK, "enter")),
        ("200x60", (200, 60), ("j", "j", "j", "j", "enter")),
    ],
)
def test_looks(name: str, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    async def scenario(driver: Driver, _page: Worker) -> None:
        compare(f"worker-{name}", driver.text)
        assert driver.text.rstrip().endswith("? help  q quit")

    run(scenario, None, *keys, size=size)


def test_in_ascii() -> None:
    async def scenario(driver: Driver, _page: Worker) -> None:
        compare("worker-ascii-120x40", driver.text)
        assert driver.text.isascii()
        assert "> report  /srv/shop/views.py:17" in driver.text

    run(scenario, look=ASCII)


def test_without_color_the_calls_of_the_application_are_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(driver: Driver, _page: Worker) -> None:
        assert "▶ report  /srv/shop/views.py:17" in driver.text and "  readinto  socket.py" in driver.text

    run(scenario, look=PLAIN)


def test_every_size_has_its_figures_and_the_way_out() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        for width, height in [
            (60, 15),
            (300, 100),
            (60, 60),
            (200, 15),
            (99, 30),
            (100, 29),
            (100, 30),
            (120, 40),
        ]:
            await driver.pilot.resize_terminal(width, height)
            await driver.pilot.pause()
            assert len(driver.lines) == height
            assert "worker 3 · pid 4253" in driver.text and "STUCK 12s" in driver.text, (width, height)
            assert driver.text.rstrip().endswith("? help  q quit")
            for part in page.PARTS:
                page.go_to(part)
                await driver.pilot.pause()
                widget = page.query_one(f"#{part}")
                assert widget.has_focus and widget.region.height >= 4, (part, width, height)

    run(scenario)


# -- ways in and out -----------------------------------------------------------------------------------------


def test_ways_in() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            for keys, part in ((("enter",), "threads"), (("2",), "threads"), (("S",), "stack")):
                await driver.press("j", *keys)
                page = driver.app.screen
                assert isinstance(page, Worker)
                assert page.focused is not None and page.focused.id == part
                assert page.watched.worker is not None and page.watched.worker.pid == driver.selected_pid
                await driver.press("d", "2")
                assert driver.app.screen is page, "it comes to the top again"
                await driver.press("d", "S")
                assert driver.app.screen is page and page.part == "stack"
                await driver.press("escape")
                assert driver.app.screen is driver.app.overview

    asyncio.run(scenario())


def test_a_click_upon_the_selected_row_opens_it() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            y = next(index for index, line in enumerate(driver.lines) if "4253" in line)
            await driver.pilot.click(offset=(20, y))
            assert driver.app.screen is driver.app.overview and driver.selected_pid == 4253
            await driver.pilot.click(offset=(20, y))
            await driver.until(lambda: isinstance(driver.app.screen, Worker))

    asyncio.run(scenario())


def test_without_a_worker_it_says_so() -> None:
    async def scenario() -> None:
        server = FakeServer()
        server.make = lambda: snapshot(server.sequence, server.clock.now, these=())
        async with driving(server) as driver:
            for keys in (["2"], ["S"], ["c"], ["x"], ["n"], ["y"], ["enter"], ["space"], ["T"], ["L"]):
                await driver.press(*keys)
                await driver.tick()
            assert "nobody is selected" in driver.text and asked(driver) == []

    asyncio.run(scenario())


def test_other_pages_can_name_worker_and_thread() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        other = driver.server.make().workers[4]
        driver.app.open_worker((other.pid, other.started_at), 2, on_stack=True)
        await driver.until(lambda: page.watched.worker == other)
        assert (page.watched.thread, page.part) == (2, "stack")
        await driver.until(lambda: asked(driver)[-1] == ("stack", other.pid, other.started_at, 2))

    run(scenario)


# -- keys ----------------------------------------------------------------------------------------------------


def test_tab_goes_through_the_parts() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        went = []
        for _ in range(4):
            assert page.focused is not None
            went.append(page.focused.id)
            await driver.press("tab")
        assert went == ["threads", "stack", "lives", "threads"]
        await driver.pilot.resize_terminal(80, 24)
        went = []
        for _ in range(6):
            went.append(page.part)
            await driver.press("shift+tab")
        assert went == ["stack", "threads", "lives", "minute", "latency", "stack"]
        assert "Tab → stack" in driver.text

    run(scenario)


def test_space_and_enter_choose_a_thread_and_it_stays() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        one = page.watched.worker
        assert one is not None
        assert asked(driver)[0] == ("stack", one.pid, one.started_at, 0), "the thread with the oldest request"
        await driver.press("j")
        assert page.watched.thread == 0, "moving chooses nothing"
        for key, thread in (("space", 1), ("enter", 2)):
            before = len(asked(driver))
            await driver.press(key)
            assert page.watched.thread == thread
            await driver.until(partial(lambda before: len(asked(driver)) > before, before), "at once")
            assert asked(driver)[-1] == ("stack", one.pid, one.started_at, thread)
            await driver.tick()
            assert page.threads.listed().cursor == thread
            await driver.press("j")
        await driver.until(lambda: page.watched.stack is not None)
        assert "runs no Python code" in shown_stack(page), "the scripted server has no third thread"

    run(scenario)


def test_all_threads_and_libraries() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        assert "_get_response" in shown_stack(page)
        await driver.press("L")
        assert "_get_response" not in shown_stack(page) and "1 call in libraries" in shown_stack(page)
        assert "readinto" in shown_stack(page)
        await driver.press("T")
        await driver.until(lambda: "sentry-worker" in shown_stack(page))
        assert page.watched.thread == ALL and asked(driver)[-1][-1] is None
        await driver.press("c")
        assert "the thread" not in driver.said()
        await driver.press("escape", "T")
        await driver.until(lambda: "sentry-worker" not in shown_stack(page) and page.watched.stack)
        assert page.watched.thread == 0
        await driver.press("L")
        assert "_get_response" in shown_stack(page)

    run(scenario)


def test_copying() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        await driver.press("L", "y")
        assert "copied the stack" in driver.said()
        assert '/django/core/handlers/base.py", line 197, in _get_response' in driver.app.clipboard

    run(scenario)


def test_the_stack_stands_where_it_was_scrolled_to_or_at_its_end() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        pane = page.query_one("#stack", TextPane)

        async def deeper(extra: int) -> None:
            frames = tuple(Frame("/srv/a.py", n, f"f{n}", f"call{n}()", True) for n in range(40 + extra))
            driver.server.stack = lambda pid, thread: StackResult(
                3, pid, "watchdog", (ThreadStack("MainThread", frames, 0),)
            )
            page._ask_stack_soon()
            await driver.until(lambda: f"call{39 + extra}()" in pane.plain)

        await deeper(0)
        assert "call39()" in driver.text
        await deeper(5)
        assert "call44()" in driver.text, "it follows the innermost call"
        await driver.press("S", "home")
        await driver.until(lambda: pane.scroll_offset.y == 0)
        await deeper(9)
        assert pane.scroll_offset.y == 0 and "call0()" in driver.text

    run(scenario)


def test_cutting_a_request_asks_first_and_hits_no_other() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        one = page.watched.worker
        assert one is not None
        request = one.in_flight[0]
        await driver.press("c")
        await driver.dialog("Confirm")
        assert "GET /report/2024?full=1" in driver.text
        assert "pid 4253, generation 7, thread 0" in driver.text
        await driver.press("enter")
        assert "not cut: cancelled" in driver.said(), "the focus is on Cancel"
        await driver.press("c")
        await driver.dialog("Confirm")
        # Meanwhile the thread has gone on to another request.
        later = InFlight(0, "POST", "/pay", "", 0.1, 99)
        await replaced(driver, 3, worker(3, "busy", in_flight=(later,)))
        await driver.press("y")
        wanted = ("cancel", one.pid, one.started_at, 0, request.request)
        await driver.until(lambda: wanted in driver.server.calls)
        await driver.until(lambda: "was cut" in driver.said() or "503" in driver.said())

    run(scenario)


def test_a_cut_that_fails_is_told() -> None:
    async def scenario(driver: Driver, _page: Worker) -> None:
        faults = (TargetGone("pid 4253 has just ended"), Refused("for operators"), CannotConnect("link gone"))
        for fault in faults:
            driver.server.failure = fault
            await driver.press("c")
            await driver.dialog("Confirm")
            await driver.press("y")
            await driver.until(partial(lambda cause: cause in driver.said(), fault.cause))
            assert "not cut" in driver.said()

    run(scenario)


def test_there_may_be_nothing_to_cut() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        await driver.press("j", "c")
        assert "thread 1 serves no request" in driver.said()
        await driver.press("T", "tab", "c")
        assert "choose a thread first" in driver.said()
        await replaced(driver, 3)
        await driver.press("c")
        assert "not there any more" in driver.said()
        assert not any(call[0] == "cancel" for call in driver.server.calls)

    run(scenario)


def test_signals_go_to_this_worker() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        one = page.watched.worker
        assert one is not None
        driver.app.model.move_to(0)  # the overview's cursor is elsewhere by now
        await driver.press("x")
        await driver.until(lambda: type(driver.app.screen).__name__ == "SignalMenu")
        assert "pid 4253" in driver.text
        await driver.press("t")
        await driver.dialog("Confirm")
        await driver.press("y")
        await driver.until(lambda: ("signal", "TERM", one.pid, one.started_at) in driver.server.calls)
        assert [worker.pid for worker in driver.app.targets] == [4253], "the menu is about it too"
        await replaced(driver, 3)
        assert driver.app.targets == ()
        await driver.press("x")
        assert "no signal sent" in driver.said() and driver.app.screen is page

    run(scenario)


def test_an_end_in_the_list_leads_to_all_about_it() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        await driver.press("tab", "tab")
        assert page.part == "lives"
        await driver.until(lambda: len(page.lives.listed().rows) == 4)
        await driver.press("enter")
        assert "nothing more is known" in driver.said() and driver.app.screen is page
        await driver.press("j", "j", "enter")
        deaths = driver.app.screen
        assert isinstance(deaths, Deaths)
        await driver.until(lambda: deaths.rows.listed().rows)
        assert deaths.rows.listed().selected == DEATHS[1]
        await driver.press("escape")
        assert driver.app.screen is page

    run(scenario, None, "j", "j", "j", "j", "enter")


# -- when things end -----------------------------------------------------------------------------------------


def test_when_the_worker_ends_its_picture_stays_and_n_goes_on() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        await driver.press("n")
        assert "no successor: it is still there" in driver.said()
        await replaced(driver, 3)
        assert "ended: see deaths (d)" in driver.text and "GET /report/2024?full=1" in driver.text
        assert "its last" in driver.text and "▶ report" in driver.text
        await driver.press("n")
        assert "nobody has its slot yet" in driver.said()
        asked_before = len(asked(driver))
        page._ask_stack_soon()
        await driver.tick()
        assert len(asked(driver)) == asked_before, "there is nobody to ask"
        new = worker(3, "idle", pid=4300, started_at=EPOCH, age_s=2.0)
        await replaced(driver, 3, new)
        assert "n goes to pid 4300" in driver.text
        await driver.press("n")
        assert "this is worker 3, pid 4300, now" in driver.said()
        assert "worker 3 · pid 4300" in driver.text and "ended" not in driver.text
        await driver.until(lambda: asked(driver)[-1] == ("stack", 4300, EPOCH, 0))

    run(scenario)


def test_it_says_how_the_worker_ended_once_that_is_known() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        await replaced(driver, 5)
        await driver.until(lambda: "ended: timeout at 08:31:40: see deaths (d)" in driver.text)

    server = FakeServer()
    one = worker(5, "busy", pid=4199, started_at=EPOCH - 8500)
    server.make = lambda: snapshot(server.sequence, server.clock.now, these=(one,), pid=server.pid)
    run(scenario, server, "enter")


def test_the_link_is_lost_and_comes_back() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        driver.server.cut()
        await driver.until(lambda: page.has_class("-stale"))
        assert "▶ report" in driver.text and "worker 3 · pid 4253" in driver.text
        await driver.press("c")
        assert "STUCK" in driver.text
        await driver.press("escape")
        driver.server.come_back(driver.server.pid)
        await driver.until(lambda: not page.has_class("-stale"))
        await driver.tick()
        assert "ended" not in driver.text

    run(scenario)


# -- asking --------------------------------------------------------------------------------------------------


def test_nothing_is_asked_while_paused_or_covered_by_another_page() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        await driver.press("p")
        before = len(asked(driver))
        page._ask_stack_soon()
        await driver.tick()
        await driver.press("j", "enter")
        assert len(asked(driver)) == before and "paused" in shown_stack(page)
        await driver.press("p")
        page._ask_stack_soon()
        await driver.until(lambda: len(asked(driver)) > before)
        await driver.press("d")
        before = len(asked(driver))
        page._ask_stack_soon()
        await driver.until(lambda: not page._ask_now.is_set(), "it has come round")
        await driver.tick()
        assert len(asked(driver)) == before
        await driver.press("escape")
        await driver.until(lambda: len(asked(driver)) > before)

    run(scenario)


def test_a_stack_is_asked_for_at_most_once_a_second() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        def histograms() -> int:
            return sum(call[0] == "histogram" for call in driver.server.calls)

        page._stack_asked = asyncio.get_running_loop().time() + 60  # just now, and time stands still
        page._stack_wanted = False
        stacks, others = len(asked(driver)), histograms()
        for more in range(1, 4):
            page.ask_soon()
            await driver.until(partial(lambda wanted: histograms() >= wanted, others + more))
        assert len(asked(driver)) == stacks

    run(scenario)


def test_a_worker_that_had_to_be_dumped_is_not_asked_again_unless_the_user_wants() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        def histograms() -> int:
            return sum(call[0] == "histogram" for call in driver.server.calls)

        assert "taken by faulthandler" in driver.text and "line 7 in pay" in driver.text
        page._stack_asked = 0.0  # long ago
        stacks, others = len(asked(driver)), histograms()
        page.ask_soon()
        await driver.until(lambda: histograms() > others)
        assert len(asked(driver)) == stacks, "each look fills the log"
        for key in ("enter", "tab", "enter"):
            await driver.press(key)
        await driver.until(lambda: len(asked(driver)) == stacks + 2)

    server = FakeServer()
    server.stack = lambda pid, thread: StackResult(
        3, pid, "faulthandler", text='File "shop.py", line 7 in pay'
    )
    run(scenario, server)


def test_what_a_server_does_not_tell_is_said_in_its_place() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        await driver.until(lambda: "not shown: worker 3 (pid 4253) is stopped" in driver.text)
        assert "no such method" in driver.text
        assert len(page.lives.listed().rows) >= 1

    server = FakeServer()

    def no_stack(_pid: int, _thread: int | None) -> StackResult:
        raise ActionFailed("worker 3 (pid 4253) is stopped: it can show nothing")

    def no_histogram(_pid: int) -> Any:
        raise ActionFailed("no such method: 'histogram'")

    server.stack, server.histogram = no_stack, no_histogram
    run(scenario, server)


def test_a_question_without_an_answer_is_said_and_what_was_there_stays() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        driver.server.question_fault = CannotConnect("the link is gone")
        page.ask_soon()
        await driver.until(lambda: "the link is gone" in driver.text)
        assert "▶ report" in driver.text

    run(scenario)


def test_a_viewer_is_told_why_there_is_no_stack() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        assert "Stacks are for operators" in driver.text
        assert asked(driver) == []
        for key in ("c", "x"):
            await driver.press(key)
            assert "for operators" in driver.said() and driver.app.screen is page
        await driver.press("y")
        assert "nothing copied" in driver.said()

    run(scenario, FakeServer(role="viewer"))


def test_hostile_text_steers_nothing() -> None:
    evil = "/\x1b[2J[red]\u202e" + "x" * 300

    async def scenario(driver: Driver, page: Worker) -> None:
        await driver.until(lambda: "[red]" in shown_stack(page))
        assert "\x1b" not in driver.text and "\u202e" not in driver.text and "[red]" in driver.text
        await driver.press("c")
        await driver.dialog("Confirm")
        assert "\x1b" not in driver.text and "[red]" in driver.text

    server = FakeServer()
    frames = (Frame(evil, 1, evil, evil, True),)
    server.stack = lambda pid, thread: StackResult(1, pid, "watchdog", (ThreadStack(evil, frames, 0),))
    one = worker(1, "busy", in_flight=(InFlight(0, "GET", evil, evil, 3.0, 5),))
    server.make = lambda: snapshot(server.sequence, server.clock.now, these=(one,))
    run(scenario, server, "enter")


def test_the_help_and_clicks_in_the_list() -> None:
    async def scenario(driver: Driver, page: Worker) -> None:
        driver.app.action_help()
        await driver.until(lambda: type(driver.app.screen).__name__ == "Help")
        assert "Here: worker" in driver.text and "calls in libraries" in driver.text
        await driver.press("escape")
        listing = page.query_one("#threads", Listing)
        await driver.pilot.click(listing, offset=(20, 4))
        assert page.threads.listed().cursor == 2 and page.watched.thread == 0
        await driver.pilot.click(listing, offset=(20, 4))
        await driver.until(lambda: page.watched.thread == 2)

    run(scenario)
