"""Logs and figures of a whole server: syslog, statsd, log configurations, output, rotation."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import APPS, Server, command, free_port
from tests.support.waiting import eventually
from wsgitop.client import Client, running
from wsgitop.errors import ActionFailed

pytestmark = pytest.mark.process


class Receiver:
    """Keeps what a UDP socket receives."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.received: list[bytes] = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        while data := self.sock.recv(65536):
            self.received.append(data)

    def text(self) -> str:
        return b"\n".join(self.received).decode()

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.sock.getsockname())
        self.thread.join()
        self.sock.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def client(server: Server) -> Client:
    (control,) = [master.control for master in running(server.env) if master.pid == server.pid]
    return Client(control)


FIGURE = r"site\.gunicorn\.(\S+?):([\d.e+-]+)\|(c|ms|g)(?:\|@([\d.e-]+))?\|#env:test"


def totals(receiver: Receiver) -> Counter[str]:
    """The sums of counters and of what timers stand for."""
    sums: Counter[str] = Counter()
    for line in receiver.text().splitlines():
        found = re.fullmatch(
            r"site\.gunicorn\.(\S+?):([\d.e+-]+)\|(c|ms|g)(?:\|@([\d.e-]+))?\|#env:test", line
        )
        assert found is not None, line
        name, value, kind, rate = found.groups()
        if kind == "c":
            assert float(value) > 0, line
            sums[name] += int(value)
        elif kind == "ms":
            sums[name] += round(1 / float(rate or 1))
    return sums


@pytest.mark.every_python
def test_figures_survive_deaths_and_reloads(start_server: StartServer, receiver: Receiver) -> None:
    server = start_server(
        "printing:application", "--workers", "2", "--preload", "--statsd-host", receiver.address,
        "--statsd-prefix", "site", "--dogstatsd-tags", "env:test", "--enable-backlog-metric",
    )  # fmt: skip
    before = 1  # start_server asks once
    for _ in range(5):
        server.get("/")
    server.get("/missing")
    server.get("/fail")
    with client(server) as control:
        control.reload()
        os.kill(server.workers()[0]["pid"], signal.SIGKILL)
        eventually(lambda: len(server.workers()) == 2, what="its replacement")
        for _ in range(3):
            server.get("/")
    eventually(lambda: "site.gunicorn.workers:2|g" in receiver.text(), what="a whole second")
    server.stop()
    eventually(lambda: totals(receiver)["requests"] >= before + 10, what="the last figures")
    sums = totals(receiver)
    assert sums["requests"] == sums["request.duration"] == before + 10
    assert sums["request.status.2xx"] == before + 8
    assert sums["request.status.4xx"] == sums["request.status.5xx"] == 1
    assert sums["log.exception"] == 1
    assert sums["log.error"] == 1, "the worker that was killed"
    assert "site.gunicorn.backlog:0|g" in receiver.text()
    assert max(map(len, receiver.received)) <= 1400


@pytest.mark.every_python
def test_lines_to_syslog_and_captured_output(
    start_server: StartServer, receiver: Receiver, tmp_path: Path
) -> None:
    server = start_server(
        "printing:application", "--log-syslog", "--log-syslog-to", f"udp://{receiver.address}",
        "--log-syslog-facility", "local0", "--log-syslog-prefix", "shop", "--capture-output",
        "--access-logfile", str(tmp_path / "access"), "--error-logfile", str(tmp_path / "error"),
    )  # fmt: skip
    (worker,) = server.workers()
    server.get("/print")
    server.get("/fail")
    with client(server) as control:
        control.reload()
    server.get("/after")
    server.stop()
    lines = receiver.text().splitlines()
    access = [line.partition(" ")[2] for line in lines if line.startswith("<134>gunicorn.shop.access: ")]
    file = (tmp_path / "access").read_text().splitlines()
    assert [line.partition("] ")[2] for line in access] == file
    assert len(file) == 4 and access[1].startswith(f"[{worker['pid']}] 127.0.0.1 - - [")
    assert "<133>gunicorn.shop.error: on standard output" in lines
    assert "<133>gunicorn.shop.error: on standard error" in lines
    assert f"<131>gunicorn.shop.error: [{worker['pid']}] RuntimeError: asked to fail" in lines
    assert f"<134>gunicorn.shop.error: [{server.pid}] master pid {server.pid}: stopped" in lines
    error = (tmp_path / "error").read_text()
    assert "on standard output\n" in error and "on standard error\n" in error
    assert "on standard output" not in server.log()


