"""A real server through a real sshd on loopback, and through commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import psutil
import pytest
from textual.message import Message

from tests.support.processes import end_session
from tests.support.server import Server, command, environment, free_port
from tests.support.sshd import PROGRAM, REMOTE_COMMAND, USER, Sshd
from tests.support.terminal import Terminal
from tests.support.waiting import eventually
from tests.support.wire import ADDRESSES, Wire, why_not
from wsgitop.client import AsyncClient, link
from wsgitop.control.messages import Hello
from wsgitop.errors import CannotConnect
from wsgitop.snapshot import Snapshot
from wsgitop.tui import source
from wsgitop.tui.source import Feed, LinkLost, LinkUp, Pictured

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.foreign,
    pytest.mark.skipif(PROGRAM is None, reason="needs sshd"),
]

Ctl = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("lab:application", "--workers", "1", "--name", "shop") as server:
        yield server.wait_until_serving()


@pytest.fixture(scope="module")
def sshd(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd"), free_port(), session_environment(server)) as sshd:
        yield sshd


def session_environment(server: Server) -> dict[str, str]:
    """What a session at the far end needs to find the server and this package."""
    known = environment(server.runtime_dir)
    return {name: known[name] for name in ("XDG_RUNTIME_DIR", "PYTHONPATH") if name in known}


@pytest.fixture
def path(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> str:
    """The PATH with the ssh that knows the host."""
    value = f"{sshd.bin}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", value)
    return value


@pytest.fixture
def ctl(path: str, runtime_dir: Path) -> Ctl:
    """``wsgitop ctl`` on a machine where no server runs."""

    def run(target: str, *words: str, remote_command: str = REMOTE_COMMAND) -> CompletedProcess[str]:
        option = ["--remote-command", remote_command] if remote_command else []
        return command("ctl", "-s", target, *option, *words, runtime_dir=runtime_dir, env={"PATH": path})

    return run


# -- commands ------------------------------------------------------------------------------------------------


def test_commands_work_as_they_do_here(ctl: Ctl, server: Server) -> None:
    control = server.status()["master"]["control"].removeprefix("unix:")
    for target in ("ssh://web", f"ssh://{USER}@web/{server.pid}", "ssh://web/shop", f"ssh://web{control}"):
        result = ctl(target, "status", "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["master"]["pid"] == server.pid
    for words, expected in ((("scale", "2"), "2"), (("scale", "1"), "1"), (("reload",), "generation")):
        result = ctl("ssh://web", *words)
        assert (result.returncode, result.stderr) == (0, "")
        assert expected in result.stdout
    assert ctl("ssh://web", "watch", "--count", "2").stdout.count("\n") >= 2


def test_what_is_wrong_at_the_far_end_is_told_from_there(ctl: Ctl) -> None:
    result = ctl("ssh://web/other", "status")
    assert result.returncode == 3
    assert "web: no running server is called 'other'" in result.stderr
    assert "Running:" in result.stderr
    assert ctl("ssh://web/nowhere/c.sock", "status").returncode == 3
    # A target that would lead on to a third machine ends there.
    assert "only a server of this machine" in ctl("ssh://web/exec%3Atouch%20x", "status").stderr


def test_a_host_key_that_is_not_known_or_has_changed(ctl: Ctl, sshd: Sshd) -> None:
    try:
        for known, words in (("", "does not know the host key of web"), ("stranger", "is not the one")):
            sshd.trust(known)
            result = ctl("ssh://web", "status")
            assert result.returncode == 3
            assert words in result.stderr
            assert "ssh web" in result.stderr
    finally:
        sshd.trust("host")


def test_who_is_not_let_in_is_told_so_and_never_asked(ctl: Ctl, sshd: Sshd) -> None:
    sshd.admit("stranger")
    try:
        result = ctl("ssh://web", "status")
    finally:
        sshd.admit("user")
    assert result.returncode == 3
    assert "web does not let you in" in result.stderr
    assert "Permission denied" in result.stderr


def test_a_program_that_is_not_there(ctl: Ctl) -> None:
    result = ctl("ssh://web", "status", remote_command="/nowhere/wsgitop")
    assert result.returncode == 3
    assert "wsgitop cannot be run at web" in result.stderr
    assert "--remote-command" in result.stderr
    result = ctl("exec:/nowhere/docker", "status", remote_command="")
    assert (result.returncode, "there is no program /nowhere/docker here" in result.stderr) == (3, True)


def test_no_shell_sees_a_target(ctl: Ctl, server: Server, tmp_path: Path) -> None:
    """Neither here nor, unquoted, at the far end."""
    trap = tmp_path / "trap"
    evil = f"/$(touch {trap})/`touch {trap}`; touch {trap} #/'\" c.sock"
    encoded = "".join(f"%{byte:02x}" for byte in evil.lstrip("/").encode())
    result = ctl(f"ssh://web/{encoded}", "status")
    assert "there is no control socket" in result.stderr
    relay = f"{REMOTE_COMMAND} relay"
    result = ctl(f"exec:{relay} {shlex.quote(evil)}", "status", remote_command="")
    assert "there is no control socket" in result.stderr
    odd = tmp_path / "a b; $(c) 'relay'"
    odd.write_text(f"#!/bin/sh\nexec {relay} {server.status()['master']['control'].removeprefix('unix:')}\n")
    odd.chmod(0o755)
    result = ctl(f"exec:{shlex.quote(str(odd))}", "status", remote_command="")
    assert result.returncode == 0, result.stderr
    assert not trap.exists()


# -- links that break ----------------------------------------------------------------------------------------


class Inbox:
    """What a feed posts."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._more = asyncio.Event()

    def post(self, message: Message) -> None:
        self.messages.append(message)
        self._more.set()

    async def next(self, kind: type[Message], deadline_s: float = 20.0) -> Message:
        """The next message of this kind; what is before it is dropped."""
        async with asyncio.timeout(deadline_s):
            while True:
                while self.messages:
                    message = self.messages.pop(0)
                    if isinstance(message, kind):
                        return message
                self._more.clear()
                await self._more.wait()


