"""USR2 and `ctl upgrade`: one master after another, with the same sockets; whole servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.support.load import Load
from tests.support.release import APP, write_release, write_version
from tests.support.server import Server, UnixConnection, free_port
from tests.support.waiting import eventually
from wsgitop.client import Client, running
from wsgitop.errors import CannotConnect

pytestmark = pytest.mark.process


def master_of(server: Server) -> int:
    """The pid of the master that answers on the control socket."""
    (found,) = running(server.env)
    return found.pid


def titles(server: Server) -> dict[int, str]:
    """Of the processes that live, by pid."""
    found = {}
    for process in server.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended, as that between two forks does
            found[process.pid] = " ".join(process.cmdline())
    return found


def masters_in(server: Server) -> set[int]:
    return {pid for pid, title in titles(server).items() if title.startswith("wsgitop: master")}


def end(server: Server) -> None:
    """Stop whoever is the master, and see that nothing stays."""
    result = server.ctl("stop")
    assert result.returncode == 0, result.stderr
    server.wait_for_end()
    assert list((server.runtime_dir / "wsgitop").iterdir()) == []


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write_version(tmp_path / "site", 1)
    return tmp_path / "site"


@pytest.mark.every_python
def test_an_upgrade_loses_no_request_and_leaves_nothing(
    start_server: StartServer, site: Path, tmp_path: Path, runtime_dir: Path
) -> None:
    pidfile, path = tmp_path / "site.pid", runtime_dir / "site.sock"
    server = start_server(
        APP, "-w", "2", "--pid", str(pidfile), "--bind", f"unix:{path}", cwd=site, runtime_dir=runtime_dir
    )
    assert server.ctl("scale", "+1").returncode == 0
    with Load(server.connection) as load, Client(running(server.env)[0].control) as watcher:
        load.run_on(20)
        write_version(site, 2)
        result = server.ctl("upgrade", "--key", "once")
        assert result.returncode == 0, result.stderr
        successor = master_of(server)
        assert f"process {successor} is the master now" in result.stdout and successor != server.pid
        assert pidfile.read_text() == f"{successor}\n"
        assert server.process.wait(10) == 0
        load.run_on(20)
        with pytest.raises(CannotConnect):
            watcher.status()  # it was the old one's client; whoever connects again finds the new one
    load.check()
    assert load.tally.versions[-1] == "2"
    with Client(running(server.env)[0].control) as client:
        snapshot = client.status()
        told = [event for event in client.events() if "has taken over" in event.text]
        assert "(pid " in told[0].actor, "who wanted it"
    again = server.ctl("upgrade", "--key", "once")
    assert f"process {successor} is the master now" in again.stdout and master_of(server) == successor
    assert snapshot.master.pid == successor
    assert snapshot.master.workers_wanted == len(snapshot.workers) == 3, "the scale of TTIN stays"
    connection = UnixConnection(str(path), 5)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    fds = psutil.Process(successor).num_fds()
    result = server.ctl("upgrade")
    assert result.returncode == 0, result.stderr
    eventually(lambda: master_of(server) != successor, what="a third master")
    assert psutil.Process(master_of(server)).num_fds() <= fds + 1, "no descriptor is handed on for nothing"
    end(server)
    assert not pidfile.exists() and not path.exists()


CONFIG = "wsgitop.conf.py"


@pytest.mark.parametrize(
    ("file", "source", "cause"),
    [
        ("release.py", "raise RuntimeError('broken')\n", "RuntimeError: broken"),
        (CONFIG, "1 / 0\n", "ZeroDivisionError"),
        (CONFIG, "def on_starting(server):\n    raise ValueError('not today')\n", "not today"),
    ],
    ids=["import", "config", "hook"],
)
def test_a_new_master_that_does_not_come_up_changes_nothing(
    start_server: StartServer, site: Path, file: str, source: str, cause: str
) -> None:
    pidfile = site / "site.pid"
    (site / CONFIG).write_text("")
    server = start_server(APP, "-w", "2", "--pid", str(pidfile), cwd=site)
    before = {worker["pid"] for worker in server.workers()}
    if file == CONFIG:
        (site / CONFIG).write_text(source)
    else:
        write_release(site, source)
    result = server.ctl("upgrade")
    assert result.returncode == 1
    assert cause in result.stderr
    assert master_of(server) == server.pid and pidfile.read_text() == f"{server.pid}\n"
    assert {worker["pid"] for worker in server.workers()} == before
    assert server.get() == (200, b"version 1\n")
    eventually(lambda: masters_in(server) == {server.pid}, what="the end of the new master")
    assert list(site.glob("*.2")) == []
    assert server.stop() == 0


def test_as_in_gunicorn_both_serve_until_one_is_ended(
    start_server: StartServer, site: Path, tmp_path: Path
) -> None:
    pidfile, second = tmp_path / "site.pid", tmp_path / "site.pid.2"
    server = start_server(APP, "-w", "2", "--pid", str(pidfile), cwd=site)

    def new_master() -> int:
        server.signal(signal.SIGUSR2)
        eventually(lambda: "TERM to this one hands over" in server.log(), what="a new master")
        return int(second.read_text())

    with Load(server.connection) as load:
        back = new_master()
        assert masters_in(server) == {server.pid, back}
        assert "there is one already" in server.ctl("upgrade").stderr
        os.kill(back, signal.SIGTERM)
        eventually(lambda: f"the new master (pid {back}) exited with status 0" in server.log())
        assert pidfile.read_text() == f"{server.pid}\n" and not second.exists()
        assert master_of(server) == server.pid
        load.run_on(10)

        server.log_path.write_text("")
        forth = new_master()
        server.signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        eventually(lambda: pidfile.read_text() == f"{forth}\n" and not second.exists())
        eventually(lambda: master_of(server) == forth)
        load.run_on(10)
    load.check()
    end(server)


@pytest.mark.parametrize("dropped_by", ["the old one", "the new one", "the upgrade"])
def test_the_file_of_a_socket_that_no_master_has_any_more_is_removed(
    start_server: StartServer, site: Path, runtime_dir: Path, dropped_by: str
) -> None:
    """An address is left out by the configuration while two masters have it."""
    path, port = runtime_dir / "site.sock", free_port()
    both = f"bind = ['127.0.0.1:{port}', 'unix:{path}']\n"
    (site / CONFIG).write_text(both)
    server = start_server(
        APP, cwd=site, bind=[f"127.0.0.1:{port}"], bind_in_file=True, runtime_dir=runtime_dir
    )
    one = f"bind = '127.0.0.1:{port}'\n"
    if dropped_by == "the upgrade":
        (site / CONFIG).write_text(one)
        assert server.ctl("upgrade").returncode == 0
    else:
        server.signal(signal.SIGUSR2)
        eventually(lambda: "serves, and this one does, too" in server.log())
        (new,) = masters_in(server) - {server.pid}
        (site / CONFIG).write_text(one)
        os.kill(server.pid if dropped_by == "the old one" else new, signal.SIGHUP)
        eventually(lambda: f"unix:{path} is not listened at any more" in server.log())
        assert path.is_socket(), "another master has it"
        os.kill(new if dropped_by == "the old one" else server.pid, signal.SIGTERM)
    eventually(lambda: len(masters_in(server)) == 1, what="the end of the other master")
    eventually(lambda: not path.exists(), what="the end of the file")
    assert server.get() == (200, b"version 1\n")
    end(server)


def test_a_new_master_takes_over_from_one_that_was_killed(start_server: StartServer, site: Path) -> None:
    server = start_server(APP, cwd=site)
    assert server.ctl("signal", "USR2").returncode == 0
    server.signal(signal.SIGKILL)
    eventually(lambda: "has taken over from process" in server.log(), what="the new master")
    successor = eventually(lambda: master_of(server))
    assert successor != server.process.pid
    assert server.get()[0] == 200
    end(server)


@pytest.mark.parametrize("remade", [True, False], ids=["can be made again", "cannot"])
def test_taking_over_when_the_runtime_directory_was_cleared(
    start_server: StartServer, site: Path, remade: bool
) -> None:
    health = f"127.0.0.1:{free_port()}"
    server = start_server(APP, "--health-bind", health, cwd=site)
    assert server.ctl("signal", "USR2").returncode == 0
    runtime = server.runtime_dir / "wsgitop"
    shutil.rmtree(runtime)
    if not remade:
        runtime.write_text("in the way")
    server.signal(signal.SIGTERM)
    eventually(lambda: "has taken over from process" in server.log(), what="the new master")
    assert server.process.wait(10) == 0
    with urllib.request.urlopen(f"http://{health}/ready", timeout=5) as answer:
        assert answer.status == 200
    assert "Traceback" not in server.log()
    if remade:
        end(server)
        return
    assert "there is no control socket any more" in server.log()
    (successor,) = masters_in(server)
    os.kill(successor, signal.SIGTERM)
    server.wait_for_end()


def listen(sock: socket.socket, said: list[str]) -> None:
    """As systemd does, all the time."""
    while data := sock.recv(4096):
        said += data.decode().split("\n")


def test_systemd_and_health_checks_follow(start_server: StartServer, runtime_dir: Path) -> None:
    path = str(runtime_dir / "notify")
    health = f"127.0.0.1:{free_port()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        said: list[str] = []
        listener = threading.Thread(target=lambda: listen(systemd, said), daemon=True)
        listener.start()
        env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
        server = start_server("hello:application", "--health-bind", health, env=env)
        done = threading.Event()
        failed: list[str] = []

        def check() -> None:
            while not done.is_set():
                try:
                    with urllib.request.urlopen(f"http://{health}/ready", timeout=5) as answer:
                        assert answer.status == 200
                except OSError as error:
                    failed.append(str(error))
                done.wait(0.005)

        checker = threading.Thread(target=check)
        checker.start()
        assert server.ctl("upgrade").returncode == 0
        done.set()
        checker.join()
        assert failed == []

        eventually(lambda: f"MAINPID={master_of(server)}" in said, what="the new main process")
        server.process.wait(10)
        told = len(said)
        eventually(lambda: said[told:].count("WATCHDOG=1") >= 3, what="signs of life of the new one")
        assert not [line for line in said if line.startswith("STOPPING")]
        systemd.shutdown(socket.SHUT_RDWR)
        listener.join(10)
    end(server)


def test_statsd_hears_of_one_master_how_many_workers_there_are(start_server: StartServer, site: Path) -> None:
    """The old one's have retired when it ends, but the server has as many as before."""
    told: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.setblocking(False)

        def hear() -> list[str]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    told.extend(statsd.recv(65536).decode().splitlines())
            return [line for line in told if "workers:" in line]

        host = f"127.0.0.1:{statsd.getsockname()[1]}"
        server = start_server(APP, "-w", "2", "--statsd-host", host, cwd=site)
        eventually(lambda: "gunicorn.workers:2|g" in hear())
        told.clear()
        assert server.ctl("upgrade").returncode == 0
        server.process.wait(10)
        before = len(hear())
        eventually(lambda: len(hear()) > before, what="the new one's figures")
        assert server.get()[0] == 200
        assert set(hear()) == {"gunicorn.workers:2|g"}
        eventually(lambda: "gunicorn.requests:1|c" in (hear(), told)[1], what="the new one's requests")
    end(server)


