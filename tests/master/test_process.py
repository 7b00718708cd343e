"""A real master: what it holds, what it survives."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.support.release import APP, write_release, write_version
from tests.support.server import Server, environment
from tests.support.waiting import eventually
from wsgitop.client import Client, running
from wsgitop.control.faults import TargetGone
from wsgitop.errors import ActionFailed

pytestmark = pytest.mark.process


def client(server: Server) -> Client:
    (control,) = [master.control for master in running(server.env) if master.pid == server.pid]
    return Client(control)


def descriptors(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()).partition(":")[0])
        except FileNotFoundError:
            continue
    return sorted(found)


def zombies(parent: int) -> list[int]:
    found = []
    for process in psutil.Process(parent).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def states(server: Server) -> list[str]:
    return [worker["state"] for worker in server.status()["workers"]]


def test_imports() -> None:
    """The master's modules bring neither the interface nor what runs applications."""
    code = (
        "import sys, wsgitop.master.main\n"
        "unwanted = ('textual', 'rich', 'httptools', 'wsgitop.worker', 'wsgitop.zygote', 'wsgitop.wsgi')\n"
        "print(*[name for name in sys.modules if name.startswith(unwanted)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(Path("/tmp")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


def test_master_grows_over_neither_reloads_nor_scaling(start_server: StartServer) -> None:
    server = start_server("hello:plain", "--workers", "2", "--preload")
    master = psutil.Process(server.pid)
    with client(server) as control:

        def turn() -> None:
            control.reload()
            control.scale(change=1)
            control.scale(change=-1)

        def one_zygote() -> bool:
            return len([g for g in control.status().generations if g.zygote_pid]) == 1

        turn()
        eventually(one_zygote, what="the end of the old zygote")
        before, threads = descriptors(server.pid), master.num_threads()
        memory = master.memory_info().rss
        # Who counts the lines of the code is in there with six or seven megabytes of its own.
        most = 48 if "COVERAGE_PROCESS_CONFIG" in os.environ else 40
        assert memory < most * 1024 * 1024
        for _ in range(10):
            turn()

        def as_before() -> bool:
            assert descriptors(server.pid) == before
            return True

        eventually(as_before, what="as many descriptors as before")
        # One that looks a name or a file up may be there for a moment, now or before.
        assert master.num_threads() <= threads + 1
        assert master.memory_info().rss - memory < 2 * 1024 * 1024
        # And neither do those that it starts: the newest worker holds what the first one held.
        status = control.status()
    eventually(lambda: len(server.processes()) == 4, what="master, zygote and two workers, and nobody else")
    newest = max(status.workers, key=lambda worker: worker.started_at)
    oldest = min(status.workers, key=lambda worker: worker.started_at)
    assert descriptors(newest.pid) == descriptors(oldest.pid)


@pytest.mark.every_python
def test_reload_that_hangs_at_import_fails_in_time(start_server: StartServer, tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    config = tmp_path / "wsgitop.conf.py"
    config.write_text("")
    server = start_server(APP, "--preload", cwd=tmp_path)
    write_release(tmp_path, "import time\ntime.sleep(60)\n")
    # For the broken one only: a good one may take longer than a second to load, on a machine that is busy.
    config.write_text("boot_timeout = 1\n")
    with client(server) as control:
        with pytest.raises(ActionFailed, match="did not load within 1 s"):
            control.reload()
        assert server.get()[1] == b"version 1\n"
        eventually(lambda: len(server.zygote_pids()) == 1, what="the end of the zygote that hung")
        write_version(tmp_path, 2)
        config.write_text("")
        control.reload()
        assert server.get()[1] == b"version 2\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import time\ntime.sleep(60)\n", "SIGABRT"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
    ],
    ids=["hangs", "crashes"],
)
def test_worker_that_dies_while_it_boots_in_a_reload(
    start_server: StartServer, tmp_path: Path, source: str, words: str
) -> None:
    write_version(tmp_path, 1)
    config = tmp_path / "wsgitop.conf.py"
    config.write_text("")
    server = start_server(APP, "--workers", "2", cwd=tmp_path)
    config.write_text("boot_timeout = 2\n")
    before = {worker["pid"] for worker in server.workers()}
    write_release(tmp_path, source)
    with client(server) as control, pytest.raises(ActionFailed, match=words) as caught:
        control.reload()
    assert "Generation 1 serves on" in caught.value.remedy
    assert server.get()[1] == b"version 1\n"
    assert {worker["pid"] for worker in server.workers()} == before
    assert server.status()["master"]["state"] == "serving"


