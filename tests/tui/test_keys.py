"""Every key does what the help says, and says what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.tui.drive import Driver, driving
from tests.tui.fake import FakeServer, snapshot, worker, workers
from wsgitop.errors import ActionFailed, CannotConnect, Refused
from wsgitop.tui.actions import WORKER_SIGNALS
from wsgitop.tui.app import InterfaceResult
from wsgitop.tui.widgets.table import WorkerTable

pytestmark = pytest.mark.tui

Scenario = Callable[[Driver], Awaitable[None]]


def drive(
    scenario: Callable[[Driver], Awaitable[None]], server: FakeServer | None = None, **options: object
) -> Driver:
    async def run() -> Driver:
        async with driving(server or FakeServer(), **options) as driver:  # type: ignore[arg-type]  # passed through
            await scenario(driver)
        return driver

    return asyncio.run(run())


# -- moving -------------------------------------------------------------------------------------------------


def test_moving() -> None:
    async def scenario(driver: Driver) -> None:
        for key, pid in [
            ("j", 4252), ("down", 4253), ("k", 4252), ("up", 4251), ("up", 4251), ("end", 4258),
            ("home", 4251), ("pagedown", 4258), ("pageup", 4251),
        ]:  # fmt: skip
            await driver.press(key)
            assert driver.selected_pid == pid, key

    drive(scenario)


def test_a_thousand_workers_scroll_with_the_cursor() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("end")
        assert driver.selected_pid == 5250
        assert " 5250 " in driver.text
        await driver.press("pageup", "pageup")
        assert f" {driver.selected_pid} " in driver.text
        await driver.tick()
        assert f" {driver.selected_pid} " in driver.text
        await driver.press("home")
        assert " 4251 " in driver.text

    drive(scenario, FakeServer(number=1000))


def test_a_click_selects_and_a_click_on_a_heading_sorts() -> None:
    async def scenario(driver: Driver) -> None:
        table = driver.app.screen.query_one(WorkerTable)
        lines = driver.lines
        y = next(index for index, line in enumerate(lines) if "4254" in line)
        await driver.pilot.click(offset=(20, y))
        await driver.pilot.pause()
        assert driver.selected_pid == 4254
        heading = table.region.y + 1
        x = lines[heading].index("RPS")
        await driver.pilot.click(offset=(x, heading))
        await driver.pilot.pause()
        assert driver.app.model.sort == "rps"
        assert "RPS▼" in driver.lines[heading]
        assert driver.selected_pid == 4254

    drive(scenario)


# -- arranging ----------------------------------------------------------------------------------------------


def test_sorting() -> None:
    async def scenario(driver: Driver) -> None:
        for key, sort in [("s", "pid"), ("greater_than_sign", "generation"), ("less_than_sign", "pid")]:
            await driver.press(key)
            assert driver.app.model.sort == sort, key
        await driver.press("I")
        assert [row.pid for row in driver.app.overview.view.rows] == list(range(4258, 4250, -1))
        assert driver.selected_pid == 4251

    drive(scenario)


def test_the_filter_is_live_inverts_and_goes_away_with_escape() -> None:
    async def scenario(driver: Driver) -> None:
        def slots() -> list[int]:
            return [row.slot for row in driver.app.overview.view.rows]

        await driver.press("slash", *"idle")
        assert slots() == [2, 7]
        await driver.press("enter")
        assert isinstance(driver.app.focused, WorkerTable)
        assert slots() == [2, 7]
        await driver.press("slash", "home", "exclamation_mark")
        assert slots() == [1, 3, 4, 5, 6, 8]
        await driver.press("escape")
        assert slots() == list(range(1, 9))
        assert isinstance(driver.app.focused, WorkerTable)
        await driver.press("slash", "s", "q", "H", "plus")
        assert driver.app.model.filter == "sqH+", "keys are letters there"
        assert driver.server.calls == []

    drive(scenario)


def test_pause_freezes_and_goes_on() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("p")
        assert "PAUSED" in driver.lines[0]
        assert "paused" in driver.said()
        driver.server.number = 4
        await driver.tick()
        assert len(driver.app.overview.view.rows) == 8
        assert "resume" in driver.lines[-1]
        await driver.press("s", "I")
        assert driver.app.overview.view.rows[0].pid == 4258
        await driver.press("p")
        assert "LIVE" in driver.lines[0]
        assert len(driver.app.overview.view.rows) == 4

    drive(scenario)


def test_the_refresh_rate() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("right_square_bracket")
        await driver.until(lambda: driver.server.intervals == [1.0, 2.0])
        assert "every 2 s" in driver.lines[0]
        await driver.press(*["left_square_bracket"] * 5)
        await driver.until(lambda: driver.server.intervals[-1] == 0.25)
        assert "a picture every 0.25 s already" in driver.said()
        assert driver.server.connections == 1

    drive(scenario)


# -- what operators do --------------------------------------------------------------------------------------


def test_reload_asks_with_the_focus_on_cancel() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("H")
        await driver.dialog("Confirm")
        for words in ("shop.wsgi:application", "8 workers", "unix:/run/shop.sock", "pid 4242"):
            assert words in driver.text
        await driver.press("enter")
        await driver.until(lambda: driver.app.screen is driver.app.overview)
        assert driver.server.calls == []
        assert "not reloaded: cancelled" in driver.said()

    drive(scenario)


def test_reload_says_that_it_runs_and_how_it_ended() -> None:
    async def scenario(driver: Driver) -> None:
        driver.server.answer.clear()
        await driver.press("H")
        await driver.dialog("Confirm")
        await driver.press("tab", "enter")
        await driver.until(lambda: driver.server.calls)
        await driver.until(lambda: "reloading (g shows it)…" in driver.said())
        assert "reloading (g shows it)…" in driver.text
        await driver.press("j")
        assert driver.selected_pid == 4252, "the screen goes on meanwhile"
        driver.server.answer.set()
        await driver.until(lambda: "8/8 ready in 2.1 s" in driver.said())
        assert "reloading" not in driver.text
        assert driver.server.calls == [("reload",)]

    drive(scenario)


def test_a_failed_reload_shows_its_traceback_and_again_on_demand() -> None:
    server = FakeServer()
    server.failure = ActionFailed("generation 8 did not come up", "fix the code", detail="NameError: Tru")

    async def scenario(driver: Driver) -> None:
        await driver.press("H")
        await driver.dialog("Confirm")
        await driver.press("y")
        await driver.dialog("TextDialog")
        assert "NameError: Tru" in driver.text
        await driver.press("escape")
        await driver.until(lambda: driver.app.screen is driver.app.overview)
        assert "not reloaded: generation 8 did not come up; fix the code" in driver.said()
        await driver.press("v")
        await driver.dialog("TextDialog")
        assert "time.sleep(60)" in driver.text, "the newest event that has a detail"

    drive(scenario, server)


@pytest.mark.every_python
def test_scaling_acts_at_once_and_can_be_undone() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("plus")
        await driver.until(lambda: driver.said() == "scaled")
        await driver.press("minus")
        await driver.until(lambda: len(driver.server.calls) == 2)
        await driver.until(lambda: driver.said() == "scaled")
        assert driver.server.calls == [("scale", None, 1), ("scale", None, -1)]
        await driver.press("u")
        await driver.until(lambda: len(driver.server.calls) == 3)
        assert driver.server.calls[-1] == ("scale", 8, None)
        await driver.press("u")
        await driver.until(lambda: len(driver.server.calls) == 4)
        await driver.press("u")
        assert "nothing to undo" in driver.said()

    drive(scenario)


def test_one_worker_is_the_least() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("minus")
        assert "one worker is the least" in driver.said()
        assert driver.server.calls == []

    drive(scenario, FakeServer(number=1))


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            Refused("the master refuses this to you", "ask its owner"),
            "not scaled: the master refuses this to you; ask its owner",
        ),
        (
            ActionFailed("a reload is under way", "wait for it"),
            "not scaled: a reload is under way; wait for it",
        ),
        (
            CannotConnect("the master closed the connection"),
            "not scaled, or not known: the connection was lost meanwhile",
        ),
    ],
)
def test_what_fails_says_why_and_what_next(failure: Exception, said: str) -> None:
    server = FakeServer()
    server.failure = failure  # type: ignore[assignment]  # one of several kinds

    async def scenario(driver: Driver) -> None:
        await driver.press("plus")
        await driver.until(lambda: said in driver.said())
        await driver.press("u")
        assert "nothing to undo" in driver.said()

    drive(scenario, server)


# -- signals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "method"), [("z", "quarantine"), ("r", "release"), ("e", "retire")])
def test_quarantine_is_for_the_worker_of_the_menu(key: str, method: str) -> None:
    async def scenario(driver: Driver) -> None:
        chosen = driver.app.model.view().rows[2]
        await driver.press("j", "j", "x")
        await driver.dialog("SignalMenu")
        driver.app.model.sort_by("cpu")
        await driver.tick(5)
        await driver.press(key)
        await driver.until(lambda: driver.server.calls)
        assert driver.server.calls == [(method, chosen.pid, chosen.started_at)]

    server = FakeServer()
    if method == "release":
        server.make = lambda: snapshot(
            server.sequence,
            server.clock.now,
            these=(worker(1), worker(2, "idle"), worker(3, "quarantined"), worker(4)),
        )
    drive(scenario, server)


@pytest.mark.parametrize(
    "row", [row for row in WORKER_SIGNALS if row.name.isupper()], ids=lambda row: row.name
)
def test_signals_go_to_the_worker_of_the_menu(row: tuple[str, str, str, bool]) -> None:
    name, key = row[0], row[1]

    async def scenario(driver: Driver) -> None:
        chosen = workers(8)[2]
        await driver.press("j", "j", "x")
        await driver.dialog("SignalMenu")
        # While the menu is open the order changes under it: the target does not.
        driver.app.model.sort_by("cpu")
        await driver.tick(5)
        await driver.press(key)
        await driver.dialog("Confirm")
        assert f"Send {name} to worker 3, pid 4253" in driver.text
        await driver.press("tab", "enter")
        await driver.until(lambda: driver.server.calls)
        assert driver.server.calls == [("signal", name, chosen.pid, chosen.started_at)]
        await driver.until(lambda: f"{name} sent to 4253" in driver.said())

    drive(scenario)


def test_a_signal_is_not_sent_without_a_yes() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("x")
        await driver.dialog("SignalMenu")
        await driver.press("down", "enter")
        await driver.dialog("Confirm")
        await driver.press("enter")
        await driver.until(lambda: "QUIT not sent: cancelled" in driver.said())
        await driver.press("x")
        await driver.dialog("SignalMenu")
        await driver.press("escape")
        await driver.until(lambda: "no signal sent: cancelled" in driver.said())
        assert driver.server.calls == []

    drive(scenario)


def test_a_successor_with_the_same_pid_gets_nothing() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("x", "k")
        await driver.dialog("Confirm")
        successor = worker(1, started_at=driver.server.clock.now)
        driver.server.make = lambda: snapshot(
            driver.server.sequence, driver.server.clock.now, these=(successor,)
        )
        await driver.tick()
        await driver.press("y")
        await driver.until(lambda: "is not there any more" in driver.said())
        assert driver.server.calls == []

    drive(scenario)


# -- roles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["H", "plus", "minus", "u", "x"])
def test_a_viewer_is_told_why_not(key: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press(key)
        assert "is for operators" in driver.said() or "are for operators" in driver.said()
        assert driver.app.screen is driver.app.overview
        assert driver.server.calls == []
        assert driver.app.check_action("reload", ()) is None
        assert "viewer" in driver.lines[0]

    drive(scenario, FakeServer(role="viewer"))


# -- the server goes and comes back -------------------------------------------------------------------------


def test_a_lost_server_is_announced_and_found_again() -> None:
    async def scenario(driver: Driver) -> None:
        driver.server.cut()
        await driver.until(lambda: driver.app.overview.view.stale_s is not None)
        driver.server.clock.pass_s(4)
        driver.app.show()
        await driver.pilot.pause()
        assert "stale 4s" in driver.lines[1]
        assert "STALE 4s" in driver.lines[0]
        assert "4251" in driver.text, "the last picture stays"
        await driver.press("plus", "H")
        assert "no connection" in driver.said()
        driver.server.come_back(pid=5151)
        await driver.until(lambda: driver.app.overview.view.stale_s is None)
        await driver.until(lambda: "came back as pid 5151 (was 4242)" in driver.text)
        assert "LIVE" in driver.lines[0]

    drive(scenario)


def test_a_server_that_is_not_there_yet() -> None:
    server = FakeServer()
    server.up = False

    async def scenario(driver: Driver) -> None:
        await driver.until(lambda: driver.app.overview.view.stale_s is not None)
        assert "no master listens" in driver.text
        server.up = True
        await driver.until(lambda: driver.app.overview.view.snapshot is not None)
        assert "4251" in driver.text

    drive(scenario, server)


# -- the rest -----------------------------------------------------------------------------------------------


def test_copy_hands_over_the_pid() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("j", "y")
        assert driver.app.clipboard == "4252"
        assert "copied the pid of worker 2: 4252" in driver.said()

    drive(scenario)


def test_the_palette_knows_the_actions() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("colon")
        await driver.until(lambda: type(driver.app.screen).__name__ == "CommandPalette")
        await driver.press(*"freeze")
        await driver.until(lambda: "freeze the picture" in driver.text)
        assert "retire" not in driver.text, "no letters strewn over a help text"
        await driver.press("enter")
        await driver.until(lambda: driver.app.model.is_paused)

    drive(scenario)


@pytest.mark.parametrize(
    ("owns", "keys", "result"),
    [
        (False, ["q"], InterfaceResult("quit")),
        (False, ["ctrl+q"], InterfaceResult("quit")),
        (False, ["ctrl+c", "ctrl+c"], InterfaceResult("quit")),
        (False, ["ctrl+c", "tab", "enter"], InterfaceResult("quit")),
        (False, ["ctrl+c", "enter"], None),
        (True, ["q", "tab", "enter"], InterfaceResult("leave")),
        (True, ["q", "tab", "tab", "enter"], InterfaceResult("stop")),
        (True, ["q", "l"], InterfaceResult("leave")),
        (True, ["q", "enter"], None),
        (True, ["q", "escape"], None),
        (True, ["ctrl+c", "ctrl+c"], InterfaceResult("stop")),
    ],
)
def test_leaving(owns: bool, keys: list[str], result: InterfaceResult | None) -> None:
    async def scenario(driver: Driver) -> None:
        for key in keys:
            await driver.press(key)
            if key in ("q", "ctrl+c") and driver.app.is_running and key is keys[0] and len(keys) > 1:
                await driver.until(lambda: driver.app.screen is not driver.app.overview)
                if owns:
                    assert "/tmp/shop.log" in driver.text

    driver = drive(scenario, owns_server=owns, log_path="/tmp/shop.log")
    assert driver.app.return_value == result


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_a_server_of_ones_own_that_has_ended_is_not_asked_about(key: str) -> None:
    """Neither stopping it nor leaving it running would be true."""

    async def scenario(driver: Driver) -> None:
        driver.server.cut()
        await driver.until(lambda: driver.app.overview.view.ended)
        assert "the server has ended; q leaves" in driver.lines[1]
        assert "trying again" not in driver.lines[1]
        await driver.press(key)
        await driver.until(lambda: driver.app.return_value is not None)

    driver = drive(scenario, owns_server=True, server_ended=lambda: True, size=(80, 24))
    assert driver.app.return_value == InterfaceResult("stop")