@contextlib.asynccontextmanager
async def feeding(target: str = "ssh://web") -> AsyncIterator[Inbox]:
    inbox = Inbox()
    feed = Feed(lambda: AsyncClient(target, remote_command=REMOTE_COMMAND), inbox.post, interval_s=0.25)
    task = asyncio.create_task(feed.run())
    try:
        yield inbox
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_link_that_breaks_or_falls_silent_is_made_again(
    number: signal.Signals, path: str, sshd: Sshd, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "TICK_S", 0.1)
    monkeypatch.setattr(source, "LONGEST_REMOTE_PAUSE_S", 0.5)

    async def scenario() -> None:
        async with feeding() as inbox:
            await inbox.next(Pictured)
            (ssh,) = sshd.clients()
            ssh.send_signal(number)
            lost = await inbox.next(LinkLost)
            assert isinstance(lost, LinkLost)
            assert ("SIGKILL" if number == signal.SIGKILL else "no answer for 1 s") in lost.reason
            up = await inbox.next(LinkUp)
            assert isinstance(up, LinkUp)
            assert up.hello.pid == server.pid
            await inbox.next(Pictured)
            (again,) = sshd.clients()
            assert again.pid != ssh.pid

    asyncio.run(scenario())
    eventually(lambda: not sshd.clients(), what="no ssh left behind")


def test_an_order_over_a_link_that_is_cut_is_told(path: str, sshd: Sshd) -> None:
    async def scenario() -> Hello:
        client = AsyncClient("ssh://web", remote_command=REMOTE_COMMAND)
        hello = await client.connect()
        reloading = asyncio.create_task(client.reload())
        await client.status()  # the server has heard of it
        (ssh,) = sshd.clients()
        ssh.kill()
        with pytest.raises(CannotConnect, match="killed by SIGKILL"):
            await reloading
        await client.close()
        await client.connect()
        await client.close()
        return hello

    assert asyncio.run(scenario()).role == "operator"
    eventually(lambda: not sshd.clients())


def test_closing_leaves_nothing_behind(path: str, sshd: Sshd, server: Server) -> None:
    """No process, here or there, no zombie, no descriptor."""

    async def once() -> None:
        async with AsyncClient("ssh://web", remote_command=REMOTE_COMMAND) as client:
            await client.status()

    others = set(psutil.Process().children())  # of tests before this one
    asyncio.run(once())
    before = psutil.Process().num_fds()
    asyncio.run(once())
    assert psutil.Process().num_fds() == before
    assert not sshd.clients()
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in set(psutil.Process().children()) - others)
    eventually(lambda: not _relays(server), what="the end of the relay")


def _relays(server: Server) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if "relay" in process.cmdline() and process.environ().get("XDG_RUNTIME_DIR") == str(
                server.runtime_dir
            ):
                found.append(process)
    return found


# -- networks ------------------------------------------------------------------------------------------------


