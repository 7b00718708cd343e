"""Following the logs: what is added to a file over rotation and truncation, and bounds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from wsgitop.errors import ActionFailed
from wsgitop.logs.sink import Sink
from wsgitop.master import log_streams
from wsgitop.master.log_streams import READ_BYTES, LogStreams, Tail, as_shown
from wsgitop.master.reload_logs import AccessLog


class Held:
    """An access log as the master holds it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = self._open()
        self._new_from = 0

    def __call__(self) -> AccessLog:
        return AccessLog(self.path, self._fd, self._new_from)

    def reopen(self, path: str | None = None) -> None:
        self.path = self.path if path is None else path
        fresh = self._open()
        self._new_from = os.fstat(fresh).st_size
        os.dup2(fresh, self._fd)
        os.close(fresh)

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        path = "/dev/null" if self.path in ("", "-") else self.path
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(b"old\n")
    return path


@pytest.fixture
def held(log: Path) -> Iterator[Held]:
    held = Held(str(log))
    yield held
    held.close()


@pytest.fixture
def tail(held: Held) -> Iterator[Tail]:
    tail = Tail(held)
    assert tail.find(from_end=True)
    yield tail
    tail.close()


def add(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_only_what_is_new_and_whole(log: Path, tail: Tail) -> None:
    assert tail.read() == ([], 0)
    add(log, b"a\nb\n\nha")
    assert tail.read() == ([b"a", b"b"], 0)
    assert tail.last() == [b"old", b"a", b"b"], "the half one is yet to come"
    add(log, b"lf\n")
    assert tail.read() == ([b"half"], 0)


def test_a_line_that_is_being_written_is_whole_in_the_end(log: Path, held: Held) -> None:
    add(log, b"ha")
    tail = Tail(held)
    assert tail.find(from_end=True)
    assert tail.last() == [b"old"]
    add(log, b"lf\n")
    assert tail.read() == ([b"half"], 0)
    tail.close()


def test_over_rotation(log: Path, held: Held, tail: Tail) -> None:
    held.write(b"a\n")
    old = log.rename(log.with_suffix(".1"))
    held.write(b"b\n")
    assert tail.read() == ([b"a", b"b"], 0), "the old one is written to until the log is reopened"
    held.reopen()
    held.write(b"c\n")
    add(old, b"late\n")
    assert tail.read() == ([b"late"], 0)
    add(old, b"later\n")
    assert tail.read() == ([b"later", b"c"], 0)
    held.write(b"d\n")
    assert tail.read() == ([b"d"], 0)


def test_the_old_content_of_another_log_is_not_new(tmp_path: Path, held: Held, tail: Tail) -> None:
    other = tmp_path / "other.log"
    other.write_bytes(b"from last week\n")
    held.reopen(str(other))
    held.write(b"new\n")
    tail.read()
    assert tail.read() == ([b"new"], 0)


def test_what_is_put_in_the_place_of_the_log_is_not_read(tmp_path: Path, log: Path, held: Held) -> None:
    secret = tmp_path / "shadow"
    secret.write_bytes(b"secret\n")
    tail = Tail(held)
    assert tail.find(from_end=True)
    log.rename(log.with_suffix(".1"))
    log.symlink_to(secret)
    add(secret, b"secret\n")
    held.write(b"line\n")
    assert [tail.read() for _ in range(3)] == [([b"line"], 0), ([], 0), ([], 0)]
    assert tail.last() == [b"old", b"line"]
    assert tail.find(from_end=True)
    assert tail.last() == [b"old", b"line"]
    tail.close()


def test_over_truncation(log: Path, tail: Tail) -> None:
    add(log, b"aaaa\n")
    tail.read()
    os.truncate(log, 0)
    add(log, b"b\n")
    assert tail.read() == ([b"b"], 0)


def test_a_flood_goes_on_at_the_end_and_is_counted(log: Path, tail: Tail) -> None:
    count = 3 * READ_BYTES // 100
    add(log, b"".join(b"%099d\n" % number for number in range(count)))
    lines, dropped = tail.read()
    assert lines[-1] == b"%099d" % (count - 1)
    assert abs(len(lines) + dropped - count) <= count * 0.02
    assert tail.read() == ([], 0)


def test_what_is_no_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    for path in (str(fifo), "", "-", "/dev/null"):
        held = Held(path)
        tail = Tail(held)
        assert not tail.find(from_end=True) and not tail.is_open, path
        assert tail.read() == ([], 0)
        held.close()
    os.close(reader)


class Got:
    """What was published."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {"error": [], "access": []}
        self.dropped = 0
        self.ended: list[tuple[str, str]] = []
        self.news = asyncio.Event()

    def take(self, log: str, lines: Sequence[str], dropped: int) -> None:
        self.lines[log].extend(lines)
        self.dropped += dropped
        self.news.set()

    def end(self, log: str, text: str) -> None:
        self.ended.append((log, text))
        self.news.set()

    async def until(self, log: str, last: str) -> None:
        async with asyncio.timeout(5):
            while not (self.lines[log] and self.lines[log][-1] == last):
                self.news.clear()
                await self.news.wait()


def test_streams(tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_streams, "LOOK_S", 0.01)

    async def check() -> None:
        sink = Sink(str(tmp_path / "error.log"))
        sink.start()
        streams = LogStreams(asyncio.get_running_loop(), sink, held)
        got = Got()
        streams.publish, streams.end = got.take, got.end
        try:
            sink.write(b"before\n")
            streams.follow(True, True)
            streams.follow(True, True)
            await asyncio.to_thread(sink.write, b"one\ntwo \x1b[2J\n")
            held.write(b"GET /\n")
            await got.until("error", "two \\x1b[2J")
            await got.until("access", "GET /")
            assert got.lines["error"] == ["one", "two \\x1b[2J"]
            # More than may wait for the loop, which has no turn meanwhile.
            for number in range(log_streams.PENDING_LIMIT + 7):
                sink.write(b"%d\n" % number)
            await got.until("error", str(log_streams.PENDING_LIMIT - 1))
            assert got.dropped == 7
            (tmp_path / "other.log").write_bytes(b"old\n")
            held.reopen(str(tmp_path / "other.log"))  # a reload has changed it
            held.write(b"there\n")
            await got.until("access", "there")
            assert got.lines["access"] == ["GET /", "there"]
            streams.follow(False, False)
            sink.write(b"after\n")
            assert streams.past_lines("error", 1) == ["after"]
            assert streams.past_lines("access", 9) == ["old", "there"]
            sink.write(b"x" * log_streams.PAST_BYTES * 2 + b"\n")
            assert len(streams.past_lines("error", 9)) == 1
        finally:
            streams.close()
            sink.close()

    asyncio.run(check())


def test_what_is_past_does_not_come_again(tmp_path: Path, held: Held) -> None:
    """Who follows has every line when the past ones are taken; none of those is published later."""

    async def check() -> None:
        sink = Sink(str(tmp_path / "error.log"))
        sink.start()
        streams = LogStreams(asyncio.get_running_loop(), sink, held)
        got = Got()
        streams.publish = got.take
        try:
            streams.follow(True, True)
            sink.write(b"a\n")
            held.write(b"GET /a\nGET")
            assert got.lines == {"error": [], "access": []}, "they wait for the loop"
            assert streams.past_lines("error", 9) == ["a"]
            assert streams.past_lines("access", 9) == ["old", "GET /a"]
            assert got.lines == {"error": ["a"], "access": ["GET /a"]}
            sink.write(b"b\n")
            held.write(b" /b\n")
            assert streams.past_lines("access", 9) == ["old", "GET /a", "GET /b"]
            await got.until("error", "b")
            await asyncio.sleep(0)
            assert got.lines == {"error": ["a", "b"], "access": ["GET /a", "GET /b"]}
            sink.write(b"c\n")
            streams.follow(False, False)
            streams.follow(True, False)  # somebody else
            sink.write(b"d\n")
            await got.until("error", "d")
            assert got.lines["error"] == ["a", "b", "d"]
        finally:
            streams.close()
            sink.close()

    asyncio.run(check())


@pytest.mark.parametrize(("path", "cause"), [("", "no access log"), ("-", r"\(-\) is no file")])
def test_a_log_that_ends_is_told(
    tmp_path: Path, held: Held, path: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_streams, "LOOK_S", 0.01)

    async def check() -> None:
        sink = Sink(str(tmp_path / "error.log"))
        sink.start()
        streams = LogStreams(asyncio.get_running_loop(), sink, held)
        got = Got()
        streams.publish, streams.end = got.take, got.end
        try:
            streams.follow(False, True)
            held.write(b"last\n")
            held.reopen(path)
            async with asyncio.timeout(5):
                while not got.ended:
                    got.news.clear()
                    await got.news.wait()
            assert got.lines["access"] == ["last"]
            ((log, text),) = got.ended
            assert log == "access" and text.startswith("[wsgitop] the lines end here: ")
            with pytest.raises(ActionFailed, match=cause) as caught:
                streams.follow(False, True)
            assert text.endswith(caught.value.cause)
            held.reopen(str(tmp_path / "again.log"))
            streams.follow(False, True)
            held.write(b"again\n")
            await got.until("access", "again")
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
        held = Held(path)
        try:
            streams = LogStreams(asyncio.get_running_loop(), sink, held)
            with pytest.raises(ActionFailed, match=cause):
                streams.follow(True, True)
            assert streams.past_lines("access", 9) == []
        finally:
            held.close()
            sink.close()

    asyncio.run(check())


def test_a_line_is_harmless_and_bounded() -> None:
    assert as_shown(b"a\tb\x9b\xff\xe2\x80\xae") == "a" + 7 * " " + "b\\x9b\\xff\\u202e"
    assert len(as_shown(b"x" * 100_000)) == log_streams.LINE_LIMIT
