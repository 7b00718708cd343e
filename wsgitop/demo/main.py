"""``wsgitop demo``: serve the demo's site, send visitors, and show it, live or as one snapshot."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from wsgitop.client import Client
from wsgitop.demo.load import visitors
from wsgitop.errors import CannotConnect, WorkerBootError
from wsgitop.snapshot import Snapshot
from wsgitop.transport.launcher import launch

SITE = "wsgitop.demo.site:application"
HOST = "127.0.0.1"
THREADS = 2
BOOT_DEADLINE_S = 30.0
LIFE_BEFORE_SNAPSHOT_S = 2.5
"""Rates and percentiles want a few seconds of requests."""
SNAPSHOT_DEADLINE_S = 30.0

Interface = Callable[..., str]
"""``interface(target, owns_server=True, log_path=…)``: shows the server; returns "stop" or "leave"."""


def demo(
    *,
    once: bool,
    as_json: bool,
    workers: int,
    port: int,
    interface: Interface | None,
    render: Callable[[Snapshot], str],
) -> int:
    """Run the demo; the exit status.

    ``once`` prints one snapshot by ``render``, ``as_json`` prints it as JSON; both stop everything then.
    Without them ``interface`` shows the server. ``port`` 0 takes a free one; ``workers`` is their number.
    Raises the server's own error when it does not start.
    """
    port = port or _free_port()
    # The log stays where it is when something goes wrong: the error names it.
    directory = Path(tempfile.mkdtemp(prefix="wsgitop-demo-"))
    log_path = directory / "server.log"
    arguments = ["--bind", f"{HOST}:{port}", "--workers", str(workers), "--threads", str(THREADS)]
    # A demo is nothing to remember: its ledger goes where its log is.
    arguments += ["--state-dir", str(directory)]
    with launch([*arguments, "--name", "demo", SITE], log_path=log_path) as server:
        target = server.wait_until_serving(BOOT_DEADLINE_S)
        with visitors(port):
            if interface is None or once or as_json:
                snapshot = _after_some_life(target)
                text = _as_json(snapshot) if as_json else render(snapshot)
                sys.stdout.write(text.rstrip("\n") + "\n")
            elif interface(target, owns_server=True, log_path=str(log_path)) == "leave":
                server.leave_running()
                print(
                    f"The demo's site runs on, without visitors: `wsgitop ctl -s {server.pid} stop` ends it. "
                    f"Its log is {log_path}"
                )
                return 0
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _after_some_life(target: str) -> Snapshot:
    """A snapshot that has something to show. Raises CannotConnect when the server ends meanwhile, and
    WorkerBootError when no visitor is served."""
    started = time.monotonic()
    with Client(target) as client:
        for news in client.subscribe(1.0):
            elapsed_s = time.monotonic() - started
            has_figures = isinstance(news, Snapshot) and news.totals.p95_ms is not None
            if isinstance(news, Snapshot) and has_figures and elapsed_s > LIFE_BEFORE_SNAPSHOT_S:
                return news
            if not has_figures and elapsed_s > SNAPSHOT_DEADLINE_S:
                raise WorkerBootError(
                    f"no visitor of the demo was served within {SNAPSHOT_DEADLINE_S:g} s",
                    "Look at `wsgitop demo` without --once.",
                )
    raise CannotConnect("the server has ended", "Start the demo again.")


def _as_json(snapshot: Snapshot) -> str:
    return msgspec.json.format(msgspec.json.encode(snapshot), indent=2).decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
