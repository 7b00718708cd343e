"""The error log's lines, read again."""

from __future__ import annotations

import pytest

from wsgitop.logs.lines import Entry, LevelCounter, entries

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
