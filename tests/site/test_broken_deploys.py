"""Deployments that go wrong, one after the other, on one server under a trickle of requests.

After each the old code serves at full strength, the reload has said in one clear line why it failed, and a
good deployment works. None of the requests may fail.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest

import wsgitop
from tests.support.release import APP, write_release, write_version
from tests.support.server import Server
from tests.support.waiting import eventually
from wsgitop.client import Client, running
from wsgitop.errors import ActionFailed
from wsgitop.snapshot import Event

pytestmark = pytest.mark.process

PAUSE_S = 0.02
CONFIG = "workers = 2\n"
QUICK = CONFIG + "boot_timeout = 1\n"
"""A release with this comes before one that hangs, so that nobody waits for long."""


class Trickle:
    """Requests, one at a time, alternately on a new and on a kept connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trickle")
        self.finished = 0
        self.failures: list[str] = []
        self.answers: set[bytes] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        kept = self._server.connection()
        while not self._stop.wait(PAUSE_S):
            for connection in (kept, self._server.connection()):
                try:
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    body = response.read()
                    if response.status != 200:
                        self.failures.append(f"status {response.status}")
                    self.answers.add(body)
                    self.finished += 1
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                if connection is not kept:
                    connection.close()
        kept.close()


class Deploy(NamedTuple):
    """``source`` is a module that the application imports, ``config`` the config file (None: it is gone),
    ``module`` the application's own module if that is another. ``words`` must be in the answer of the reload;
    '' means that it succeeds. ``before``: the config that must be in force.
    """

    source: str = "VERSION = 'bad'\n"
    words: str = ""
    config: str | None = CONFIG
    before: str = CONFIG
    module: str = ""


FOURTH_FAILS = """
import os
with open("boots", "a") as file:
    file.write("x")
if os.path.getsize("boots") % 4 == 0:
    raise RuntimeError("this one had bad luck")
VERSION = 'unlucky'
"""
DENIED = """
import os
if os.geteuid():
    open("secret.key")
raise PermissionError(13, "Permission denied", "secret.key")
"""
MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
everything = []
while True:
    everything.append(bytearray(1 << 26))
