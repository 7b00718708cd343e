"""The death ledger of a real server: what it says of real deaths, and after a restart."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.waiting import eventually
from wsgitop.master.causes import AT_ONCE_S

pytestmark = [pytest.mark.process, pytest.mark.slow]


def ask(server: Server, path: str) -> None:
    with contextlib.suppress(http.client.HTTPException, ConnectionError):
        server.get(path)


def death_of(server: Server, pid: int) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        return next((death for death in server.deaths() if death["pid"] == pid), None)

    death = eventually(found, what=f"the death of {pid}")
    assert death is not None
    return death


def test_ledger_of_real_deaths_outlives_the_server(start_server: StartServer, runtime_dir: Path) -> None:
    args = ("deadly:application", "--workers", "1", "--timeout", "1")
    bind = [f"unix:{runtime_dir}/site"]
    first = start_server(*args, runtime_dir=runtime_dir, bind=bind)
    (worker,) = first.workers()
    ask(first, "/exit")
    exited = death_of(first, worker["pid"])
    assert (exited["cause"], exited["status"], exited["slot"]) == ("exited", 7, 1)
    assert exited["lines"][-1] == "asked for /exit"
    assert [(r["method"], r["path"]) for r in exited["serving"]] == [("GET", "/exit")]
    assert exited["peak_rss_bytes"] > 5 << 20 and exited["memory"]

    (worker,) = eventually(first.workers)
    ask(first, "/hang")
    cut = death_of(first, worker["pid"])
    assert cut["cause"] == "timeout" and "in application\n    time.sleep(30)" in cut["stack"]
    assert [r["path"] for r in cut["serving"]] == ["/hang"]

    (worker,) = eventually(first.workers)
    ask(first, "/crash")
    crashed = death_of(first, worker["pid"])
    assert (crashed["cause"], crashed["signal"]) == ("crashed", "SIGSEGV")
    assert "string_at" in crashed["stack"] and "deadly.py" in crashed["stack"]
    assert crashed["lines"][-1] == "asked for /crash"
    assert f"ctl deaths --pid {worker['pid']}" in first.log(), "the log says where to look"
    before = first.deaths()
    assert first.stop() == 0

    second = start_server(*args, runtime_dir=runtime_dir, bind=bind)
    after = second.deaths()
    assert after[: len(before)] == before
    assert ("zygote", "stopped") in {(death["process"], death["cause"]) for death in after[len(before) :]}
    (file,) = (runtime_dir / "state" / "wsgitop").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_who_sent_the_signal(start_server: StartServer, tmp_path: Path) -> None:
    directory = tmp_path / "file"
    directory.write_text("not a directory")
    server = start_server("hello:plain", "--workers", "2", "--state-dir", str(directory))
    assert server.log().count("in memory only") == 1
    first, second = (worker["pid"] for worker in server.workers())
    with server.client() as client:
        client.signal("KILL", pid=first)
        # Who is killed at once when it is ready counts as a crash, whoever did it.
        ready_at = max(
            event.at for event in client.events() if event.kind == "ready" and str(second) in event.text
        )
        eventually(lambda: time.time() - ready_at > AT_ONCE_S, what="a worker of some age")
    killed = death_of(server, first)
    assert killed["cause"] == "killed" and f"(pid {os.getpid()})" in killed["actor"]
    assert f"SIGKILL, sent by {killed['actor']}" in server.log()
    os.kill(second, signal.SIGINT)
    told = death_of(server, second)
    assert (told["cause"], told["status"], told["actor"]) == ("killed", 0, "")
    assert "after SIGINT from outside" in told["text"]
    eventually(lambda: len(server.workers()) == 2)
    master = server.status()["master"]
    assert (master["state"], master["state_reason"]) == ("serving", ""), "signals from outside are no crashes"


def test_a_booting_worker_that_is_told_to_end_is_no_failed_boot(start_server: StartServer) -> None:
    server = start_server("slow_boot:application", env={"SLOW_BOOT_S": "0.3"})
    server.signal(signal.SIGTTIN)

    def booting() -> list[int]:
        return [worker["pid"] for worker in server.status()["workers"] if worker["state"] == "booting"]

    (pid,) = eventually(booting)
    eventually(lambda: f"Booting worker with pid: {pid}" in server.log(), what="its handlers")
    os.kill(pid, signal.SIGTERM)
    assert death_of(server, pid)["text"].endswith("exited with status 0 after SIGTERM from outside")
    eventually(lambda: len(server.workers()) == 2)
    assert server.status()["master"]["state"] == "serving"
