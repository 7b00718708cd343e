"""Bad input, one row each: one clear line, the right exit status, no traceback, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pexpect
import psutil
import pytest

from tests.conftest import StartServer
from tests.support.server import APPS, PROGRAM, command, environment, free_port

pytestmark = pytest.mark.process

Prepare = Callable[[Path, contextlib.ExitStack], list[str]]
"""Makes what a row needs in a directory and returns more words for the command line."""


def _nothing(directory: Path, stack: contextlib.ExitStack) -> list[str]:
    return []


def _port_in_use(directory: Path, stack: contextlib.ExitStack) -> list[str]:
    holder = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return ["--bind", f"127.0.0.1:{holder.getsockname()[1]}"]


def _unix_socket_in_use(directory: Path, stack: contextlib.ExitStack) -> list[str]:
    holder = stack.enter_context(socket.socket(socket.AF_UNIX))
    holder.bind(str(directory / "web.sock"))
    holder.listen()
    return ["--bind", f"unix:{directory}/web.sock"]


def _file(name: str, text: str) -> Prepare:
    def prepare(directory: Path, stack: contextlib.ExitStack) -> list[str]:
        (directory / name).write_text(text)
        return []

    return prepare


def _running_pid(directory: Path, stack: contextlib.ExitStack) -> list[str]:
    (directory / "site.pid").write_text(f"{os.getpid()}\n")
    return ["--pid", str(directory / "site.pid")]


def _foreign_control_socket(directory: Path, stack: contextlib.ExitStack) -> list[str]:
    (directory / "not-a-socket").write_text("precious")
    return ["--control-socket", str(directory / "not-a-socket")]


def _live_control_socket(directory: Path, stack: contextlib.ExitStack) -> list[str]:
    holder = stack.enter_context(socket.socket(socket.AF_UNIX))
    holder.bind(str(directory / "control.sock"))
    holder.listen()
    return ["--control-socket", str(directory / "control.sock")]


def _closed_directory(directory: Path, stack: contextlib.ExitStack) -> list[str]:
    return ["--error-logfile", str(directory / "no" / "such" / "dir" / "error.log")]


@dataclass(frozen=True)
class Row:
    """``words`` follow ``serve``; the line on stderr must match ``cause``, stderr as a whole ``remedy``."""

    status: int
    cause: str
    remedy: str = ""
    words: tuple[str, ...] = ("hello:application",)
    prepare: Prepare = _nothing


SERVE = {
    "no app": Row(2, "no application", "MODULE:CALLABLE", ()),
    "unknown module": Row(4, r"no_such_module", r"chdir|pythonpath|directory", ("no_such_module:app",)),
    "unknown attribute": Row(4, r"hello.*aplication", r"application", ("hello:aplication",)),
    "not callable": Row(4, r"not_callable.*(not.*callable|no WSGI)", "", ("not_callable:application",)),
    "import error in the app": Row(
        4, "a_module_that_nobody_has_installed", "", ("broken_import:application",)
    ),
    "syntax error in the app": Row(
        4, r"SyntaxError|syntax", "", ("typo:app",), _file("typo.py", "def app(environ, start_response:\n")
    ),
    "app exits at import": Row(4, r"SystemExit|exit", "", ("exits:application",)),
    "app exits, preloaded": Row(4, r"SystemExit|exit", "", ("--preload", "exits:application")),
    "app exits with status 0 at import": Row(
        4, r"SystemExit|exit", "", ("quits:app",), _file("quits.py", "raise SystemExit(0)\n")
    ),
    "app ends its process at import": Row(
        3, r"exited with status 0", "log", ("ends:app",), _file("ends.py", "import os\nos._exit(0)\n")
    ),
    "app ends its process, preloaded": Row(
        3,
        r"exited with status 0",
        "log",
        ("--preload", "ends:app"),
        _file("ends.py", "import os\nos._exit(0)\n"),
    ),
    "app crashes at import": Row(
        3, r"SIGSEGV", "log", ("crash:app",), _file("crash.py", "import ctypes\nctypes.string_at(0)\n")
    ),
    "app hangs at import": Row(
        3,
        r"did not boot within 1 s|SIGABRT",
        "log",
        ("--boot-timeout", "1", "hangs:app"),
        _file("hangs.py", "import time\ntime.sleep(60)\n"),
    ),
    "port in use": Row(1, r"127\.0\.0\.1:\d+.*in use", rf"{os.getpid()}", prepare=_port_in_use),
    "unix socket in use": Row(1, r"web\.sock.*(in use|another process)", prepare=_unix_socket_in_use),
    "privileged address": Row(
        1, r"192\.0\.2\.1:\d+", words=("--bind", "192.0.2.1:8000", "hello:application")
    ),
    "unusable port": Row(1, r"bind: .*99999", "65535", ("--bind", "127.0.0.1:99999", "hello:application")),
    "config file missing": Row(1, r"missing\.py", "", ("-c", "missing.py", "hello:application")),
    "config file broken": Row(
        1,
        r"broken\.conf\.py",
        "",
        ("-c", "broken.conf.py", "hello:application"),
        _file("broken.conf.py", "workers = \n"),
    ),
    "config file raises": Row(
        1,
        r"raises\.conf\.py.*|ZeroDivisionError",
        "",
        ("-c", "raises.conf.py", "hello:application"),
        _file("raises.conf.py", "workers = 1 / 0\n"),
    ),
    "setting out of range": Row(1, r"workers|threads", "", ("--threads", "0", "hello:application")),
    "setting of the wrong kind": Row(1, r"threads.*many", "", ("--threads", "many", "hello:application")),
    "unknown option": Row(2, r"--wrokers", r"--workers", ("--wrokers", "3", "hello:application")),
    "worker class not served": Row(1, r"gevent", "threads", ("-k", "gevent", "hello:application")),
    "user": Row(1, r"no user 'no-such-user'", "useradd", ("--user", "no-such-user", "hello:application")),
    "app that a daemon cannot import": Row(4, r"no_such_module", "", ("--daemon", "no_such_module:app")),
    "TLS": Row(1, r"TLS", "proxy", ("--certfile", "x.pem", "hello:application")),
    "pid file of a running server": Row(1, rf"site\.pid.*{os.getpid()}", prepare=_running_pid),
    "control socket is another file": Row(1, r"not-a-socket", prepare=_foreign_control_socket),
    "control socket in use": Row(1, r"control\.sock", prepare=_live_control_socket),
    "log cannot be written": Row(1, r"error\.log", prepare=_closed_directory),
    "no such directory": Row(1, r"chdir.*nowhere", "", ("--chdir", "nowhere", "hello:application")),
}


def _check_words(stderr: str, row_cause: str, row_remedy: str) -> None:
    lines = [line for line in stderr.splitlines() if line.startswith("wsgitop: ")]
    assert len(lines) == 1, f"one line names the cause, not {len(lines)}:\n{stderr}"
    assert re.search(row_cause, lines[0], re.IGNORECASE), lines[0]
    assert re.search(row_remedy, stderr, re.IGNORECASE), stderr


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the tests' applications, to start the command in."""
    for module in APPS.glob("*.py"):
        (tmp_path / module.name).symlink_to(module)
    return tmp_path


