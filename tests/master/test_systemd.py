"""What systemd hears, and the sockets that it opens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.support.server import APPS, PROGRAM, environment
from wsgitop.master.roster import Roster
from wsgitop.master.states import GenerationPhase
from wsgitop.master.systemd import Notifier, Unit, take_sockets


class Systemd:
    """Its end of NOTIFY_SOCKET."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(20)
        self.heard: list[str] = []

    def until(self, word: str) -> list[str]:
        """Listen until an assignment begins with ``word``; all that was heard."""
        while not any(line.startswith(word) for line in self.heard):
            self.heard += self.socket.recv(4096).decode().split("\n")
        return self.heard


@pytest.fixture
def systemd(runtime_dir: Path) -> Iterator[Systemd]:
    found = Systemd(str(runtime_dir / "notify"))
    yield found
    found.socket.close()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "relative"}, None),
        ({"NOTIFY_SOCKET": "/run/x"}, 0.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000"}, 3.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "own"}, 3.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_what_the_environment_asks_for(environ: dict[str, str], watchdog_s: float | None) -> None:
    given = {name: str(os.getpid()) if value == "own" else value for name, value in environ.items()}
    notifier = Notifier.from_environment(given)
    assert given == {}, "nobody below is meant"
    assert (None if notifier is None else notifier.watchdog_s) == watchdog_s
    if notifier is not None:
        notifier.close()


@pytest.mark.parametrize(
    ("environ", "addresses"),
    [
        ({}, ()),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": "own", "LISTEN_FDS": "two"}, ()),
        ({"LISTEN_PID": "own", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}, ("fd://3", "fd://4")),
    ],
)
def test_sockets_that_were_opened_for_us(environ: dict[str, str], addresses: tuple[str, ...]) -> None:
    given = {name: str(os.getpid()) if value == "own" else value for name, value in environ.items()}
    assert take_sockets(given) == addresses
    assert given == {}


def test_a_socket_that_is_gone_does_no_harm() -> None:
    notifier = Notifier("/nowhere/at/all")
    for _ in range(3):
        notifier.tell(READY=1)
    notifier.close()


class FakeLoop:
    def __init__(self) -> None:
        self.delays: list[float] = []

    def call_later(self, delay: float, _callback: object, /) -> None:
        self.delays.append(delay)


def test_phases(systemd: Systemd) -> None:
    roster, loop = Roster(1), FakeLoop()
    notifier = Notifier(systemd.path, 10.0)
    unit = Unit(notifier, roster, loop)
    assert systemd.until("WATCHDOG=1") == ["WATCHDOG=1"] and loop.delays == [5.0]
    unit.look()
    assert systemd.until("STATUS=")[1:] == ["STATUS=booting, generation 0, 0/1 workers"]
    roster.ever_ready = True
    unit.look()
    assert systemd.until("READY=1")[-1] == "READY=1"
    roster.rolling = True
    unit.look()
    unit.look()
    said = [line.partition("=")[0] for line in systemd.until("RELOADING")[-2:]]
    assert said == ["RELOADING", "MONOTONIC_USEC"]
    roster.rolling = False
    unit.look()
    roster.stopping = True
    unit.look()
    assert systemd.until("STOPPING=1")[-2:] == ["READY=1", "STOPPING=1"]
    notifier.close()


def test_what_counts_is_not_lost_when_systemd_is_slow(systemd: Systemd) -> None:
    async def slow() -> None:
        notifier = Notifier(systemd.path)
        for _ in range(100):
            notifier.mention(WATCHDOG=1)  # as many as there is room for
        notifier.tell(MAINPID=7)
        notifier.tell(READY=1)
        notifier.mention(STATUS="stale by the time there is room")
        while "READY=1" not in systemd.heard:
            systemd.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                systemd.heard.append(systemd.socket.recv(4096).decode())
            await asyncio.sleep(0.001)
        notifier.close()

    asyncio.run(asyncio.wait_for(slow(), 20))
    assert systemd.heard[-2:] == ["MAINPID=7", "READY=1"]
    assert set(systemd.heard[:-2]) == {"WATCHDOG=1"}


def test_each_reload_is_told(systemd: Systemd) -> None:
    roster = Roster(1, ever_ready=True)
    notifier = Notifier(systemd.path)
    unit = Unit(notifier, roster, FakeLoop())
    first = roster.add_generation(0.0, roll=True)
    unit.look()
    first.phase = GenerationPhase.FAILED  # superseded
    roster.add_generation(0.0, roll=True)
    unit.look()
    systemd.until("STATUS=")
    while len([line for line in systemd.heard if line.startswith("MONOTONIC_USEC=")]) < 2:
        systemd.heard += systemd.socket.recv(4096).decode().split("\n")
    assert systemd.heard.count("RELOADING=1") == 2 and "READY=1" not in systemd.heard
    notifier.close()


@pytest.mark.every_python
@pytest.mark.process
def test_a_server_tells_its_life(start_server: StartServer, systemd: Systemd) -> None:
    told = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "2000000"}
    server = start_server("hello:application", env=told)
    assert "WATCHDOG=1" in systemd.until("READY=1")
    for child in psutil.Process(server.pid).children():
        assert not set(told) & set(child.environ())
    systemd.heard.clear()
    server.signal(signal.SIGHUP)
    systemd.until("RELOADING=1")
    systemd.heard.clear()
    systemd.until("READY=1")
    systemd.until("STATUS=serving, generation 2, 1/1 workers")
    server.signal(signal.SIGTERM)
    systemd.until("STOPPING=1")


LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.process
def test_sockets_of_systemd_take_the_place_of_bind(runtime_dir: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        address = listener.getsockname()
        serve = [*PROGRAM, "serve", "--bind", "127.0.0.1:1", "hello:application"]
        with subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(listener.fileno()), *serve],
            cwd=APPS,
            env=environment(runtime_dir),
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                with socket.create_connection(address, timeout=20) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
                    assert client.recv(12) == b"HTTP/1.1 200"
            finally:
                process.terminate()
                assert process.wait(20) == 0
        # It is systemd's, and stays open.
        with socket.create_connection(address, timeout=5):
            pass
