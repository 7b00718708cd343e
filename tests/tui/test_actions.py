"""Orders from the menu, the palette and keys: all of the method table is reachable, and nothing goes out
unasked."""

from __future__ import annotations

import pytest

from tests.tui.drive import Driver
from tests.tui.fake import FakeServer, snapshot, worker
from tests.tui.test_keys import drive
from wsgitop.control.methods import METHODS
from wsgitop.errors import ActionFailed
from wsgitop.master.backend import MASTER_SIGNALS as OF_THE_MASTER
from wsgitop.master.backend import WORKER_SIGNALS as OF_WORKERS
from wsgitop.snapshot import WorkerState
from wsgitop.tui.actions import (
    ACTIONS,
    ELSEWHERE,
    MASTER_SIGNALS,
    METHOD_OF,
    WORKER_SIGNALS,
    fitting,
    hindrance,
)

pytestmark = pytest.mark.tui


# -- the table ----------------------------------------------------------------------------------------------


def test_every_order_of_the_method_table_is_reachable_or_elsewhere() -> None:
    reachable = {action.method for action in ACTIONS.values()}
    orders = {name for name, row in METHODS.items() if row.role == "operator"}
    assert reachable | ELSEWHERE.keys() == orders
    assert not reachable & ELSEWHERE.keys()
    assert set(METHOD_OF.values()) <= orders


def test_what_interrupts_asks_and_so_do_reload_and_upgrade() -> None:
    for action in ACTIONS.values():
        assert action.asks is (action.row.interrupts or action.name in ("reload", "upgrade")), action.name


def test_keys_of_the_menus_are_given_once() -> None:
    for rows in (ACTIONS.values(), MASTER_SIGNALS, WORKER_SIGNALS):
        keys = [row.key for row in rows]
        assert len(keys) == len(set(keys))


def test_the_signals_are_those_that_the_server_takes() -> None:
    assert {row.name for row in MASTER_SIGNALS} == set(OF_THE_MASTER)
    offered = {row.name for row in WORKER_SIGNALS if row.name.isupper()}
    assert offered <= OF_WORKERS.keys()
    # INT does what QUIT does; a stopped worker would be killed by its watchdog's silence.
    assert OF_WORKERS.keys() - offered == {"INT", "STOP", "CONT"}


@pytest.mark.parametrize(
    ("state", "orders"),
    [
        ("booting", {"retire"}),
        ("idle", {"quarantine", "retire"}),
        ("busy", {"quarantine", "retire"}),
        ("stuck", {"quarantine", "retire"}),
        ("retiring", set()),
        ("quarantined", {"release", "retire"}),
    ],
)
def test_orders_that_fit_a_state(state: WorkerState, orders: set[str]) -> None:
    rows = {row.name for row in fitting(state)}
    assert {name for name in rows if name.islower()} == orders
    assert {name for name in rows if name.isupper()} == {"TERM", "QUIT", "USR1", "ABRT", "KILL"}


def test_hindrances() -> None:
    assert "viewer" in hindrance("reload", "viewer", ["hello"])
    assert "not offered" in hindrance("reload", "operator", ["hello"])
    assert not hindrance("reload", "operator", ["reload"])
    assert not hindrance("reload", None, []), "not known yet is no hindrance"
    assert not hindrance("status", "viewer", ["status"])


# -- the menu -----------------------------------------------------------------------------------------------


ORDERS: list[tuple[list[str], tuple[object, ...]]] = [
    (["r", "Confirm", "y"], ("reload",)),
    (["s", "NumberDialog", "1", "2", "enter"], ("scale", 12, None)),
    (["l", "Menu", "w"], ("loglevel", "warning")),
    (["o"], ("reopen",)),
    (["m", "SignalMenu", "u", "Confirm", "y"], ("signal", "USR1", None, None)),
    (["u", "Confirm", "y"], ("upgrade",)),
    (["t", "Confirm", "y"], ("stop", False)),
    (["Q", "Confirm", "y"], ("stop", True)),
    (["z"], ("quarantine", 4252)),
    (["e"], ("retire", 4252)),
    (["x", "SignalMenu", "t", "Confirm", "y"], ("signal", "TERM", 4252)),
]


async def go(driver: Driver, *keys: str) -> None:
    """Press keys; the name of a dialog waits for it."""
    for key in keys:
        if len(key) > 1 and key[0].isupper():
            await driver.dialog(key)
        else:
            await driver.press(key)


def test_each_row_of_the_menu_does_what_it_says() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("j")
        for keys, call in ORDERS:
            driver.server.calls.clear()
            await go(driver, "m", "ActionMenu", *keys)
            await driver.until(lambda: driver.server.calls, str(keys))
            assert [done[: len(call)] for done in driver.server.calls] == [call]
            await driver.until(driver.said)

    drive(scenario, size=(80, 24))
    rows = {keys[0] for keys, _ in ORDERS}
    assert rows == {action.key for action in ACTIONS.values()} - {"a"}, "release is tried elsewhere"


