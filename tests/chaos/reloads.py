"""``python -m tests.chaos.reloads``: what a change costs. Each measurement starts a server of its own.

reloads, scaling: requests that fail while the server is reloaded, or scaled up and down, without pause.
kills: workers are killed every half second; only what they were serving may be lost.
ttin: from the signal to a worker that serves. p99: what a reload adds to the slowest answers.
idle: memory and CPU of a master whose server has nothing to do. growth: the same master after many reloads.
loop: how often a worker is forked that dies each time, from five seconds behind the first on.
control: what crowds of clients of the control socket cost, who stall, flood, or send half a frame.

Ends with status 1 if one of them misses what the server promises.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.client import Clients, Failure
from tests.chaos.judge import Kill, called_twice, excuse
from tests.chaos.world import calls, deploy, master_figures
from tests.support.flood import Crowd, FloodProcess
from tests.support.server import Server, free_port
from tests.support.users import ALICE, BOB
from tests.support.waiting import eventually

HELLO: Final = "hello:application"
KILL_EVERY_S: Final = 0.5
RSS_BYTES: Final = 40e6
IDLE_CPU_PERCENT: Final = 0.3
LEAST_PER_S: Final = 1000
LOOP_BEGINS_S: Final = 5.0
FORKS_A_MINUTE: Final = 10
ZYGOTES_IMPORTS: Final = "import wsgitop.zygote.process, wsgitop.worker.boot"


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement: ``text`` is for people, ``missed`` is what it should have been, '' if it is."""

    name: str
    text: str
    missed: str = ""

    def __str__(self) -> str:
        return f"{'MISSED' if self.missed else 'ok':6} {self.name}: {self.text}" + (
            f" – {self.missed}" if self.missed else ""
        )


@contextmanager
def site_server(*arguments: str, import_s: float = 0.0) -> Iterator[tuple[Server, Path]]:
    """A server of the chaos application, and the directory of its record."""
    directory = Path(tempfile.mkdtemp(prefix="wsgitop-reloads-"))
    record = directory / "record"
    record.mkdir()
    deploy(directory / "site", f"import time\ntime.sleep({import_s})\nVERSION = 1\n")
    try:
        with Server(
            "application:application", *arguments, cwd=directory / "site", env={"CHAOS_RECORD": str(record)}
        ) as server:
            yield server.wait_until_serving(), record
    finally:
        shutil.rmtree(directory)


def _first(failures: Sequence[Failure]) -> str:
    return "; ".join(f"{f.kind} {f.number}: {f.reason}" for f in failures[:5])


@dataclass(frozen=True, slots=True)
class Amount:
    """So many changes over at least so many requests, at so many requests a second or more."""

    changes: int = 50
    requests: int = 100_000
    least_per_s: float = LEAST_PER_S
    workers: int = 4
    pause_s: float = 0.0  # of each client, behind each answer


FULL: Final = Amount()


def _changes(name: str, preload: bool, change: Callable[[Server, int], None], amount: Amount) -> Result:
    """Changes under load from three kinds of client: no request may fail."""
    arguments = ("--workers", str(amount.workers), *(["--preload"] * preload))
    with site_server(*arguments) as (server, record):
        clients = Clients(server.port, pause_s=amount.pause_s, slow_every=0)
        tally = clients.tally
        begun_s = time.monotonic()
        with clients:
            for number in range(amount.changes):
                while tally.total < amount.requests * number // amount.changes and not tally.failures:
                    time.sleep(0.005)
                change(server, number)
            while tally.total < amount.requests and not tally.failures:
                time.sleep(0.005)
            took_s = time.monotonic() - begun_s
        called = calls(record)
    twice = called_twice(called)
    rate = tally.total / took_s
    failed = f"{len(tally.failures)} of {tally.total + len(tally.failures):,} requests failed"
    text = f"{' '.join(arguments)}: {failed} over {amount.changes} changes, {rate:,.0f} a second"
    missed = _first(tally.failures) or "; ".join(twice[:3])
    if not missed and len(called) < tally.total:
        missed = f"only {len(called)} were called"
    if not missed and rate < amount.least_per_s:
        missed = f"at least {amount.least_per_s:,.0f} a second are asked for"
    return Result(name, text, missed)


def _reload_once(server: Server, number: int) -> None:
    """A reload, to its end."""
    with server.client() as client:
        client.reload()  # raises if it fails


def _scale_once(server: Server, number: int) -> None:
    """Up and down by turns, to the end."""
    with server.client() as client:
        client.scale(workers=(6, 2, 5, 1, 4)[number % 5])