@pytest.fixture
def wire(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, Sshd]]:
    """sshd in one network namespace, every ssh in another, and what is between them."""
    if why := why_not():
        pytest.skip(why)
    with (
        Wire() as wire,
        Sshd(
            tmp_path,
            22,
            session_environment(server),
            address=ADDRESSES[0],
            server_in=wire.inside(0),
            client_in=wire.inside(1),
        ) as sshd,
    ):
        monkeypatch.setenv("PATH", f"{sshd.bin}{os.pathsep}{os.environ['PATH']}")
        yield wire, sshd


def test_a_network_that_goes_away_and_comes_back(
    wire: tuple[Wire, Sshd], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said by anybody when it goes: no reset, no end of file."""
    monkeypatch.setattr(link, "TICK_S", 0.1)
    monkeypatch.setattr("wsgitop.client.asynchronous.REMOTE_HELLO_DEADLINE_S", 1.5)
    monkeypatch.setattr(source, "LONGEST_REMOTE_PAUSE_S", 0.5)
    network, sshd = wire

    async def scenario() -> None:
        async with feeding() as inbox:
            await inbox.next(Pictured)
            network.is_cut = True
            lost = await inbox.next(LinkLost)
            assert isinstance(lost, LinkLost)
            assert "no answer" in lost.reason
            again = await inbox.next(LinkLost)
            assert isinstance(again, LinkLost)
            assert "no hello within" in again.reason
            network.is_cut = False
            up = await inbox.next(LinkUp)
            assert isinstance(up, LinkUp)
            assert up.hello.pid == server.pid
            await inbox.next(Pictured)
            assert len(sshd.clients()) == 1

    asyncio.run(scenario())
    assert network.lost
    assert not sshd.clients()


def test_latency_and_loss(wire: tuple[Wire, Sshd], server: Server) -> None:
    """As over a bad mobile network: slow, and all the same complete and without a false alarm."""
    network, _ = wire
    network.delay_s, network.loss = 0.1, 0.03

    async def scenario() -> None:
        async with AsyncClient("ssh://web", remote_command=REMOTE_COMMAND) as client:
            assert (await client.scale(workers=2)).workers == 2
            pictures = 0
            async for news in client.subscribe(0.25):
                pictures += isinstance(news, Snapshot)
                if pictures == 12:
                    break
            assert (await client.status()).master.pid == server.pid
            assert (await client.scale(workers=1)).workers == 1

    asyncio.run(asyncio.wait_for(scenario(), 45))
    assert network.lost


# -- the interface -------------------------------------------------------------------------------------------


@pytest.fixture
def attach(path: str, runtime_dir: Path) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*words: str) -> Terminal:
        terminals.append(Terminal("attach", *words, runtime_dir=runtime_dir, env={"PATH": path}))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.child.close(force=True)
        end_session(terminal.child.pid)


@pytest.mark.pty
def test_the_interface_connects_again_by_itself(attach: Callable[..., Terminal], sshd: Sshd) -> None:
    terminal = attach("ssh://web", "--remote-command", REMOTE_COMMAND)
    terminal.see(r"LIVE  shop@")
    (ssh,) = sshd.clients()
    ssh.kill()
    terminal.see(r"STALE|lost the server: ssh was killed by SIGKILL")
    terminal.see(r"connected again")
    terminal.press("+")
    terminal.see(r"workers 2/2")
    terminal.press("-")
    terminal.see(r"workers 1/1")
    terminal.press("q")
    assert terminal.wait_for_end() == 0
    assert not sshd.clients()


@pytest.mark.pty
def test_ssh_may_ask_before_the_screen_starts_and_never_later(
    attach: Callable[..., Terminal], sshd: Sshd
) -> None:
    """Of a key with a passphrase, which no agent holds."""
    key = str(sshd.directory / "user")
    change = ["ssh-keygen", "-q", "-p", "-f", key]
    subprocess.run([*change, "-P", "", "-N", "open sesame"], check=True, capture_output=True)
    try:
        terminal = attach("ssh://web", "--remote-command", REMOTE_COMMAND)
        terminal.see("Enter passphrase for key")
        terminal.press("open sesame\r")
        terminal.see(r"LIVE  shop@")
        (ssh,) = sshd.clients()
        ssh.kill()
        terminal.see(r"web does not let you in")
        assert "passphrase" not in terminal.text()
        subprocess.run([*change, "-P", "open sesame", "-N", ""], check=True, capture_output=True)
        terminal.see(r"connected again")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    finally:
        subprocess.run([*change, "-P", "open sesame", "-N", ""], check=False, capture_output=True)
    assert not sshd.clients()