def test_broken_code_and_a_lost_worker_do_not_make_a_storm(start_server: StartServer, tmp_path: Path) -> None:
    """The code on disk breaks without a reload; then a worker dies and its successors cannot load."""
    write_version(tmp_path, 1)
    server = start_server(APP, "--workers", "2", cwd=tmp_path)
    write_release(tmp_path, "raise RuntimeError('half a deployment')\n")
    os.kill(server.workers()[0]["pid"], signal.SIGKILL)
    eventually(lambda: server.log().count("could not boot") >= 2, what="two tries")
    assert server.status()["master"]["state"] == "degraded"
    assert server.get()[1] == b"version 1\n"
    write_version(tmp_path, 2)
    with client(server) as control:
        control.reload()  # it does not wait for the back-off
    assert server.status()["master"]["state"] == "serving"
    assert server.log().count("could not boot") <= 5


FORKING = """
import multiprocessing, os, socket, subprocess, sys

def child(connection):
    connection.send(sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                           if os.path.exists(f"/proc/self/fd/{fd}")))

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/daemon":
        subprocess.run([sys.executable, "-c", "import os; os.fork() or os._exit(3)"])
        return [b"ok"]
    if environ["PATH_INFO"] == "/write":
        os.write(2, b"one line\\nanother \\x1b[1m line\\nand no end")
        print("printed", file=sys.stderr)
        return [b"ok"]
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    listening = [link for link in ours.recv() if link == os.readlink(f"/proc/self/fd/{LISTENER}")]
    process.join()
    return [f"{process.exitcode} {len(listening)}".encode()]

def find_listener():
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return fd

LISTENER = find_listener()
"""


@pytest.mark.every_python
def test_application_that_forks(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORKING)
    server = start_server("forking:application", cwd=tmp_path)
    assert server.get("/fork") == (200, b"0 0"), "a child ends well and does not hold the listener"
    (worker,) = server.workers()
    assert server.get("/daemon") == (200, b"ok")
    eventually(lambda: not zombies(server.pid), what="orphans to be reaped")
    assert [w["pid"] for w in server.workers()] == [worker["pid"]]
    assert server.get("/write") == (200, b"ok")
    eventually(lambda: "one line\nanother" in server.log(), what="the worker's lines in the log")
    eventually(lambda: "and no endprinted\n" in server.log())


def test_worker_that_does_not_move_is_shown_and_replaced(start_server: StartServer) -> None:
    server = start_server("lab:application", "--workers", "2", "--timeout", "1")
    connection = server.connection()
    connection.request("GET", "/slow?s=30")

    def busy() -> int:
        return next((int(worker["pid"]) for worker in server.status()["workers"] if worker["in_flight"]), 0)

    pid = eventually(busy, what="the request in flight")
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: "stuck" in states(server), what="stuck on the screen")
    eventually(lambda: not psutil.pid_exists(pid), 10, what="its end")
    connection.close()
    log = server.log()
    assert "SIGABRT to worker" in log and f"(pid {pid})" in log and "/slow" in log
    assert "SIGKILL to worker" in log
    eventually(lambda: states(server) == ["idle", "idle"], what="its replacement")
    assert server.status()["master"]["state"] == "serving"