"""
DYING_THREAD = """
import threading
def run(): raise RuntimeError("the thread died")
thread = threading.Thread(target=run); thread.start(); thread.join()
VERSION = 'good'
"""
KILLS_ITS_PARENT = """
import os, signal, time
os.kill(os.getppid(), signal.{})
time.sleep(0.2)
raise RuntimeError("and then it failed")
"""
PRELOAD = CONFIG + "preload_app = True\n"
FOUR = "workers = 4\npreload_app = {}\n"

DEPLOYS = {
    "ImportError": Deploy("from os import nothing_of_that_name\n", "cannot import name 'nothing_of"),
    "missing module": Deploy("import a_module_that_is_missing\n", "'a_module_that_is_missing', which is not"),
    "SyntaxError": Deploy("def broken(:\n", "SyntaxError"),
    "SystemExit": Deploy("import sys\nsys.exit('no licence found')\n", "SystemExit: no licence found"),
    "os._exit(0)": Deploy("import os\nos._exit(0)\n", "exited with status 0 while it loaded"),
    "os._exit(3)": Deploy("import os\nos._exit(3)\n", "exited with status 3 while it loaded"),
    "segfault": Deploy("import ctypes\nctypes.string_at(0)\n", "killed by SIGSEGV"),
    "hang at import": Deploy("import time\ntime.sleep(60)\n", "SIGABRT while it loaded", QUICK),
    "endless allocation": Deploy(MEMORY, "MemoryError"),
    "recursion": Deploy("def f(): f()\nf()\n", "RecursionError"),
    "wrong attribute": Deploy(module="app = print\n", words="has no 'application'"),
    "not callable": Deploy(module="application = 'text'\n", words="is not callable: it is of type str"),
    "None": Deploy(module="application = None\n", words="is None"),
    "an object": Deploy(module="application = object()\n", words="is not callable: it is of type object"),
    "bad value": Deploy(config="workers = 'many'\n", words="'many'"),
    "SyntaxError in the config": Deploy(config="workers = = 4\n", words="SyntaxError"),
    "config that raises": Deploy(config="raise RuntimeError('no such host')\n", words="no such host"),
    "config that exits": Deploy(config="import sys\nsys.exit(1)\n", words="SystemExit: 1"),
    "config that hangs": Deploy(
        config="import time\ntime.sleep(60)\n", words="did not load within 1 s", before=QUICK
    ),
    "config that is gone": Deploy(config=None, words="cannot be read: No such file"),
    "address taken": Deploy(config=CONFIG + "bind = ['{bind}', '{taken}']\n", words="the port is in use by"),
    "address of nobody": Deploy(
        config=CONFIG + "bind = ['{bind}', '192.0.2.1:80']\n", words="cannot listen on 192.0.2.1:80"
    ),
    "chdir gone": Deploy(config=CONFIG + "chdir = 'gone'\n", words="cannot change to directory"),
    "log directory gone": Deploy(config=CONFIG + "accesslog = '/gone/log'\n", words="cannot be opened"),
    "slow boot": Deploy("import time\ntime.sleep(0.2)\nVERSION = 'good'\n"),
    # Preloaded: what the old zygote forks is the old code, whatever is on the disk by then.
    "one boot of four": Deploy(
        FOURTH_FAILS, "this one had bad luck", FOUR.format(False), before=FOUR.format(True)
    ),
    "closes its stderr": Deploy("import os\nos.close(2)\nraise RuntimeError('unheard')\n", "unheard"),
    "closes everything": Deploy("import os\nos.closerange(3, 256)\nVERSION = 'bad'\n", "while it loaded"),
    "ends its parent": Deploy(KILLS_ITS_PARENT.format("SIGTERM"), "and then it failed"),
    "ends its parent, preloaded": Deploy(KILLS_ITS_PARENT.format("SIGQUIT"), "and then it failed", PRELOAD),
    "missing permission": Deploy(DENIED, "PermissionError"),
    "dying thread": Deploy(DYING_THREAD),
    "dying thread, preloaded": Deploy(DYING_THREAD, config=PRELOAD),
}  # fmt: skip


class Site:
    """The server of this module, and what is deployed to it."""

    def __init__(self, directory: Path, taken: int) -> None:
        self.directory = directory
        self.taken = taken
        self.version = 0
        self.in_force = CONFIG
        self.bind = f"unix:{directory}/s"
        self.write("VERSION = 0\n", CONFIG)
        self.server = Server(APP, cwd=directory, bind=[self.bind], bind_in_file=True)

    def write(self, source: str, config: str | None, module: str = "") -> None:
        write_release(self.directory, source)
        if module:
            path = self.directory / "version.py"
            path.write_text(module)
            os.utime(path, (1_500_000_000 + self.version,) * 2)
        path = self.directory / "wsgitop.conf.py"
        path.unlink(missing_ok=True)
        if config is not None:
            if "bind = " not in config:
                config += "bind = ['{bind}']\n"
            path.write_text(config.replace("{bind}", self.bind).replace("{taken}", f"127.0.0.1:{self.taken}"))

    def deploy_well(self, config: str = CONFIG) -> None:
        self.version += 1
        self.write(f"VERSION = {self.version}\n", config)
        self.in_force = config
        with self.client() as client:
            client.reload()

    def client(self) -> Client:
        (control,) = [m.control for m in running(self.server.env) if m.pid == self.server.pid]
        return Client(control)

    def serving(self) -> list[int]:
        """The generations of the workers that serve."""
        return [worker["generation"] for worker in self.server.workers()]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # A short path, for the unix socket.
    directory = Path(tempfile.mkdtemp(prefix="deploy-"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site = Site(directory, taken.getsockname()[1])
        try:
            with site.server:
                site.server.wait_until_serving()
                with Trickle(site.server) as trickle:
                    yield site
                assert not trickle.failures, trickle.failures[:10]
                assert trickle.finished > 100
                assert not any(b"bad" in answer for answer in trickle.answers)
                assert "internal error" not in site.server.log()
        finally:
            shutil.rmtree(directory)


@pytest.mark.parametrize("name", DEPLOYS)
def test_deploy(site: Site, name: str) -> None:
    deploy = DEPLOYS[name]
    if site.in_force != deploy.before:
        site.deploy_well(deploy.before)
    before = site.server.status()
    site.write(deploy.source, deploy.config, deploy.module)
    with site.client() as client:
        if not deploy.words:
            client.reload()
            site.in_force = deploy.config or ""
            assert site.server.get()[1] == b"version good\n"
            return
        with pytest.raises(ActionFailed) as caught:
            client.reload()
    assert caught.value.exit_status == 1
    assert deploy.words in f"{caught.value.cause}\n{caught.value.remedy}", caught.value
    assert f"Generation {before['master']['generation']} serves on" in caught.value.remedy
    assert "\n" not in caught.value.cause
    whole = [before["master"]["generation"]] * before["master"]["workers_wanted"]
    eventually(lambda: site.serving() == whole, what="full strength")
    status = site.server.status()
    assert status["master"]["bind"] == before["master"]["bind"]
    assert site.server.get()[1] == f"version {site.version}\n".encode()
    event = [e for e in _events(site) if e.kind == "reload-failed"][-1]
    assert event.severity == "error" and "serves on" in event.text
    assert event.detail == caught.value.detail
    if "Traceback" in event.detail:
        assert event.detail.splitlines()[-1] in site.server.log()
    site.deploy_well()


def _events(site: Site) -> tuple[Event, ...]:
    with site.client() as client:
        return client.events(0, 50)


def test_good_one_after_all_that(site: Site) -> None:
    site.deploy_well()
    assert site.server.ctl("reload").returncode == 0
    assert site.server.get()[1] == f"version {site.version}\n".encode()
    assert site.server.status()["master"]["state"] == "serving"


def test_exit_status_and_output_of_ctl(site: Site) -> None:
    site.write("raise RuntimeError('no such table')\n", CONFIG)
    done = site.server.ctl("reload")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.splitlines()[0].endswith("cannot be imported: RuntimeError: no such table")
    assert "Traceback" in done.stderr and "release.py" in done.stderr


def test_newer_wsgitop_on_disk(tmp_path: Path) -> None:
    """Its zygote would speak another protocol: that takes a new master."""
    package = tmp_path / "lib" / "wsgitop"
    shutil.copytree(Path(wsgitop.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    site = tmp_path / "site"
    write_version(site, 1)
    with Server(APP, cwd=site, env={"PYTHONPATH": str(package.parent)}) as server:
        server.wait_until_serving()
        init = package / "__init__.py"
        source = init.read_text()
        init.write_text(source.replace('__version__ = "', '__version__ = "9.'))
        assert source != init.read_text()
        done = server.ctl("reload")
        assert done.returncode == 1
        assert "use USR2" in done.stderr
        assert server.get()[1] == b"version 1\n"
        init.write_text(source)
        assert server.ctl("reload").returncode == 0
