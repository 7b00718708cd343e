"""Where lines of the access log go, and what a descriptor can do to that: full, slow, gone, replaced."""

from __future__ import annotations

import logging
import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.support.waiting import eventually
from tests.worker import apps
from tests.worker.exchange import write, write_numbers
from tests.worker.harness import wait_until, worker
from wsgitop.logs.error_log import LOGGER
from wsgitop.worker import access_log
from wsgitop.worker.access_log import AccessLog

MakeLog = Callable[[int], AccessLog]


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the error log was told."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    yield messages
    LOGGER.removeHandler(handler)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe as small as one can be: two pages."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def numbers(text: str) -> list[int]:
    return [int(line.removeprefix("/")) for line in text.split("\n")[:-1]]


@pytest.fixture
def make_log() -> Iterator[MakeLog]:
    """Logs that show nothing but the target; closed behind the test."""
    logs: list[AccessLog] = []

    def make(fd: int) -> AccessLog:
        logs.append(AccessLog(fd, "%(U)s"))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def read_until(fd: int, mark: bytes) -> str:
    """Everything up to the line that ends in ``mark``."""
    data = b""
    while not data.endswith(mark + b"\n"):
        assert select.select([fd], [], [], 10)[0], f"no {mark!r}, but {data[-99:]!r}"
        data += os.read(fd, 65536)
    return data.replace(b"\r", b"").decode()


# -- files ---------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_error_and_one_farewell(
    make_log: MakeLog, said: list[str], tmp_path: Path
) -> None:
    log = make_log(os.open("/dev/full", os.O_WRONLY))
    write_numbers(log, 50)
    assert said == ["Cannot write the access log: [Errno 28] No space left on device; lines are lost"]
    log.reopen(open_log(tmp_path / "log"))
    write_numbers(log, 3)
    assert said[1:] == ["The access log is written again; lines lost: 50"]
    assert (tmp_path / "log").read_text() == "/0\n/1\n/2\n"


def test_a_disk_that_is_full_now_and_then_does_not_fill_the_error_log(
    make_log: MakeLog, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(access_log.time, "monotonic", lambda: now_s)
    log = make_log(open_log(tmp_path / "log"))
    for _ in range(20):
        log.reopen(os.open("/dev/full", os.O_WRONLY))
        write(log, "/lost")
        log.reopen(open_log(tmp_path / "log"))
        write(log, "/kept")
    assert [message.partition(": [")[0] for message in said] == [
        "Cannot write the access log", "The access log is written again; lines lost: 1",
    ]  # fmt: skip
    now_s += access_log.QUIET_S
    write(log, "/kept")
    assert said[2:] == ["The access log is written again; lines lost: 19"]
    assert (tmp_path / "log").read_text() == "/kept\n" * 21


def test_the_rest_of_a_line_that_a_full_disk_cut_is_not_the_next_ones_beginning(
    make_log: MakeLog, said: list[str], tmp_path: Path
) -> None:
    start = 1 << 30  # beyond what anybody else in this process writes to a file
    fd = open_log(tmp_path / "log")
    os.truncate(fd, start)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (start + 10, limits[1]))
    try:
        log = make_log(fd)
        write(log, "/cut-off-somewhere-in-the-middle", "/lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    write(log, "/one", "/two")
    assert os.pread(os.open(tmp_path / "log", os.O_RDONLY), 999, start) == b"/cut-off-s\n/one\n/two\n"
    assert [message.partition(": [")[0] for message in said] == [
        "Cannot write the access log", "The access log is written again; lines lost: 2",
    ]  # fmt: skip


def test_reopening_under_load_loses_and_splits_nothing(
    make_log: MakeLog, said: list[str], tmp_path: Path
) -> None:
    log = make_log(open_log(tmp_path / "0"))
    done = threading.Event()

    def load(start: int, written: list[int]) -> None:
        number = start
        while not done.is_set():
            write_numbers(log, 1, number)
            written.append(number)
            number += 1

    tallies: list[list[int]] = [[], [], []]
    threads = [
        threading.Thread(target=load, args=(index * 10_000_000, tally)) for index, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    for number in range(1, 21):
        before = [len(tally) for tally in tallies]
        eventually(lambda before=before: all(len(t) > n for t, n in zip(tallies, before, strict=True)))  # type: ignore[misc]
        if number < 20:
            log.reopen(open_log(tmp_path / str(number)))
    done.set()
    for thread in threads:
        thread.join()
    files = [numbers((tmp_path / str(number)).read_text()) for number in range(20)]
    assert all(files)
    assert sorted(chain(*files)) == sorted(chain(*tallies))
    assert said == []


# -- pipes, sockets, terminals -------------------------------------------------------------------------------


def test_a_slow_reader_is_not_waited_for_and_gets_every_line(
    make_log: MakeLog, pipe: tuple[int, int], said: list[str]
) -> None:
    reader, writer = pipe
    log = make_log(os.dup(writer))
    assert os.get_blocking(writer), "what others share stays as it was"
    write_numbers(log, 30_000)  # 200 KB, and the pipe takes 64
    write(log, "/30000")
    assert numbers(read_until(reader, b"/30000")) == list(range(30_001))
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "wsgitop-access-log"])
    write_numbers(log, 2)
    assert os.read(reader, 99) == b"/0\n/1\n"
    assert said == []