def test_zygote_that_does_not_move_is_replaced(start_server: StartServer) -> None:
    server = start_server("hello:plain", "--boot-timeout", "1")
    (zygote,) = server.zygote_pids()
    os.kill(zygote, signal.SIGSTOP)
    server.signal(signal.SIGTTIN)
    eventually(lambda: len(server.workers()) == 2, 10, what="a worker from another zygote")
    eventually(lambda: server.zygote_pids() and zygote not in server.zygote_pids())
    assert not psutil.pid_exists(zygote)


def test_no_descriptors_left_is_no_end(start_server: StartServer) -> None:
    server = start_server("hello:plain", "--workers", "2", "--graceful-timeout", "1")
    with client(server) as control:
        control.status()
        limit = len(descriptors(server.pid)) + 2
        highest = max(int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir())
        soft = max(limit, highest + 2)
        psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE, (soft, 1024))
        server.signal(signal.SIGTTIN)
        server.signal(signal.SIGHUP)
        eventually(lambda: "no descriptors for" in server.log(), what="a complaint")
        assert server.get()[0] == 200
        psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE, (1024, 1024))
        eventually(lambda: len(control.status().workers) == 3, what="what was wanted all the time")
    assert "internal error" not in server.log()


def test_stopped_master_loses_nobody(start_server: StartServer) -> None:
    """After SIGCONT the master does not blame workers for the time that it slept itself."""
    server = start_server("lab:application", "--workers", "2", "--timeout", "2")
    before = sorted(worker["pid"] for worker in server.workers())
    os.kill(server.pid, signal.SIGSTOP)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(server.get("/slow?s=1")[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.kill(server.pid, signal.SIGCONT)
    assert answers == [200, 200], "workers need no master to serve"
    assert sorted(worker["pid"] for worker in server.workers()) == before
    assert server.status()["master"]["state"] == "serving"


def test_leaves_no_listener_behind_when_it_stops_slowly(start_server: StartServer) -> None:
    server = start_server("lab:application", "--graceful-timeout", "5", "--threads", "2")
    connection = server.connection()
    connection.request("GET", "/slow?s=1.5")
    eventually(lambda: "busy" in states(server), what="the request in flight")
    server.signal(signal.SIGTERM)

    def refused() -> bool:
        with socket.socket() as late:
            return late.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED

    eventually(refused, 1.2, what="a closed port while the request is still served")
    assert connection.getresponse().read() == b"slow\n"
    connection.close()
    assert server.wait_for_end() == 0


@pytest.mark.every_python
def test_orders_for_one_worker_answer_when_they_are_done(start_server: StartServer, tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    server = start_server(APP, "--workers", "2", cwd=tmp_path)
    with client(server) as control:
        first = control.workers()[0]
        assert "is in quarantine" in control.quarantine(first.pid).text
        assert sorted(worker.state for worker in control.workers()) == ["idle", "idle", "quarantined"]
        with pytest.raises(ActionFailed, match="in quarantine already"):
            control.quarantine(first.pid, first.started_at)
        assert "serves again" in control.release(first.pid).text
        workers = control.workers()
        assert first.pid in {worker.pid for worker in workers} and len(workers) == 2
        assert "has retired" in control.retire(first.pid).text
        workers = control.workers()
        assert first.pid not in {worker.pid for worker in workers} and len(workers) == 2
        with pytest.raises(TargetGone):
            control.retire(first.pid, first.started_at)
        control.quarantine(workers[0].pid)
        control.reload()
        with pytest.raises(ActionFailed, match="has retired since"):
            control.release(workers[0].pid)
        write_release(tmp_path, "raise RuntimeError('broken')\n")
        (first, second) = control.workers()
        with pytest.raises(ActionFailed, match="is not replaced: a worker could not boot"):
            control.retire(first.pid)
        with pytest.raises(ActionFailed, match="workers fail to boot"):
            control.quarantine(second.pid)
        assert {worker.pid for worker in control.workers() if worker.state == "idle"} == {
            first.pid,
            second.pid,
        }
