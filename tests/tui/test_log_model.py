"""The lines of the logs: order, filter, where they stand, and where subscriptions meet."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.fake import Clock
from wsgitop.control.messages import LogLine
from wsgitop.tui.log_model import (
    OVERLAP_LINES,
    OVERLAP_S,
    LogEntry,
    LogModel,
    LogName,
    Overlap,
    access_level,
    parts_of,
    timestamp,
)


def error(second: int, text: str = "x", level: str = "INFO", dropped: int = 0) -> LogLine:
    return LogLine("error", f"[2025-10-09 08:00:{second:02d} +0000] [7] [{level}] {text}", dropped)


def access(second: int, status: int = 200) -> LogLine:
    when = f"09/Oct/2025:08:00:{second:02d} +0000"
    return LogLine("access", f'192.0.2.1 - - [{when}] "GET /{second} HTTP/1.1" {status} 5 "-" "curl"')


def printed(text: str) -> LogLine:
    return LogLine("error", text)


def texts(model: LogModel) -> list[str]:
    return [parts_of(entry).text for entry in model.lines]


def one_row(_entry: LogEntry) -> int:
    return 1


def standing(model: LogModel, page: int = 3) -> list[str]:
    top, _ = model.position(page, one_row)
    return texts(model)[top : top + page]


# -- what is kept and what is shown --------------------------------------------------------------------------


def test_a_traceback_has_the_level_of_the_line_before_it() -> None:
    model = LogModel()
    model.take([printed("early"), error(1, "fine"), error(2, "it broke", "ERROR"), printed("Traceback")])
    model.take([printed("  KeyError"), error(3, "on")])
    assert [entry.level for entry in model.lines] == ["", "INFO", "ERROR", "ERROR", "ERROR", "INFO"]
    shown = {model.step_least(): texts(model) for _ in range(4)}
    assert shown == {
        "INFO": ["early", "fine", "it broke", "Traceback", "  KeyError", "on"],
        "WARNING": ["early", "it broke", "Traceback", "  KeyError"],
        "ERROR": ["early", "it broke", "Traceback", "  KeyError"],
        "": ["early", "fine", "it broke", "Traceback", "  KeyError", "on"],
    }


def test_both_logs_in_the_order_of_time() -> None:
    model = LogModel()
    model.show_log("both")
    model.take([printed("end of a traceback"), error(5, "five"), printed("of five"), error(9, "nine")])
    model.take([access(4), access(5), access(8)])
    model.take([error(9, "last")])
    assert [text.partition(" HTTP")[0] for text in texts(model)] == [
        "GET /4", "end of a traceback", "five", "of five", "GET /5", "GET /8", "nine", "last",
    ]  # fmt: skip
    model.show_log("access")
    assert len(model.lines) == model.total == 3
    model.show_log("error")
    assert len(model.lines) == model.total == 5


def test_the_clock_of_a_log_may_be_set_back() -> None:
    model = LogModel()
    model.show_log("both")
    model.take([error(9, "a"), error(3, "b"), access(8)])
    assert texts(model)[1:] == ["a", "b"]


def test_a_log_without_times_comes_as_it_comes() -> None:
    model = LogModel()
    model.show_log("both")
    model.take(
        [error(1, "one"), LogLine("access", "GET / 200"), error(2, "two"), LogLine("access", "GET /2 200")]
    )
    assert texts(model) == ["one", "GET / 200", "two", "GET /2 200"]


def test_what_is_kept_is_bounded() -> None:
    model = LogModel(kept=10)
    model.take(error(n, f"line_{n}") for n in range(25))
    assert texts(model) == [f"line_{n}" for n in range(15, 25)]
    model.set_filter("!line_1")
    assert texts(model) == [f"line_{n}" for n in range(20, 25)]
    model.set_filter("line")
    model.take(error(30, f"other {n}") for n in range(7))
    assert texts(model) == ["line_22", "line_23", "line_24"]


def test_lines_that_were_missed_are_marked_and_counted() -> None:
    model = LogModel()
    model.take([error(1, "a"), error(2, "b", dropped=3), error(3, "c", dropped=1)])
    assert texts(model) == ["a", "3 lines were missed here", "b", "1 line was missed here", "c"]
    assert model.missed == 4
    model.step_least()
    assert "3 lines were missed here" in texts(model), "they might have been of any level"
    model.set_filter("c")
    assert texts(model) == ["c"]


@pytest.mark.parametrize(
    ("wanted", "shown"), [("get 200", ["/1"]), ("!404", ["/1"]), ("", ["/1", "/2"]), ("zz", [])]
)
def test_filter(wanted: str, shown: list[str]) -> None:
    model = LogModel()
    model.show_log("access")
    model.set_filter(wanted)
    model.take([access(1), access(2, 404)])
    assert [text.split()[1] for text in texts(model)] == shown
    model.set_filter("")
    model.set_filter(wanted)
    assert [text.split()[1] for text in texts(model)] == shown


# -- where it stands -----------------------------------------------------------------------------------------


def test_following_and_standing_still() -> None:
    model = LogModel()
    model.take(error(n, str(n)) for n in range(6))
    assert standing(model) == ["3", "4", "5"]
    model.scroll(-1, 3, one_row)
    model.take([error(10, "new"), printed("of it")])
    assert standing(model) == ["2", "3", "4"]
    assert not model.is_following and model.fresh == 2
    model.scroll(2, 3, one_row)
    assert standing(model) == ["4", "5", "new"] and not model.is_following
    model.scroll(9, 3, one_row)
    assert model.is_following and model.fresh == 0, "the end was reached"
    model.to_start(3, one_row)
    assert standing(model) == ["0", "1", "2"]
    model.follow()
    assert standing(model) == ["5", "new", "of it"]


def test_what_fits_cannot_be_scrolled() -> None:
    model = LogModel()
    model.take([error(1, "a")])
    model.scroll(-1, 3, one_row)
    model.to_start(3, one_row)
    assert model.is_following


def test_it_stands_while_the_oldest_go_and_others_come_between() -> None:
    model = LogModel(kept=20)
    model.show_log("both")
    model.take(error(n, str(n)) for n in range(20))
    model.scroll(-4, 3, one_row)
    assert standing(model) == ["13", "14", "15"]
    model.take(error(30, "new") for _ in range(8))
    assert standing(model) == ["13", "14", "15"]
    model.take([access(9)])
    assert standing(model) == ["13", "14", "15"]
    model.take(error(31, "newer") for _ in range(15))
    assert standing(model) == ["new", "new", "new"], "what was there is not kept any more"


def test_it_stands_when_the_filter_changes() -> None:
    model = LogModel()
    model.take(error(n, f"{n} {'odd' if n % 2 else 'even'}{'' if n % 10 else ' ten'}") for n in range(21))
    model.scroll(-6, 3, one_row)
    assert standing(model)[0] == "12 even"
    model.set_filter("odd")
    assert standing(model)[0] == "13 odd"
    model.set_filter("")
    assert standing(model)[0] == "13 odd"
    model.set_filter("ten")
    assert standing(model) == ["0 even ten", "10 even ten", "20 even ten"]


def test_paused_it_stands_and_lines_are_collected() -> None:
    model = LogModel(kept=10)
    model.take(error(n, f"n{n}") for n in range(10))
    model.pause(paused=True)
    model.take(error(20, f"new {n}") for n in range(12))
    assert standing(model) == ["n7", "n8", "n9"] and model.fresh == 10
    model.scroll(-9, 3, one_row)
    assert standing(model) == ["n0", "n1", "n2"], "what is frozen is whole, whatever has come"
    model.set_filter("n8")
    assert texts(model) == ["n8"]
    model.set_filter("")
    model.pause(paused=False)
    assert standing(model)[0] == "new 2"
    assert not model.is_following
    model.pause(paused=False)
    model.follow()
    model.pause(paused=True)
    model.pause(paused=False)
    assert model.is_following and model.fresh == 0


@given(
    st.lists(st.integers(1, 4), max_size=12),
    st.lists(st.integers(-9, 9), max_size=8),
    st.integers(1, 7),
)
def test_scrolling_stays_within(heights: list[int], steps: list[int], page: int) -> None:
    model = LogModel()
    model.take(error(n, str(n)) for n in range(len(heights)))

    def height(entry: LogEntry) -> int:
        return heights[int(parts_of(entry).text)]

    total = sum(heights)
    above = max(0, total - page)
    for step in steps:
        above = max(0, min(above + step, total - page))
        model.scroll(step, page, height)
        top, row = model.position(page, height)
        assert sum(heights[:top]) + row == above
        assert model.is_following == (above == max(0, total - page))


# -- subscriptions -------------------------------------------------------------------------------------------


def joined(known: Sequence[str], past: Sequence[str], least: int) -> list[str]:
    overlap = Overlap(known, least)
    fresh: list[str] = []
    for line in past:
        if overlap.met:
            fresh.append(line)
        else:
            overlap.add(line)
    return [*known, *overlap.end(), *fresh]


@pytest.mark.parametrize(
    ("known", "past", "all_lines"),
    [
        ("abcd", "cdef", "abcdef"),
        ("abcd", "abcd", "abcd"),
        ("abcd", "efg", "abcdefg"),
        ("ab", "", "ab"),
        ("aaab", "aaabaaab", "aaabaaab"),
        ("xyaaa", "aaab", "xyaaab"),
        ("abcd", "ecdef", "abcdef"),
        ("abcd", "eabcde", "abcde"),
        ("abcd", "efbcdefg", "abcdefg"),
        ("abcd", "hbcdefgh", "abcdefgh"),
        ("abc", "bx", "abcbx"),
        ("abcd", "xdyz", "abcdxdyz"),
    ],
)
def test_where_subscriptions_meet(known: str, past: str, all_lines: str) -> None:
    assert "".join(joined(known, past, 2)) == all_lines


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 3), st.integers(1, 60))
def test_nothing_is_shown_twice_and_nothing_is_lost(known: int, new: int, early: int, past: int) -> None:
    """The server remembers the last ``past`` lines; ``early`` of the new ones have overtaken them, others
    were lost before those."""
    lines = [f"line {n}" for n in range(known + new)]
    remembered = lines[-past:]
    overtaking = lines[known + new // 2 :][:early]
    arriving = [*overtaking, *remembered]
    found = joined(lines[:known], arriving, 5)
    if past >= new + min(known, 5):
        assert found == lines
    else:
        assert found == [*lines[:known], *arriving]


def test_the_past_of_another_subscription_is_known() -> None:
    model = LogModel()
    model.begin(["error"])
    model.take(error(n, str(n)) for n in range(20))
    model.begin(["error", "access"])
    model.take([*(error(n, str(n)) for n in range(8, 23)), access(6)])
    assert texts(model) == [str(n) for n in range(23)]
    model.show_log("both")
    assert len(model.lines) == 24
    model.take([error(22, "22")])
    assert texts(model).count("22") == 2, "the same line may come again later"


def test_a_gap_is_marked() -> None:
    model = LogModel()
    model.take([error(1, "a")])
    model.begin(["error"])
    model.take(error(10, str(n)) for n in range(OVERLAP_LINES + 100))
    assert texts(model)[:3] == ["a", "lines may be missing here", "0"]


def test_what_was_kept_back_for_a_meeting_comes_after_a_while() -> None:
    clock = Clock()
    model = LogModel(clock=clock)
    model.take([error(1, "a"), error(2, "b")])
    model.begin(["error"])
    clock.pass_s(60)
    model.take([error(1, "a")])
    assert texts(model) == ["a", "b"]
    clock.pass_s(OVERLAP_S)
    model.settle()
    assert texts(model) == ["a", "b", "lines may be missing here", "a"]
    model.begin(["error"])
    model.begin(["error"])
    model.take([error(3, "c")])
    model.begin(["error"])
    assert texts(model)[-1] == "c", "a subscription that ended at once"


# -- what a line says ----------------------------------------------------------------------------------------

LOG: LogName = "access"


@pytest.mark.parametrize(
    ("line", "level", "parts"),
    [
        (access(3).text, "INFO", ("08:00:03", "200", "", 'GET /3 HTTP/1.1  5 B  192.0.2.1 "-" "curl"')),
        (
            r'::1 - bob [09/Oct/2025:10:00:03 +0200] "GET /a\"b HTTP/1.1" 404 -',
            "WARNING",
            ("08:00:03", "404", "", r"GET /a\"b HTTP/1.1  - B  ::1 bob"),
        ),
        (
            '{"time":"2025-10-09T08:00:04.120Z","path":"/","status":503}',
            "ERROR",
            ("08:00:04", "503", "", '{"time":"2025-10-09T08:00:04.120Z","path":"/","status":503}'),
        ),
        ("GET / done", "", ("", "", "", "GET / done")),
        ("", "", ("", "", "", "")),
    ],
)
def test_parts_of_access_lines(line: str, level: str, parts: tuple[str, ...]) -> None:
    assert access_level(line) == level
    assert parts_of(LogEntry(LOG, line, level, 0.0, 1)) == parts


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("1970-01-01 00:01:00 +0000", 60.0),
        ("01/Jan/1970:01:01:00 +0100", 60.0),
        ("1970-01-01T00:01:00.500Z", 60.5),
        ("1970-01-01 00:01:00", 60.0),
        ("0001-01-01 00:00:00", None),
        ("yesterday", None),
        ("99999-01-01", None),
    ],
)
def test_times(written: str, at: float | None) -> None:
    timestamp.cache_clear()
    assert timestamp(written) == at
