"""What is squeezed looks the same on a terminal, and is never longer."""

from __future__ import annotations

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.style import Style

from wsgitop.tui.squeeze import RESET, squeezed

COLORS = [None, "default", "red", "bright_blue", "color(200)", "#102030", "#d8dee9"]
styles = st.builds(
    Style,
    color=st.sampled_from(COLORS),
    bgcolor=st.sampled_from(COLORS),
    bold=st.sampled_from([None, True]),
    reverse=st.sampled_from([None, True]),
    underline=st.sampled_from([None, True]),
)
words = st.text("ab ▃│", min_size=1, max_size=6)
pieces = st.one_of(
    st.builds(lambda style, text: style.render(text, color_system=ColorSystem.TRUECOLOR), styles, words),
    st.builds(lambda y, x: f"\x1b[{y};{x}H", st.integers(1, 5), st.integers(1, 30)),
    st.sampled_from(["\r\n", "\x1b[?25l", "\x1b[K", "x"]),
)


def shown(text: str) -> list[list[object]]:
    screen = pyte.Screen(40, 6)
    stream = pyte.Stream(screen)
    stream.feed("\x1b[?7l" + text)
    # What is written next is plain: nothing of the colours is left behind.
    stream.feed("\x1b[6;1H*")
    return [[screen.buffer[y][x] for x in range(40)] for y in range(6)]


@given(st.lists(pieces, max_size=30))
def test_it_looks_the_same(parts: list[str]) -> None:
    text = "".join(parts)
    less = squeezed(text)
    assert shown(less) == shown(text)
    assert len(less) <= len(text)
    assert squeezed(less) == less or shown(squeezed(less)) == shown(text)


def test_colors_are_named_once() -> None:
    ground = Style(color="#d8dee9", bgcolor="#101020")
    loud = ground + Style(bold=True, color="#ff0000")
    text = "".join(
        style.render(word, color_system=ColorSystem.TRUECOLOR)
        for style, word in ((ground, "a"), (ground, "b"), (loud, "c"), (ground, "d"))
    )
    assert squeezed(text) == (
        "\x1b[38;2;216;222;233;48;2;16;16;32mab\x1b[1;38;2;255;0;0mc\x1b[22;38;2;216;222;233md" + RESET
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "\x1b[?1049h",
        "\x1b[?1006h\x1b[?25l",
        "\x1b]52;c;bTE7Mm0=\x07",
        "\x1b[31mred, and it stays",
        "\x1b[31m\x1b[1mone upon the other\x1b[0m",
        "\x1b[38;2;1mtoo short\x1b[0m",
        "\x1b[53moverlined\x1b[0m",
    ],
)
def test_what_is_not_of_richs_making_is_left_alone(text: str) -> None:
    assert squeezed(text) == text
