"""One server at work: started in a session of its own, ended by its id, and what it costs meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from tests.benchmarks.clients import Request, ask
from tests.support.processes import end_session, session_members
from tests.support.server import APPS, environment
from tests.support.waiting import eventually

OWN_APPS = Path(__file__).with_name("apps")
BOOT_DEADLINE_S = 30.0
Number = TypeVar("Number", int, float)


class DidNotServe(Exception):
    """The server ended, or did not answer, or not what the application says; ``log`` is what it wrote."""

    def __init__(self, reason: str, log: str) -> None:
        self.log = log.strip()
        last_line = self.log.rpartition("\n")[2]
        super().__init__(f"{reason}: {last_line}" if last_line else reason)


@dataclass(frozen=True)
class Serving:
    """A server that serves."""

    port: int
    session: int

    def cpu_s(self) -> float:
        """CPU seconds that its living processes have used, user and system."""
        return self._sum(lambda process: sum(process.cpu_times()[:2]))

    def rss_bytes(self) -> int:
        """Resident memory of all its processes; shared pages count several times."""
        return self._sum(lambda process: process.memory_info().rss)

    def pss_bytes(self) -> int:
        """Resident memory of all its processes; shared pages count once."""
        return self._sum(_pss_bytes)

    def _sum(self, figure: Callable[[psutil.Process], Number]) -> Number:
        total: Number = 0
        for process in session_members(self.session):
            with contextlib.suppress(psutil.NoSuchProcess, OSError):  # it may end at any moment
                total += figure(process)
        return total


def _pss_bytes(process: psutil.Process) -> int:
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


@contextlib.contextmanager
def serving(
    words: Sequence[str], *, port: int, probe: Request, expected: bytes, env: Mapping[str, str]
) -> Iterator[Serving]:
    """Run the command ``words`` while the context is open. Raises :class:`DidNotServe`."""
    with tempfile.TemporaryDirectory(prefix="wsgitop-bench-") as directory, tempfile.TemporaryFile() as log:
        surroundings = environment(Path(directory), env)
        # Some servers put the working directory into sys.path, some do not.
        path = [str(APPS), str(OWN_APPS), surroundings.get("PYTHONPATH", "")]
        surroundings["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        process = subprocess.Popen(
            words,
            cwd=directory,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

        def said() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")

        def answers() -> bool:
            if process.poll() is not None:
                raise DidNotServe(f"ended with status {process.returncode}", said())
            status, body = ask(port, probe)
            if status and (status, body) != (200, expected):
                raise DidNotServe(f"answered {status} {body[:80]!r}", said())
            return status == 200

        try:
            try:
                eventually(answers, BOOT_DEADLINE_S)
            except AssertionError:
                raise DidNotServe(f"did not answer within {BOOT_DEADLINE_S:g} s", said()) from None
            yield Serving(port, process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(psutil.NoSuchProcess):
                end_session(process.pid)
            process.wait()
