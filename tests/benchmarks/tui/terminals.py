"""A program in a pseudo-terminal of 120×40: what it writes, when, and what it costs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pexpect
import psutil

from tests.support.processes import end_session

COLUMNS, LINES = 120, 40
DEADLINE_S = 30.0


class CannotMeasure(Exception):
    """The program did not do what is measured; says what it wrote instead."""


class PtyProgram:
    """A program that runs in a terminal of its own. ``began`` is the perf_counter when it was started."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        # Who develops may keep Python from writing bytecode; users do not compile everything at each start.
        surroundings = {**(os.environ if env is None else env)}
        surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
        self.began = time.perf_counter()
        self.child = pexpect.spawn(
            words[0],
            list(words[1:]),
            env={
                **surroundings,
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "LANG": "C.UTF-8",
            },
            dimensions=(LINES, COLUMNS),
            timeout=None,
        )
        self.pid: int = self.child.pid
        self.received = 0
        self._recent = b""

    def drain(self, seconds: float) -> int:
        """Read for so long, as a terminal does; how many bytes came."""
        before = self.received
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._read(left)
        return self.received - before

    def until(self, wanted: bytes, deadline_s: float = DEADLINE_S) -> float:
        """Read until ``wanted`` was among what came since the last call; the perf_counter at that moment.

        Raises CannotMeasure when it does not come.
        """
        end = time.perf_counter() + deadline_s
        while wanted not in self._recent:
            left = end - time.perf_counter()
            if left <= 0 or not self._read(left):
                raise CannotMeasure(f"{wanted!r} was not written; the last of it: {self._recent[-300:]!r}")
        self._recent = b""
        return time.perf_counter()

    def _read(self, timeout_s: float) -> bool:
        """Take what is there; False at the end of the program."""
        if not select.select([self.child.child_fd], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self.child.child_fd, 65536)
        except OSError:  # what Linux answers when the program has ended
            return False
        self.received += len(data)
        self._recent = (self._recent + data)[-65536:]
        return bool(data)

    def forget(self) -> None:
        """What :meth:`until` looks for must come from now on."""
        self._recent = b""

    def press(self, keys: bytes) -> float:
        """Type; the perf_counter before."""
        self.forget()
        now = time.perf_counter()
        os.write(self.child.child_fd, keys)
        return now

    def cost(self, seconds: float) -> tuple[float, float]:
        """Read for so long: percent of a core that it takes meanwhile, and bytes per second that it
        writes."""
        began, cpu_before = time.perf_counter(), cpu_s(self.pid)
        received = self.drain(seconds)
        taken_s = time.perf_counter() - began
        return (cpu_s(self.pid) - cpu_before) / taken_s * 100, received / taken_s

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def lose_terminal(self) -> float:
        """Close the terminal under it; the seconds until the process has ended."""
        began = time.perf_counter()
        self.child.ptyproc.fileobj.close()
        while time.perf_counter() - began < DEADLINE_S:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.child.closed = self.child.ptyproc.closed = True
                self.child.ptyproc.terminated = self.child.terminated = True
                return time.perf_counter() - began
            time.sleep(0.002)
        raise CannotMeasure(f"still there {DEADLINE_S:g} s after its terminal was closed")

    def end(self) -> None:
        """Kill it, and all of its session."""
        if self.child.closed:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.child.close(force=True)
        end_session(self.pid)


@contextlib.contextmanager
def in_terminal(words: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[PtyProgram]:
    """A program that ends with the context."""
    program = PtyProgram(words, env=env)
    try:
        yield program
    finally:
        program.end()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, from the scheduler's nanoseconds where the kernel tells them: the hundredths
    of /proc/PID/stat are too coarse for half a percent.
    """
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            total += int(path.read_text().split()[0])
    return total / 1e9 if total else sum(psutil.Process(pid).cpu_times()[:2])
