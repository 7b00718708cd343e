"""``wsgitop run`` and ``attach`` in a pseudo-terminal: the server starts, is shown, and ends as chosen."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.processes import end_session
from tests.support.server import APPS, Server, environment, free_port
from tests.support.waiting import eventually
from wsgitop.client import Client, running

pytestmark = [pytest.mark.pty, pytest.mark.process]


@pytest.fixture(autouse=True)
def own_runtime_dir(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    yield
    for master in running():
        end_session(master.pid)


@contextlib.contextmanager
def terminal(runtime_dir: Path, *arguments: str) -> Iterator[pexpect.spawn]:
    """``wsgitop ARGUMENTS`` in a pseudo-terminal of 120 by 40."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "wsgitop", *arguments],
        cwd=str(APPS),
        env=environment(
            runtime_dir, {"XDG_STATE_HOME": str(runtime_dir / "state"), "TERM": "xterm-256color"}
        ),
        dimensions=(40, 120),
        timeout=30,
        encoding="utf-8",
        codec_errors="replace",
    )
    try:
        yield child
    finally:
        child.close(force=True)


def leave_interface(child: pexpect.spawn, choice: str) -> str:
    """Quit the interface once it shows something, and answer its question; what is printed afterwards."""
    child.expect("LIVE")
    child.send("q")
    if choice:
        child.expect("Leave it running")
        child.send(choice)
    child.expect(pexpect.EOF)
    child.wait()
    return str(child.before)


def log_of(runtime_dir: Path) -> Path:
    (log,) = (runtime_dir / "state" / "wsgitop").glob("*.log")
    return log


def test_the_server_stops_with_the_interface(runtime_dir: Path) -> None:
    with terminal(runtime_dir, "run", "--bind", f"127.0.0.1:{free_port()}", "hello:application") as child:
        printed = leave_interface(child, "s")
        assert child.exitstatus == 0
    assert "The server has stopped. Its log is " in printed
    assert str(log_of(runtime_dir)) in printed
    assert log_of(runtime_dir).stat().st_mode & 0o077 == 0
    assert running() == []


def test_the_server_stays_if_asked_and_can_be_attached_to(runtime_dir: Path) -> None:
    with terminal(runtime_dir, "run", "-b", f"127.0.0.1:{free_port()}", "hello:application") as child:
        printed = leave_interface(child, "l")
        assert child.exitstatus == 0
    (master,) = running()
    assert f"wsgitop attach {master.pid}" in printed
    with terminal(runtime_dir, "attach") as child:
        leave_interface(child, "")
        assert child.exitstatus == 0
    with Client(str(master.pid)) as client:
        assert client.stop().text
    eventually(lambda: running() == [], what="the end of the server")


def test_the_server_stops_when_its_launcher_is_killed(runtime_dir: Path) -> None:
    with terminal(runtime_dir, "run", "-b", f"127.0.0.1:{free_port()}", "hello:application") as child:
        child.expect("LIVE")
        child.kill(signal.SIGKILL)
        eventually(lambda: running() == [], what="the end of the server")


@pytest.mark.parametrize(
    ("arguments", "status", "cause"),
    [
        (["broken_import:app"], 4, "wsgitop: The module 'broken_import' imports"),
        (["-w", "many", "hello:application"], 1, "wsgitop: workers: 'many' is not a whole number"),
        (["--no-control-socket", "hello:application"], 2, "wsgitop: the interface needs the control socket"),
    ],
)
def test_a_server_that_does_not_start_says_why(
    runtime_dir: Path, arguments: list[str], status: int, cause: str
) -> None:
    with terminal(runtime_dir, "run", "-b", f"127.0.0.1:{free_port()}", *arguments) as child:
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == status
    printed = str(child.before).replace("\r\n", "\n")
    assert cause in printed.replace("\n", " ")
    assert "Traceback" not in printed
    assert running() == []


def test_one_of_several_servers_is_chosen(runtime_dir: Path) -> None:
    with Server("hello:application", "--name", "one", runtime_dir=runtime_dir) as one:
        one.wait_until_serving()
        with Server("hello:application", "--name", "two", runtime_dir=runtime_dir) as two:
            two.wait_until_serving()
            with terminal(runtime_dir, "attach") as child:
                child.expect("Which one")
                assert "one at" in child.before
                child.sendline("2")
                leave_interface(child, "")
                assert child.exitstatus == 0
    assert list((runtime_dir / "wsgitop").iterdir()) == []


def test_the_interface_follows_an_upgrade(runtime_dir: Path) -> None:
    """And so does the lifeline: the new master stops with the interface."""
    with terminal(runtime_dir, "run", "--bind", f"127.0.0.1:{free_port()}", "hello:application") as child:
        child.expect("LIVE")
        (old,) = running()
        with Client(old.control) as client:
            client.upgrade()
        (new,) = eventually(lambda: [found for found in running() if found.pid != old.pid])
        child.expect(f"{new.pid}")
        printed = leave_interface(child, "s")
        assert child.exitstatus == 0
    assert "The server has stopped" in printed
    eventually(lambda: running() == [])