@pytest.fixture
def nothing_left(runtime_dir: Path) -> Iterator[None]:
    """Fail if the command has left a file in the runtime directory, or a process of another session."""
    yield
    left = [
        p
        for p in psutil.process_iter(["environ"])
        if str(runtime_dir) in str((p.info["environ"] or {}).values())
    ]
    assert left == []
    # The death ledger is meant to stay.
    left_files = [path for path in runtime_dir.rglob("*") if not path.is_dir()]
    assert [path for path in left_files if runtime_dir / "state" not in path.parents] == []


@pytest.mark.parametrize("name", SERVE)
def test_serve(name: str, directory: Path, runtime_dir: Path, nothing_left: None) -> None:
    row = SERVE[name]
    with contextlib.ExitStack() as stack:
        words = row.prepare(directory, stack)
        if "--bind" not in (*words, *row.words):
            words += ["--bind", f"127.0.0.1:{free_port()}"]
        before = {path.name for path in directory.iterdir()}
        result = command("serve", *words, *row.words, runtime_dir=runtime_dir, cwd=directory)
    assert result.returncode == row.status, result.stderr
    _check_words(result.stderr, row.cause, row.remedy)
    assert "Traceback" not in result.stderr
    # What belongs to somebody else is still there.
    assert {path.name for path in directory.iterdir()} >= before