def test_syslog_without_access_lines_and_with_nobody_there(start_server: StartServer, tmp_path: Path) -> None:
    port = free_port()
    server = start_server(
        "printing:application", "--log-syslog", "--log-syslog-to", f"udp://127.0.0.1:{port}",
        "--disable-redirect-access-to-syslog", "--statsd-host", f"unix://{tmp_path}/statsd",
    )  # fmt: skip
    for _ in range(50):
        assert server.get("/print") == (200, b"ok")
    eventually(lambda: f"syslog at 127.0.0.1:{port} takes no lines: " in server.log())
    eventually(lambda: "statsd at unix://" in server.log())
    assert server.log().count("takes no") == 2
    assert server.stop() == 0


CONFIG = """
import logging

class Atoms(logging.Formatter):
    def format(self, record):
        return f"{record.name} {record.args['s']} {record.args['U']}"

logconfig_dict = {
    "formatters": {"atoms": {"()": Atoms}, "plain": {"format": "%(name)s %(levelname)s %(message)s"}},
    "handlers": {
        "access": {"class": "logging.FileHandler", "filename": "access.out", "formatter": "atoms"},
        "errors": {"class": "logging.FileHandler", "filename": "error.out", "formatter": "plain"},
    },
    "root": {"handlers": ["errors"], "level": "INFO"},
    "loggers": {
        "gunicorn.access": {"handlers": ["access"], "propagate": False},
        "gunicorn.error": {"handlers": ["errors"], "propagate": False},
    },
}
"""


def open_files(server: Server) -> set[str]:
    """What the processes of the server have open."""
    found = set()
    for process in server.processes():
        with contextlib.suppress(FileNotFoundError):  # it has ended
            for fd in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    found.add(str(fd.readlink()))
    return found


