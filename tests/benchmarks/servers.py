"""The servers that are compared, started the same way, and what each of them costs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes import end_session, session_members
from tests.support.server import environment, free_port
from tests.support.waiting import eventually

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Contender:
    """One way to serve: a name for the table, and the command in front of ``--bind ADDRESS APP``."""

    name: str
    command: tuple[str, ...]


GUNICORN = (sys.executable, "-m", "gunicorn", "--no-control-socket")
WSGITOP = (sys.executable, "-m", "wsgitop", "serve")


def contenders(workers: int, threads: int) -> tuple[Contender, ...]:
    """Who takes part, each with ``workers`` processes, and ``threads`` threads where it has any."""
    processes = ("--workers", str(workers))
    pool = (*processes, "--threads", str(threads))
    return (
        Contender(f"wsgitop {workers}×{threads}", (*WSGITOP, *pool)),
        Contender(f"wsgitop {workers}×1", (*WSGITOP, *processes)),
        Contender(f"gunicorn gthread {workers}×{threads}", (*GUNICORN, "-k", "gthread", *pool)),
        Contender(f"gunicorn sync {workers}", (*GUNICORN, "-k", "sync", *processes)),
    )


@dataclass(frozen=True)
class Running:
    """A server that serves."""

    port: int
    session: int

    def cpu_s(self) -> float:
        """CPU seconds that its living processes have used, user and system."""
        return sum(sum(process.cpu_times()[:2]) for process in session_members(self.session))

    def rss_bytes(self) -> int:
        """Resident memory of all its processes; shared pages count several times."""
        return sum(process.memory_info().rss for process in session_members(self.session))


@contextlib.contextmanager
def running(contender: Contender, app: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Running]:
    """Serve ``app`` while the context is open."""
    port = free_port()
    words: Sequence[str] = [*contender.command, "--bind", f"127.0.0.1:{port}", app]
    with tempfile.TemporaryDirectory(prefix="wsgitop-bench-") as directory, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment(Path(directory), env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            try:
                eventually(lambda: _serves(process, port), 30, what=f"{contender.name} at port {port}")
            except AssertionError as error:
                log.seek(0)
                raise SystemExit(f"{error}\n{log.read().decode(errors='replace')}") from None
            yield Running(port, process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            end_session(process.pid)


def _serves(process: subprocess.Popen[bytes], port: int) -> bool:
    import http.client

    if process.poll() is not None:
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with status {process.returncode}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    finally:
        connection.close()


def versions() -> str:
    """What was compared, in one line."""
    from importlib.metadata import version

    import wsgitop

    return (
        f"wsgitop {wsgitop.__version__}, gunicorn {version('gunicorn')}, Django {version('django')}, "
        f"Python {sys.version.split()[0]}, {psutil.cpu_count()} cores"
    )
