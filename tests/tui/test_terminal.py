"""The terminal: what it is taken for, that it is given back, and that losing it ends the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgitop.errors import TerminalError
from wsgitop.tui import terminal
from wsgitop.tui.theme import ANSI, DARK, LIGHT, Palette

ROOT = Path(__file__).parents[2]

ALTERNATE_ON, ALTERNATE_OFF = b"\x1b[?1049h", b"\x1b[?1049l"
CURSOR_ON = b"\x1b[?25h"


@pytest.mark.parametrize(
    ("environ", "palette", "color"),
    [
        ({"TERM": "xterm-256color"}, DARK, True),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, DARK, True),
        ({"TERM": "xterm-256color", "COLORFGBG": "0;15"}, LIGHT, True),
        ({"TERM": "xterm-256color", "COLORFGBG": "15;default;0"}, DARK, True),
        ({"TERM": "linux"}, ANSI, True),
        ({"TERM": "vt220"}, ANSI, True),
        ({"TERM": "xterm-kitty"}, DARK, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, ANSI, False),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, DARK, True),
    ],
)
def test_what_the_environment_says(environ: dict[str, str], palette: Palette, color: bool) -> None:
    look = terminal.look_for(environ, encoding="utf-8")
    assert (look.palette, look.color) == (palette, color)
    assert not look.is_ascii


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "ANSI_X3.4-1968"])
def test_an_old_encoding_gets_ascii(encoding: str) -> None:
    assert terminal.look_for({"TERM": "xterm-256color"}, encoding=encoding).is_ascii


def test_no_terminal_is_refused_with_another_way() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tui.pty_app"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color"},
        timeout=30,
        check=False,
    )
    assert done.returncode == TerminalError.exit_status
    assert "is not a terminal" in done.stderr
    assert "wsgitop ctl status" in done.stderr
    assert "Traceback" not in done.stderr


# -- in a real pseudo-terminal ------------------------------------------------------------------------------


class Terminal:
    """The near end of a pseudo-terminal with the interface at the far end, as the leader of its session."""

    def __init__(self, *args: str, term: str = "xterm-256color", ignore_hangup: bool = False) -> None:
        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.modes_before = termios.tcgetattr(far)

        environ = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLORTERM")}
        command = [sys.executable, "-m", "tests.tui.pty_app", *args]
        if ignore_hangup:
            command = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command,
            stdin=far,
            stdout=far,
            stderr=far,
            cwd=ROOT,
            env={**environ, "TERM": term, "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )
        self.far = far
        self.seen = b""

    def read_until(self, wanted: bytes, deadline_s: float = 30.0) -> bytes:
        """Read until something was seen; returns all that was read so far."""
        deadline = time.monotonic() + deadline_s
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{wanted!r} not in {self.seen[-500:]!r}"
            if select.select([self.near], [], [], left)[0]:
                self.seen += os.read(self.near, 65536)
        return self.seen

    def close(self) -> None:
        for descriptor in (self.near, self.far):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


@pytest.mark.pty
@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "args", "result"),
    [
        (signal.SIGTERM, [], b"RESULT quit 15"),
        (signal.SIGTERM, ["own"], b"RESULT stop 15"),
        (signal.SIGINT, [], b"RESULT quit 2"),
    ],
)
def test_a_signal_gives_the_terminal_back(
    terminals: list[Terminal], number: int, args: list[str], result: bytes
) -> None:
    one = Terminal(*args)
    terminals.append(one)
    one.read_until(b"4251")
    one.process.send_signal(number)
    seen = one.read_until(result)
    assert one.process.wait(10) == 0
    after = seen[seen.rindex(ALTERNATE_ON) :]
    assert ALTERNATE_OFF in after
    assert CURSOR_ON in after[after.index(ALTERNATE_OFF) :]
    assert termios.tcgetattr(one.far)[3] == one.modes_before[3], "echo and line editing are back"


@pytest.mark.pty
@pytest.mark.process
@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_a_terminal_that_is_gone_ends_the_process(terminals: list[Terminal], ignore_hangup: bool) -> None:
    one = Terminal(ignore_hangup=ignore_hangup)
    terminals.append(one)
    one.read_until(b"4251")
    os.close(one.far)
    os.close(one.near)
    began = time.monotonic()
    assert one.process.wait(10) == -signal.SIGHUP
    assert time.monotonic() - began < 1.0


@pytest.mark.pty
@pytest.mark.process
def test_suspend_stops_and_comes_back(terminals: list[Terminal]) -> None:
    one = Terminal()
    terminals.append(one)
    one.read_until(b"4251")
    os.write(one.near, b"\x1a")
    one.read_until(ALTERNATE_OFF)
    _, status = os.waitpid(one.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    one.seen = b""
    one.process.send_signal(signal.SIGCONT)
    one.read_until(ALTERNATE_ON)
    one.read_until(b"4251")
    os.write(one.near, b"q")
    one.read_until(b"RESULT quit 0")
    assert one.process.wait(10) == 0


@pytest.mark.pty
@pytest.mark.process
@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_only_prints_is_refused(terminals: list[Terminal], term: str) -> None:
    one = Terminal(term=term)
    terminals.append(one)
    seen = one.read_until(b"ctl status")
    assert f"TERM is {term}".encode() in seen
    assert ALTERNATE_ON not in seen
    assert one.process.wait(10) == 1


@pytest.mark.pty
@pytest.mark.process
@pytest.mark.parametrize("term", ["linux", "vt220"])
def test_sixteen_colors_are_enough(terminals: list[Terminal], term: str) -> None:
    one = Terminal(term=term)
    terminals.append(one)
    one.read_until(b"4251")
    os.write(one.near, b"q")
    seen = one.read_until(b"RESULT quit 0")
    assert b"38;2;" not in seen
    assert b"38;5;" not in seen
    assert one.process.wait(10) == 0
