"""The faults: a table. Each is drawn by a seed, and draws what it needs from a seed of its own."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tests.chaos.world import Skip, World
from wsgitop.control.faults import TargetGone
from wsgitop.errors import WsgitopError

T = TypeVar("T")
RETRY_S: Final = 0.5
HELD_S: Final = (0.1, 0.8)
"""How long a process is stopped or a resource withheld."""
BROKEN: Final = {
    "ImportError": ("import a_module_that_nobody_has\n", "ModuleNotFoundError"),
    "SyntaxError": ("def broken(:\n", "SyntaxError"),
    "SystemExit": ("import sys\nsys.exit(7)\n", "SystemExit|status 7"),
    "os._exit": ("import os\nos._exit(9)\n", "status 9"),
    "segmentation fault": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
    "hang": ("import time\ntime.sleep(60)\n", "--boot-timeout"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. ``inject`` raises Skip if it cannot be had here."""

    name: str
    weight: int
    inject: Callable[[World, random.Random, str], None]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One fault of a run: when, counted from the one before, which, and the seed of its own choices."""

    pause_s: float
    fault: Fault
    seed: int

    def random(self) -> random.Random:
        """What it chooses by."""
        return random.Random(self.seed)


def draw(seed: int) -> Iterator[Drawn]:
    """The faults of a run, without end. The same seed gives the same."""
    rng = random.Random(seed)
    deck: list[Fault] = []
    while True:
        if not deck:
            # Shuffled rather than drawn one by one: a short run has every kind, too.
            deck = [fault for fault in TABLE for _ in range(fault.weight)]
            rng.shuffle(deck)
        yield Drawn(rng.uniform(0.02, 0.4), deck.pop(), rng.getrandbits(32))


def _pick(rng: random.Random, things: Sequence[T]) -> T | None:
    return rng.choice(things) if things else None


def _kill_worker(number: signal.Signals) -> Callable[[World, random.Random, str], None]:
    def inject(world: World, rng: random.Random, name: str) -> None:
        worker = _pick(rng, world.workers())
        if worker is not None:
            since = world.log_size()
            world.kill_worker(worker.pid, number)
            world.expect(name, rf"\(pid {worker.pid}\).*(?:SIG|status|exited|killed|ended)", since)

    return inject


def _end_worker(world: World, rng: random.Random, name: str) -> None:
    worker = _pick(rng, world.workers())
    if worker is not None:
        since = world.log_size()
        world.going.add(worker.pid)
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
        world.expect(name, rf"\(pid {worker.pid}\) retires", since)


def _misdirected(world: World, rng: random.Random, name: str) -> None:
    """Signals that are meant for the master, as ``pkill`` sends them."""
    worker = _pick(rng, world.workers())
    number = rng.choice((signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH))
    if worker is not None:
        with suppress(ProcessLookupError):
            os.kill(worker.pid, number)


def _kill_zygote(world: World, rng: random.Random, name: str) -> None:
    pid = _pick(rng, world.zygotes())
    if pid is not None:
        since = world.log_size()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        world.expect(name, r"zygote", since)


def _stop_worker(world: World, rng: random.Random, name: str) -> None:
    worker = _pick(rng, world.workers())
    if worker is not None:
        world.hold(worker.pid, rng.uniform(*HELD_S))


def _stop_zygote(world: World, rng: random.Random, name: str) -> None:
    pid = _pick(rng, world.zygotes())
    if pid is not None:
        world.hold(pid, rng.uniform(*HELD_S))


def _stop_master(world: World, rng: random.Random, name: str) -> None:
    world.hold(world.server.pid, rng.uniform(*HELD_S))
    world.rest(0.8)  # nobody can be asked meanwhile


def _sleep_master(world: World, rng: random.Random, name: str) -> None:
    """For the master, its clock has jumped."""
    world.hold(world.server.pid, 2.5)
    world.rest(2.5)


def _clock_jump(world: World, rng: random.Random, name: str) -> None:
    raise Skip("only root can set the clock, and that is everybody's: 'the master sleeps' stands in")


def _reload(world: World, rng: random.Random, name: str) -> None:
    since = world.log_size()
    world.deploy()
    world.server.signal(signal.SIGHUP)
    world.expect(name, "HUP|eload", since)


def _scale(number: signal.Signals) -> Callable[[World, random.Random, str], None]:
    def inject(world: World, rng: random.Random, name: str) -> None:
        since = world.log_size()
        chosen = number
        wanted = world.status().master.workers_wanted
        if wanted >= 6:
            chosen = signal.SIGTTOU
        elif wanted <= 2:
            chosen = signal.SIGTTIN
        world.server.signal(chosen)
        world.expect(name, chosen.name.removeprefix("SIG"), since)

    return inject


def _reopen(world: World, rng: random.Random, name: str) -> None:
    """As logrotate does it."""
    access_log = world.disk.directory / "access.log"
    since = world.log_size()
    with suppress(FileNotFoundError):
        access_log.rename(access_log.with_suffix(".1"))
    world.server.signal(signal.SIGUSR1)
    world.expect(name, "log files reopened|old log files stay open", since)
    world.later(1.0, lambda: access_log.with_suffix(".1").unlink(missing_ok=True))


def _broken_deploy(world: World, rng: random.Random, name: str) -> None:
    which = rng.choice(sorted(BROKEN))
    source, shown = BROKEN[which]
    since = world.log_size()
    world.deploy(source)
    world.server.signal(signal.SIGHUP)
    shown = rf"{shown}|reload to generation \d+ failed"  # it may fail for another fault at the same time
    world.rest_until(lambda: world.log_has(shown, since), 10)
    world.expect(f"{name} ({which})", shown, since)
    world.deploy()
    world.server.signal(signal.SIGHUP)


def _full_disk(world: World, rng: random.Random, name: str) -> None:
    if world.disk.reason:
        raise Skip(world.disk.reason)
    world.disk.fill()
    world.later(rng.uniform(*HELD_S), world.disk.clear)
    # A body too large for memory goes to this disk: what counts is that there is an answer.
    with suppress(OSError), socket.create_connection(("127.0.0.1", world.server.port), 5) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: chaos\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))
        sock.recv(100)


def _without_descriptors(pid_of: Callable[[World, random.Random], int | None]) -> Callable[..., None]:
    def inject(world: World, rng: random.Random, name: str) -> None:
        pid = pid_of(world, rng)
        if pid is not None:
            with suppress(FileNotFoundError):
                used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                world.limit(pid, resource.RLIMIT_NOFILE, used, rng.uniform(*HELD_S))

    return inject


def _some_worker(world: World, rng: random.Random) -> int | None:
    worker = _pick(rng, world.workers())
    return worker.pid if worker else None


def _fork_failure(world: World, rng: random.Random, name: str) -> None:
    """Neither processes nor threads can be started, and there is need of one."""
    worker = _pick(rng, world.workers())
    if worker is None:
        return
    since = world.log_size()
    held_s = rng.uniform(0.3, 1.5)
    if not world.pids.reason:
        world.pids.freeze()
        world.later(held_s, world.pids.free)
    elif os.geteuid() != 0:
        # It counts the processes of this user, whoever started them, and does not hold for root.
        for pid in world.zygotes():
            world.limit(pid, resource.RLIMIT_NPROC, 1, held_s)
    else:
        raise Skip(world.pids.reason)
    if rng.random() < 0.5:
        world.kill_worker(worker.pid, signal.SIGKILL)
        world.expect(name, rf"\(pid {worker.pid}\).*SIGKILL", since)
    else:
        world.server.signal(signal.SIGHUP)
        world.expect(name, r"reload to generation \d+ failed|HUP", since)


def _half_heads(world: World, rng: random.Random, name: str) -> None:
    """Clients that begin and do not go on; some leave with a reset."""
    sockets = []
    for _ in range(rng.randint(5, 40)):
        with suppress(OSError):
            sock = socket.create_connection(("127.0.0.1", world.server.port), 5)
            sockets.append(sock)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: ch"[: rng.randint(0, 24)])

    def leave() -> None:
        for sock in sockets:
            if rng.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()

    world.later(rng.uniform(0.5, 2.0), leave)


def _slow_client(world: World, rng: random.Random, name: str) -> None:
    """Sends a body in drops, and hardly reads."""
    try:
        sock = socket.create_connection(("127.0.0.1", world.server.port), 5)
        sock.sendall(b"POST / HTTP/1.1\r\nHost: chaos\r\nContent-Length: 100000\r\n\r\n")
    except OSError:
        return

    def drop() -> None:
        with suppress(OSError):
            sock.send(bytes(1000))

    for number in range(20):
        world.later(0.1 * number, drop)
    world.later(2.1, sock.close)


def _garbage(world: World, rng: random.Random, name: str) -> None:
    """To the control socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(world.control_socket)
        junk = rng.choice(
            (
                rng.randbytes(5000),
                b"{" * 100_000,
                b'{"jsonrpc": "2.0", "id": 1, "method": "',
                b"\n" * 1000,
                b"",
            )
        )
        sock.sendall(junk)


