"""The page of the requests: what it shows, and its keys."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.tui.drive import Driver, driving
from tests.tui.fake import SLOWEST, FakeServer, FakeSource, worker
from tests.tui.test_screens import ASCII, DARK_LOOK, compare, draw
from wsgitop.control.messages import Cancelled
from wsgitop.errors import ActionFailed, CannotConnect, Refused, WsgitopError
from wsgitop.snapshot import InFlight
from wsgitop.tui.model import Model
from wsgitop.tui.operations import Operations
from wsgitop.tui.screens.requests import Requests
from wsgitop.tui.screens.worker import Worker
from wsgitop.tui.widgets.listing import Listing
from wsgitop.tui.widgets.text_pane import TextPane

pytestmark = pytest.mark.tui


async def opened(driver: Driver) -> Requests:
    await driver.press("r")
    page = driver.app.screen
    assert isinstance(page, Requests)
    await driver.until(lambda: page.lists["slowest"].listed().rows)
    return page


def paths(page: Requests) -> list[str]:
    return [flight.told.request.path for flight in page.lists["flights"].listed().rows]


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_looks(size: tuple[int, int]) -> None:
    compare(f"requests-{size[0]}x{size[1]}", asyncio.run(draw(size, DARK_LOOK, "r", "j")))


def test_in_ascii() -> None:
    assert asyncio.run(draw((100, 36), ASCII, "r", "tab")).isascii()


def test_nothing_in_flight() -> None:
    server = FakeServer(number=0)
    server.slowest = ()
    text = asyncio.run(draw((80, 24), DARK_LOOK, "r", "c", "y", "enter", server=server))
    assert "nothing is in flight" in text and "nothing has finished in the last 15 minutes" in text
    assert "nothing copied" in text


def test_keys() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            page = await opened(driver)
            oldest = page.lists["flights"].listed().selected
            assert oldest.told.request.path == "/report/2024?full=1", "the oldest first"
            assert "oldest 12.4s" in driver.text
            await driver.press("j", "y")
            assert "copied the path /checkout/pay" in driver.said()
            assert driver.app.clipboard == "/checkout/pay"
            assert "GET /checkout/pay" in page.query_one(TextPane).plain
            await driver.press("s")
            assert page.lists["flights"].listed().sort == "method"
            assert page.lists["slowest"].listed().sort == "elapsed", "the other list stays as it is"
            await driver.press("I", "less_than_sign", "tab", "y")
            assert driver.app.clipboard == "/report/2024"
            assert "status 504, cut" in page.query_one(TextPane).plain
            await driver.press("c")
            assert "this request has finished" in driver.said()
            await driver.press("enter")
            assert "worker 5 (pid 4199) is not there any more" in driver.said()
            await driver.press("slash", *"report")
            assert paths(page) == ["/report/2024?full=1"]
            assert len(page.lists["slowest"].listed().rows) == 2, "the filter is for both"
            await driver.press("enter")
            assert driver.app.focused is page.query_one("#slowest", Listing)
            await driver.press("escape")
            assert len(paths(page)) > 1 and len(page.lists["slowest"].listed().rows) == 3
            await driver.press("tab")
            assert isinstance(driver.app.focused, TextPane)
            await driver.press("escape")
            assert driver.app.screen is driver.app.overview
            await driver.press("3")
            assert isinstance(driver.app.screen, Requests)

    asyncio.run(scenario())


@pytest.mark.parametrize("in_list", ["flights", "slowest"])
def test_enter_opens_the_worker(in_list: str) -> None:
    async def scenario() -> None:
        async with driving() as driver:
            driver.app.model.set_filter("idle")
            page = await opened(driver)
            wanted = 4253
            if in_list == "slowest":
                await driver.press("tab", "j")  # the one that worker 3 has served
            await driver.press("enter")
            await driver.until(lambda: driver.app.screen is not page)
            opened_page = driver.app.screen
            assert isinstance(opened_page, Worker)
            assert opened_page.watched.target is not None and opened_page.watched.target[0] == wanted
            await driver.press("escape", "escape")
            await driver.until(lambda: driver.selected_pid == wanted, "a filter does not hide it")

    asyncio.run(scenario())


def test_s_shows_where_the_request_is_in_the_code() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            page = await opened(driver)
            await driver.press("j", "S")
            flight = page.lists["flights"].listed().selected
            worker = driver.app.screen
            assert isinstance(worker, Worker) and worker.part == "stack"
            assert (worker.watched.target, worker.watched.thread) == (
                flight.worker, flight.told.request.thread,
            )  # fmt: skip

    asyncio.run(scenario())


def test_a_click_on_the_other_list_chooses_there() -> None:
    async def scenario() -> None:
        async with driving() as driver:
            page = await opened(driver)
            y = next(number for number, line in enumerate(driver.lines) if "/report/2023" in line)
            await driver.pilot.click(offset=(20, y))
            await driver.pilot.pause()
            assert page.rows is page.lists["slowest"]
            assert page.rows.listed().selected == SLOWEST[0]

    asyncio.run(scenario())


def test_ages_go_on_and_stand_still_when_paused_or_lost() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with driving(server) as driver:
            page = await opened(driver)
            server.clock.pass_s(1.5)
            page._count_on()
            assert page.lists["flights"].listed().rows[0].elapsed_s == pytest.approx(13.9)
            await driver.press("p")
            server.clock.pass_s(60)
            page.refresh_ages()
            assert "oldest 13.9s" in driver.text
            await driver.press("p")
            await driver.until(lambda: "oldest 73.9s" in driver.text)
            server.cut()
            await driver.until(lambda: page.view.stale_s is not None)
            server.clock.pass_s(60)
            page.refresh_ages()
            await driver.pilot.pause()
            assert "oldest 73.9s" in driver.text and "stale" in driver.text
            await driver.press("c")
            await driver.dialog("Confirm")
            await driver.press("y")
            await driver.until(lambda: "not cut: no connection" in driver.said())

    asyncio.run(scenario())


def test_a_question_that_fails_is_said_and_what_was_there_stays() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with driving(server) as driver:
            page = await opened(driver)
            server.question_fault = CannotConnect("the link is gone")
            page.ask_soon()
            await driver.until(lambda: "the link is gone" in driver.text)
            assert paths(page)

    asyncio.run(scenario())


def test_cancelling_asks_with_the_target_as_it_was() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with driving(server) as driver:
            await opened(driver)
            await driver.press("c")
            await driver.dialog("Confirm")
            for text in ("GET /report/2024?full=1", "12.4s when this opened", "pid 4253", "203.0.113.3"):
                assert text in driver.text
            # Meanwhile the worker turns to another request: it is not that one that is cut.
            other = InFlight(0, "GET", "/other", "203.0.113.9:1", 40.0, 3999)
            successor = msgspec.structs.replace(worker(3, "stuck"), in_flight=(other,))
            server.make = lambda: msgspec.structs.replace(
                FakeServer().make(), sequence=server.sequence, at=server.clock.now, workers=(successor,)
            )
            await driver.tick()
            await driver.press("tab", "enter")
            await driver.until(lambda: server.calls)
            assert server.calls == [("cancel", 4253, worker(3).started_at, 0, 3001)]
            await driver.until(lambda: "answered 503, but its thread still runs it" in driver.said())
            await driver.press("c")
            await driver.dialog("Confirm")
            await driver.press("enter")
            await driver.until(lambda: "not cut: cancelled" in driver.said())
            assert len(server.calls) == 1

    asyncio.run(scenario())


def cut(server: FakeServer, request: int = 3001) -> str:
    """What is said about cutting a request, without a screen."""
    model = Model(clock=server.clock, wall=server.clock)
    operations = Operations(model, server.source, changed=lambda: None, failure=lambda *_: None)
    asyncio.run(operations.cancel(3, (4253, 1.0), 0, request, "GET /"))
    (saying,) = model.view().sayings
    return f"{saying.severity}: {saying.text}"


@pytest.mark.parametrize(
    ("end", "answered", "said"),
    [
        ("finished", False, "info: GET / was cut"),
        ("finished", True, "good: answered 503, and the application has ended by itself: GET / of worker 3"),
        ("raised", False, "good: broken off, and the application has ended by an exception: GET / of"),
        ("disconnected", False, "warning: broken off, but its thread still runs it; worker 3 is replaced if"),
    ],
)
def test_what_came_of_it(end: str, answered: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeSource.cancel

    async def cancel(self: FakeSource, *args: int, **kwargs: float) -> Cancelled:
        done = await real(self, *args, **kwargs)  # type: ignore[arg-type] # passed through
        return msgspec.structs.replace(done, end=end, answered=answered)

    monkeypatch.setattr(FakeSource, "cancel", cancel)
    assert cut(FakeServer()).startswith(said)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Refused("the master refuses this to you"), "not cut: the master refuses this to you"),
        (ActionFailed("there is no worker with pid 4253"), "not cut: there is no worker with pid 4253"),
        (CannotConnect("the master closed the connection"), "not cut, or not known: the connection was lost"),
    ],
)
def test_a_cancellation_that_fails_says_why(fault: WsgitopError, said: str) -> None:
    server = FakeServer()
    server.failure = fault
    assert cut(server).startswith(f"error: {said}")


def test_a_request_without_a_number_cannot_be_named() -> None:
    server = FakeServer()
    assert cut(server, 0).startswith("error: not cut: the server does not say which request GET / is")
    assert server.calls == []


def test_a_viewer_cannot_cancel() -> None:
    async def scenario() -> None:
        async with driving(FakeServer(role="viewer")) as driver:
            page = await opened(driver)
            assert page.check_action("cancel", ()) is None
            await driver.press("c")
            assert "cancelling is for operators" in driver.said()
            assert driver.app.screen is page

    asyncio.run(scenario())
