"""The server under chaos, and what the faults know of it and have done to it."""

from __future__ import annotations

import heapq
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.client import Clients
from tests.chaos.judge import Kill
from tests.chaos.pids_group import PidsGroup
from tests.support.release import write_release
from tests.support.server import Server
from tests.support.waiting import eventually
from wsgitop.client import Client
from wsgitop.errors import WsgitopError
from wsgitop.snapshot import Snapshot, WorkerSnapshot

APPLICATION: Final = Path(__file__).with_name("application.py")
DISK_BYTES: Final = 32 << 20


class Skip(Exception):
    """This fault cannot be had here, and why."""


@dataclass(frozen=True, slots=True)
class Told:
    """A line that the log must have for a fault."""

    fault: str
    pattern: str
    since: int


class Disk:
    """A small file system for what workers write; without root there is none, only a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reason = ""
        directory.mkdir()
        if os.geteuid() != 0:
            self.reason = "only root can mount a small file system"
            return
        words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            self.reason = f"only root can mount a small file system: {done.stderr.strip()}"

    def close(self) -> None:
        """Unmount it."""
        if not self.reason:
            subprocess.run(["umount", "--lazy", str(self.directory)], check=True, capture_output=True)

    def fill(self) -> None:
        """Until nothing fits any more."""
        with (self.directory / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(65536)):
                pass

    def clear(self) -> None:
        """Room again."""
        (self.directory / "filler").unlink(missing_ok=True)


class World:
    """One server, its directory, and everything that a fault may do to it."""

    def __init__(self, server: Server, clients: Clients, site: Path, disk: Disk) -> None:
        self.server = server
        self.clients = clients
        self.site = site
        self.disk = disk
        self.pids = PidsGroup(server.pid)
        self.kills: list[Kill] = []
        self.going: set[int] = set()  # workers that were told to go by somebody else than the master
        self.told: list[Told] = []
        self.control = server.client()
        self.control.__enter__()
        self.control_socket = self.control.status().master.control
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._version = 1

    def close(self) -> None:
        """Undo what is to be undone."""
        while self._later:
            heapq.heappop(self._later)[2]()
        self.control.__exit__(None, None, None)

    # -- looking

    def status(self) -> Snapshot:
        """From the connection that was there from the start."""
        return self.control.status()

    def workers(self) -> list[WorkerSnapshot]:
        """Those that serve."""
        return [w for w in self.status().workers if w.state in ("idle", "busy")]

    def zygotes(self) -> list[int]:
        """Those that live, the newest last."""
        return [g.zygote_pid for g in self.status().generations if g.zygote_pid]

    def log_size(self) -> int:
        """Where the log ends now."""
        return self.server.log_path.stat().st_size

    def log_has(self, pattern: str, since: int = 0) -> bool:
        """Whether it is in the log behind that place."""
        with self.server.log_path.open("rb") as log:
            log.seek(since)
            return re.search(pattern, log.read().decode(errors="replace")) is not None

    def converged(self) -> bool:
        """As many workers as wanted serve, of one code, and nothing is under way."""
        status = self.status()
        master = status.master
        return (
            master.state == "serving"
            and not master.state_reason
            and master.reloading_to is None
            and len(status.workers) == master.workers_wanted
            and all(w.state in ("idle", "busy") for w in status.workers)
        )

    # -- doing

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Do it then; whoever waits, waits with :meth:`rest`."""
        heapq.heappush(self._later, (time.monotonic() + delay_s, next(self._order), call))

    def rest(self, seconds: float) -> None:
        """Let time pass, and do what comes due."""
        until_s = time.monotonic() + seconds
        while True:
            now_s = time.monotonic()
            while self._later and self._later[0][0] <= now_s:
                heapq.heappop(self._later)[2]()
            if now_s >= until_s:
                return
            next_s = min(until_s, self._later[0][0] if self._later else until_s)
            time.sleep(max(0.0, next_s - time.monotonic()))

    def rest_until(self, reached: Callable[[], bool], deadline_s: float) -> bool:
        """As :meth:`rest`, until it is so; false if it was not within the deadline."""
        until_s = time.monotonic() + deadline_s
        while not reached():
            if time.monotonic() >= until_s:
                return False
            self.rest(0.05)
        return True

    def undo_all(self) -> None:
        """What is held or changed for a while is let go now."""
        while self._later:
            heapq.heappop(self._later)[2]()

    def expect(self, fault: str, pattern: str, since: int) -> None:
        """The log must tell of it."""
        self.told.append(Told(fault, pattern, since))

    def untold(self, deadline_s: float) -> list[str]:
        """Faults that the log has no line for."""
        missing = []
        for one in self.told:
            try:
                eventually(lambda one=one: self.log_has(one.pattern, one.since), deadline_s)  # type: ignore[misc]
            except AssertionError:
                missing.append(f"no line of the log matches {one.pattern!r} after the fault {one.fault!r}")
        self.told.clear()
        return missing

    def kill_worker(self, pid: int, number: signal.Signals) -> None:
        """A signal that ends a worker at once; what it had in hand may be lost."""
        self.kills.append(Kill(pid, time.monotonic()))
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def hold(self, pid: int, seconds: float) -> None:
        """Stop a process for a while."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self.later(seconds, lambda: _send(pid, signal.SIGCONT))

    def limit(self, pid: int, what: int, soft: int, seconds: float) -> None:
        """A lower limit of a resource for a while."""
        try:
            before = resource.prlimit(pid, what)
            resource.prlimit(pid, what, (min(soft, before[0]) if before[0] >= 0 else soft, before[1]))
        except ProcessLookupError:
            return

        def undo() -> None:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, what, before)

        self.later(seconds, undo)

    def deploy(self, source: str = "") -> None:
        """Change the code on disk; ``''``: a release that works."""
        if not source:
            self._version += 1
            source = f"VERSION = {self._version}\n"
        deploy(self.site, source)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def deploy(site: Path, source: str) -> None:
    """``source`` as the release in ``site``; replaced in one step, as a careful deploy does it."""
    fresh = site.with_name("fresh")
    write_release(fresh, source)
    shutil.copy(APPLICATION, fresh)
    site.mkdir(exist_ok=True)
    for name in ("application.py", "release.py"):
        (fresh / name).rename(site / name)


def calls(record: Path) -> dict[int, list[int]]:
    """By number of the request: the pids of the processes that called the application for it."""
    found: dict[int, list[int]] = defaultdict(list)
    for path in record.iterdir():
        for line in path.read_bytes().split():
            found[int(line)].append(int(path.name))
    return found


@dataclass(frozen=True, slots=True)
class MasterFigures:
    """What must not grow."""

    descriptors: int
    threads: int
    rss_bytes: int

    def until(self, later: MasterFigures) -> str:
        """Both, in words."""
        memory = f"{self.rss_bytes / 1e6:.1f} → {later.rss_bytes / 1e6:.1f} MB"
        descriptors = f"descriptors {self.descriptors} → {later.descriptors}"
        return f"{descriptors}, threads {self.threads} → {later.threads}, memory {memory}"


def master_figures(pid: int) -> MasterFigures:
    """The master's figures now."""
    process = psutil.Process(pid)
    return MasterFigures(process.num_fds(), process.num_threads(), process.memory_info().rss)


def ask(client: Client) -> Snapshot | None:
    """A status, None while the master cannot answer."""
    try:
        return client.status()
    except WsgitopError:
        return None