def test_more_than_is_kept_for_a_slow_reader_is_lost_and_counted(
    make_log: MakeLog, pipe: tuple[int, int], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "KEPT_BYTES", 5000)
    reader, writer = pipe
    log = make_log(os.dup(writer))
    write_numbers(log, 20_000)
    assert said == ["Cannot write the access log: its reader is too slow; lines are lost"]
    text = b""
    while select.select([reader], [], [], 0.2)[0]:
        text += os.read(reader, 65536)
    kept = numbers(text.decode())
    assert kept == list(range(len(kept)))
    write(log, "/again")
    assert os.read(reader, 99) == b"/again\n"
    assert said[1:] == [f"The access log is written again; lines lost: {20_000 - len(kept)}"]


@pytest.mark.parametrize("when", ["before", "while lines wait"])
def test_a_reader_that_is_gone_is_one_error(
    make_log: MakeLog, pipe: tuple[int, int], said: list[str], when: str
) -> None:
    reader, writer = pipe
    log = make_log(os.dup(writer))
    if when == "while lines wait":
        write_numbers(log, 20_000)
        assert said == []
    os.close(reader)
    eventually(lambda: write_numbers(log, 3) or said)  # type: ignore[func-returns-value]
    write_numbers(log, 30)
    assert said == ["Cannot write the access log: [Errno 32] Broken pipe; lines are lost"]


def test_a_pipe_that_cannot_be_opened_again_is_looked_at_first(
    make_log: MakeLog, pipe: tuple[int, int], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of another user."""
    reader, writer = pipe

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    log = make_log(os.dup(writer))
    monkeypatch.undo()
    write_numbers(log, 30_000)
    write(log, "/30000")
    assert numbers(read_until(reader, b"/30000")) == list(range(30_001))
    assert said == []


def test_a_line_that_a_pipe_would_split_is_shortened(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    log = AccessLog(os.dup(writer), '%(h)s "%(r)s" "%(a)s" %(s)s')
    write(log, "/" + "x" * 3000, agent="\x01" * 3000)
    log.close()
    line = os.read(reader, 65536)
    assert len(line) <= select.PIPE_BUF
    assert re.fullmatch(rb'192\.0\.2\.1 "GET /x+\.\.\. HTTP/1\.1" "(\\x01)+\.\.\." 201\n', line)


def test_a_socket_is_not_waited_for(make_log: MakeLog, said: list[str]) -> None:
    """Standard output of a systemd unit is one."""
    ours, theirs = socket.socketpair()
    flags_before = os.get_blocking(theirs.fileno())
    socket.setdefaulttimeout(5)  # as an application may; it must not make a write wait
    try:
        log = make_log(os.dup(theirs.fileno()))
        write_numbers(log, 30_000)
    finally:
        socket.setdefaulttimeout(None)
    write(log, "/30000")
    assert numbers(read_until(ours.fileno(), b"/30000")) == list(range(30_001))
    assert os.get_blocking(theirs.fileno()) == flags_before
    theirs.close()
    ours.close()
    write_numbers(log, 3)
    # Perhaps said by the thread that writes what had to wait, if it is not done yet.
    eventually(lambda: said == ["Cannot write the access log: [Errno 32] Broken pipe; lines are lost"])
    log.reopen(os.open(os.devnull, os.O_WRONLY))


def test_a_stopped_terminal_is_not_waited_for(make_log: MakeLog, said: list[str]) -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    log = make_log(os.dup(theirs))
    write(log, "/seen")
    assert read_until(ours, b"/seen") == "/seen\n"
    termios.tcflow(theirs, termios.TCOOFF)  # what Ctrl-S does
    write_numbers(log, 3000)
    termios.tcflow(theirs, termios.TCOON)
    write(log, "/3000")
    assert numbers(read_until(ours, b"/3000")) == list(range(3001))
    assert said == []
    os.close(ours)
    os.close(theirs)


def test_what_is_kept_is_written_when_the_process_ends(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    script = (
        "import sys; from tests.worker.exchange import *\n"
        "write_numbers(AccessLog(1, '%(U)s'), 30_000)\nprint('full', file=sys.stderr, flush=True)\n"
    )
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    ) as process:  # fmt: skip
        os.close(writer)
        assert process.stderr is not None
        assert process.stderr.readline() == b"full\n"
        assert numbers(read_until(reader, b"/29999")) == list(range(30_000))
        assert process.wait(10) == 0


# -- in a worker ---------------------------------------------------------------------------------------------


@pytest.mark.every_python
@pytest.mark.process
def test_a_worker_serves_on_while_nobody_reads_its_log(pipe: tuple[int, int]) -> None:
    reader, writer = pipe

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/0":
            os.close(reader)  # the copy of our end that a fork has
        return apps.plain_echo(environ, start_response)

    with worker(app, access_fd=os.dup(writer), access_log_format="json") as w, w.connect() as client:
        agent = "x" * 3000
        for number in range(60):  # 180 KB
            client.get(f"/{number}", User_Agent=agent)
            assert client.answer().status == 200
        lines = read_until(reader, b"}").count("\n")
        while lines < 60:
            lines += read_until(reader, b"}").count("\n")
        os.close(reader)
        client.sock.close()
        for _ in range(3):
            assert w.get("/").status == 200
        wait_until(lambda: "Cannot write" in w.log())
        os.kill(w.pid, signal.SIGTERM)
        assert w.wait_exit() == 0
        assert w.log().count("Cannot write the access log: [Errno 32] Broken pipe") == 1


@pytest.mark.process
def test_a_full_disk_costs_a_worker_nothing_but_lines() -> None:
    with worker(apps.plain_echo, access_fd=os.open("/dev/full", os.O_WRONLY)) as w:
        for _ in range(5):
            assert w.get("/").status == 200
        wait_until(lambda: "Cannot write" in w.log())
        assert w.log().count("access log") == 1