def reloads(preload: bool, amount: Amount = FULL) -> Result:
    """Reloads under load."""
    return _changes("reloads", preload, _reload_once, amount)


def scaling(preload: bool, amount: Amount = FULL) -> Result:
    """Scaling under load."""
    return _changes("scaling", preload, _scale_once, amount)


def kills(seconds: float) -> Result:
    """``kill -9`` of a worker every half second."""
    done: list[Kill] = []
    with site_server("--workers", "4", "--preload") as (server, record):
        clients = Clients(server.port, pause_s=0.0)
        begun_s = time.monotonic()
        with clients, server.client() as client:
            while time.monotonic() < begun_s + seconds:
                workers = [w.pid for w in client.status().workers if w.state in ("idle", "busy")]
                if workers:
                    done.append(Kill(workers[len(done) % len(workers)], time.monotonic()))
                    with suppress(ProcessLookupError):
                        os.kill(done[-1].pid, signal.SIGKILL)
                time.sleep(KILL_EVERY_S)
            took_s = time.monotonic() - begun_s
        tally = clients.tally
        called = calls(record)
    wrong = [f for f in tally.failures if excuse(f, called.get(f.number, []), done) is None]
    lost = f"{len(tally.failures) - len(wrong)} lost with them, {len(wrong)} lost otherwise"
    text = (
        f"{len(done)} workers of 4 killed in {took_s:.0f} s, {tally.total:,} requests answered, {lost}, "
        f"{tally.total / took_s:,.0f} a second"
    )
    return Result("kills", text, _first(wrong) or "; ".join(called_twice(called)[:3]))


def ttin(preload: bool, times: int = 10, import_s: float = 0.3) -> Result:
    """From TTIN to the line of the log that one worker more serves; asking would disturb the master."""
    allowed_s = 0.1 if preload else import_s + 0.15
    took: list[float] = []
    with site_server("--workers", "1", *(["--preload"] * preload), import_s=import_s) as (server, _):
        for number in range(times):
            line = f"{number + 2} workers serve after"
            begun_s = time.monotonic()
            server.signal(signal.SIGTTIN)
            while line not in server.log():
                assert time.monotonic() < begun_s + 10, "TTIN does not come to an end"
                time.sleep(0.002)
            took.append(time.monotonic() - begun_s)
    took.sort()
    text = (
        f"{'--preload' if preload else f'import of {import_s * 1000:.0f} ms'}: "
        f"median {took[len(took) // 2] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms"
    )
    return Result("ttin", text, f"at most {allowed_s * 1000:.0f} ms" if took[-1] > allowed_s else "")


def p99(preload: bool, seconds: float, rounds: int = 3, *, slow: bool = False) -> Result:
    """The 99th percentile with reloads and without, alternating so that a busy machine disturbs both.

    ``slow``: the application takes 5 ms for each request, and not next to nothing. A third phase starts an
    interpreter that imports what a zygote does, beside a server that is left alone: what that adds is the
    price of the processor time, on this machine, and no reload can add less.
    """
    quiet: list[float] = []
    busy: list[float] = []
    beside: list[float] = []
    with site_server("--workers", "4", *(["--preload"] * preload)) as (server, _):
        for _round in range(rounds):
            for found in (quiet, beside, busy):
                # Far below what the cores can do: a reload costs time, too, that nobody else may take.
                with Clients(
                    server.port, each=2, pause_s=0.004, slow_every=int(slow), keep_latencies=True
                ) as clients:
                    end_s = time.monotonic() + seconds
                    while time.monotonic() < end_s:
                        if found is busy:
                            _reload_once(server, 0)
                        elif found is beside:
                            subprocess.run([sys.executable, "-c", ZYGOTES_IMPORTS], check=True)
                        time.sleep(min(1.0, max(0.0, end_s - time.monotonic())))
                found.extend(clients.tally.latencies_s)
                assert not clients.tally.failures, _first(clients.tally.failures)
    without_s, beside_s, with_s = (sorted(some)[int(len(some) * 0.99)] for some in (quiet, beside, busy))
    allowed = 1.2 if preload else 2.0
    ratio = with_s / without_s
    figures = (
        f"p99 {without_s * 1000:.2f} ms without, {with_s * 1000:.2f} ms with a reload each second or so, "
        f"{beside_s * 1000:.2f} ms with an interpreter started instead"
    )
    rate = len(busy) / seconds / rounds
    shape = "--preload, " * preload + "5 ms a request, " * slow
    text = f"{shape}{figures} ({ratio:.2f} times), {rate:.0f} requests a second"
    return Result("p99", text, f"at most {allowed} times" if with_s > allowed * without_s else "")