@pytest.mark.every_python
def test_a_log_configuration_with_classes_in_it(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    (tmp_path / "printing.py").write_text((APPS / "printing.py").read_text())
    server = start_server("printing:application", "--access-logfile", "access.log", cwd=tmp_path)
    server.get("/log")
    server.get("/fail")
    # The client has its answer before the line is written.
    eventually(lambda: "/fail" in (tmp_path / "access.out").read_text(), what="the line of the last request")
    (tmp_path / "access.out").rename(tmp_path / "access.1")
    (tmp_path / "error.out").rename(tmp_path / "error.1")
    server.signal(signal.SIGUSR1)
    # That the new ones are there is not enough: they are the zygote's as well, which may be the first.
    olds = {str(tmp_path / "access.1"), str(tmp_path / "error.1")}
    eventually(lambda: olds.isdisjoint(open_files(server)), what="nobody who writes to the old ones")
    server.get("/later")

    (tmp_path / "gunicorn.conf.py").write_text(CONFIG.replace("logging.FileHandler", "no.such.Handler", 1))
    with client(server) as control, pytest.raises(ActionFailed, match="Unable to configure handler 'access'"):
        control.reload()
    assert server.get("/still") == (200, b"ok")
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    with client(server) as control:
        control.reload()
    server.get("/again")
    server.stop()

    assert (tmp_path / "access.1").read_text().splitlines() == [
        f"gunicorn.access {status} {path}" for status, path in ((200, "/"), (200, "/log"), (500, "/fail"))
    ]
    assert (tmp_path / "access.out").read_text().splitlines() == [
        f"gunicorn.access 200 {path}" for path in ("/later", "/still", "/again")
    ]
    assert (tmp_path / "access.log").read_text() == ""
    errors = (tmp_path / "error.1").read_text()
    assert "site WARNING from the site\n" in errors
    assert re.search(r"^gunicorn\.error ERROR Error handling request GET /fail", errors, re.MULTILINE)
    assert "Error handling request" not in server.log()
    assert "is ready after" in server.log(), "the master's lines are in the error log"


@pytest.mark.parametrize(
    ("file", "flags", "words"),
    [
        ('logconfig_dict = {"version": 3}', (), "logconfig_dict: Unsupported version: 3"),
        ("", ("--log-config", "none.ini"), "logconfig: none.ini is no file"),
        ("", ("--log-config-json", "bad.json"), "logconfig_json: bad.json is not JSON"),
    ],
)
def test_a_wrong_log_configuration_ends_the_start(
    runtime_dir: Path, tmp_path: Path, file: str, flags: tuple[str, ...], words: str
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(file)
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "hello.py").write_text((APPS / "hello.py").read_text())
    bind = f"127.0.0.1:{free_port()}"
    for words_before in (("serve", "--bind", bind), ("check",)):
        done = command(*words_before, *flags, "hello:plain", runtime_dir=runtime_dir, cwd=tmp_path)
        assert done.returncode == 1, done
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_check_tries_classes_of_the_file_and_toml(runtime_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.wsgitop.logconfig_dict]\nversion = 1\nloggers.x.level = "LOUD"\n'
    )
    (tmp_path / "hello.py").write_text((APPS / "hello.py").read_text())
    done = command("check", "hello:plain", runtime_dir=runtime_dir, cwd=tmp_path)
    assert done.returncode == 0, done
    done = command("check", "-c", "pyproject.toml", "hello:plain", runtime_dir=runtime_dir, cwd=tmp_path)
    assert done.returncode == 1 and "Unable to configure logger 'x'" in done.stderr


def test_check_tries_hooks(runtime_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("def post_fork(only_one): ...\n")
    (tmp_path / "hello.py").write_text((APPS / "hello.py").read_text())
    done = command("serve", "--check-config", "hello:plain", runtime_dir=runtime_dir, cwd=tmp_path)
    assert done.returncode == 1 and "post_fork" in done.stderr


def test_what_is_printed_comes_at_once_with_stdio_inheritance(start_server: StartServer) -> None:
    server = start_server("printing:application", "-R")
    server.get("/print")
    eventually(lambda: "on standard output" in server.log(), what="the line, before the worker ends")


def test_output_goes_nowhere_when_the_master_is_gone_and_breaks_nothing(start_server: StartServer) -> None:
    server = start_server(
        "printing:application", "--capture-output", "--log-syslog", "--log-syslog-to", "unix:///nowhere"
    )
    connection = server.connection()
    connection.request("GET", "/orphan")
    eventually(lambda: server.workers()[0]["in_flight"], what="the request in flight")
    server.signal(signal.SIGKILL)
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"ok")
    connection.close()


