"""Hooks of a config file in a whole server: which, in which order, with what, and what failing ones do."""

from __future__ import annotations

import os
import re
import signal
import textwrap
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import Server, command, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

CONFIG = """
    import os

    def note(*words):
        with open(os.environ["DIARY"], "a") as file:
            file.write(" ".join(map(str, words)) + "\\n")

    def of_server(name):
        def hook(server, *rest):
            assert server.log.info and server.cfg.proc_name == "site" and server.address == server.cfg.address
            assert [type(address[1]) for address in server.address] == [int]
            assert len(server.LISTENERS) == (name != "on_exit")
            workers = " ".join(str(worker.age) for worker in server.WORKERS.values())
            note(MARK + name, server.pid, *rest, f"[{workers}] of {server.num_workers}")
        return hook

    def of_both(name):
        def hook(server, worker):
            assert server.pid == worker.ppid and worker.cfg is server.cfg
            note(MARK + name, worker.age, worker.pid == os.getpid())
        return hook

    def of_worker(name):
        def hook(worker):
            note(MARK + name, worker.age, worker.app.callable is not None, worker.alive)
        return hook

    for name in ("on_starting", "on_reload", "when_ready", "on_exit", "nworkers_changed"):
        globals()[name] = of_server(name)
    for name in ("pre_fork", "post_fork", "worker_exit"):
        globals()[name] = of_both(name)
    for name in ("post_worker_init", "worker_int", "worker_abort"):
        globals()[name] = of_worker(name)

    def child_exit(server, worker):
        note(MARK + "child_exit", worker.age, worker.pid in server.WORKERS, worker.nr)

    def pre_request(worker, req):
        note(MARK + "pre_request", worker.age, req.method, req.uri)

    def post_request(worker, req, environ, resp):
        note(MARK + "post_request", worker.age, environ["PATH_INFO"], resp.status)
"""


def write_config(directory: Path, text: str = CONFIG, mark: str = "") -> None:
    (directory / "gunicorn.conf.py").write_text(f"MARK = {mark!r}\n" + textwrap.dedent(text))
    (directory / "site_app.py").write_text(
        "import __config__\n"
        "__config__.note(__config__.MARK + 'app')\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n"
        "    return [b'ok']\n"
    )


class Diary:
    """The lines that hooks have written, told off one event after another."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "diary"
        self.path.touch()
        self._seen = 0

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()[self._seen :]

    def expect(self, *expected: str) -> None:
        """These and no others have come since the last time, and in this order."""
        eventually(lambda: len(self.lines()) >= len(expected) or None, what="; ".join(expected))
        found = self.lines()
        assert found == list(expected)
        self._seen += len(found)

    def expect_together(self, *expected: str) -> None:
        """These and no others have come, in any order: they are written by processes of their own."""
        eventually(lambda: len(self.lines()) >= len(expected) or None, what="; ".join(expected))
        found = self.lines()
        assert sorted(found) == sorted(expected)
        self._seen += len(found)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


def serve(start_server: StartServer, directory: Path, *args: str, wait: bool = True) -> Server:
    env = {"DIARY": str(directory / "diary")}
    return start_server("site_app:app", "-n", "site", *args, wait=wait, cwd=directory, env=env)


@pytest.mark.every_python
@pytest.mark.parametrize("preload", [False, True])
def test_a_life(start_server: StartServer, tmp_path: Path, diary: Diary, preload: bool) -> None:
    write_config(tmp_path)
    server = serve(start_server, tmp_path, *["--preload"] * preload)
    master = server.pid

    def boot(age: int, mark: str = "") -> list[str]:
        return [
            f"{mark}pre_fork {age} False",
            f"{mark}post_fork {age} True",
            *[f"{mark}app"] * (not preload),
            f"{mark}post_worker_init {age} True True",
        ]

    # wait_until_serving has asked for / once.
    diary.expect(
        f"nworkers_changed {master} 1 None [] of 1",
        f"on_starting {master} [] of 1",
        *["app"] * preload,
        f"when_ready {master} [] of 1",
        *boot(1),
        "pre_request 1 HEAD /",
        "post_request 1 / 200 OK",
    )
    server.get("/x?y")
    diary.expect("pre_request 1 GET /x?y", "post_request 1 /x 200 OK")
    server.signal(signal.SIGTTIN)
    diary.expect(f"nworkers_changed {master} 2 1 [1] of 2", *boot(2))
    eventually(lambda: len(server.workers()) == 2)
    server.signal(signal.SIGTTOU)
    diary.expect_together(
        f"nworkers_changed {master} 1 2 [1 2] of 1", "worker_exit 1 True", "child_exit 1 False 2"
    )

    write_config(tmp_path, mark="new ")
    server.signal(signal.SIGHUP)
    diary.expect(
        *["new app"] * preload,
        f"new on_reload {master} [2] of 1",
        *boot(3, "new "),
        "worker_exit 2 True",
        "new child_exit 2 False 0",
    )
    eventually(lambda: [worker["state"] for worker in server.status()["workers"]] == ["idle"])
    (worker,) = server.workers()
    eventually(lambda: len(server.zygote_pids()) == 1)

    os.kill(worker["pid"], signal.SIGKILL)
    diary.expect("new child_exit 3 False 0", *boot(4, "new "))
    eventually(lambda: [worker["state"] for worker in server.status()["workers"]] == ["idle"])
    assert server.stop() == 0
    diary.expect("new worker_exit 4 True", "new child_exit 4 False 0", f"new on_exit {master} [] of 1")
    (line,) = re.findall(r".*\[ERROR\].*", server.log())
    assert "was killed by SIGKILL" in line, "and no hook has failed"


QUICK = """
    import time

    del pre_request, post_request, nworkers_changed
    last = on_exit

    def on_exit(server):
        assert server.LISTENERS == []
        note("on_exit begins")
        while not os.path.exists(os.environ["DIARY"] + ".end"):
            time.sleep(0.01)
        last(server)
