"""Hooks in a real worker: around requests, at its end, and what their failures cost."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.worker import apps
from tests.worker.harness import WorkerHarness, wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.errors import HookError
from wsgitop.http.head import Request, parse_request_line
from wsgitop.settings.table import Settings
from wsgitop.worker.hook_objects import HookRequest, make_config
from wsgitop.worker.hooks import deadline, run_hook

Hooks = dict[str, Callable[..., Any]]


class Diary:
    """What hooks have written down, over forks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def note(self, *words: object) -> None:
        with self._path.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def hook(self, name: str) -> Callable[..., None]:
        """A hook that writes down its name."""
        return lambda *_: self.note(name)

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines()


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


@contextlib.contextmanager
def booting(hooks: Hooks, **options: Any) -> Iterator[WorkerHarness]:
    with WorkerHarness(apps.plain_echo, hooks=hooks, **options) as w:
        yield w


def hang(*_: object) -> None:
    while True:
        time.sleep(60)


def fail(*_: object) -> None:
    raise ValueError("not today")


# -- the boot and the end


@pytest.mark.every_python
@pytest.mark.process
@pytest.mark.parametrize(
    ("end", "expected", "status"),
    [
        (signal.SIGTERM, ["worker_exit"], 0),
        (signal.SIGINT, ["worker_int", "worker_exit"], 0),
        (signal.SIGQUIT, ["worker_int", "worker_exit"], 0),
        (signal.SIGABRT, ["worker_abort", "worker_exit"], -signal.SIGABRT),
        (m.Retire(10), ["worker_exit"], 0),
        (m.Quit(), ["worker_int", "worker_exit"], 0),
        ("end of the channel", ["worker_exit"], 0),
    ],
)
def test_a_life(diary: Diary, end: Any, expected: list[str], status: int) -> None:
    names = ("post_fork", "post_worker_init", "worker_int", "worker_abort", "worker_exit")
    with worker(apps.plain_echo, hooks={name: diary.hook(name) for name in names}) as w:
        assert w.get().status == 200
        if isinstance(end, signal.Signals):
            os.kill(w.pid, end)
        elif isinstance(end, m.Message):
            w.channel.send(end)
        else:
            w.channel.close()
        assert w.wait_exit() == status
        assert diary.lines() == ["post_fork", "post_worker_init", *expected]
        if end == signal.SIGABRT:
            assert "Worker aborted by SIGABRT" in w.log() and "Current thread" in w.log(), "the stacks"


@pytest.mark.process
@pytest.mark.parametrize("name", ["post_fork", "post_worker_init"])
def test_a_boot_that_a_hook_ends(diary: Diary, name: str) -> None:
    with booting({name: fail, "worker_exit": diary.hook("worker_exit")}) as w:
        failed = w.message(m.BootFailed)
        assert failed.error == f"hook {name} failed: ValueError: not today"
        assert "in fail" in failed.traceback and not failed.import_error
        assert w.wait_exit() == 3
        assert diary.lines() == ["worker_exit"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGTERM, ["worker_exit"]),
        (signal.SIGQUIT, ["worker_int", "worker_exit"]),
        (signal.SIGABRT, ["worker_abort", "worker_exit"]),
    ],
)
def test_a_signal_while_it_boots(diary: Diary, number: signal.Signals, expected: list[str]) -> None:
    entered = apps.Gate()

    def begin(*_: object) -> None:
        entered.open()
        hang()

    names = ("worker_int", "worker_abort", "worker_exit")
    with booting({"post_fork": begin, **{name: diary.hook(name) for name in names}}) as w:
        entered.pass_through()
        os.kill(w.pid, number)
        assert w.wait_exit() in (0, -signal.SIGABRT)
        assert diary.lines() == expected


@pytest.mark.process
@pytest.mark.parametrize("end", [signal.SIGQUIT, signal.SIGABRT])
@pytest.mark.parametrize("hook", [hang, fail])
def test_a_hook_of_the_end_that_hangs_or_fails(hook: Callable[..., None], end: signal.Signals) -> None:
    name = "worker_int" if end == signal.SIGQUIT else "worker_abort"
    with worker(apps.plain_echo, hooks={name: hook}) as w:
        began = time.monotonic()
        os.kill(w.pid, end)
        w.wait_exit()
        assert time.monotonic() - began < 2.0, "sooner than the master loses patience"
        assert f"hook {name} failed" in w.log()
        assert f"in {hook.__name__}" in w.log(), "where it was"