def _quarantine(world: World, rng: random.Random, name: str) -> None:
    worker = _pick(rng, world.workers())
    if worker is None:
        return
    since = world.log_size()
    try:
        world.control.quarantine(worker.pid, worker.started_at)
    except TargetGone:
        return
    except WsgitopError:
        pass  # it is put aside, and nobody can be started in its place: the answer says both

    def end() -> None:
        try:
            world.control.retire(worker.pid, worker.started_at)
        except TargetGone:
            pass
        except WsgitopError:
            # As while no worker can be started: it is not retired, which is told, and has to be asked again.
            world.later(RETRY_S, end)

    world.later(rng.uniform(*HELD_S), end)
    world.expect(name, rf"pid {worker.pid}\).*quarantine|quarantine pid={worker.pid}", since)


TABLE: Final = (
    Fault("a worker is killed", 3, _kill_worker(signal.SIGKILL)),
    Fault("a worker crashes", 1, _kill_worker(signal.SIGSEGV)),
    Fault("a worker is aborted", 1, _kill_worker(signal.SIGABRT)),
    Fault("a worker is interrupted", 1, _kill_worker(signal.SIGINT)),
    Fault("a worker is told to end", 1, _end_worker),
    Fault("a worker gets the master's signals", 2, _misdirected),
    Fault("a zygote is killed", 1, _kill_zygote),
    Fault("a worker is stopped", 2, _stop_worker),
    Fault("a zygote is stopped", 1, _stop_zygote),
    Fault("the master is stopped", 1, _stop_master),
    Fault("the master sleeps", 1, _sleep_master),
    Fault("the clock jumps", 1, _clock_jump),
    Fault("reload", 3, _reload),
    Fault("TTIN", 2, _scale(signal.SIGTTIN)),
    Fault("TTOU", 2, _scale(signal.SIGTTOU)),
    Fault("USR1", 1, _reopen),
    Fault("a broken deploy", 2, _broken_deploy),
    Fault("the disk is full", 1, _full_disk),
    Fault("a worker has no descriptors left", 1, _without_descriptors(_some_worker)),
    Fault("the master has no descriptors left", 1, _without_descriptors(lambda world, _: world.server.pid)),
    Fault(
        "a zygote has no descriptors left",
        1,
        _without_descriptors(lambda world, rng: _pick(rng, world.zygotes())),
    ),
    Fault("forks fail", 1, _fork_failure),
    Fault("half heads", 2, _half_heads),
    Fault("a slow client", 1, _slow_client),
    Fault("quarantine", 1, _quarantine),
    Fault("garbage to the control socket", 1, _garbage),
)
