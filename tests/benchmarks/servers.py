"""Who takes part, and the command of each: a table.

To add a peer: a function from a :class:`Job` to a command, and a row in :data:`PEERS`. Every server gets the
same interpreter and application, keep-alive where it has it, and no access log unless the job has one.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

import wsgitop

RUNNER = (sys.executable, "-P", str(Path(__file__).with_name("runner.py")))
GUNICORN = (sys.executable, "-m", "gunicorn", "--no-control-socket")
GRANIAN = (sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws")
UWSGI = (str(Path(sys.executable).with_name("uwsgi")), "--die-on-term", "--need-app", "--enable-threads")


@dataclass(frozen=True)
class Job:
    """What one server has to do in one scenario."""

    app: str
    port: int
    workers: int
    threads: int
    access_log: Path | None = None
    keep_alive_s: int = 2  # what gunicorn and wsgitop have by default; a busy connection never waits so long
    header_timeout_s: int = 10
    connections: int = 1000  # that must be possible at once

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Peer:
    """One way to serve. ``threads``, ``workers``, ``logs``: whether it has several, and an access log."""

    name: str
    command: Callable[[Job], tuple[str, ...]]
    packages: tuple[str, ...]  # one of them must be installed
    threads: bool = True
    workers: bool = True
    logs: bool = False

    def version(self) -> str | None:
        """Of the package; None if it is not installed."""
        for package in self.packages:
            try:
                return metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return None


def _wsgitop(job: Job) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "wsgitop", "serve", "--bind", job.address),
        *("--workers", str(job.workers), "--threads", str(job.threads)),
        *("--keep-alive", str(job.keep_alive_s), "--header-timeout", str(job.header_timeout_s)),
        *("--worker-connections", str(job.connections), *_gunicorn_log(job), job.app),
    )


def _gunicorn_log(job: Job) -> tuple[str, ...]:
    return ("--access-logfile", str(job.access_log)) if job.access_log else ()


def _gthread(job: Job) -> tuple[str, ...]:
    return (
        *(*GUNICORN, "-k", "gthread", "--bind", job.address),
        *("--workers", str(job.workers), "--threads", str(job.threads)),
        *("--keep-alive", str(job.keep_alive_s), "--worker-connections", str(job.connections)),
        *(*_gunicorn_log(job), job.app),
    )


def _sync(job: Job) -> tuple[str, ...]:
    return (
        *GUNICORN,
        *("-k", "sync", "--bind", job.address, "--workers", str(job.workers)),
        *(*_gunicorn_log(job), job.app),
    )


def _granian(job: Job) -> tuple[str, ...]:
    # Its access log goes to standard output, which is a file here.
    return (
        *(*GRANIAN, "--host", "127.0.0.1", "--port", str(job.port), "--workers", str(job.workers)),
        *("--blocking-threads", str(job.threads), "--backlog", "4096"),
        *("--access-log" if job.access_log else "--no-access-log", job.app),
    )


def _uwsgi_common(job: Job) -> tuple[str, ...]:
    return (
        *("--home", sys.prefix, "--module", job.app, "--listen", "1024"),
        *("--master", "--workers", str(job.workers), "--threads", str(job.threads)),
        *(("--logto", str(job.access_log)) if job.access_log else ("--disable-logging",)),
    )


def _uwsgi_socket(job: Job) -> tuple[str, ...]:
    # It closes every connection without saying so, which clients see as an error; this makes it say so.
    return (*UWSGI, "--http-socket", job.address, "--add-header", "Connection: close", *_uwsgi_common(job))


def _uwsgi_router(job: Job) -> tuple[str, ...]:
    return (*UWSGI, "--http", job.address, "--http-keepalive", *_uwsgi_common(job))


def _bjoern(job: Job) -> tuple[str, ...]:
    return (*RUNNER, "bjoern", job.app, str(job.port), str(job.workers))


def _fastwsgi(job: Job) -> tuple[str, ...]:
    return (*RUNNER, "fastwsgi", job.app, str(job.port), str(job.workers))


def _waitress(job: Job) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "waitress", f"--listen={job.address}", f"--threads={job.threads}"),
        *(f"--connection-limit={job.connections}", "--asyncore-use-poll", job.app),
    )


def _cheroot(job: Job) -> tuple[str, ...]:
    return (*RUNNER, "cheroot", job.app, str(job.port), str(job.threads))


WSGITOP = Peer("wsgitop", _wsgitop, ("wsgitop",), logs=True)

PEERS = (
    Peer("bjoern", _bjoern, ("bjoern",), threads=False),
    Peer("fastwsgi", _fastwsgi, ("fastwsgi",), threads=False),
    Peer("granian", _granian, ("granian",), logs=True),
    Peer("uWSGI http-socket", _uwsgi_socket, ("uwsgi", "pyuwsgi"), logs=True),
    Peer("uWSGI http router", _uwsgi_router, ("uwsgi", "pyuwsgi"), logs=True),
    Peer("gunicorn gthread", _gthread, ("gunicorn",), logs=True),
    Peer("gunicorn sync", _sync, ("gunicorn",), threads=False, logs=True),
    Peer("waitress", _waitress, ("waitress",), workers=False),
    Peer("cheroot", _cheroot, ("cheroot",), workers=False),
)


def chosen(names: str | None) -> tuple[Peer, ...]:
    """wsgitop, and the peers whose names begin with one of ``names``, which commas separate; None: all.

    Raises ValueError for a name that nobody has.
    """
    if names is None:
        return (WSGITOP, *PEERS)
    wanted = [name.strip().lower() for name in names.split(",")]
    for name in wanted:
        if not name or not any(peer.name.lower().startswith(name) for peer in (WSGITOP, *PEERS)):
            raise ValueError(f"no server's name begins with {name!r}: see --list")
    return (WSGITOP, *(peer for peer in PEERS if peer.name.lower().startswith(tuple(wanted))))


def versions(peers: tuple[Peer, ...]) -> Iterator[str]:
    """What is compared, piece by piece."""
    yield f"CPython {platform.python_version()}"
    yield f"wsgitop {wsgitop.__version__}"
    for name, package in {peer.name.split()[0]: peer for peer in peers[1:]}.items():
        if version := package.version():
            yield f"{name} {version}" + (f" ({_gunicorn_parser()} parser)" if name == "gunicorn" else "")
    yield f"Django {metadata.version('django')}"
    yield f"{psutil.cpu_count()} cores"


def _gunicorn_parser() -> str:
    try:
        metadata.version("gunicorn_h1c")
    except metadata.PackageNotFoundError:
        return "Python"
    return "C"
