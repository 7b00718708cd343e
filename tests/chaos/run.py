"""One run: a server, its clients, faults by chance, and what must hold all the same."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.chaos.client import Clients
from tests.chaos.faults import draw
from tests.chaos.judge import Strength, called_twice, excuse, grown, too_many
from tests.chaos.world import Disk, MasterFigures, Skip, World, ask, calls, deploy, master_figures
from tests.support.server import Server
from tests.support.waiting import eventually
from wsgitop.errors import WsgitopError

SURGE: Final = 1
GRACEFUL_S: Final = 5.0
CONVERGE_S: Final = 30.0
"""Back-off after broken deploys included."""
REST_EVERY: Final = 25
"""Faults until the server is given the time to come to rest, and is measured."""
RSS_SLACK_BYTES: Final = 12 << 20
"""The master's history fills in its first fifteen minutes."""
DESCRIPTORS_SLACK: Final = 20
"""What some more workers than at the beginning are worth: channel, output and pidfd of each."""
INTERNAL: Final = re.compile(r"^.*(?:[Ii]nternal error|could not be answered).*$", re.M)
SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. ``killed``: the master ends by SIGKILL and not by TERM. ``log``: a file to keep the server's
    log in.
    """

    seed: int = 1
    seconds: float = 30.0
    workers: int = 3
    threads: int = 1
    preload: bool = False
    killed: bool = False
    log: str = ""


@dataclass(slots=True)
class Report:
    """What was injected and what was lost. ``faults`` are what must not happen; ``lost`` requests went with
    the worker that had them.
    """

    plan: Plan
    duration_s: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    lost: list[str] = field(default_factory=list)
    kills: int = 0
    converged_s: list[float] = field(default_factory=list)
    before: MasterFigures | None = None
    after: MasterFigures | None = None
    faults: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """For ``--json``."""
        counts = {"injected": dict(self.injected), "answered": dict(self.answered)}
        # asdict() makes a Counter of pairs out of a Counter.
        return asdict(replace(self, injected=Counter(), answered=Counter())) | counts

    def __str__(self) -> str:
        plan = self.plan
        total = self.answered.total()
        shape = f"{plan.workers} workers × {plan.threads} threads{', --preload' * plan.preload}"
        rate = total / max(self.duration_s, 0.1)
        lines = [
            f"{shape}, seed {plan.seed}: {total} requests in {self.duration_s:.1f} s ({rate:.0f} a second)",
            f"  injected: {self.injected.total()} faults",
            *(f"  {count:9d} {name}" for name, count in sorted(self.injected.items())),
            *(f"            skipped: {name}: {why}" for name, why in sorted(self.skipped.items())),
            "  answered: " + ", ".join(f"{n} {kind}" for kind, n in sorted(self.answered.items())),
            f"  lost with the {self.kills} workers that were killed: {len(self.lost)} requests",
            *(f"    {line}" for line in self.lost[:SHOWN]),
        ]
        if self.converged_s:
            worst_s = max(self.converged_s)
            lines.append(f"  at rest {len(self.converged_s)} times, at most {worst_s:.1f} s after a fault")
        if self.before and self.after:
            lines.append(f"  the master: {self.before.until(self.after)}")
        lines += [f"FAILURE {fault}" for fault in self.faults[:SHOWN]] or ["  no failure"]
        if len(self.faults) > SHOWN:
            lines.append(f"and {len(self.faults) - SHOWN} more")
        return "\n".join(lines)


class Watch:
    """Looks at the number of workers all the time, from a thread and a connection of its own."""

    def __init__(self, server: Server, world: World) -> None:
        self.seen: list[Strength] = []
        self._server = server
        self._world = world
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._server.client() as client:
            while not self._ended.wait(0.1):
                status = ask(client)
                if status is None:
                    continue
                aside = sum(w.state == "quarantined" or w.pid in self._world.going for w in status.workers)
                seen = Strength(
                    time.monotonic(), len(status.workers), aside, max(1, status.master.workers_wanted)
                )
                if not self.seen or (seen.workers, seen.aside, seen.wanted) != (
                    self.seen[-1].workers,
                    self.seen[-1].aside,
                    self.seen[-1].wanted,
                ):
                    self.seen.append(seen)


def chaos(plan: Plan) -> Report:
    """Run it. Everything that it has started and made is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="wsgitop-chaos-"))
    directory.chmod(0o755)
    disk = Disk(directory / "disk")
    try:
        return _chaos(plan, directory, disk)
    finally:
        disk.close()
        shutil.rmtree(directory)


