"""What happens to the terminal itself: its size, job control, speed and loss; and every page in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from textual.binding import Binding

from tests.benchmarks.tui.control_server import MovingBackend
from tests.conftest import StartServer
from tests.control.fake_backend import serving
from tests.support.processes import end_session, lives
from tests.support.server import PROGRAM, Server
from tests.support.terminal import Terminal
from tests.support.waiting import eventually
from wsgitop.tui.app import WsgitopApp, pages

pytestmark = [pytest.mark.process, pytest.mark.pty, pytest.mark.slow]


@pytest.fixture
def open_terminal(runtime_dir: Path) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*words: str, **options: object) -> Terminal:
        terminals.append(Terminal(*words, runtime_dir=runtime_dir, **options))  # type: ignore[arg-type]
        return terminals[-1]

    yield start
    for terminal in terminals:
        with contextlib.suppress(OSError):  # a test may have closed it
            terminal.child.close(force=True)
        end_session(terminal.child.pid)


@pytest.fixture
def server(start_server: StartServer, runtime_dir: Path) -> Server:
    return start_server("lab:application", "--workers", "2", runtime_dir=runtime_dir)


def test_it_follows_the_size_of_its_window(open_terminal: Callable[..., Terminal], server: Server) -> None:
    terminal = open_terminal("attach")
    terminal.see("LIVE")
    terminal.see(r"┌|╭")  # the frames of the graphs

    terminal.resize(60, 15)
    terminal.see(r"LIVE")
    terminal.see(r"PID +STATE")
    assert all(len(line) == 60 for line in terminal.text().split("\n"))
    terminal.resize(59, 14)
    terminal.see(r"too small: 59×14")
    terminal.see(r"wsgitop needs 60×15")
    terminal.resize(60, 15)
    terminal.see(r"PID +STATE")
    terminal.resize(200, 60)
    terminal.see(r"generation")  # the pane beside the table
    terminal.see(r"q quit")
    terminal.press("q")
    assert terminal.wait_for_end() == 0


def test_a_shell_can_suspend_it_and_bring_it_back(
    open_terminal: Callable[..., Terminal], server: Server
) -> None:
    terminal = open_terminal(
        "--norc", "--noprofile", "-i", program=("/bin/bash",), env={"PS1": r"shell \#> "}
    )
    terminal.see("shell 1>")
    terminal.press(f"{' '.join(PROGRAM)} attach\r")
    terminal.see("LIVE")
    terminal.see("q quit")
    terminal.press("\x1a")
    terminal.see(r"Stopped.*attach")
    terminal.see("shell 2>")
    terminal.press("clear; echo back to $((6 * 7))\r")  # pyte has no second screen to come back from
    terminal.see("back to 42")
    assert "LIVE" not in terminal.text()
    terminal.see("shell 3>")
    terminal.press("fg\r")
    for part in ("LIVE", r"req/s", r"PID +GEN +STATE", "events", "q quit"):
        terminal.see(part)  # all of it is drawn again, not only what changes
    terminal.press("q")
    terminal.see("shell 4>")
    terminal.press("echo status $?\r")
    terminal.see("status 0")
    terminal.press("exit\r")
    assert terminal.wait_for_end() == 0


@pytest.mark.parametrize("page", [False, True], ids=["overview", "page"])
def test_a_closed_window_ends_it_at_once(
    open_terminal: Callable[..., Terminal], server: Server, page: bool
) -> None:
    terminal = open_terminal("attach")
    terminal.see("LIVE")
    if page:
        terminal.press("d")
        terminal.see(r"Esc back")
    assert terminal.lose() < 1.0
    assert terminal.child.signalstatus == signal.SIGHUP
    assert server.get()[0] == 200


def test_a_closed_window_takes_its_own_server_along(
    open_terminal: Callable[..., Terminal], server: Server
) -> None:
    terminal = open_terminal("run", "--bind", "127.0.0.1:0", "lab:application")
    master = int(terminal.see(r"master (\d+)", 30)[1])
    terminal.lose()
    eventually(lambda: not lives(master), what="the end of the master")
    eventually(lambda: end_session(master) == [], what="the end of its processes")


def keys() -> dict[str, str]:
    """A key for each page that is registered, from the bindings."""
    found = {}
    for binding in WsgitopApp.BINDINGS:
        assert isinstance(binding, Binding)
        opened = re.fullmatch(r"open\('(\w+)'\)", binding.action)
        if opened:
            found[opened[1]] = binding.key.split(",")[0]
    return found


def test_every_page_opens_in_a_real_terminal(open_terminal: Callable[..., Terminal], server: Server) -> None:
    assert set(keys()) >= set(pages()), "each page has a key"
    terminal = open_terminal("attach")
    terminal.see(r"LIVE")
    terminal.see(r"q quit")
    for subject, key in keys().items():
        terminal.press(key)
        terminal.see(r"Esc back")
        text = terminal.text()
        assert re.search(TITLES.get(subject, subject), text), f"{subject} by {key}:\n{text}"
        for columns, lines in ((60, 15), (200, 60), (120, 40)):
            terminal.resize(columns, lines)
            terminal.see(r"Esc back")
            terminal.see(r"LIVE")
        terminal.press("\x1b")
        terminal.see(r"\+ add")  # the keys of the overview
    terminal.press("q")
    assert terminal.wait_for_end() == 0
    assert len(server.workers()) == 2, "looking has changed nothing"
    assert "Traceback" not in server.log()


TITLES = {"requests": "in flight", "worker": r"worker \d"}
"""What is on a page whose title is not its subject."""


# -- a slow line ---------------------------------------------------------------------------------------------

RATE = 1024
"""Bytes per second."""
PICTURES = 80
"""Some 400 KB of output."""


class SlowReader:
    """Reads a terminal at :data:`RATE`, from the first byte on that comes after :meth:`slow`."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.text = b""
        self.is_slow = False
        os.set_blocking(descriptor, False)

    async def read(self) -> None:
        with contextlib.suppress(OSError):  # the end of the program
            while True:
                with contextlib.suppress(BlockingIOError):
                    self.text += os.read(self.descriptor, RATE // 10 if self.is_slow else 65536)
                await asyncio.sleep(0.1 if self.is_slow else 0.01)


def test_a_slow_line_shows_the_newest_and_obeys(
    open_terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """As many pictures as would take minutes, if all were shown."""

    async def scenario() -> None:
        backend = MovingBackend(8)
        async with asyncio.timeout(50), serving(tmp_path / "c.sock", backend) as (server, _):
            terminal = open_terminal("attach", str(tmp_path / "c.sock"))
            reader = SlowReader(terminal.child.child_fd)
            reading = asyncio.create_task(reader.read())
            while b"4251" not in reader.text:
                await asyncio.sleep(0.01)
            (connection,) = server._connections
            while connection.subscription is None:
                await asyncio.sleep(0.01)
            connection.subscription.interval_s = 0.05

            reader.is_slow = True
            for _ in range(PICTURES):
                server.publisher.snapshot(backend.snapshot())
                await asyncio.sleep(0.06)
            # Whether it is the interface or the server that passes pictures over: none pile up.
            assert connection.unsent_bytes < 20_000
            assert psutil.Process(terminal.child.pid).memory_info().rss < 100e6
            terminal.press("q")
            pressed = time.monotonic()
            while terminal.child.isalive():
                await asyncio.sleep(0.05)
            assert time.monotonic() - pressed < 5, "the key waits behind pictures"
            assert terminal.child.exitstatus == 0
            reading.cancel()

    asyncio.run(scenario())