"""


def test_a_quick_end(start_server: StartServer, tmp_path: Path, diary: Diary) -> None:
    write_config(tmp_path, CONFIG + QUICK)
    server = serve(start_server, tmp_path, "--preload")
    eventually(lambda: len(diary.lines()) == 6)
    diary.expect(*diary.lines())
    server.signal(signal.SIGINT)
    diary.expect("worker_int 1 True False", "worker_exit 1 True", "child_exit 1 False 1", "on_exit begins")
    with pytest.raises(ConnectionRefusedError):  # the zygote is there, and has let go of the listener
        server.get()
    (tmp_path / "diary.end").touch()
    assert server.wait_for_end() == 0
    diary.expect(f"on_exit {server.pid} [] of 1")


def run(directory: Path, runtime_dir: Path, text: str, *args: str) -> tuple[int, str]:
    """Start a server that ends by itself: its status and what it said."""
    (directory / "gunicorn.conf.py").write_text(textwrap.dedent(text))
    (directory / "site_app.py").write_text("def app(environ, start_response): ...\n")
    words = ("serve", "-b", f"127.0.0.1:{free_port()}", *args, "site_app:app")
    done = command(*words, runtime_dir=runtime_dir, cwd=directory, env={"DIARY": str(directory / "diary")})
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("def post_fork(server): pass", r"hook post_fork: it is called with 2 arguments \(server, worker\)"),
        ("async def on_exit(server): pass", "hook on_exit: it is async"),
    ],
)
def test_a_hook_that_cannot_be_called(tmp_path: Path, runtime_dir: Path, hook: str, words: str) -> None:
    status, said = run(tmp_path, runtime_dir, hook)
    assert status == 1
    assert re.search(words, said)
    assert "Traceback" not in said


def test_on_starting_that_fails(tmp_path: Path, runtime_dir: Path) -> None:
    status, said = run(tmp_path, runtime_dir, "def on_starting(server): raise ValueError('not today')")
    assert status == 1
    assert "[ERROR] hook on_starting failed: ValueError: not today" in said
    assert said.count("Traceback") == 1 and "in on_starting" in said


def test_on_starting_that_hangs(tmp_path: Path, runtime_dir: Path) -> None:
    text = "import time\ndef on_starting(server): time.sleep(60)"
    status, said = run(tmp_path, runtime_dir, text, "--boot-timeout", "1")
    assert status == 1
    assert "hook on_starting failed: it takes longer than" in said and "in on_starting" in said


def test_on_exit_of_a_start_that_fails(tmp_path: Path, runtime_dir: Path) -> None:
    text = """
        import sys
        def post_worker_init(worker): raise ValueError("not today")
        def on_exit(server): print("on_exit is run", file=sys.stderr)
    """
    status, said = run(tmp_path, runtime_dir, text)
    assert status == 3
    assert "hook post_worker_init failed: ValueError: not today" in said
    assert "on_exit is run" in said


def test_a_reload_that_a_hook_spoils(start_server: StartServer, tmp_path: Path) -> None:
    write_config(tmp_path, "def note(*words): pass")
    server = serve(start_server, tmp_path)
    for text, words in (
        ("def post_fork(server): pass", "hook post_fork: it is called with 2 arguments"),
        ("def post_fork(server, worker): raise ValueError('not today')", "ValueError: not today"),
    ):
        write_config(tmp_path, text + "\ndef note(*words): pass\n")
        done = server.ctl("reload")
        assert done.returncode == 1 and words in done.stderr
        assert server.get()[1] == b"ok"


def test_hooks_that_are_methods_and_the_like(start_server: StartServer, tmp_path: Path, diary: Diary) -> None:
    write_config(
        tmp_path,
        """
        import functools, os
        def note(*words):
            with open(os.environ["DIARY"], "a") as file:
                file.write(" ".join(map(str, words)) + "\\n")
        class Site:
            def ready(self, server): note("method")
            def __call__(self, server): note("object")
        def named(word, *arguments): note(word, len(arguments))
        when_ready = Site().ready
        on_exit = Site()
        pre_fork = lambda server, worker: note("lambda")
        post_fork = functools.partial(named, "partial")
        post_request = lambda worker, req: note("two of four")
        child_exit = "kept.bury"
        """,
    )
    (tmp_path / "kept.py").write_text(
        "import __config__\ndef bury(server, worker): __config__.note('by name')\n"
    )
    server = serve(start_server, tmp_path, "--preload")
    assert server.stop() == 0
    diary.expect("app", "method", "lambda", "partial 2", "two of four", "by name", "object")
