"""The error log's lines, read again."""

from __future__ import annotations

import pytest

from wsgitop.logs.lines import Entry, Head, LevelCounter, LevelReader, entries, head_of, is_at_least

HEAD = b"[2026-11-27 15:06:17 +0000] [%d] [%s] "


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n \n", []),
        (b"printed\n", [Entry("", "", b"printed")]),
        (HEAD % (7, b"INFO") + b"text\n", [Entry("INFO", "7", b"text")]),
        (
            b"early\n" + HEAD % (7, b"ERROR") + b"it broke\nTraceback\n  x\n" + HEAD % (8, b"INFO") + b"on",
            [
                Entry("", "", b"early"),
                Entry("ERROR", "7", b"it broke"),
                Entry("ERROR", "7", b"Traceback"),
                Entry("ERROR", "7", b"  x"),
                Entry("INFO", "8", b"on"),
            ],
        ),
        (b"[x] [7] [NOTE] text\n", [Entry("", "", b"[x] [7] [NOTE] text")]),
        (b"[] [7] [INFO] \xff\x00\n", [Entry("INFO", "7", b"\xff\x00")]),
    ],
)
def test_entries(data: bytes, expected: list[Entry]) -> None:
    assert list(entries(data)) == expected


def test_levels_are_counted_and_an_error_with_a_traceback_is_an_exception() -> None:
    counter = LevelCounter()
    trace = b"Traceback (most recent call last):\n  x\n"
    for level, text in (
        (b"ERROR", b"bad\n"),
        (b"ERROR", b"worse\n" + trace),
        (b"WARNING", b"hm\n" + trace),
        (b"CRITICAL", b"oh\n"),
        (b"INFO", b"[x] [7] [ERROR] quoted\nprinted\n"),
    ):
        counter.take(HEAD % (7, level) + text)
    assert counter.counts == {"critical": 1, "error": 1, "warning": 1, "exception": 1}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[2026-01-01 00:00:00 +0000] [7] [INFO] x", Head("2026-01-01 00:00:00 +0000", "7", "INFO", 39)),
        ("[2026-01-01 00:00:00 +0000] [ERROR] x", Head("2026-01-01 00:00:00 +0000", "", "ERROR", 36)),
        ("[7] [DEBUG] x", Head("", "7", "DEBUG", 12)),
        ("[CRITICAL]", Head("", "", "CRITICAL", 10)),
        ("  of it [INFO]", None),
        ("[x] [7] [INFO] x", None),
        ("[2026-01-01] [7] [NOTE] x", None),
        ("", None),
    ],
)
def test_heads_of_lines_of_text(line: str, expected: Head | None) -> None:
    assert head_of(line) == expected


def test_a_line_without_a_level_has_that_of_the_line_before() -> None:
    levels = LevelReader()
    lines = (
        ("printed before anything was logged", True),
        ("[2026-01-01 00:00:00 +0000] [7] [INFO] x", False),
        ("  of it", False),
        ("[2026-01-01 00:00:00 +0000] [7] [CRITICAL] x", True),
        ("  of it [INFO]", True),
    )
    for line, shown in lines:
        assert is_at_least(levels.level_of(line), "WARNING") is shown
