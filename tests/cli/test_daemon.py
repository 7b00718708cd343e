"""``wsgitop serve --daemon``: the launcher ends with the outcome, and the server lives on by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import end_session
from tests.support.server import APPS, PROGRAM, environment, free_port
from tests.support.waiting import eventually
from wsgitop.client import Client, running

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def nothing_stays_behind(runtime_dir: Path) -> Iterator[None]:
    yield
    for master in running(environment(runtime_dir)):
        end_session(os.getsid(master.pid))


def start(
    runtime_dir: Path, *args: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The launcher to its end. That its output is read to the end shows that the server does not hold it."""
    return subprocess.run(
        [*PROGRAM, "serve", "--daemon", "--bind", f"127.0.0.1:{free_port()}", *args],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=APPS,
        env=environment(runtime_dir, env),
        timeout=30,
        check=False,
    )


def standard_files(pid: int) -> list[str]:
    return [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)]


def stop(runtime_dir: Path, pid: int) -> None:
    server = psutil.Process(pid)
    os.kill(pid, signal.SIGTERM)
    with contextlib.suppress(psutil.NoSuchProcess):
        eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert running(environment(runtime_dir)) == []


@pytest.mark.every_python
def test_it_serves_when_the_launcher_ends(runtime_dir: Path, tmp_path: Path) -> None:
    log, pidfile = tmp_path / "error.log", tmp_path / "site.pid"
    launched = start(
        runtime_dir, "--error-logfile", str(log), "--pid", str(pidfile), "-w", "2", "hello:application"
    )
    assert (launched.returncode, launched.stdout, launched.stderr) == (0, "", "")
    pid = int(pidfile.read_text())
    assert standard_files(pid) == ["/dev/null", "/dev/null", str(log)]
    process = psutil.Process(pid)
    assert process.terminal() is None
    assert os.getsid(pid) not in (pid, os.getsid(0)), "no terminal can become its own"
    assert process.cwd() == str(APPS)
    assert "serving hello:application" in log.read_text()

    rotated = log.rename(tmp_path / "error.log.1")
    os.kill(pid, signal.SIGUSR1)
    eventually(lambda: "log files reopened" in log.read_text())
    assert standard_files(pid)[2] == str(log), f"not {rotated}"

    (found,) = running(environment(runtime_dir))
    with Client(found.control) as client:

        def workers() -> int:
            return len(client.workers())

        os.kill(pid, signal.SIGWINCH)
        eventually(lambda: workers() == 0, what="no workers after WINCH")
        assert client.status().master.state == "degraded"
        os.kill(pid, signal.SIGTTOU)
        os.kill(pid, signal.SIGTTIN)
        eventually(lambda: workers() == 1, what="one worker after TTIN")
        os.kill(pid, signal.SIGWINCH)
        eventually(lambda: workers() == 0)
        os.kill(pid, signal.SIGHUP)
        eventually(lambda: workers() == 1, what="as many as before WINCH after HUP")
    stop(runtime_dir, pid)


def test_an_upgrade_stays_in_the_background(runtime_dir: Path, tmp_path: Path) -> None:
    launched = start(runtime_dir, "--pid", str(tmp_path / "site.pid"), "hello:application")
    assert launched.returncode == 0
    assert launched.stderr.rstrip().endswith(
        "wsgitop: the server is in the background, and its log goes nowhere\n"
        "  Give --error-logfile FILE to keep it."
    )
    (found,) = running(environment(runtime_dir))
    session = os.getsid(found.pid)
    with Client(found.control) as client:
        client.upgrade()
    successor = int((tmp_path / "site.pid").read_text())
    assert successor != found.pid and os.getsid(successor) == session
    eventually(lambda: [master.pid for master in running(environment(runtime_dir))] == [successor])
    assert set(standard_files(successor)) == {"/dev/null"}
    stop(runtime_dir, successor)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["broken_import:application"], 4, "which is not installed"),
        (["leaves:application"], 3, "exited with status 5"),
        (["--user", "no-such-user", "hello:application"], 1, "there is no user 'no-such-user'"),
        (["--pid", "/no/such/directory/pid", "hello:application"], 1, "cannot be written"),
    ],
)
def test_a_start_that_fails_says_so(
    runtime_dir: Path, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    (tmp_path / "leaves.py").write_text("import os\nos._exit(5)\n")
    options = ("--error-logfile", str(tmp_path / "log"), "--pythonpath", str(tmp_path))
    launched = start(runtime_dir, *options, *arguments)
    assert (launched.returncode, launched.stdout) == (status, "")
    assert words in launched.stderr and launched.stderr.startswith("wsgitop: ")
    assert running(environment(runtime_dir)) == []


def test_a_server_that_is_killed_before_it_serves(runtime_dir: Path, tmp_path: Path) -> None:
    pidfile = tmp_path / "site.pid"
    with subprocess.Popen(
        [
            *PROGRAM,
            "serve",
            "-D",
            "-b",
            f"127.0.0.1:{free_port()}",
            "--pid",
            str(pidfile),
            "slow_boot:application",
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=APPS,
        env=environment(runtime_dir, {"SLOW_BOOT_S": "20"}),
    ) as launcher:
        eventually(lambda: int(pidfile.read_text()) > 0)
        os.kill(int(pidfile.read_text()), signal.SIGKILL)
        _, errors = launcher.communicate(timeout=20)
    assert launcher.returncode == 1
    assert "was killed by SIGKILL before it served" in errors
