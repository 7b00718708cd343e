"""The log's writer: nothing blocks who writes, and what is lost is counted."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from wsgitop.errors import ConfigError
from wsgitop.logs.sink import QUEUE_LIMIT_BYTES, Sink, SinkHandler, open_log

Make = Callable[..., Sink]


@pytest.fixture
def make() -> Iterator[Make]:
    sinks: list[Sink] = []

    def build(path: str, fallback_fd: int = 2) -> Sink:
        sinks.append(Sink(path, fallback_fd))
        sinks[-1].start()
        return sinks[-1]

    yield build
    for sink in sinks:
        sink.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_lines_arrive_in_order(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    path.write_text("from before\n")
    before = descriptors()
    sink = make(str(path))
    for number in range(500):
        sink.write(b"%d\n" % number)
    sink.close()
    assert path.read_text() == "from before\n" + "".join(f"{number}\n" for number in range(500))
    assert descriptors() == before


def test_standard_error(make: Make) -> None:
    reader, writer = os.pipe()
    sink = make("-", writer)
    os.close(writer)
    sink.write(b"hello\n")
    assert os.read(reader, 99) == b"hello\n"
    sink.close()
    assert os.read(reader, 99) == b"", "the copy is closed"
    os.close(reader)


def test_reopened_after_rotation(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    sink = make(str(path))
    sink.write(b"one\n")
    eventually(lambda: path.read_text() == "one\n", 5)
    path.rename(tmp_path / "error.log.1")
    sink.write(b"two\n")
    eventually(lambda: (tmp_path / "error.log.1").read_text() == "one\ntwo\n", 5)
    before = descriptors()
    sink.reopen()
    assert descriptors() == before
    sink.write(b"three\n")
    eventually(lambda: path.read_text() == "three\n", 5)
    assert (tmp_path / "error.log.1").read_text() == "one\ntwo\n"


def test_reopening_that_fails_keeps_the_old_file(make: Make, tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    sink = make(str(directory / "error.log"))
    directory.rename(tmp_path / "away")
    with pytest.raises(ConfigError, match="cannot be opened"):
        sink.reopen()
    sink.write(b"still here\n")
    eventually(lambda: (tmp_path / "away" / "error.log").read_text() == "still here\n", 5)


def test_reopening_does_not_change_the_number_under_a_write(make: Make, tmp_path: Path) -> None:
    """A write may be going on, for as long as the terminal is stopped: its descriptor must stay a log."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sink = make("-", writer)
    sink.write(b"x" * 8000 + b"\n")  # more than the pipe holds: the thread hangs in write(2)
    eventually(lambda: os.read(reader, 1) == b"x", 5)
    sink.path = str(tmp_path / "error.log")
    sink.reopen()
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    assert sink._fd not in taken
    while b"\n" not in os.read(reader, 65536):
        pass
    sink.write(b"next\n")
    eventually(lambda: (tmp_path / "error.log").read_text().endswith("next\n"), 5)
    for fd in (reader, writer, *taken):
        os.close(fd)


def test_what_does_not_fit_is_dropped_and_counted(make: Make) -> None:
    reader, writer = os.pipe()
    sink = make("-", writer)
    os.close(writer)
    line = b"x" * 9999 + b"\n"
    sink.write(line * 20)  # more than the pipe holds: the thread hangs in write(2)
    eventually(lambda: os.read(reader, 1), 5)
    fitting = QUEUE_LIMIT_BYTES // len(line)
    for _ in range(fitting + 10):
        sink.write(line)
    assert sink._dropped == 10
    text = b""
    while b"dropped" not in text:
        text = text[-100:] + os.read(reader, 1 << 16)
    found = re.search(rb"too slow: (\d+) lines were dropped", text)
    assert found and int(found[1]) == 10
    sink.write(b"and on it goes\n")
    while b"and on it goes\n" not in text:
        text = text[-100:] + os.read(reader, 1 << 16)
    os.close(reader)


def test_full_disk_stops_nothing(make: Make) -> None:
    sink = make("/dev/full")
    for _ in range(3):
        sink.write(b"lost\n")
    eventually(lambda: sink._dropped >= 3, 5)
    assert sink._thread.is_alive()


def test_closed_terminal_stops_nothing(make: Make) -> None:
    reader, writer = os.pipe()
    sink = make("-", writer)
    os.close(reader)
    sink.write(b"lost\n")
    eventually(lambda: sink._dropped == 1, 5)
    assert sink._thread.is_alive()
    os.close(writer)


@pytest.mark.parametrize("path", ["/nowhere/at/all/error.log", "/proc"])
def test_log_that_cannot_be_opened(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Sink(path)
    assert path in caught.value.cause


def test_handler_takes_what_cannot_be_encoded(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    handler = SinkHandler(make(str(path)))
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "odd: %s", ("\udcff",), None))
    eventually(lambda: path.read_text() == "odd: \\udcff\n", 5)


def test_a_named_pipe_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="No such device or address"):
        Sink(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = make(path)
    sink.write(b"line\n")
    eventually(lambda: os.read(reader, 9) == b"line\n", 5)
    os.close(reader)


def test_copies_get_all_that_is_written(make: Make, tmp_path: Path) -> None:
    copied: list[bytes] = []
    sink = make(str(tmp_path / "log"))
    sink.copies.append(copied.append)
    sink.write(b"one\n")
    sink.write(b"two\n")
    assert copied == [b"one\n", b"two\n"], "at once, whatever the disk does"


def test_a_line_that_a_full_disk_took_the_half_of_does_not_run_into_the_next(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    sink = make(str(path))
    room = [6]
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "no space")
        sent = real(fd, bytes(data)[: room[0]])
        room[0] -= sent
        return sent

    monkeypatch.setattr("wsgitop.logs.sink.os.write", full)
    sink.write(b"a long line\n")
    eventually(lambda: path.read_bytes() == b"a long" and room == [0])
    eventually(lambda: sink._dropped == 1)
    room[0] = 1000
    sink.write(b"next\n")
    eventually(lambda: path.read_bytes().startswith(b"a long\nnext\n"))
    eventually(lambda: b"1 lines were dropped\n" in path.read_bytes())


def test_a_stream_by_its_name_that_cannot_be_opened_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/stdout is a socket under systemd, and sockets cannot be opened."""

    def refuse(path: str, flags: int, mode: int = 0, *, dir_fd: int | None = None) -> int:
        raise OSError(errno.ENXIO, "No such device or address")

    monkeypatch.setattr("wsgitop.logs.sink.os.open", refuse)
    fd = open_log("/dev/stderr", 1)
    assert os.path.sameopenfile(fd, 2)
    os.close(fd)
    with pytest.raises(ConfigError):
        open_log("/dev/null", 1)
