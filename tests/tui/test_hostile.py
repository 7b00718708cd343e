"""Text from outside draws as text: no control byte of it reaches the terminal, and none of it is markup."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.drive import driving
from tests.tui.fake import FakeServer, snapshot, worker
from wsgitop.snapshot import HIDDEN_CATEGORIES, Event, InFlight, WorkerSnapshot
from wsgitop.tui.model import View
from wsgitop.tui.theme import ANSI, ASCII_SIGNS, DARK, Look
from wsgitop.tui.widgets.canvas import clip
from wsgitop.tui.widgets.events import EventStrip
from wsgitop.tui.widgets.graphs import Figures
from wsgitop.tui.widgets.header import Banner, Header
from wsgitop.tui.widgets.pane import WorkerPane
from wsgitop.tui.widgets.table import placed_fields, row_strip

EVIL = [
    "/\x1b]0;owned\x07",
    "/\x9b31m",
    "/[bold red]x[/bold red][@click=app.quit]y[/]",
    "/\u202egnp.exe",
    "/\u00a0\u200b\ufeff\u2028\u2029",
    "/\ud800",
    "/日本語のとても長いパス/絵文字👩\u200d👩\u200d👧\u200d👦",
    "/" + "a\u0301\u0302" * 40,
    "/\t\r\n\x00\x7f",
    "/" + "a" * 5000,
]

nasty = st.text(st.characters(codec=None, exclude_categories=[]), max_size=40) | st.sampled_from(EVIL)


def hostile_worker(text: str) -> WorkerSnapshot:
    request = InFlight(thread=0, method=text[:9], path=text, client=text, elapsed_s=1.0)
    return worker(1, in_flight=(request, request))


def hidden(text: str) -> list[str]:
    return [character for character in text if unicodedata.category(character) in HIDDEN_CATEGORIES]


@given(nasty, st.integers(0, 60))
@settings(max_examples=500)
def test_clipped_text_is_clean_and_fits(text: str, width: int) -> None:
    clipped = clip(text, width)
    assert not hidden(clipped)
    assert cell_len(clipped) <= width


@pytest.mark.parametrize(
    "look", [Look(palette=DARK), Look(palette=ANSI, signs=ASCII_SIGNS)], ids=["color", "ascii"]
)
@given(text=nasty, width=st.integers(60, 200))
@settings(max_examples=150, deadline=None)
def test_every_widget_draws_it_as_text_of_the_right_width(look: Look, text: str, width: int) -> None:
    own = hostile_worker(text)
    event = Event(sequence=1, at=0.0, severity="error", kind=text, text=text, actor=text, detail=text)
    picture = snapshot(these=(own,))
    view = View(
        snapshot=picture,
        rows=(own,),
        cursor=0,
        selected=own,
        filter=text,
        events=(event,),
        stale_s=1.0,
        stale_reason=text,
        role="viewer",
    )
    strips = [
        row_strip(look, width, placed_fields(width), own, selected=True),
        *EventStrip().draw(view, look, width, 6),
        *Header(text).draw(view, look, width, 1),
        *Banner().draw(view, look, width, 1),
        *Figures().draw(view, look, width, 2),
        *WorkerPane().draw(view, look, width, 40),
    ]
    for strip in strips:
        drawn = "".join(segment.text for segment in strip)
        assert not hidden(drawn), drawn
        assert sum(cell_len(segment.text) for segment in strip) == width, drawn
        if look.is_ascii:
            assert drawn.isascii()


test_every_widget_draws_it_as_text_of_the_right_width = example(text=EVIL[3], width=80)(
    test_every_widget_draws_it_as_text_of_the_right_width
)


@pytest.mark.tui
def test_the_whole_screen_stays_clean() -> None:
    async def scenario() -> None:
        server = FakeServer()
        evil = tuple(
            worker(slot, in_flight=(InFlight(thread=0, method="GET", path=path, client=path, elapsed_s=1.0),))
            for slot, path in enumerate(EVIL, start=1)
        )
        server.make = lambda: snapshot(server.sequence, server.clock.now, these=evil)
        async with driving(server, size=(200, 60)) as driver:
            for path in EVIL:
                server.push(
                    Event(
                        sequence=100 + EVIL.index(path),
                        at=0.0,
                        severity="info",
                        kind="x",
                        text=path,
                        detail=path,
                    )
                )
            for _ in EVIL:
                await driver.tick()
                assert not hidden(driver.text.replace("\n", ""))
                await driver.press("j")
            assert "[bold red]x[/bold red]" in driver.text
            await driver.press("x")
            await driver.dialog("SignalMenu")
            assert not hidden(driver.text.replace("\n", ""))
            await driver.press("escape", "v")
            await driver.dialog("TextDialog")
            assert not hidden(driver.text.replace("\n", ""))

    asyncio.run(scenario())
