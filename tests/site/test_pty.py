"""The real interface in a real pseudo-terminal, on a real server; the process table shows the results."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.support.processes import end_session, lives
from tests.support.server import Server, command, free_port
from tests.support.terminal import Terminal
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.pty, pytest.mark.slow]


@pytest.fixture
def open_terminal(runtime_dir: Path) -> Iterator[Callable[..., Terminal]]:
    """Open terminals that are closed at the end of the test, with all that ran in them."""
    terminals: list[Terminal] = []

    def start(*words: str) -> Terminal:
        terminals.append(Terminal(*words, runtime_dir=runtime_dir))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.child.close(force=True)
        end_session(terminal.child.pid)


@pytest.fixture
def server(start_server: StartServer, runtime_dir: Path) -> Server:
    return start_server("lab:application", "--workers", "2", runtime_dir=runtime_dir)


def _workers(master: int) -> list[psutil.Process]:
    """Workers in the process table: children of the master whose title says so, and names no other state."""
    found = []
    for process in psutil.Process(master).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end, or wait to be reaped, just now
            if re.match(r"wsgitop: worker \d+ gen \d+ \[[^]]+\]\s*$", " ".join(process.cmdline())):
                found.append(process)
    return found


def _worker_pids(master: int) -> set[int]:
    return {process.pid for process in _workers(master)}


def test_attach_sees_workers_scales_and_reloads(
    open_terminal: Callable[..., Terminal], server: Server
) -> None:
    terminal = open_terminal("attach")
    terminal.see("LIVE")
    before = _worker_pids(server.pid)
    assert len(before) == 2
    for pid in before:
        terminal.see(rf"\b{pid}\b")

    terminal.press("+")
    eventually(lambda: len(_worker_pids(server.pid)) == 3, what="a third worker")
    (added,) = _worker_pids(server.pid) - before
    terminal.see(rf"\b{added}\b")

    terminal.press("-")
    eventually(lambda: len(_worker_pids(server.pid)) == 2, what="two workers")
    before = _worker_pids(server.pid)

    terminal.press("H")
    terminal.see(r"(?i)reload")
    assert _worker_pids(server.pid) == before, "it must ask first"
    terminal.press("y")
    eventually(lambda: _worker_pids(server.pid).isdisjoint(before), 20, what="the end of the old workers")
    eventually(lambda: len(_worker_pids(server.pid)) == 2, what="two new workers")
    terminal.see(r"gen 2")
    for pid in _worker_pids(server.pid):
        terminal.see(rf"\b{pid}\b")

    terminal.press("q")
    assert terminal.wait_for_end() == 0
    assert server.get()[0] == 200, "a server that attach did not start goes on"


def test_attach_reconnects_to_a_server_that_comes_back(
    open_terminal: Callable[..., Terminal], start_server: StartServer, runtime_dir: Path, tmp_path: Path
) -> None:
    control = tmp_path / "c.sock"
    options = ("--workers", "2", "--control-socket", str(control))
    first = start_server("lab:application", *options, runtime_dir=runtime_dir)
    terminal = open_terminal("attach", f"unix:{control}")
    terminal.see("LIVE")
    terminal.see(rf"\b{first.pid}\b")

    first.signal(signal.SIGKILL)
    first.process.wait(5)
    terminal.see(r"(?i)stale|lost|offline|reconnect")
    assert terminal.child.isalive()

    second = start_server("lab:application", *options, runtime_dir=runtime_dir)
    terminal.see(rf"\b{second.pid}\b", 5)
    terminal.see("LIVE")
    for pid in _worker_pids(second.pid):
        terminal.see(rf"\b{pid}\b")
    terminal.press("q")
    assert terminal.wait_for_end() == 0


def _run(open_terminal: Callable[..., Terminal], runtime_dir: Path) -> tuple[Terminal, int]:
    """``wsgitop run``, and the pid of its master."""
    terminal = open_terminal("run", "--bind", f"127.0.0.1:{free_port()}", "--workers", "2", "lab:application")
    return terminal, int(terminal.see(r"master (\d+)", 30)[1])


@pytest.mark.every_python
def test_run_quit_stops_everything(open_terminal: Callable[..., Terminal], runtime_dir: Path) -> None:
    terminal, master = _run(open_terminal, runtime_dir)
    assert len(_worker_pids(master)) == 2
    assert psutil.Process(master).children() != []
    terminal.press("q")
    terminal.see(r"(?i)stop the server")
    assert lives(master), "it must ask first"
    terminal.press("s")
    assert terminal.wait_for_end() == 0
    eventually(lambda: not lives(master), what="the end of the master")
    eventually(lambda: end_session(master) == [], what="the end of its processes")
    assert list(runtime_dir.rglob("*.sock")) == []


def test_run_can_leave_the_server_running(open_terminal: Callable[..., Terminal], runtime_dir: Path) -> None:
    terminal, master = _run(open_terminal, runtime_dir)
    try:
        terminal.press("q")
        terminal.see(r"(?i)leave it running")
        terminal.press("l")
        assert terminal.wait_for_end() == 0
        assert len(_worker_pids(master)) == 2
        assert command("ctl", "stop", runtime_dir=runtime_dir).returncode == 0
        eventually(lambda: not lives(master), what="the end of the master")
    finally:
        end_session(master)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_run_never_outlives_its_terminal(
    open_terminal: Callable[..., Terminal], runtime_dir: Path, number: signal.Signals
) -> None:
    terminal, master = _run(open_terminal, runtime_dir)
    terminal.child.kill(number)
    eventually(lambda: not lives(master), 15, what="the end of the server")
    assert end_session(master) == []


def test_killed_worker_and_zygote_show(open_terminal: Callable[..., Terminal], server: Server) -> None:
    terminal = open_terminal("attach")
    terminal.see("LIVE")
    victim = min(_worker_pids(server.pid))
    psutil.Process(victim).kill()
    terminal.see(r"SIGKILL")
    eventually(lambda: len(_worker_pids(server.pid)) == 2, what="a new worker")
    for pid in _worker_pids(server.pid):
        terminal.see(rf"\b{pid}\b")
    (zygote,) = server.zygote_pids()
    psutil.Process(zygote).kill()
    terminal.see(r"(?i)zygote")
    terminal.press("q")
    assert terminal.wait_for_end() == 0


def test_demo_lives_within_ten_seconds(open_terminal: Callable[..., Terminal], runtime_dir: Path) -> None:
    terminal = open_terminal("demo")
    master = int(terminal.see(r"master (\d+)", 10)[1])
    terminal.see(r"/(products|search|cart|report)", 10)
    terminal.press("q")
    terminal.see(r"(?i)stop")
    terminal.press("s")
    assert terminal.wait_for_end() == 0
    eventually(lambda: not lives(master), what="the end of the master")
    assert end_session(master) == []
