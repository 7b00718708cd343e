"""Text from outside draws as text: no control byte of it reaches the terminal, and none of it is markup."""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.drive import driving
from tests.tui.fake import FakeServer, snapshot, worker
from wsgitop.snapshot import HIDDEN_CATEGORIES, Event, InFlight, WorkerSnapshot
from wsgitop.tui.model import View
from wsgitop.tui.theme import ANSI, ASCII_SIGNS, DARK, Look
from wsgitop.tui.widgets.canvas import Line, clip
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


PATHS = 100_000
PIECES = (
    *map(chr, range(0x20)), *map(chr, range(0x7F, 0xA1)), "\x1b[31m", "\x1b[2J", "\x1b]52;c;cm0gLXJm\x07",
    "\x1bP1$r0m\x1b\\", "\x9b6n", "\u200b", "\u200d", "\u202e", "\u2066", "\u2028", "\u2029", "\ufeff",
    "\U000e0041", "\ud800", "\udfff", "a\u0301", "\u0488", "日", "本語", "👩", "\ufe0f", "ﷺ", "[/]", "[bold]",
    "[@click=app.quit]", "\\x1b", "%1b", "/", "a", "report", "?q=", "&", " ", "\x00", "\ue000", "\uffff",
)  # fmt: skip
"""What hostile paths are made of: control characters, whole sequences, what is invisible or wide, markup."""


def hostile_paths(number: int) -> Iterator[str]:
    """The same at each run."""
    chance = random.Random(1)
    for _ in range(number):
        yield "/" + "".join(chance.choices(PIECES, k=chance.randrange(1, 24)))


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


@pytest.mark.slow
def test_a_hundred_thousand_paths_draw_as_text() -> None:
    """None of their control characters is left, and none of them is wider than its room."""
    look, ascii_look = Look(palette=DARK), Look(palette=ANSI, signs=ASCII_SIGNS)
    fields = placed_fields(120)
    never = frozenset(hidden("".join(map(chr, range(0x110000)))))
    allowed = {chr(code) for code in range(0x20, 0x7F)}
    for number, path in enumerate(hostile_paths(PATHS)):
        width = number % 60
        strip = Line(look, width).put(path).strip()
        drawn = strip.text
        assert never.isdisjoint(drawn), (path, drawn)
        assert cell_len(drawn) == width, (path, drawn)
        if number % 32 == 0:
            drawn = row_strip(look, 120, fields, hostile_worker(path), selected=number % 64 == 0).text
            assert never.isdisjoint(drawn) and cell_len(drawn) == 120, (path, drawn)
            assert set(Line(ascii_look, width).put(path).strip().text) <= allowed


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
            paths = hostile_paths(400)
            for _ in range(8):  # fifty at a time can be seen
                evil = tuple(
                    worker(slot, in_flight=(InFlight(0, "GET", path, path, 1.0),))
                    for slot, path in zip(range(1, 51), paths, strict=False)
                )
                await driver.tick()
                assert not hidden(driver.text.replace("\n", ""))
                assert all(cell_len(line) == 200 for line in driver.lines)
            await driver.press("x")
            await driver.dialog("SignalMenu")
            assert not hidden(driver.text.replace("\n", ""))
            await driver.press("escape", "v")
            await driver.dialog("TextDialog")
            assert not hidden(driver.text.replace("\n", ""))

    asyncio.run(scenario())