def _chaos(plan: Plan, directory: Path, disk: Disk) -> Report:
    report = Report(plan)
    site, record = directory / "site", directory / "record"
    record.mkdir()
    deploy(site, "VERSION = 1\n")
    arguments = (
        "--workers", str(plan.workers), "--threads", str(plan.threads), *(["--preload"] * plan.preload),
        "--reload-surge", str(SURGE), "--graceful-timeout", f"{GRACEFUL_S:g}", "--boot-timeout", "3",
        "--worker-tmp-dir", str(disk.directory), "--access-logfile", str(disk.directory / "access.log"),
    )  # fmt: skip
    with Server("application:application", *arguments, cwd=site, env={"CHAOS_RECORD": str(record)}) as server:
        server.wait_until_serving()
        clients = Clients(server.port)
        world = World(server, clients, site, disk)
        watch = Watch(server, world)
        started_s = time.monotonic()
        try:
            with clients:
                _inject(plan, report, world)
                report.duration_s = time.monotonic() - started_s
        finally:
            watch.end()
            world.close()
        report.kills = len(world.kills)
        _end(plan, report, server)
        world.pids.close()
    called = calls(record)
    report.answered.update({str(kind): count for kind, count in clients.tally.answered.items()})
    report.reconnects = clients.tally.reconnects
    for failure in clients.tally.failures:
        callers = called.get(failure.number, [])
        kill = excuse(failure, callers, world.kills)
        text = f"{failure.kind} request {failure.number}: {failure.reason}"
        if kill is not None:
            report.lost.append(f"{text} (with {kill.pid})")
        else:
            when_s = failure.ended_s - started_s
            report.faults.append(f"{text}, {when_s:.2f} s after the start, called by {callers or 'nobody'}")
    report.faults += called_twice(called)
    report.faults += sorted(set(too_many(watch.seen, SURGE, GRACEFUL_S + 3)))
    return report


def _inject(plan: Plan, report: Report, world: World) -> None:
    until_s = time.monotonic() + plan.seconds
    _rest(report, world)
    for drawn in draw(plan.seed):
        if time.monotonic() >= until_s:
            break
        world.rest(drawn.pause_s)
        name = drawn.fault.name
        try:
            drawn.fault.inject(world, drawn.random(), name)
        except Skip as skip:
            report.skipped[name] = str(skip)
            continue
        except (WsgitopError, ProcessLookupError):
            report.injected[f"{name}: nobody was there to ask"] += 1
            continue
        report.injected[name] += 1
        if report.injected.total() % REST_EVERY == 0:
            _rest(report, world)
    world.rest(0.5)
    _rest(report, world)


def _rest(report: Report, world: World) -> None:
    """No faults any more: the server must come to rest, and be as small as it was."""
    world.undo_all()
    world.deploy()
    since = world.log_size()
    world.server.signal(signal.SIGHUP)
    begun_s = time.monotonic()
    try:
        eventually(lambda: world.log_has("HUP: ", since) and world.converged(), CONVERGE_S, what="rest")
        report.converged_s.append(time.monotonic() - begun_s)
    except AssertionError as error:
        report.faults.append(f"the server does not come to rest: {error}; {world.status().master}")
    report.faults += world.untold(2.0)
    after = master_figures(world.server.pid)
    if report.before is None:
        report.before = after
    report.after = after
    before = report.before
    report.faults += grown("descriptors", before.descriptors, after.descriptors, DESCRIPTORS_SLACK)
    report.faults += grown("threads", before.threads, after.threads, 0)
    report.faults += grown("memory", before.rss_bytes, after.rss_bytes, RSS_SLACK_BYTES)


def _end(plan: Plan, report: Report, server: Server) -> None:
    """By TERM or SIGKILL: nothing may be left, and the port must be free."""
    if plan.killed:
        server.signal(signal.SIGKILL)
        server.process.wait(5)
    else:
        server.signal(signal.SIGTERM)
        status = server.process.wait(GRACEFUL_S + 10)
        if status:
            report.faults.append(f"the server ended with status {status}")
    try:
        eventually(lambda: not server.processes(), 2, what="the end of all processes")
    except AssertionError as error:
        report.faults.append(f"{error}: {server.processes()}")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            again.bind(("127.0.0.1", server.port))
        except OSError as error:
            report.faults.append(f"the port is not free: {error}")
    log = server.log()
    if plan.log:
        Path(plan.log).write_text(log)
    for line in INTERNAL.findall(log):
        report.faults.append(f"in the log: {line}")
