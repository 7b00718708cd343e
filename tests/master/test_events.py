"""What happened: numbered, kept for a while, harmless to look at."""

from __future__ import annotations

import logging

import pytest

from wsgitop.client.link import NEWS_LIMIT_BYTES
from wsgitop.control.codec import encode_event
from wsgitop.master.events import KEPT, EventLog
from wsgitop.snapshot import Event


def test_numbers_and_limits() -> None:
    log = EventLog()
    for number in range(KEPT + 20):
        log.add("info", "test", f"event {number}")
    assert len(log.after(0, 10_000)) == KEPT
    assert [event.sequence for event in log.after(0, 3)] == [KEPT + 18, KEPT + 19, KEPT + 20]
    assert [event.sequence for event in log.after(KEPT + 18, 100)] == [KEPT + 19, KEPT + 20]
    assert log.after(KEPT + 20, 100) == log.after(0, 0) == log.after(0, -1) == ()


def test_announced_once_each() -> None:
    log = EventLog()
    heard: list[Event] = []
    log.add("info", "test", "nobody listens")
    log.announce = heard.append
    event = log.add("warning", "test", "somebody does", actor="alice")
    assert heard == [event]


def test_text_cannot_steer_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog()
    with caplog.at_level(logging.INFO, "wsgitop.master"):
        event = log.add(
            "error", "test", "one\n  two \x1b[2J", actor="eve\x07", detail="a\tb\n\x1b]0;title\x07\r\nc\u202e"
        )
    assert event.text == "one two \\x1b[2J"
    assert event.actor == "eve\\x07"
    assert event.detail == "a       b\n\\x1b]0;title\\x07\nc\\u202e"
    assert not set(caplog.text) & set("\x1b\x07\r\u202e")


@pytest.mark.parametrize(
    ("severity", "level"), [("info", "INFO"), ("good", "INFO"), ("warning", "WARNING"), ("error", "ERROR")]
)
def test_severity_is_the_logs_level(caplog: pytest.LogCaptureFixture, severity: str, level: str) -> None:
    with caplog.at_level(logging.DEBUG, "wsgitop.master"):
        EventLog().add(severity, "test", "text")  # type: ignore[arg-type] # from the table
    assert [record.levelname for record in caplog.records] == [level]


def test_a_detail_is_never_longer_than_a_client_takes() -> None:
    for character in ("\x00", "\\", "\U0001f600", "\U0010ffff", "\n"):
        event = EventLog().add("error", "test", character * 1000, detail=character * 64 * 1024)
        assert len(encode_event(event)) < NEWS_LIMIT_BYTES
        assert "characters left out" in event.detail