def test_the_focus_of_a_question_is_on_cancel() -> None:
    async def scenario(driver: Driver) -> None:
        for keys in (["r"], ["u"], ["t"], ["Q"], ["x", "SignalMenu", "k"], ["m", "SignalMenu", "t"]):
            await go(driver, "m", "ActionMenu", *keys, "Confirm", "enter")
            await driver.until(lambda: "cancelled" in driver.said())
            assert driver.app.screen is driver.app.overview
            driver.app.say("info", "")
        assert not driver.server.calls

    drive(scenario, size=(80, 24))


@pytest.mark.parametrize(("typed", "call"), [("upgrade", ("upgrade",)), ("retire", ("retire", 4252))])
def test_the_palette_gives_orders_too_and_asks(typed: str, call: tuple[object, ...]) -> None:
    """What the menu does unasked, too: the palette hides the worker, and finds by resemblance."""

    async def scenario(driver: Driver) -> None:
        await driver.press("j", "colon")
        await driver.until(lambda: type(driver.app.screen).__name__ == "CommandPalette")
        await driver.press(*typed)
        await driver.until(lambda: f"m {typed[0] if typed == 'upgrade' else 'e'}  " in driver.text)
        await driver.press("enter")
        await driver.dialog("Confirm")
        assert "4252" in driver.text or typed == "upgrade"
        await driver.press("y")
        await driver.until(lambda: driver.server.calls)
        assert driver.server.calls[0][: len(call)] == call

    drive(scenario)


def test_the_palette_leaves_out_what_cannot_be_done() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("colon")
        await driver.until(lambda: type(driver.app.screen).__name__ == "CommandPalette")
        await driver.press(*"release")
        await driver.until(lambda: "No matches" in driver.text)

    drive(scenario)


def test_a_row_that_does_not_fit_says_why_and_the_menu_stays() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("m")
        await driver.dialog("ActionMenu")
        await driver.press("a")
        assert "release: it is not in quarantine" in driver.text
        await driver.press("end")
        assert "Have one worker finish its requests" in driver.text
        await driver.press("escape")
        assert driver.app.screen is driver.app.overview
        assert not driver.server.calls

    drive(scenario)


def test_a_viewer_sees_all_rows_and_reads_why_not() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("m")
        await driver.dialog("ActionMenu")
        await driver.press("t")
        assert "stop: for operators; you are a viewer here" in driver.text
        await driver.press("enter")
        assert type(driver.app.screen).__name__ == "ActionMenu"
        assert not driver.server.calls

    drive(scenario, FakeServer(role="viewer"))


def test_what_the_server_does_not_offer_is_greyed_and_explained() -> None:
    server = FakeServer()
    server.methods = [name for name in METHODS if name not in ("reload", "upgrade")]

    async def scenario(driver: Driver) -> None:
        assert driver.app.check_action("reload", ()) is None
        assert driver.app.check_action("scale", (1,)) is True
        await driver.press("H")
        await driver.until(lambda: "reload: not offered by this server" in driver.said())
        await driver.press("m")
        await driver.dialog("ActionMenu")
        await driver.press("u")
        assert "upgrade: not offered by this server" in driver.text
        assert not driver.server.calls

    drive(scenario, server)


def test_a_server_that_came_back_as_another_gets_no_order() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.app.run_action("app.act('stop')")
        await driver.dialog("Confirm")
        driver.server.cut()
        await driver.until(lambda: driver.app.model.view().stale_s is not None)
        driver.server.come_back(pid=5151)
        await driver.until(lambda: driver.app.model.snapshot.master.pid == 5151)  # type: ignore[union-attr]
        await driver.press("y")
        await driver.until(lambda: "pid 4242 is not the master any more (now 5151)" in driver.said())
        assert not driver.server.calls

    drive(scenario)


def test_without_a_connection_nothing_is_asked() -> None:
    async def scenario(driver: Driver) -> None:
        driver.server.cut()
        await driver.until(lambda: driver.app.model.view().stale_s is not None)
        await driver.app.run_action("app.act('upgrade')")
        await driver.until(lambda: "upgrade: no connection to the server" in driver.said())
        await driver.press("equals_sign")
        await driver.until(lambda: "scale: no connection to the server" in driver.said())
        assert driver.app.screen is driver.app.overview

    drive(scenario)


def test_a_refusal_is_said() -> None:
    server = FakeServer()
    server.failure = ActionFailed("the old log files stay open: no space", "Mend that and reopen again.")

    async def scenario(driver: Driver) -> None:
        await driver.press("m", "o")
        await driver.until(
            lambda: "log files not reopened: the old log files stay open: no space" in driver.said()
        )

    drive(scenario, server)


# -- scaling to a number ------------------------------------------------------------------------------------


