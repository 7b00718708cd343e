"""Run ``python -m wsgitop serve`` as a real process, look at it, and leave nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil

import wsgitop
from tests.support.processes import end_session, session_members
from tests.support.waiting import eventually
from wsgitop.client import Client, running

APPS = Path(__file__).parent.parent / "apps"
PROGRAM = (sys.executable, "-m", "wsgitop")
BOOT_DEADLINE_S = 30.0


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses at this moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def environment(runtime_dir: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a command: our package importable from anywhere, directories for what runs and
    for state of its own.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name
        not in (
            "PORT",
            "WEB_CONCURRENCY",
            "WSGITOP_CMD_ARGS",
            "GUNICORN_CMD_ARGS",
            "NOTIFY_SOCKET",
            "STATE_DIRECTORY",
        )
    }
    package_parent = Path(wsgitop.__file__).parent.parent
    if (package_parent / "pyproject.toml").exists():  # a checkout, not an installed package
        inherited["PYTHONPATH"] = os.pathsep.join(
            part for part in (str(package_parent), os.environ.get("PYTHONPATH", "")) if part
        )
    own = {"XDG_RUNTIME_DIR": str(runtime_dir), "XDG_STATE_HOME": str(runtime_dir / "state")}
    return inherited | own | dict(extra or {})


def command(
    *args: str,
    runtime_dir: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 30,
) -> subprocess.CompletedProcess[str]:
    """Run one ``wsgitop`` command to its end, without a terminal. Fails if it leaves a process behind."""
    with subprocess.Popen(
        [*PROGRAM, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(runtime_dir, env),
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        finally:
            # Before the context waits for the end: a command that hangs must not hang the test.
            left = end_session(process.pid) if process.poll() is None else []
    assert not left, f"{args} did not end within {timeout_s:g} s"
    try:
        eventually(lambda: not session_members(process.pid), 5)
    except AssertionError:
        raise AssertionError(f"{args} left behind: {end_session(process.pid)}") from None
    return subprocess.CompletedProcess(args, process.returncode, stdout, stderr)


class Server:
    """A master and what it started. Its session identifies its processes, even when the master is dead."""

    def __init__(
        self,
        app: str,
        *args: str,
        cwd: Path = APPS,
        env: Mapping[str, str] | None = None,
        bind: Sequence[str] = (),
        bind_in_file: bool = False,
        runtime_dir: Path | None = None,
    ) -> None:
        self.port = 0 if bind else free_port()
        self.bind = tuple(bind) or (f"127.0.0.1:{self.port}",)
        self._owns_directory = runtime_dir is None
        # A short path: a unix socket's name is limited to 108 bytes, and pytest's own directories are long.
        self.runtime_dir = runtime_dir or Path(tempfile.mkdtemp(prefix="wsgitop-"))
        self.log_path = Path(tempfile.mkstemp(prefix="wsgitop-", suffix=".log")[1])
        self.env = environment(self.runtime_dir, env)
        # The command line is stronger than a config file: who wants to change it there names it there only.
        named = () if bind_in_file else self.bind
        binds = [word for address in named for word in ("--bind", address)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "serve", *binds, *args, app],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env=self.env,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        left = self.clean_up()
        if error is None:
            assert not left, f"processes that stayed behind: {left}"

    # -- waiting

    def wait_until_serving(self, deadline_s: float = BOOT_DEADLINE_S) -> Self:
        """Return once the server answers a request on its first address, and all its workers are there."""
        eventually(self._answers, deadline_s, what=f"an answer from {self.bind[0]}")
        eventually(self._is_complete, deadline_s, what="as many workers as wanted")
        return self

    def _is_complete(self) -> bool:
        status = self.status()
        ready = [worker for worker in status["workers"] if worker["state"] != "booting"]
        return len(ready) == len(status["workers"]) == status["master"]["workers_wanted"]

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            # Not an AssertionError: eventually() would wait on for something that cannot come any more.
            raise RuntimeError(f"the server ended with status {self.process.returncode}:\n{self.log()}")
        connection = self.connection(timeout_s=BOOT_DEADLINE_S)
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().status > 0
        except http.client.HTTPException:
            return False
        finally:
            connection.close()

    def wait_for_end(self, deadline_s: float = 15.0) -> int:
        """The exit status of the master, once nothing of the server is left."""
        status = self.process.wait(deadline_s)
        eventually(lambda: not self.processes(), deadline_s, what="the end of all processes")
        return status

    # -- looking

    def log(self) -> str:
        """What the server has written to its output so far."""
        return self.log_path.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Master, zygotes and workers that live."""
        return session_members(self.pid)

    def status(self) -> dict[str, Any]:
        """What ``ctl status --json`` prints, without the half second that a command takes to start."""
        with self.client() as client:
            return dict(json.loads(msgspec.json.encode(client.status())))

    def deaths(self) -> list[dict[str, Any]]:
        """What ``ctl deaths --json`` prints, as above."""
        with self.client() as client:
            return list(json.loads(msgspec.json.encode(client.deaths(limit=1000))))

    def client(self) -> Client:
        """A client of this server, not connected yet."""
        control = [master.control for master in running(self.env) if master.pid == self.pid]
        return Client(control[0])

    def workers(self) -> list[dict[str, Any]]:
        """The workers that the status names, but for those on their way in or out."""
        return [w for w in self.status()["workers"] if w["state"] not in ("booting", "retiring")]

    def zygote_pids(self) -> list[int]:
        """The zygotes that the status names."""
        return [g["zygote_pid"] for g in self.status()["generations"] if g["zygote_pid"]]

    def connection(self, *, timeout_s: float = 10.0) -> http.client.HTTPConnection:
        """A client connection to the first address."""
        address = self.bind[0]
        if address.startswith("unix:"):
            return UnixConnection(address.removeprefix("unix:"), timeout_s)
        host, _, port = address.rpartition(":")
        host = "127.0.0.1" if host in ("0", "0.0.0.0") else host.strip("[]")
        return http.client.HTTPConnection(host, int(port), timeout=timeout_s)

    def get(self, path: str = "/", **headers: str) -> tuple[int, bytes]:
        """One GET over a connection of its own: status and body."""
        connection = self.connection()
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    # -- driving

    def ctl(self, *args: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """One ``wsgitop ctl`` command against this server, which it finds by the runtime directory."""
        return command("ctl", *args, runtime_dir=self.runtime_dir, timeout_s=timeout_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def stop(self, deadline_s: float = 15.0) -> int:
        """TERM, and the exit status when all have ended."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait_for_end(deadline_s)

    def clean_up(self) -> list[str]:
        """End everything and remove what the test made. Returns what did not end by itself."""
        left: list[str] = []
        try:
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
                try:
                    self.process.wait(15)
                except subprocess.TimeoutExpired:
                    left.append(f"the master {self.pid} did not obey TERM; its log:\n{self.log()}")
                    self.signal(signal.SIGKILL)
                    self.process.wait(5)
            # A zygote or worker may need a moment to see the end of its channel.
            try:
                eventually(lambda: not self.processes(), 5)
            except AssertionError:
                left += end_session(self.pid)
        finally:
            self.log_path.unlink(missing_ok=True)
            if self._owns_directory:
                shutil.rmtree(self.runtime_dir, ignore_errors=True)
        return left


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