def idle(seconds: float) -> Result:
    """A master with eight workers that have nothing to do."""
    with Server(HELLO, "--workers", "8") as server:
        server.wait_until_serving()
        process = psutil.Process(server.pid)
        time.sleep(2)
        before = sum(process.cpu_times()[:2])
        time.sleep(seconds)
        percent = 100 * (sum(process.cpu_times()[:2]) - before) / seconds
        rss_bytes = process.memory_info().rss
    missed = []
    if rss_bytes > RSS_BYTES:
        missed.append(f"at most {RSS_BYTES / 1e6:.0f} MB")
    if percent > IDLE_CPU_PERCENT:
        missed.append(f"at most {IDLE_CPU_PERCENT} %")
    text = f"8 workers: {rss_bytes / 1e6:.1f} MB resident, {percent:.2f} % CPU over {seconds:.0f} s"
    return Result("idle", text, ", ".join(missed))


def growth(count: int) -> Result:
    """The master before and after many reloads of a small application; the first ones fill its caches."""
    with Server(HELLO, "--workers", "2", "--preload") as server:
        server.wait_until_serving()
        warm = max(5, count // 10)
        for number in range(warm):
            _reload_once(server, number)
        before = master_figures(server.pid)
        begun_s = time.monotonic()
        for number in range(count):
            _reload_once(server, number)
        each_s = (time.monotonic() - begun_s) / count
        after = master_figures(server.pid)
    text = f"{count} reloads of {each_s:.2f} s: {before.until(after)}"
    missed = []
    if after.descriptors > before.descriptors or after.threads > before.threads:
        missed.append("no growth")
    if after.rss_bytes > before.rss_bytes + 3e6:
        missed.append("no growth of memory")
    return Result("growth", text, ", ".join(missed))


def loop(seconds: float) -> Result:
    """Workers that serve first and die by themselves soon after, each time."""
    directory = Path(tempfile.mkdtemp(prefix="wsgitop-loop-"))
    try:
        deploy(directory / "site", "VERSION = 1\n")
        with Server("application:application", "--workers", "4", cwd=directory / "site") as server:
            server.wait_until_serving()
            ready = len(_booted(server))
            # The old code stays on its feet unless the new one gets as far as to serve.
            fatal = "import os, threading\nVERSION = 2\nthreading.Timer(0.5, os._exit, (9,)).start()\n"
            deploy(directory / "site", fatal)
            server.signal(signal.SIGHUP)
            eventually(lambda: len(_booted(server)) > ready, what="the new code")
            # The forks of the reload itself, and the first tries, which come soon, are not yet a loop.
            time.sleep(LOOP_BEGINS_S)
            before = len(_booted(server))
            time.sleep(seconds)
            forks = len(_booted(server)) - before
            early = before - ready
    finally:
        shutil.rmtree(directory)
    most = FORKS_A_MINUTE * seconds / 60
    text = f"{forks} forks in {seconds:.0f} s, behind {early} in the first {LOOP_BEGINS_S:.0f} s"
    if not forks:
        return Result("loop", text, "it has given up, which it is not to do")
    return Result("loop", text, f"at most {most:.0f}" if forks > most else "")


def control(seconds: float, rounds: int = 3, *, uids: Sequence[int] = ()) -> Result:
    """Fifty clients of each bad kind, of the server's own user or of each of ``uids``, whom it lets in, by
    turns with none. The master's loop is felt at its health check, which waits for no client's turn.
    """
    found: dict[bool, list[float]] = {False: [], True: []}
    lags: dict[bool, list[float]] = {False: [], True: []}
    asked: dict[bool, list[float]] = {False: [], True: []}
    master_s, flood_s = [0.0, 0.0], 0.0
    tally: Counter[str] = Counter()
    directory = Path(tempfile.mkdtemp(prefix="wsgitop-crowd-"))
    directory.chmod(0o755)
    health = free_port()
    allow = [word for uid in uids for word in ("--control-allow", str(uid))]
    path = f"{directory}/shared/s.sock"
    words = ["--workers", "4", "--health-bind", f"127.0.0.1:{health}", *allow]
    try:
        with site_server(*words, "--control-allow-socket", path) as (server, _):
            process = psutil.Process(server.pid)
            status = server.status()["master"]
            for _round in range(rounds):
                for crowded in (False, True):
                    crowds = [
                        Crowd(path if uids else status["control"], kind, 50, uid)
                        for kind in ("stalled", "flooding", "half")
                        for uid in (uids or [None])
                    ]
                    flood = FloodProcess(*crowds) if crowded else None
                    with flood or nullcontext(), server.client() as client:
                        # The first moments, in which all of them come, count.
                        before = sum(process.cpu_times()[:2])
                        with Clients(
                            server.port, each=2, pause_s=0.004, slow_every=0, keep_latencies=True
                        ) as load:
                            end_s = time.monotonic() + seconds
                            with _probe(health, lags[crowded]):
                                while time.monotonic() < end_s:
                                    begun_s = time.monotonic()
                                    client.status()
                                    asked[crowded].append(time.monotonic() - begun_s)
                                    time.sleep(0.1)
                        master_s[crowded] += sum(process.cpu_times()[:2]) - before
                    if flood is not None:
                        tally.update(flood.tally)
                        flood_s += flood.cpu_s
                    found[crowded].extend(load.tally.latencies_s)
                    assert not load.tally.failures, _first(load.tally.failures)
    finally:
        shutil.rmtree(directory)
    p99s = {crowded: _percentile(some, 0.99) for crowded, some in found.items()}
    ratio = p99s[True] / p99s[False]
    # The probe's own way through a busy machine is in both, so the difference is what the crowd adds.
    quiet_lag_s, lag_s = (_percentile(lags[crowded], 0.99) for crowded in (False, True))
    quiet, percent = (100 * each_s / seconds / rounds for each_s in master_s)
    missed = [
        text
        for text, bad in (
            ("p99 at most twice", ratio > 2),
            ("less than 10 ms of lag more", lag_s - quiet_lag_s >= 0.01),
            ("at most 10 % of a core", percent > 10),
        )
        if bad
    ]
    whose = f"two other users' {150 * len(uids)} clients" if uids else "the owner's 150 clients"
    median_s, worst_s = _percentile(asked[True], 0.5), max(asked[True])
    text = (
        f"{whose}: p99 {p99s[False] * 1000:.2f} ms without, {p99s[True] * 1000:.2f} ms with them "
        f"({ratio:.2f} times); health check p99 {quiet_lag_s * 1000:.1f} and "
        f"{lag_s * 1000:.1f} ms; status median {median_s * 1000:.0f} ms, worst {worst_s * 1000:.0f} ms; "
        f"master {quiet:.1f} and {percent:.1f} % of a core, flood {100 * flood_s / seconds / rounds:.0f} %, "
        f"{dict(tally)}"
    )
    return Result("control", text, ", ".join(missed))


PROBE: Final = """
import json, select, socket, sys, time
took = []
while not select.select([sys.stdin], [], [], 0.03)[0]:
    begun_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as sock:
        sock.sendall(b"GET /healthy HTTP/1.1\\r\\nHost: chaos\\r\\nConnection: close\\r\\n\\r\\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
    took.append(time.monotonic() - begun_s)
print(json.dumps(took))
"""


@contextmanager
def _probe(port: int, found: list[float]) -> Iterator[None]:
    """Ask the health check over and over, in a process that does nothing else; seconds go to ``found``."""
    words = [sys.executable, "-c", PROBE, str(port)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield
        found.extend(json.loads(process.communicate(timeout=20)[0]))


def _percentile(some: Sequence[float], share: float) -> float:
    return sorted(some)[int(len(some) * share)]


def _booted(server: Server) -> list[str]:
    return [line for line in server.log().splitlines() if "Booting worker" in line]


def main() -> int:
    """Measure."""
    measurements: dict[str, Callable[[], list[Result]]] = {
        "reloads": lambda: [reloads(preload) for preload in (True, False)],
        "scaling": lambda: [scaling(preload) for preload in (True, False)],
        "kills": lambda: [kills(30)],
        "ttin": lambda: [ttin(True), ttin(False)],
        "p99": lambda: [p99(preload, 6, slow=slow) for preload in (True, False) for slow in (False, True)],
        "idle": lambda: [idle(20)],
        "growth": lambda: [growth(500)],
        "loop": lambda: [loop(60)],
        "control": lambda: [control(8), *([control(8, uids=(ALICE, BOB))] * (os.geteuid() == 0))],
    }
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.reloads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("which", nargs="*", metavar="WHICH", help=f"{', '.join(measurements)}; all if none")
    parser.add_argument("--json", action="store_true", help="one object for each measurement")
    options = parser.parse_args()
    if unknown := set(options.which) - measurements.keys():
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    failed = False
    for name in options.which or measurements:
        for result in measurements[name]():
            print(json.dumps(asdict(result)) if options.json else result, flush=True)
            failed = failed or bool(result.missed)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