def test_scaling_to_a_number_and_back() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("equals_sign")
        await driver.dialog("NumberDialog")
        await driver.press("up", "up", "down", "enter")
        await driver.until(lambda: driver.server.calls)
        assert driver.server.calls == [("scale", 9, None)]
        await driver.until(lambda: driver.said() == "scaled")
        await driver.press("u")
        await driver.until(lambda: len(driver.server.calls) == 2)
        assert driver.server.calls[1] == ("scale", 8, None)

    drive(scenario)


def test_a_number_out_of_bounds_is_explained() -> None:
    async def scenario(driver: Driver) -> None:
        for typed in (["0"], ["2", "0", "0", "0"], ["backspace"]):
            await go(driver, "equals_sign", "NumberDialog", *typed, "enter")
            assert "a number from 1 to 1000" in driver.text
            await driver.press("escape")
            await driver.until(lambda: "not scaled: cancelled" in driver.said())
        assert not driver.server.calls

    drive(scenario, size=(80, 24))


def test_the_number_there_is_changes_nothing() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("equals_sign")
        await driver.dialog("NumberDialog")
        await driver.press("enter")
        await driver.until(lambda: "nothing to do: 8 workers already" in driver.said())
        assert not driver.server.calls

    drive(scenario)


def test_the_signal_menu_shows_only_what_fits() -> None:
    server = FakeServer()
    server.make = lambda: snapshot(
        server.sequence, server.clock.now, these=(worker(1, "quarantined"), worker(2, "retiring"))
    )

    async def scenario(driver: Driver) -> None:
        await driver.press("x")
        await driver.dialog("SignalMenu")
        assert "release" in driver.text and "Accept nothing" not in driver.text
        await driver.press("escape", "j", "x")
        await driver.dialog("SignalMenu")
        assert "End its quarantine" not in driver.text and "Accept nothing" not in driver.text

    drive(scenario, server)


# -- several workers ----------------------------------------------------------------------------------------


def test_a_signal_goes_to_all_marked_and_is_asked_once() -> None:
    async def scenario(driver: Driver) -> None:
        before = driver.app.model.view().rows
        await driver.press("space", "j", "space")
        assert "2 marked" in driver.text and driver.text.count("◆") == 2
        driver.app.model.sort_by("cpu")
        await driver.tick(5)
        await go(driver, "x", "SignalMenu", "k", "Confirm")
        assert "Send KILL to 2 marked workers?" in driver.text
        assert "workers 1 (pid 4251), 3 (pid 4253)" in driver.text
        await driver.press("y")
        await driver.until(lambda: len(driver.server.calls) == 2)
        expected = {("signal", "KILL", before[row].pid, before[row].started_at) for row in (0, 2)}
        assert set(driver.server.calls) == expected
        await driver.until(lambda: "KILL sent: 2 workers, 4251 4253" in driver.said())
        await driver.press("escape")
        assert "marked" not in driver.text

    drive(scenario)


def test_an_order_for_several_is_asked_and_goes_to_those_it_fits() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("space", "space", "space", "space")  # the fourth retires already
        await go(driver, "m", "ActionMenu", "z", "Confirm")
        assert "Quarantine 3 marked workers?" in driver.text
        await driver.press("y")
        await driver.until(lambda: len(driver.server.calls) == 3)
        assert [call[1] for call in driver.server.calls] == [4251, 4252, 4253]
        await driver.until(lambda: "put into quarantine: 3 workers" in driver.said())

    drive(scenario)


def test_what_fails_for_some_is_told_with_its_reasons() -> None:
    server = FakeServer()
    server.failure = ActionFailed("pid 1 belongs to another worker now", "Look again.")

    async def scenario(driver: Driver) -> None:
        await driver.press("space", "space")
        await go(driver, "x", "SignalMenu", "t", "Confirm", "y", "TextDialog")
        assert "pid 4251 TERM not sent: pid 1 belongs to another worker now" in driver.text
        assert "pid 4252 TERM not sent" in driver.text
        await driver.press("escape")
        assert "(and 1 more)" in driver.said()

    drive(scenario, server)


def test_marks_go_with_their_workers_and_count_only_while_they_are_seen() -> None:
    async def scenario(driver: Driver) -> None:
        await driver.press("space", "end", "space", "home")
        assert [one.pid for one in driver.app.targets] == [4251, 4258]
        await driver.press("slash", *"4258", "enter")
        assert [one.pid for one in driver.app.targets] == [4258]
        await driver.press("escape")
        driver.server.number = 4
        await driver.tick()
        assert [one.pid for one in driver.app.targets] == [4251]
        await driver.press("d")
        await driver.until(lambda: driver.app.screen is not driver.app.overview)
        assert [one.pid for one in driver.app.targets] == [driver.selected_pid], "on a page no mark is seen"
        await driver.press("escape", "escape")
        assert not driver.app.model.marked

    drive(scenario)