def test_of_a_new_master_that_is_killed_nothing_stays(start_server: StartServer, site: Path) -> None:
    server = start_server(APP, cwd=site)
    write_release(site, "import time\ntime.sleep(60)\n")
    with Client(running(server.env)[0].control) as client:
        server.signal(signal.SIGUSR2)
        eventually(lambda: server.log().count("Booting worker") == 2, what="a worker that loads for a minute")
        (new,) = masters_in(server) - {server.pid}
        os.kill(new, signal.SIGKILL)
        eventually(lambda: "the new master failed: it was killed by SIGKILL" in server.log())
        assert client.status().master.pid == server.pid
        workers = {worker.pid for worker in client.workers()}
    eventually(
        lambda: len(titles(server).keys() - workers) == 2, what=f"only master and zygote beside {workers}"
    )
    assert server.stop() == 0


def test_the_directory_is_entered_anew_by_its_name(start_server: StartServer, tmp_path: Path) -> None:
    """As a deploy by symbolic link wants it."""
    for version in (1, 2):
        write_version(tmp_path / f"release-{version}", version)
    current = tmp_path / "current"
    current.symlink_to("release-1")
    server = start_server(APP, cwd=current, env={"PWD": str(current)})
    assert server.get()[1] == b"version 1\n"
    current.unlink()
    gone = server.ctl("upgrade")
    assert gone.returncode == 1
    assert f"{current}, where this server was started: No such file or directory" in gone.stderr
    current.symlink_to("release-2")
    assert server.ctl("upgrade").returncode == 0
    assert server.get()[1] == b"version 2\n"
    end(server)
