"""A command in a real pseudo-terminal, as a person would see it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pexpect
import pyte

from tests.support.server import APPS, PROGRAM, environment
from tests.support.waiting import eventually

COLUMNS, LINES = 120, 40


class Terminal:
    """A command in a pseudo-terminal, and what a person would see of it."""

    def __init__(
        self,
        *words: str,
        runtime_dir: Path,
        cwd: Path = APPS,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self.child = pexpect.spawn(
            program[0],
            [*program[1:], *words],
            env={**environment(runtime_dir, env), "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            cwd=str(cwd),
            dimensions=(LINES, COLUMNS),
            timeout=10,
        )
        self.child.delaybeforesend = None

    def text(self) -> str:
        """The screen as it is now."""
        while True:
            try:
                self._stream.feed(self.child.read_nonblocking(65536, timeout=0.02))
            except (pexpect.TIMEOUT, pexpect.EOF):
                return "\n".join(self._screen.display)

    def see(self, pattern: str, deadline_s: float = 15.0) -> re.Match[str]:
        """Wait until the screen shows ``pattern``."""
        end = time.monotonic() + deadline_s
        while True:
            text = self.text()
            if found := re.search(pattern, text):
                return found
            if time.monotonic() > end or not self.child.isalive():
                raise AssertionError(f"{pattern!r} is not on the screen:\n{text}")

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size; the kernel tells the program so (SIGWINCH)."""
        self.text()
        self._screen.resize(lines, columns)
        self.child.setwinsize(lines, columns)

    def lose(self, deadline_s: float = 5.0) -> float:
        """Take the terminal away, as a closed window does; the seconds until the program has ended."""
        began = time.monotonic()
        self.child.ptyproc.fileobj.close()
        eventually(lambda: not self.child.isalive(), deadline_s, what="the end of the program")
        return time.monotonic() - began

    def press(self, keys: str) -> None:
        """Type."""
        self.child.send(keys)

    def wait_for_end(self, deadline_s: float = 15.0) -> int:
        """The exit status of the command; its last output is read meanwhile, as a terminal would."""
        eventually(lambda: self.text() is not None and not self.child.isalive(), deadline_s, what="the end")
        self.text()
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus)
