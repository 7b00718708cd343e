"""Links through processes: what they print, how they end, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.control.fake_backend import ServerThread, hostile_server
from tests.support.waiting import eventually
from wsgitop.client import AsyncClient, Client, link
from wsgitop.errors import CannotConnect, UsageError
from wsgitop.transport import process

pytestmark = pytest.mark.process

RELAY = f"{shlex.quote(sys.executable)} -m wsgitop relay"


@pytest.fixture(autouse=True)
def own_runtime_dir(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))


@pytest.fixture
def server() -> Iterator[ServerThread]:
    with ServerThread() as server:
        yield server


def through(script: str) -> str:
    """A target that runs a shell script; the shell is the test's."""
    return f"exec:sh -c {shlex.quote(script)}"


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "echo Welcome; echo; echo '{\"jsonrpc\": 1}'",
        "printf 'last login: never'",
        "printf '{'",
        "echo oops >&2",
    ],
)
def test_what_a_login_prints_before_the_first_answer_is_left_out(server: ServerThread, before: str) -> None:
    with Client(through(f"{before}\nexec {RELAY}")) as client:
        assert client.status().master.pid == 4000
    assert not children()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("yes", "it prints other text: y"),
        ("seq 100", "it prints other text: 1"),
        ("printf '\\033[2J'; seq 100", r"\x1b[2J"),
        ("exec >&-; sleep 20", "it closed its output"),
        ("exit 7", "status 7"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo no such pod >&2; exit 1", "no such pod"),
        ("yes | head -c 1000000 >&2; echo the end >&2; exit 1", "the end"),
        ("nowhere", "not found"),
    ],
)
def test_commands_that_reach_no_server(
    script: str, words: str, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    with pytest.raises(CannotConnect) as failure:
        Client(through(script)).__enter__()
    assert words in failure.value.cause
    assert "\x1b" not in str(failure.value)
    assert not children()


def test_a_command_that_never_answers_is_given_up_and_what_it_printed_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsgitop.client.asynchronous.REMOTE_HELLO_DEADLINE_S", 0.5)
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    with pytest.raises(CannotConnect, match="printed: Password") as failure:
        Client(through("trap '' TERM; echo Password; while :; do sleep 0.1; done")).__enter__()
    assert "no hello within" in failure.value.cause
    assert not children()


def test_what_is_started_is_out_of_reach_of_the_terminal(server: ServerThread) -> None:
    with Client(f"exec:{RELAY}") as client:
        client.status()
        (relay,) = children()
        assert os.getsid(relay.pid) == relay.pid
    with Client(f"exec:{RELAY}", interactive=True) as client:
        client.status()
        (relay,) = children()
        assert os.getpgid(relay.pid) == os.getpgrp(), "it may ask"
    assert not children()


def test_what_a_program_has_started_ends_with_it(server: ServerThread) -> None:
    with pytest.raises(CannotConnect):
        Client(through("sleep 47 & echo $! >&2; exit 3")).__enter__()
    eventually(
        lambda: not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "47"]]
    )


def test_what_is_said_before_the_answer_is_shown_to_who_may_be_asked(
    server: ServerThread, capsys: pytest.CaptureFixture[str]
) -> None:
    for interactive, shown in ((True, "push sent \\x1b to your phone\n"), (False, "")):
        script = f"printf 'push sent \\033 to your phone\\n' >&2; sleep 0.3; exec {RELAY}"
        with Client(through(script), interactive=interactive) as client:
            client.status()
        assert capsys.readouterr().err == shown
    with pytest.raises(CannotConnect, match="no such pod"):
        Client(through("echo no such pod >&2; exit 1"), interactive=True).__enter__()
    assert capsys.readouterr().err == "", "it is the reason, which is told once"


def test_a_remote_command_without_ssh_makes_no_sense() -> None:
    for target in ("shop", "exec:true"):
        with pytest.raises(UsageError, match="for ssh:// targets"):
            Client(target, remote_command="x").__enter__()


def test_cancelled_while_closing_it_still_leaves_nothing(server: ServerThread) -> None:
    async def scenario() -> None:
        client = AsyncClient(through(f"trap '' TERM; {RELAY}; sleep 60"))
        await client.connect()
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    asyncio.run(scenario())
    assert not children(), "not even as zombies"


# -- silence -------------------------------------------------------------------------------------------------


def test_a_silent_link_is_asked_for_a_sign_of_life_and_then_given_up(
    server: ServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "TICK_S", 0.05)
    monkeypatch.setattr(process, "GRACE_S", 0.2)

    async def scenario() -> None:
        async with AsyncClient(f"exec:{RELAY}") as client:
            news = client.subscribe(10.0)
            await anext(news)
            waiting = asyncio.create_task(news.__anext__())
            # Ten times the silence that is allowed: it is asked, and answers.
            await asyncio.wait((waiting,), timeout=1.0)
            assert client._link is not None
            assert client._link.fault is None
            (relay,) = children()
            relay.send_signal(signal.SIGSTOP)
            with pytest.raises(CannotConnect, match="is dead: no answer"):
                while True:
                    await waiting
                    waiting = asyncio.create_task(news.__anext__())

    asyncio.run(scenario())
    assert not children()


def test_a_server_that_is_stopped_in_the_middle_of_an_order_is_told(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locally as well. An order has no deadline of its own; while nobody waits, nothing is asked."""
    monkeypatch.setattr(link, "TICK_S", 0.02)
    asked: list[bytes] = []
    idle = threading.Event()

    def behave(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(
            b'{"jsonrpc":"2.0","id":1,"result":{"protocol":1,"version":"9","pid":1,"role":"operator","app":"a"}}\n'
        )
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                asked.append(data)

    async def scenario(target: str) -> None:
        async with AsyncClient(target) as client:
            await asyncio.sleep(0.3)
            assert not asked
            idle.set()
            with pytest.raises(CannotConnect, match="is dead"):
                await client.reload()

    with hostile_server(runtime_dir / "c.sock", behave) as target:
        asyncio.run(scenario(target))
    assert idle.is_set()
    methods = b"".join(asked)
    assert methods.count(b'"reload"') == 1
    assert methods.count(b'"hello"') == 1
