"""Nothing that comes from outside can steer a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.snapshot import HIDDEN_CATEGORIES, printable, printable_lines

ANY_TEXT = st.text(st.characters(exclude_categories=[]) | st.sampled_from("\x1b\x9b\u202e\u2028\ud800\ufeff"))


@given(ANY_TEXT)
def test_no_hidden_character_is_left(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    shown.encode("utf-8")


@given(ANY_TEXT)
def test_lines_keep_their_ends_and_nothing_else(text: str) -> None:
    shown = printable_lines(text)
    hidden = [c for c in shown if unicodedata.category(c) in HIDDEN_CATEGORIES]
    assert set(hidden) <= {"\n"}
    assert shown.count("\n") == text.count("\n")


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_the_rest_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(ANY_TEXT, st.integers(1, 30))
def test_limit(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown == printable(text) or (shown.endswith("…") and printable(text).startswith(shown[:-1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a b", "/a b"),
        ("/café/日本", "/café/日本"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b1m", "\\x9b1m"),
        ("a\u202eb", "a\\u202eb"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("\n\r\t\0", "\\x0a\\x0d\\x09\\x00"),
    ],
)
def test_cases(text: str, expected: str) -> None:
    assert printable(text) == expected
