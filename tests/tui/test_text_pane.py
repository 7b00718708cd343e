"""Breaking coloured lines at a width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from wsgitop.tui.widgets.text_pane import Pieces, broken, line_of


def plain(lines: list[Pieces]) -> list[str]:
    return ["".join(piece[0] for piece in pieces) for pieces in lines]


def test_at_blanks_and_set_in() -> None:
    text = [line_of("  File shop/views.py line 17 in report"), line_of("short")]
    assert plain(broken(text, 24)) == ["  File shop/views.py ", "    line 17 in report", "short"]


def test_colours_stay() -> None:
    lines = broken([(("label ", "muted", False), ("a value that is long", "accent", True))], 16)
    assert lines[0] == (("label ", "muted", False), ("a value ", "accent", True))
    assert lines[1][-1] == ("that is long", "accent", True)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(10, 40))
def test_nothing_is_lost_and_nothing_is_too_wide(words: list[str], width: int) -> None:
    pieces = tuple((text, "text", False) for text in words)
    lines = plain(broken([pieces], width))
    if len(lines) == 1:  # nothing was broken: it fits as it was given
        assert sum(cell_len(text) for text in words) <= width or cell_len(lines[0]) <= width
    else:
        assert all(cell_len(line) <= width for line in lines)
    from wsgitop.snapshot import printable

    kept = "".join(lines).replace(" ", "")
    whole = "".join(words) if len(lines) == 1 else "".join(printable(text) for text in words)
    assert kept == whole.replace(" ", "")
