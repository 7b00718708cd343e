"""The launcher and the tether, with small programs in the place of the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import lives
from tests.support.waiting import eventually
from wsgitop.errors import (
    AppImportError,
    ConfigError,
    ProtocolError,
    UsageError,
    WorkerBootError,
    WsgitopError,
)
from wsgitop.transport import launcher
from wsgitop.transport.launcher import VARIABLE, Launched, Tether

pytestmark = pytest.mark.process

SERVES = """
import os, select, signal, sys
from wsgitop.transport.launcher import Tether
tether = Tether.from_environment()
print("serving", *sys.argv[1:], flush=True)
tether.announce(os.getpid(), "unix:/a/path")
while True:
    select.select([tether], [], [])
    word = tether.read()
    print(word, flush=True)
    if word == "leave":
        signal.pause()
    if word:
        sys.exit(0)
"""

Launch = Callable[..., Launched]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launch:
    """Launch a program given as source, as if it were ``wsgitop serve``."""

    def start(source: str, *words: str) -> Launched:
        (tmp_path / "program.py").write_text(source)
        monkeypatch.setattr(launcher, "COMMAND", (sys.executable, str(tmp_path / "program.py")))
        return launcher.launch(words, log_path=tmp_path / "log", env=_environment())

    return start


def _environment() -> dict[str, str]:
    package_parent = Path(launcher.__file__).parent.parent.parent
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package_parent), os.environ.get("PYTHONPATH", "")]),
    }


@pytest.mark.every_python
def test_a_server_that_serves(launch: Launch) -> None:
    with launch(SERVES, "--bind", "x") as server:
        assert server.wait_until_serving(20) == "unix:/a/path"
        assert os.getsid(server.pid) == server.pid, "a session of its own"
        assert server.log_path.stat().st_mode & 0o777 == 0o600
        assert "serving --bind x" in server.log_path.read_text()
        assert server.poll() is None
    assert server.poll() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("import sys; print('wsgitop: port in use'); sys.exit(1)", ConfigError, "port in use"),
        ("import sys; print('wsgitop: no such option'); sys.exit(2)", UsageError, "no such option"),
        ("import sys; sys.exit(3)", WorkerBootError, "status 3"),
        ("import sys; print('cannot import'); sys.exit(4)", AppImportError, "cannot import"),
        ("import os; os.kill(os.getpid(), 9)", ConfigError, "SIGKILL"),
    ],
)
def test_a_server_that_dies_at_boot(
    launch: Launch, source: str, kind: type[WsgitopError], words: str
) -> None:
    server = launch(source)
    with pytest.raises(kind, match=words):
        server.wait_until_serving(20)
    assert server.poll() is not None


def test_only_the_lines_of_this_start_are_quoted(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an older fault\n")
    server = launch("import sys; print('a newer fault'); sys.exit(1)")
    with pytest.raises(ConfigError) as caught:
        server.wait_until_serving(20)
    assert "a newer fault" in str(caught.value)
    assert "an older fault" not in str(caught.value)


def test_a_server_that_never_serves_is_stopped(launch: Launch) -> None:
    server = launch("import time; time.sleep(60)")
    with pytest.raises(WorkerBootError, match=r"after 0\.3 s"):
        server.wait_until_serving(0.3)
    assert server.poll() == -signal.SIGTERM


def test_a_server_that_speaks_nonsense_is_stopped(launch: Launch) -> None:
    source = f"import os; os.write(int(os.environ[{VARIABLE!r}]), b'hello\\n'); import time; time.sleep(60)"
    server = launch(source)
    with pytest.raises(ProtocolError):
        server.wait_until_serving(20)
    assert server.poll() is not None


def test_leave_running(launch: Launch) -> None:
    server = launch(SERVES)
    try:
        server.wait_until_serving(20)
        server.leave_running()
        eventually(lambda: "leave" in server.log_path.read_text(), what="the word to stay")
        assert lives(server.pid)
    finally:
        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)


def test_the_server_hears_that_its_launcher_was_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SERVES)
    launching = f"""
import sys, pathlib
from wsgitop.transport import launcher
launcher.COMMAND = (sys.executable, {str(tmp_path / "program.py")!r})
server = launcher.launch((), log_path=pathlib.Path({str(tmp_path / "log")!r}))
server.wait_until_serving(20)
print(server.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", launching], env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    eventually(lambda: not lives(pid), what="the end of the server")
    assert (tmp_path / "log").read_text().splitlines()[-1] == "gone"


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        launcher.launch((), log_path=tmp_path / "no" / "log")


@pytest.mark.parametrize("value", ["", "x", "987654"])
def test_no_tether(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert Tether.from_environment() is None
    assert VARIABLE not in os.environ