@pytest.mark.process
def test_worker_exit_is_run_once_and_in_the_main_thread(diary: Diary) -> None:
    def farewell(server: Any, w: Any) -> None:
        diary.note(threading.current_thread() is threading.main_thread(), w.alive, w.nr, server.pid == w.ppid)

    with worker(apps.plain_echo, threads=3, hooks={"worker_exit": farewell}) as w:
        w.get()
        w.get()
        os.kill(w.pid, signal.SIGTERM)
        assert w.wait_exit() == 0
        assert diary.lines() == ["True False 2 True"]


@pytest.mark.process
def test_a_second_signal_while_worker_exit_runs(diary: Diary) -> None:
    entered = apps.Gate()

    def farewell(*_: object) -> None:
        diary.note("begun")
        entered.open()
        time.sleep(0.3)
        diary.note("done")

    with worker(apps.plain_echo, hooks={"worker_exit": farewell}) as w:
        os.kill(w.pid, signal.SIGTERM)
        entered.pass_through()
        os.kill(w.pid, signal.SIGQUIT)
        assert w.wait_exit() == 0
        assert diary.lines() == ["begun", "done"]


@pytest.mark.every_python
@pytest.mark.process
def test_one_thread_ends_the_process(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done at the very end, such as what atexit runs, is not done by two at once."""
    entered, exit_process = apps.Gate(), os._exit

    def farewell(*_: object) -> None:
        entered.open()
        time.sleep(0.1)  # until the watchdog has seen the signal, too

    def leave(status: int) -> None:
        diary.note("leaves")
        time.sleep(0.1)  # as long as another one needs to get here
        exit_process(status)

    monkeypatch.setattr(os, "_exit", leave)
    with worker(apps.plain_echo, hooks={"worker_exit": farewell}) as w:
        os.kill(w.pid, signal.SIGTERM)
        entered.pass_through()
        os.kill(w.pid, signal.SIGQUIT)
        assert w.wait_exit() == 0
        assert diary.lines() == ["leaves"]


@pytest.mark.process
def test_alive_set_to_false_retires_the_worker() -> None:
    def after(w: Any, *_: object) -> None:
        w.alive = w.nr < 2

    with worker(apps.plain_echo, hooks={"post_request": after}) as w:
        assert w.get().status == 200
        assert w.get().status == 200
        assert "a hook has set worker.alive to False" in w.message(m.Retiring).reason
        assert w.wait_exit() == 0


@pytest.mark.process
@pytest.mark.parametrize("name", ["post_fork", "worker_exit", "worker_int"])
def test_a_process_that_a_hook_forks_does_not_become_a_worker(diary: Diary, name: str) -> None:
    def forking(*_: object) -> None:
        child = os.fork()
        if child:
            diary.note(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with worker(apps.plain_echo, hooks={name: forking}) as w:
        os.kill(w.pid, signal.SIGQUIT)
        assert w.wait_exit() == 0
        assert diary.lines() == ["0"]


@pytest.mark.process
@pytest.mark.parametrize("name", ["post_fork", "post_worker_init"])
def test_alive_set_to_false_before_it_serves(name: str) -> None:
    def refuse(*arguments: Any) -> None:
        arguments[-1].alive = False

    with booting({name: refuse}) as w:
        assert "before the worker could serve" in w.message(m.BootFailed).error
        assert w.wait_exit() == 3


# -- requests


@pytest.mark.every_python
@pytest.mark.process
@pytest.mark.parametrize("threads", [1, 3])
def test_around_a_request(diary: Diary, threads: int) -> None:
    def before(w: Any, req: Any) -> None:
        req.began = time.monotonic()
        diary.note("before", req.method, req.uri, req.path, req.query, *req.version, req.remote_addr[0])
        diary.note(dict(req.headers)["X-TEST"], w.pid == os.getpid())

    def after(w: Any, req: Any, environ: Any, resp: Any) -> None:
        assert req.began
        diary.note("after", environ["PATH_INFO"], resp.status, resp.status_code)
        diary.note(dict(resp.headers), resp.sent)

    with worker(apps.plain_echo, threads=threads, hooks={"pre_request": before, "post_request": after}) as w:
        assert w.get("/a%20b?c=d", **{"X-Test": "yes"}).body == b"GET /a b?c=d "
        wait_until(lambda: len(diary.lines()) == 4)
        assert diary.lines() == [
            "before GET /a%20b?c=d /a%20b c=d 1 1 127.0.0.1",
            "yes True",
            "after /a b 200 OK 200",
            "{'Content-Type': 'text/plain', 'Content-Length': '13'} 13",
        ]


@pytest.mark.process
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_pre_request_that_raises(diary: Diary, error: type[BaseException]) -> None:
    def before(*_: object) -> None:
        raise error("no")

    def after(_w: Any, _req: Any, _environ: Any, resp: Any) -> None:
        diary.note(resp.status)

    with worker(apps.plain_echo, hooks={"pre_request": before, "post_request": after}) as w:
        assert w.get().status == 500
        assert w.get().status == 500
        assert "Error handling request GET /" in w.log() and error.__name__ in w.log()
        assert diary.lines()[0] == "500 Internal Server Error"


@pytest.mark.process
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_post_request_that_raises(error: type[BaseException]) -> None:
    def after(*_: object) -> None:
        raise error("no")

    with worker(apps.plain_echo, hooks={"post_request": after}) as w, w.connect() as client:
        for _ in range(2):
            client.get("/kept")
            assert client.answer().status == 200
        assert "Exception in the hook post_request" in w.log() and error.__name__ in w.log()


@pytest.mark.process
def test_post_request_of_an_application_that_raises(diary: Diary) -> None:
    def after(_w: Any, _req: Any, _environ: Any, resp: Any) -> None:
        diary.note(resp.status_code, resp.headers_sent)

    with worker(fail, hooks={"post_request": after}) as w:
        assert w.get().status == 500
        wait_until(lambda: bool(diary.lines()))
        assert diary.lines() == ["500 True"]


@pytest.mark.process
@pytest.mark.parametrize("name", ["pre_request", "post_request"])
def test_a_hook_of_a_request_that_hangs_is_cut_by_the_timeout(name: str) -> None:
    with worker(apps.plain_echo, hooks={name: hang}, timeout=0.3, graceful_timeout=1) as w:
        with w.connect() as client:
            client.get("/")
            assert client.answer().status == (504 if name == "pre_request" else 200)
        assert "in hang" in w.message(m.RequestTimeout).stack
        assert "longer than" in w.message(m.Retiring).reason


@pytest.mark.process
def test_the_application_is_not_called_when_pre_request_came_back_too_late(diary: Diary) -> None:
    late = apps.Gate()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        diary.note("called")
        return apps.plain_echo(environ, start_response)

    with worker(app, threads=2, hooks={"pre_request": lambda *_: late.pass_through()}, timeout=0.2) as w:
        assert w.get().status == 504
        late.open()
        assert w.wait_exit() == 0
        assert diary.lines() == []


@pytest.mark.process
def test_a_fork_of_the_application_runs_no_hooks(diary: Diary) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return apps.plain_echo(environ, start_response)

    hooks = {name: diary.hook(name) for name in ("post_request", "worker_exit", "worker_int")}
    with worker(app, hooks=hooks) as w:
        assert w.get().status == 200
        wait_until(lambda: bool(diary.lines()))
        assert diary.lines() == ["post_request"]


@pytest.mark.process
def test_a_line_in_the_access_log_by_a_hook() -> None:
    def after(w: Any, req: Any, environ: Any, resp: Any) -> None:
        w.log.access(resp, req, environ, (1, 500_000))
        w.log.info("served %s", req.path)

    with worker(
        apps.plain_echo, access_log=True, access_log_format="%(m)s %(s)s %(M)s", hooks={"post_request": after}
    ) as w:
        w.get("/x")
        wait_until(lambda: len(w.access_log().splitlines()) == 2)
        assert w.access_log().splitlines()[0] == "GET 200 1500"
        assert "[INFO] served /x" in w.log()


# -- without processes


def request(line: bytes, **fields: str) -> tuple[HookRequest, dict[str, Any]]:
    environ = {"REMOTE_ADDR": "", "REMOTE_PORT": "", "wsgi.url_scheme": "http", **fields}
    return HookRequest(Request(parse_request_line(line), fields, 0), environ), environ


@pytest.mark.parametrize(
    ("line", "path", "query"),
    [
        (b"GET / HTTP/1.1", "/", ""),
        (b"GET /a/b?c=d HTTP/1.1", "/a/b", "c=d"),
        (b"GET http://host:80/a?b HTTP/1.1", "/a", "b"),
        (b"GET http://host HTTP/1.1", "/", ""),
        (b"OPTIONS * HTTP/1.1", "*", ""),
        (b"GET /%2F HTTP/1.0", "/%2F", ""),
    ],
)
def test_path_and_query(line: bytes, path: str, query: str) -> None:
    req, _ = request(line)
    assert (req.path, req.query, req.remote_addr) == (path, query, "")
    assert req.version == (1, int(line[-1:]))


def test_headers_that_a_hook_changes_reach_the_application() -> None:
    req, environ = request(b"GET / HTTP/1.1", HTTP_HOST="a", HTTP_COOKIE="c", CONTENT_TYPE="t", HTTP_X="1")
    environ["HTTP_ADDED_BY_SERVER"] = "s"
    assert sorted(req.headers) == [("CONTENT-TYPE", "t"), ("COOKIE", "c"), ("HOST", "a"), ("X", "1")]
    req.headers.append(("X-Request-Id", "7"))
    req.headers.append(("X", "2"))
    req.headers.remove(("COOKIE", "c"))
    req.headers[0] = ("HOST", "b")
    req.apply(environ)
    headers = {key: value for key, value in environ.items() if key.startswith(("HTTP_", "CONTENT_"))}
    assert headers == {
        "HTTP_HOST": "b",
        "CONTENT_TYPE": "t",
        "HTTP_X": "1,2",
        "HTTP_X_REQUEST_ID": "7",
        "HTTP_ADDED_BY_SERVER": "s",
    }


def test_cfg() -> None:
    settings = Settings(
        wsgi_app="site:app", workers="auto", bind=("unix:/run/x", "0:80", "[::1]:81"), raw_env=("A=b=c",)
    )
    cfg = make_config(settings, {"root_path": "/shop", "mine": 3}, {"on_exit": fail})
    assert cfg.workers >= 1 and cfg.timeout == 30.0 and cfg.preload_app is False
    assert cfg.address == ["/run/x", ("0.0.0.0", 80), ("::1", 81)]
    assert cfg.env == {"A": "b=c"}
    assert cfg.on_exit is fail and cfg.on_starting(None) is None
    assert cfg.control_socket_disable is False, "under gunicorn's name"
    assert cfg.root_path == "/shop", "what has no effect here can be read all the same"
    assert cfg.certfile is None
    with pytest.raises(AttributeError, match="no setting 'mine'"):
        _ = cfg.mine


def test_run_hook() -> None:
    run_hook("on_exit", lambda server: None, SimpleNamespace(), limit_s=5)
    with pytest.raises(HookError, match="hook on_exit failed: ValueError: not today") as raised:
        run_hook("on_exit", fail, None, limit_s=5)
    assert "in fail" in raised.value.traceback
    with pytest.raises(HookError, match="hook on_exit failed: SystemExit: 3"):
        run_hook("on_exit", lambda _: sys.exit(3), None, limit_s=5)


def test_a_hook_that_hangs_is_ended_with_the_traceback_of_where_it_hung() -> None:
    def stubborn(*_: object) -> None:
        with contextlib.suppress(Exception):  # as hooks do
            hang()

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(HookError, match=r"it takes longer than 0\.05 s") as raised:
        run_hook("on_exit", stubborn, None, limit_s=0.05)
    assert "in hang" in raised.value.traceback
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_deadline_that_is_kept() -> None:
    with deadline(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
