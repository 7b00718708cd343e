"""Reloading and scaling while three kinds of client ask without pause: no request may fail."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.django_site import Browser
from tests.support.load import Load
from tests.support.release import APP, write_release, write_version
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.slow]

WORKERS = 3
BROKEN = {
    "import error": ("import a_module_that_nobody_has\n", "ModuleNotFoundError"),
    "exit": ("import sys\nsys.exit(7)\n", "SystemExit"),
    "crash": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
}


@pytest.fixture(params=[(), ("--threads", "2"), ("--preload",)], ids=["1 thread", "2 threads", "preload"])
def server(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> Server:
    write_version(tmp_path / "site", 1)
    return start_server(APP, "--workers", str(WORKERS), *request.param, cwd=tmp_path / "site")


def _versions(server: Server) -> set[bytes]:
    """What the server answers, asked often enough to meet each worker."""
    return {server.get()[1] for _ in range(20)}


def _pids(server: Server) -> set[int]:
    return {worker["pid"] for worker in server.workers()}


def test_hup_ctl_reload_and_scaling_lose_no_request(server: Server, tmp_path: Path) -> None:
    with Load(server.connection) as load:
        load.run_on(30)
        before = _pids(server)

        write_version(tmp_path / "site", 2)
        server.signal(signal.SIGHUP)
        eventually(lambda: _versions(server) == {b"version 2\n"}, what="new code after HUP")
        eventually(
            lambda: len(_pids(server)) == WORKERS and not _pids(server) & before, what="only new workers"
        )
        load.run_on(30)

        write_version(tmp_path / "site", 3)
        result = server.ctl("reload")
        assert result.returncode == 0, result.stderr
        assert _versions(server) == {b"version 3\n"}, "ctl reload answers when the old code is gone"
        load.run_on(30)

        assert server.ctl("scale", "5").returncode == 0
        assert len(_pids(server)) == 5
        server.signal(signal.SIGTTOU)
        eventually(lambda: len(_pids(server)) == 4, what="4 workers after TTOU")
        server.signal(signal.SIGTTIN)
        eventually(lambda: len(_pids(server)) == 5, what="5 workers after TTIN")
        assert server.ctl("scale", "1").returncode == 0
        assert len(_pids(server)) == 1
        load.run_on(30)
    load.check()
    assert load.tally.versions[0] == "1"
    assert load.tally.versions[-1] == "3"
    assert server.stop() == 0


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_code_leaves_the_old_generation_serving(
    start_server: StartServer, tmp_path: Path, fault: str
) -> None:
    source, name = BROKEN[fault]
    site = tmp_path / "site"
    write_version(site, 1)
    server = start_server(APP, "--workers", str(WORKERS), cwd=site)
    with Load(server.connection) as load:
        before = _pids(server)
        write_release(site, source)
        result = server.ctl("reload")
        assert result.returncode == 1
        assert name in result.stderr
        load.run_on(30)
        assert _pids(server) == before
        assert _versions(server) == {b"version 1\n"}
        assert server.status()["master"]["state"] in ("serving", "degraded")

        write_version(site, 2)
        result = server.ctl("reload")
        assert result.returncode == 0, result.stderr
        assert _versions(server) == {b"version 2\n"}
        load.run_on(30)
    load.check()
    assert name in server.log()


@pytest.mark.every_python
def test_reload_keeps_the_number_of_workers_that_was_chosen(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_version(tmp_path / "site", 1)
    server = start_server(APP, "--workers", "2", cwd=tmp_path / "site")
    result = server.ctl("scale", "--json", "3")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["workers"] == 3
    assert server.ctl("reload").returncode == 0
    assert len(_pids(server)) == 3


def test_ttou_stops_at_one_worker(start_server: StartServer) -> None:
    server = start_server("hello:application", "--workers", "1")
    before = _pids(server)
    server.signal(signal.SIGTTOU)
    eventually(lambda: "TTOU" in server.log(), what="TTOU in the log")
    assert _pids(server) == before
    assert server.get()[0] == 200


@pytest.mark.every_python
def test_a_second_hup_supersedes_the_first(start_server: StartServer, tmp_path: Path) -> None:
    write_version(tmp_path / "site", 1)
    server = start_server(APP, "--workers", str(WORKERS), cwd=tmp_path / "site")
    with Load(server.connection) as load:
        for version in (2, 3, 4):
            write_version(tmp_path / "site", version)
            server.signal(signal.SIGHUP)
            load.run_on(3)
        eventually(lambda: _versions(server) == {b"version 4\n"}, 20, what="the last code")
        eventually(lambda: len(_pids(server)) == WORKERS, what="as many workers as before")
    load.check()


def test_requests_in_flight_are_finished(start_server: StartServer) -> None:
    server = start_server("lab:application", "--workers", "2", "--threads", "2")
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(server.get, "/slow?s=1") for _ in range(2)]
        eventually(
            lambda: sum(len(w["in_flight"]) for w in server.status()["workers"]) == 2, what="both in flight"
        )
        assert server.ctl("reload").returncode == 0
        assert [future.result() for future in slow] == [(200, b"slow\n")] * 2


def test_django_admin_goes_on_while_the_server_reloads_and_scales(
    start_django: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_django("--workers", "2", "--threads", "2")
    browser = Browser(server)
    browser.log_in()
    actions = iter((("reload",), ("scale", "3"), ("reload",), ("scale", "2")))
    for number in range(12):
        status, page, _ = browser.submit("/admin/auth/group/add/", name=f"Group {number}")
        assert status == 200 and "was added successfully" in page
        assert browser.get("/static/admin/css/base.css")[0] == 200
        if number % 3 == 0:
            result = server.ctl(*next(actions))
            assert result.returncode == 0, result.stderr
    browser.close()
    with sqlite3.connect(tmp_path / "db.sqlite3") as database:
        assert database.execute("select count(*) from auth_group").fetchone() == (12,)
    database.close()