CTL = {
    "no server": Row(3, "no .*(server|master)", "wsgitop (run|serve)", ("status",)),
    "no such target": Row(3, r"nowhere\.sock", "", ("-s", "unix:nowhere.sock", "status")),
    "stale socket": Row(3, r"stale\.sock", "", ("-s", "unix:stale.sock", "status")),
    "not a socket": Row(3, r"plain", "", ("-s", "unix:plain", "status")),
    "foreign server": Row(3, r"foreign\.sock", "", ("-s", "unix:foreign.sock", "status")),
    "unknown method": Row(2, "relaod", "reload", ("relaod",)),
    "not a number": Row(2, "many", "", ("scale", "many")),
}


@pytest.mark.parametrize("name", CTL)
def test_ctl(name: str, directory: Path, runtime_dir: Path, nothing_left: None) -> None:
    row = CTL[name]
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(directory / "stale.sock"))
    stale.close()
    (directory / "plain").write_text("")
    foreign = subprocess.Popen(
        [*PROGRAM[:1], "-c", FOREIGN_SERVER], cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with foreign:
        assert foreign.stdout is not None and foreign.stdin is not None
        foreign.stdout.readline()
        result = command("ctl", *row.words, runtime_dir=runtime_dir, cwd=directory)
        foreign.stdin.close()
    assert result.returncode == row.status, result.stderr
    _check_words(result.stderr, row.cause, row.remedy)
    assert "Traceback" not in result.stderr


FOREIGN_SERVER = """
import socket, sys, threading
server = socket.socket(socket.AF_UNIX)
server.bind("foreign.sock")
server.listen()
def answer():
    while True:
        client, _ = server.accept()
        client.sendall(b"220 mail.example ESMTP\\r\\n")
threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "words", [("attach",), ("run", "hello:application"), ("demo",)], ids=lambda words: words[0]
)
def test_interface_without_a_terminal(
    words: tuple[str, ...], directory: Path, runtime_dir: Path, nothing_left: None, start_server: StartServer
) -> None:
    if words[0] == "attach":
        start_server("hello:application", runtime_dir=runtime_dir)
    elif words[0] == "run":
        words = (*words, "--bind", f"127.0.0.1:{free_port()}")
    result = command(*words, runtime_dir=runtime_dir, cwd=directory)
    assert result.returncode == 1, result.stderr
    _check_words(result.stderr, "terminal", "ctl status|serve|--once")
    assert "Traceback" not in result.stderr


def test_terminal_that_cannot_move_its_cursor(directory: Path, runtime_dir: Path) -> None:
    child = pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], "demo"],
        env={**environment(runtime_dir), "TERM": "dumb"},
        cwd=str(directory),
        encoding="utf-8",
        timeout=20,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert "TERM" in child.before


def test_a_stale_control_socket_is_replaced(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = start_server("hello:application", "--control-socket", str(path))
    result = server.ctl("-s", f"unix:{path}", "status")
    assert result.returncode == 0, result.stderr


def test_a_stale_pid_file_is_replaced(start_server: StartServer, tmp_path: Path) -> None:
    gone = subprocess.run(
        [PROGRAM[0], "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    path = tmp_path / "site.pid"
    path.write_bytes(gone.stdout)
    server = start_server("hello:application", "--pid", str(path))
    assert path.read_text().strip() == str(server.pid)
    server.stop()
    assert not path.exists()


def test_debug_shows_the_traceback(directory: Path, runtime_dir: Path) -> None:
    words = ("serve", "--debug", "--bind", f"127.0.0.1:{free_port()}", "broken_import:application")
    result = command(*words, runtime_dir=runtime_dir, cwd=directory)
    assert result.returncode == 4
    assert "Traceback" in result.stderr
    assert "broken_import.py" in result.stderr
