"""Following the logs: what is added to a file over rotation and truncation, and bounds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from wsgitop.errors import ActionFailed
from wsgitop.logs.sink import Sink
from wsgitop.master import log_streams
from wsgitop.master.log_streams import READ_BYTES, LogStreams, Tail, as_shown


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(b"old\n")
    return path


def add(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_only_what_is_new_and_whole(log: Path) -> None:
    tail = Tail(str(log))
    assert tail.find(from_end=True)
    assert tail.read() == ([], 0)
    add(log, b"a\nb\n\nha")
    assert tail.read() == ([b"a", b"b"], 0)
    add(log, b"lf\n")
    assert tail.read() == ([b"half"], 0)
    tail.close()


def test_over_rotation(log: Path) -> None:
    tail = Tail(str(log))
    assert tail.find(from_end=True)
    add(log, b"a\n")
    log.rename(log.with_suffix(".1"))
    add(log.with_suffix(".1"), b"b\n")
    assert tail.read() == ([b"a", b"b"], 0), "the old one is written to until the log is reopened"
    log.write_bytes(b"c\n")
    add(log.with_suffix(".1"), b"late\n")
    assert tail.read() == ([b"late"], 0)
    assert tail.read() == ([b"c"], 0)
    tail.close()


def test_over_truncation(log: Path) -> None:
    tail = Tail(str(log))
    assert tail.find(from_end=True)
    add(log, b"aaaa\n")
    tail.read()
    os.truncate(log, 0)
    add(log, b"b\n")
    assert tail.read() == ([b"b"], 0)
    tail.close()


def test_a_flood_goes_on_at_the_end_and_is_counted(log: Path) -> None:
    tail = Tail(str(log))
    assert tail.find(from_end=True)
    count = 3 * READ_BYTES // 100
    add(log, b"".join(b"%099d\n" % number for number in range(count)))
    lines, dropped = tail.read()
    assert lines[-1] == b"%099d" % (count - 1)
    assert abs(len(lines) + dropped - count) <= count * 0.02
    assert tail.read() == ([], 0)
    tail.close()


def test_no_file_and_a_file_that_comes_later(tmp_path: Path) -> None:
    tail = Tail(str(tmp_path / "no"))
    assert not tail.find(from_end=True)
    assert tail.read() == ([], 0)
    (tmp_path / "no").write_bytes(b"a\n")
    assert tail.read() == ([b"a"], 0)
    tail.close()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (str(fifo), str(tmp_path), "", "-", "/dev/null"):
        assert not Tail(path).find(from_end=True), path


class Got:
    """What was published."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {"error": [], "access": []}
        self.dropped = 0
        self.news = asyncio.Event()

    def take(self, log: str, lines: Sequence[str], dropped: int) -> None:
        self.lines[log].extend(lines)
        self.dropped += dropped
        self.news.set()

    async def until(self, log: str, last: str) -> None:
        async with asyncio.timeout(5):
            while not (self.lines[log] and self.lines[log][-1] == last):
                self.news.clear()
                await self.news.wait()


def test_streams(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_streams, "LOOK_S", 0.01)

    async def check() -> None:
        sink = Sink(str(tmp_path / "error.log"))
        sink.start()
        path = str(log)
        streams = LogStreams(asyncio.get_running_loop(), sink, lambda: path)
        got = Got()
        streams.publish = got.take
        try:
            sink.write(b"before\n")
            streams.follow(True, True)
            streams.follow(True, True)
            await asyncio.to_thread(sink.write, b"one\ntwo \x1b[2J\n")
            add(log, b"GET /\n")
            await got.until("error", "two \\x1b[2J")
            await got.until("access", "GET /")
            assert got.lines["error"] == ["one", "two \\x1b[2J"]
            # More than may wait for the loop, which has no turn meanwhile.
            for number in range(log_streams.PENDING_LIMIT + 7):
                sink.write(b"%d\n" % number)
            await got.until("error", str(log_streams.PENDING_LIMIT - 1))
            assert got.dropped == 7
            path = str(tmp_path / "other.log")  # a reload has changed it
            Path(path).write_bytes(b"there\n")
            await got.until("access", "there")
            streams.follow(False, False)
            sink.write(b"after\n")
            assert len(sink.copies) == 1
            assert streams.past_lines("error", 1) == ["after"]
            assert streams.past_lines("access", 9) == ["there"]
            sink.write(b"x" * log_streams.PAST_BYTES * 2 + b"\n")
            assert len(streams.past_lines("error", 9)) == 1
        finally:
            streams.close()
            sink.close()

    asyncio.run(check())


def test_what_is_on_the_way_is_not_past(log: Path, tmp_path: Path) -> None:
    """Who begins to follow gets the past lines and then those that come: none of them twice."""

    async def check() -> None:
        sink = Sink(str(tmp_path / "error.log"))
        sink.start()
        streams = LogStreams(asyncio.get_running_loop(), sink, lambda: str(log))
        got: list[str] = []
        streams.publish = lambda _log, lines, _dropped: got.extend(lines)
        try:
            sink.write(b"one\n")
            assert streams.past_lines("error", 9) == ["one"]
            streams.follow(True, False)
            sink.write(b"two\nthree\n")
            assert [*streams.past_lines("error", 9), *got] == ["one"]
            async with asyncio.timeout(5):
                while not got:
                    await asyncio.sleep(0)
            assert got == ["two", "three"]
            assert streams.past_lines("error", 9) == ["one", "two", "three"]
            add(log, b"GET /1\n")
            assert streams.past_lines("access", 1) == ["GET /1"]
            streams.follow(False, True)
            add(log, b"GET /2\n")
            assert streams.past_lines("access", 1) == ["GET /1"]
            async with asyncio.timeout(5):
                while got[-1] != "GET /2":
                    await asyncio.sleep(0.01)
            assert streams.past_lines("access", 2) == ["GET /1", "GET /2"]
        finally:
            streams.close()
            sink.close()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("path", "cause"), [("", "no access log"), ("-", "no file"), ("/dev/null", "no file")]
)
def test_what_cannot_be_followed(tmp_path: Path, path: str, cause: str) -> None:
    async def check() -> None:
        sink = Sink(str(tmp_path / "error.log"))
        sink.start()
        try:
            streams = LogStreams(asyncio.get_running_loop(), sink, lambda: path)
            with pytest.raises(ActionFailed, match=cause):
                streams.follow(True, True)
            assert len(sink.copies) == 1
        finally:
            sink.close()

    asyncio.run(check())


def test_a_line_is_harmless_and_bounded() -> None:
    assert as_shown(b"a\tb\x9b\xff\xe2\x80\xae") == "a" + 7 * " " + "b\\x9b\\xff\\u202e"
    assert len(as_shown(b"x" * 100_000)) == log_streams.LINE_LIMIT
