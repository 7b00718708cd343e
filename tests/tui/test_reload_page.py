"""The page of the reloads: what it shows, and its keys."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.tui.drive import Driver, driving
from tests.tui.fake import EPOCH, FakeServer, snapshot, worker
from tests.tui.test_reloads import recorded
from tests.tui.test_screens import ASCII, DARK_LOOK, compare, draw
from wsgitop.errors import CannotConnect
from wsgitop.snapshot import Event, GenerationSnapshot, ReloadSnapshot, ReloadStage, Snapshot
from wsgitop.tui.screens.reload import MOVES_S, QUICK_WORKERS, ReloadPage
from wsgitop.tui.screens.worker import Worker
from wsgitop.tui.widgets.listing import Listing
from wsgitop.tui.widgets.text_pane import TextPane

pytestmark = pytest.mark.tui

FAILED = "The module 'app' cannot be imported: RuntimeError: bad deploy"
AT = EPOCH - 100
SIZES = [(60, 15), (80, 24), (120, 40), (200, 60)]


def under_way(server: FakeServer, *, stage: ReloadStage = "replacing") -> Snapshot:
    """A reload from generation 10 to 11, in the middle of it."""
    fresh = ("idle", "busy", "busy") if stage != "loading" else ()
    present = [
        worker(slot, state, generation=11, pid=5000 + slot, started_at=EPOCH - 3 + slot, age_s=2.0)
        for slot, state in enumerate(fresh, start=1)
    ]
    if stage != "loading":
        present.append(
            worker(4, "booting", generation=11, pid=5004, started_at=server.clock.now - 0.1, age_s=0.1)
        )
    present.append(worker(3, "retiring", generation=10))
    present += [worker(slot, "idle", generation=10) for slot in range(1, 9) if slot > len(fresh)]
    taken = snapshot(server.sequence, server.clock.now, these=tuple(present), state="reloading")
    steps = ReloadSnapshot(
        from_generation=10, to_generation=11, stage=stage, ready=len(fresh), workers=8,
        old=sum(one.generation == 10 for one in present), elapsed_s=1.3,
    )  # fmt: skip
    master = msgspec.structs.replace(taken.master, generation=11, reload=steps, reloading_to=11)
    generations = (
        GenerationSnapshot(number=9, state="failed", error=FAILED),
        GenerationSnapshot(
            number=10, state="ready", zygote_pid=4243, zygote_rss_bytes=24 << 20, workers=steps.old
        ),
        GenerationSnapshot(
            number=11, state="loading" if stage == "loading" else "ready", zygote_pid=4999,
            zygote_rss_bytes=25 << 20, workers=len(present) - steps.old,
        ),
    )  # fmt: skip
    return msgspec.structs.replace(taken, master=master, generations=generations)


def at_rest(server: FakeServer) -> Snapshot:
    taken = snapshot(
        server.sequence, server.clock.now, these=tuple(worker(slot, "idle") for slot in range(1, 9))
    )
    generations = (
        GenerationSnapshot(number=6, state="ended"),
        GenerationSnapshot(number=7, state="ready", zygote_pid=4243, zygote_rss_bytes=24 << 20, workers=8),
        GenerationSnapshot(number=8, state="failed", error=FAILED),
    )
    return msgspec.structs.replace(taken, generations=generations)


def server_at_rest() -> FakeServer:
    server = FakeServer()
    server.known_events = recorded(AT)
    server.make = lambda: at_rest(server)
    return server


def server_reloading(stage: ReloadStage = "replacing") -> FakeServer:
    server = FakeServer()
    begun = Event(
        sequence=99, at=EPOCH + 1, severity="info", kind="reload", text="HUP: reload, loading generation 11",
        actor="deploy (pid 4100)",
    )  # fmt: skip
    server.known_events = (*recorded(AT), begun)
    server.make = lambda: under_way(server, stage=stage)
    return server


async def opened(driver: Driver) -> ReloadPage:
    await driver.press("g")
    page = driver.app.screen
    assert isinstance(page, ReloadPage)
    await driver.until(lambda: page.lists["past"].listed().rows)
    return page


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_looks(size: tuple[int, int]) -> None:
    compare(
        f"reload-page-{size[0]}x{size[1]}",
        asyncio.run(draw(size, DARK_LOOK, "g", *"jjjjjj", server=server_at_rest())),
    )


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_looks_while_one_is_under_way(size: tuple[int, int]) -> None:
    compare(
        f"reloading-{size[0]}x{size[1]}", asyncio.run(draw(size, DARK_LOOK, "g", server=server_reloading()))
    )


def test_in_ascii() -> None:
    assert asyncio.run(draw((100, 36), ASCII, "g", server=server_reloading())).isascii()
    assert asyncio.run(draw((100, 36), ASCII, "g", server=server_at_rest())).isascii()


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("loading", "loading the code (last time 0.41s)  0/8 ready"),
        ("going back", "going back to 11"),
    ],
)
def test_stages(stage: ReloadStage, told: str) -> None:
    text = asyncio.run(draw((120, 40), DARK_LOOK, "g", server=server_reloading(stage)))
    assert told in text
    assert "under way" in text


def test_mixed_generations_without_a_reload() -> None:
    text = asyncio.run(draw((100, 30), DARK_LOOK, "g"))
    assert "workers of several generations serve" in text and "slots 8" in text


def test_no_reload_is_known() -> None:
    server = FakeServer()
    server.make = lambda: at_rest(server)
    text = asyncio.run(draw((80, 24), DARK_LOOK, "g", "y", "enter", server=server))
    assert "no reload is known of" in text and "none yet" in text and "nothing copied" in text


def test_keys_at_rest() -> None:
    async def scenario() -> None:
        async with driving(server_at_rest()) as driver:
            page = await opened(driver)
            pane = page.query_one(TextPane)
            assert page.rows.listed().selected.number == 10, "the newest first"
            await driver.press("y")
            assert "copied the traceback of the reload to generation 10" in driver.said()
            await driver.press("j", "y")
            assert "copied all about the selected reload" in driver.said()
            assert "3 workers, 0.32s each, 0.33s at most" in driver.app.clipboard
            await driver.press("end", "k", "y")
            assert driver.app.clipboard.endswith("RuntimeError: bad deploy\n")
            assert "RuntimeError: bad deploy" in pane.plain and "code loaded after 0.27s" in pane.plain
            await driver.press("s", "I", "less_than_sign", "less_than_sign")
            assert page.rows.listed().sort == "boot"
            await driver.press("slash", *"failed", "enter")
            assert [one.number for one in page.rows.listed().rows] == [6, 10, 3]
            await driver.press("tab")
            assert driver.app.focused is pane
            await driver.press("escape")
            assert len(page.rows.listed().rows) == 8
            await driver.press("escape")
            assert driver.app.screen is driver.app.overview
            await driver.press("4")
            assert isinstance(driver.app.screen, ReloadPage)

    asyncio.run(scenario())


def test_keys_while_one_is_under_way() -> None:
    async def scenario() -> None:
        server = server_reloading()
        async with driving(server) as driver:
            page = await opened(driver)
            slots = page.query_one("#slots", Listing)
            assert driver.app.focused is slots, "what moves comes first"
            steps = [row.step for row in page.lists["slots"].listed().rows]
            assert steps == ["done", "done", "handing over", "booting", *["waiting"] * 4]
            await driver.press("j", "j", "j")
            assert page.lists["slots"].listed().selected.slot == 4
            await driver.press("enter")
            await driver.until(lambda: driver.app.screen is not page)
            worker = driver.app.screen
            assert isinstance(worker, Worker)
            assert worker.watched.target is not None and worker.watched.target[0] == 5004, "the new one"
            await driver.press("escape")
            await opened(driver)
            await driver.press("tab")
            assert driver.app.focused is not None and driver.app.focused.id == "past"

    asyncio.run(scenario())


def test_bars_move_between_pictures_and_pictures_come_faster() -> None:
    async def scenario() -> None:
        server = server_reloading()
        async with driving(server) as driver:
            page = await opened(driver)
            await driver.until(lambda: server.intervals[-1] == MOVES_S)

            def share() -> float:
                return float(page.lists["slots"].listed().rows[3].share)

            before = share()
            server.clock.pass_s(0.1)
            page._move_on()
            await driver.pilot.pause()
            assert share() > before
            assert "1.4s" in driver.text
            await driver.press("p")
            before = share()
            server.clock.pass_s(5)
            page.refresh_ages()
            assert share() <= before, "a frozen picture does not move"
            await driver.until(lambda: server.intervals[-1] == 1.0)
            await driver.press("p")
            await driver.until(lambda: server.intervals[-1] == MOVES_S)
            await driver.press("escape")
            await driver.until(lambda: server.intervals[-1] == 1.0)

    asyncio.run(scenario())


def test_pictures_of_many_workers_come_no_faster() -> None:
    async def scenario() -> None:
        server = server_reloading()
        many = tuple(worker(slot, "idle", generation=10) for slot in range(1, QUICK_WORKERS + 2))
        server.make = lambda: msgspec.structs.replace(under_way(server), workers=many)
        async with driving(server) as driver:
            await opened(driver)
            await driver.tick()
            assert server.intervals == [1.0]

    asyncio.run(scenario())


def test_the_end_of_a_reload_is_seen() -> None:
    async def scenario() -> None:
        server = server_reloading()
        async with driving(server, size=(120, 40)) as driver:
            page = await opened(driver)
            server.make = lambda: at_rest(server)
            done = Event(
                sequence=100, at=EPOCH + 4, severity="good", kind="reloaded",
                text="generation 11 serves with 8 workers",
            )  # fmt: skip
            server.push(done)
            await driver.tick(4)
            await driver.until(lambda: "the last, to generation 11, done after 3.0s" in driver.text)
            assert not page.query_one("#slots").display
            assert driver.app.focused is page.query_one("#past", Listing)
            await driver.until(lambda: server.intervals[-1] == 1.0)

    asyncio.run(scenario())


def test_whoever_looks_at_the_newest_sees_the_next_one() -> None:
    async def scenario() -> None:
        server = server_at_rest()
        async with driving(server) as driver:
            page = await opened(driver)
            past = page.lists["past"]

            async def begin(number: int) -> None:
                text = f"HUP: reload, loading generation {number}"
                at = server.clock.now + number
                server.push(Event(sequence=100 + number, at=at, severity="info", kind="reload", text=text))
                await driver.until(lambda: past.listed().rows[0].number == number)

            await begin(11)
            assert past.listed().selected.number == 11
            await driver.press("j")
            await begin(12)
            assert past.listed().selected.number == 10, "whoever looks at another one goes on doing so"

    asyncio.run(scenario())


def test_h_asks_there_as_everywhere_and_says_where_it_is_seen() -> None:
    async def scenario() -> None:
        server = server_at_rest()
        async with driving(server) as driver:
            server.answer.clear()
            await driver.press("H")
            await driver.dialog("Confirm")
            await driver.press("y")
            await driver.until(lambda: "reloading (g shows it)…" in driver.said())
            assert driver.app.screen is driver.app.overview, "nobody is taken anywhere"
            server.answer.set()
            await driver.until(lambda: "8/8 ready" in driver.said())
            server.answer.clear()
            page = await opened(driver)
            await driver.press("H")
            await driver.dialog("Confirm")
            await driver.press("y")
            await driver.until(lambda: "reloading…" in driver.said())
            assert driver.app.screen is page
            server.answer.set()
            await driver.until(lambda: len(server.calls) == 2)

    asyncio.run(scenario())


def test_the_past_is_asked_for_once_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        server = server_at_rest()
        asked: list[int] = []
        async with driving(server) as driver:
            source = driver.app.feed.source
            assert source is not None
            real = source.events

            async def events(after: int = 0, limit: int = 100) -> tuple[Event, ...]:
                asked.append(limit)
                if len(asked) == 1:
                    raise CannotConnect("the link is gone")
                return await real(after, limit)

            monkeypatch.setattr(source, "events", events)
            await driver.press("g")
            page = driver.app.screen
            assert isinstance(page, ReloadPage)
            await driver.until(lambda: "the link is gone" in driver.text)
            for _ in range(3):
                page.ask_soon()
                await driver.pilot.pause()
            await driver.until(lambda: "the link is gone" not in driver.text)
            assert asked == [1000, 1000]
            server.cut()
            await driver.until(lambda: page.view.stale_s is not None)
            assert page.lists["past"].listed().rows

    asyncio.run(scenario())


def test_a_viewer_is_told_why_not() -> None:
    async def scenario() -> None:
        server = server_at_rest()
        server.role = "viewer"
        async with driving(server) as driver:
            page = await opened(driver)
            await driver.press("H")
            assert "reload is for operators" in driver.said()
            assert driver.app.screen is page

    asyncio.run(scenario())