class Requests(threading.Thread):
    """Asks for /1, /2 and so on until it is told to stop."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.done = 0
        self.ends = False

    def run(self) -> None:
        connection = self.server.connection()
        while not self.ends:
            connection.request("GET", f"/{self.done + 1}")
            response = connection.getresponse()
            response.read()
            self.done += 1
        connection.close()


def test_rotation_under_load_loses_and_splits_no_line(start_server: StartServer, tmp_path: Path) -> None:
    """With workers of an old generation that are kept by a request."""
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    server = start_server(
        "lab:application", "--threads", "2", "--access-logfile", str(access),
        "--access-logformat", "%(U)s", "--error-logfile", str(error),
    )  # fmt: skip
    slow = server.connection(timeout_s=30)
    slow.request("GET", "/slow?s=3")
    eventually(lambda: any(w["in_flight"] for w in server.status()["workers"]), what="the slow request")
    server.signal(signal.SIGHUP)
    eventually(
        lambda: [w["state"] for w in server.status()["workers"]].count("retiring") == 1,
        what="the new generation beside the old one",
    )
    requests = Requests(server)
    requests.start()
    for number in range(1, 6):
        wanted = requests.done + 40
        eventually(lambda wanted=wanted: requests.done >= wanted, what="some requests")  # type: ignore[misc]
        access.rename(tmp_path / f"access.{number}")
        error.rename(tmp_path / f"error.{number}")
        server.signal(signal.SIGUSR1)
        eventually(lambda: access.exists() and error.exists(), what="new files")
        eventually(lambda: "log files reopened" in error.read_text(), what="the master's line in the new one")
    response = slow.getresponse()
    response.read()
    slow.close()
    eventually(lambda: "/slow" in access.read_text(), what="the line of the old worker, in the newest file")
    requests.ends = True
    requests.join()
    server.stop()
    files = [tmp_path / f"access.{number}" for number in range(1, 6)] + [access]
    lines = [line for file in files for line in file.read_text().split("\n")[:-1]]
    numbers = [int(line[1:]) for line in lines if line[1:].isdigit()]
    assert sorted(numbers) == list(range(1, requests.done + 1))
    assert numbers == sorted(numbers), "each in the file of its time"
    assert all(re.match(r"\[[^]]+\] \[\d+\] \[INFO\] ", line) for line in error.read_text().splitlines())


def test_rotation_while_a_reload_changes_the_files(start_server: StartServer, tmp_path: Path) -> None:
    """The new generation writes to its own file from its first request on."""
    first, second = tmp_path / "first", tmp_path / "second"
    config = tmp_path / "gunicorn.conf.py"
    text = 'accesslog = {!r}\nerrorlog = {!r}\naccess_log_format = "%(p)s"\nworkers = 2\n'
    config.write_text(text.format(str(first), f"{first}.error"))
    server = start_server("slow_boot:application", "-c", str(config), env={"SLOW_BOOT_S": "0.6"})
    old = {worker["pid"] for worker in server.workers()}
    config.write_text(text.format(str(second), f"{second}.error"))
    server.signal(signal.SIGHUP)

    def served_by_new() -> bool:
        server.get("/")
        return any(w["pid"] not in old and w["state"] == "idle" for w in server.workers())

    eventually(served_by_new, what="a first new worker")
    assert len({w["pid"] for w in server.workers()} & old) > 0, "the reload is under way"
    first.rename(tmp_path / "first.1")
    server.signal(signal.SIGUSR1)
    eventually(first.exists, what="the old file, opened again")
    eventually(
        lambda: server.get("/") and {w["pid"] for w in server.workers()}.isdisjoint(old),
        what="the end of the reload",
    )
    for _ in range(10):
        server.get("/")
    server.signal(signal.SIGHUP)  # so that all lines are written
    eventually(lambda: second.stat().st_size)
    written = {f"<{pid}>" for file in (first, tmp_path / "first.1") for pid in file.read_text().split()}
    assert written <= {f"<<{pid}>>" for pid in old}
    eventually(lambda: "the error log was" in Path(f"{second}.error").read_text())


def test_a_reload_that_fails_leaves_the_files(start_server: StartServer, tmp_path: Path) -> None:
    config, access, error = tmp_path / "gunicorn.conf.py", tmp_path / "access", tmp_path / "error"
    text = "accesslog = {!r}\nerrorlog = {!r}\n"
    config.write_text(text.format(str(access), str(error)))
    server = start_server("hello:application", "-c", str(config))
    for broken in (
        text.format(str(tmp_path / "nowhere" / "access"), str(error)),
        text.format(str(access), str(tmp_path / "nowhere" / "error")),
        text.format(str(tmp_path / "other"), str(tmp_path / "other.error")) + f"chdir = {str(tmp_path)!r}\n",
    ):
        config.write_text(broken)
        result = server.ctl("reload")
        assert result.returncode == 1, result.stdout
        before = access.read_text().count("GET /")
        server.get("/")
        eventually(lambda before=before: access.read_text().count("GET /") > before)  # type: ignore[misc]
    assert error.read_text().count("] reload to generation") == 3
    config.write_text(text.format(str(access), "-"))
    assert server.ctl("reload").returncode == 0
    server.signal(signal.SIGUSR1)
    eventually(lambda: "log files reopened" in server.log_path.read_text())
    assert "log files reopened" not in error.read_text()


def test_reopening_that_cannot_work_changes_neither_log(start_server: StartServer, tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    error = tmp_path / "error.log"
    server = start_server(
        "printing:application", "--access-logfile", str(place / "access"), "--error-logfile", str(error)
    )
    place.rename(tmp_path / "moved")
    error.rename(tmp_path / "error.1")
    server.signal(signal.SIGUSR1)
    eventually(lambda: "the old log files stay open: log file" in (tmp_path / "error.1").read_text())
    server.get("/1")
    eventually(lambda: "GET /1 " in (tmp_path / "moved" / "access").read_text())
    assert not error.exists()
    place.mkdir()
    server.signal(signal.SIGUSR1)
    eventually(lambda: "log files reopened" in error.read_text())
    server.get("/2")
    eventually(lambda: "GET /2 " in (place / "access").read_text())


def test_print_config_names_every_layer(runtime_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(
        'logconfig_dict = {"version": 1, "x": object}\nthreads = 2\nbacklog = 5\ntimeout = 5\n'
        'proc_name = "f"\n'
    )
    env = {
        "GUNICORN_CMD_ARGS": "--threads 3 --backlog 6 --timeout 6",
        "WSGITOP_CMD_ARGS": "--backlog 7 --timeout 7",
        "WEB_CONCURRENCY": "4",
        "PORT": "5001",
        "FORWARDED_ALLOW_IPS": "192.0.2.1",
    }
    done = command(
        "serve", "--print-config", "--timeout", "8", runtime_dir=runtime_dir, cwd=tmp_path, env=env
    )
    assert done.returncode == 0, done
    lines = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
    file = tmp_path / "gunicorn.conf.py"
    assert lines["keepalive"] == "2.0"
    assert lines["workers"] == "4  (from WEB_CONCURRENCY)"
    assert lines["bind"] == "('0.0.0.0:5001',)  (from PORT)"
    assert lines["forwarded_allow_ips"] == "'192.0.2.1'  (from FORWARDED_ALLOW_IPS)"
    assert lines["proc_name"] == f"'f'  (from {file})"
    assert lines["threads"] == "3  (from GUNICORN_CMD_ARGS)"
    assert lines["backlog"] == "7  (from WSGITOP_CMD_ARGS)"
    assert lines["timeout"] == "8.0  (from command line)"
    assert lines["config"] == f"'{file}'  (from working directory)"
    assert lines["logconfig_dict"] == f"{{'version': 1, 'x': '<builtins.object>'}}  (from {file})"


def test_a_class_as_logger_or_worker_class_is_named(runtime_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("class Own: pass\nlogger_class = Own\n")
    (tmp_path / "hello.py").write_text((APPS / "hello.py").read_text())
    done = command("check", "hello:plain", runtime_dir=runtime_dir, cwd=tmp_path)
    assert done.returncode == 0 and "logger_class: has no effect: " in done.stderr
    (tmp_path / "gunicorn.conf.py").write_text("class Own: pass\nworker_class = Own\n")
    done = command("check", "hello:plain", runtime_dir=runtime_dir, cwd=tmp_path)
    assert done.returncode == 1 and "worker_class: '__config__.Own' is not served here" in done.stderr
