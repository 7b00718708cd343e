"""The stacks that a worker shows: whose, how much of them, and what it does not do for them."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, Self

import msgspec
import pytest

from tests.worker import apps
from tests.worker.harness import WorkerHarness, wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board
from wsgitop.worker import stacks
from wsgitop.worker.seat import Seat
from wsgitop.worker.stacks import Stacks, is_application


class Parked:
    """A thread that waits within ``source``, which calls ``wait``."""

    def __init__(self, source: str, file: str = "<text>", name: str = "parked") -> None:
        self._end = threading.Event()
        self._there = threading.Event()
        code = compile(source, file, "exec")
        self.thread = threading.Thread(target=self._run, args=(code,), name=name, daemon=True)

    def _run(self, code: CodeType) -> None:
        exec(code, {"wait": self._wait})

    def _wait(self) -> None:
        self._there.set()
        assert self._end.wait(20)

    def __enter__(self) -> Self:
        self.thread.start()
        assert self._there.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.thread.join(10)


@pytest.fixture
def seat() -> Iterator[Seat]:
    board = Board.create(1)
    it = Seat(0, board.thread(0, 0))
    yield it
    it.__init__(0, memoryview(bytearray(8 * at.THREAD_WORDS)).cast("Q"))  # type: ignore[misc]
    board.close()


def own(found: m.Stacks, name: str = "parked") -> m.ThreadCalls:
    (thread,) = (thread for thread in found.threads if thread.name == name)
    return thread


def take(seat: Seat, thread: int | None = None) -> m.Stacks:
    found = Stacks([seat]).take(7, thread)
    assert found.inquiry == 7
    assert len(msgspec.msgpack.encode(found)) <= m.MESSAGE_LIMIT_BYTES
    return found


def test_frames_are_the_application_s_or_not(tmp_path: Path, seat: Seat) -> None:
    file = tmp_path / "shop.py"
    source = "def pay(total):\n    secret = 'hunter2'\n    wait()  # here\npay(1)\n"
    file.write_text(source)
    with Parked(source, str(file)):
        thread = own(take(seat))
    assert thread.thread is None and thread.serves is None
    calls = [call for call in thread.calls if call.file == str(file)]
    assert calls == [
        m.Call(str(file), 4, "<module>", "pay(1)", True),
        m.Call(str(file), 3, "pay", "wait()  # here", True),
    ]
    assert thread.calls[0].file.endswith("threading.py") and not thread.calls[0].application
    assert "hunter2" not in repr(thread)


@pytest.mark.parametrize(
    ("file", "application"),
    [
        ("/srv/shop/views.py", True),
        ("shop.py", True),
        (os.__file__, False),
        (threading.__file__, False),
        (str(Path(os.__file__).parent / "json" / "decoder.py"), False),
        ("/srv/venv/lib/python3.13/site-packages/django/core/handlers/wsgi.py", False),
        ("/usr/lib/python3/dist-packages/flask/app.py", False),
        (stacks.__file__, False),
        (str(Path(stacks.__file__).parent.parent / "demo" / "site.py"), True),
        ("<string>", False),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_whose_a_file_is(file: str, application: bool) -> None:
    assert is_application(file) is application


def test_no_code_of_the_application_is_run_for_it(tmp_path: Path, seat: Seat) -> None:
    asked: list[str] = []

    class Loader:
        def get_source(self, _name: str) -> str:
            asked.append("source")
            return "text"

    class Named(threading.Thread):
        @property
        def name(self) -> str:  # type: ignore[override]
            asked.append("name")
            return "other"

        @name.setter
        def name(self, value: str) -> None:
            self._name = value

    end, there = threading.Event(), threading.Event()
    names: dict[str, Any] = {
        "__loader__": Loader(), "__name__": "hidden", "there": there, "end": end
    }  # fmt: skip
    code = compile("there.set()\nend.wait(20)\n", str(tmp_path / "not-there.py"), "exec")
    thread = Named(target=exec, args=(code, names), daemon=True)
    thread._name = "real"  # type: ignore[attr-defined]
    thread.start()
    assert there.wait(10)
    asked.clear()
    try:
        found = own(take(seat), "real")
    finally:
        end.set()
        thread.join(10)
    assert any(call.file.endswith("not-there.py") and call.code == "" for call in found.calls)
    assert not asked


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "long", "null", "none"])
def test_only_regular_files_of_a_sensible_size_are_read(kind: str, tmp_path: Path, seat: Seat) -> None:
    path = str(tmp_path / "source.py")
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path = "/dev/zero"
        case "directory":
            path = str(tmp_path)
        case "long":
            Path(path).write_bytes(b"wait()\n" + b"#" * stacks.FILE_BYTES)
        case "null":
            path += "\0"
    began_s = time.monotonic()
    with Parked("wait()", path.replace("\0", "")) as parked:
        if kind == "null":
            assert stacks._read_file(path, 100) == b""
        thread = own(take(seat))
        assert [call.code for call in thread.calls if call.file == path.replace("\0", "")] == [""]
        assert parked.thread.is_alive()
    assert time.monotonic() - began_s < 5


def test_a_disk_that_does_not_answer_costs_the_text_and_no_more(
    seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    asked: list[str] = []

    def hang(path: str, _limit_bytes: int) -> bytes:
        asked.append(path)
        assert released.wait(20)
        return b""

    monkeypatch.setattr(stacks, "_read_file", hang)
    monkeypatch.setattr(stacks, "READ_S", 0.02)
    looker = Stacks([seat])
    with Parked("wait()"):
        for _ in range(2):
            assert all(call.code == "" for call in own(looker.take(1, None)).calls)
        assert len(asked) == 1, "it does not wait for the same disk again"
        reader = looker._reader
        assert reader is not None
        released.set()
        reader.join(10)
        monkeypatch.undo()
        assert own(looker.take(1, None)).calls[0].code


def test_text_cannot_steer_a_terminal_and_is_cut(tmp_path: Path, seat: Seat) -> None:
    file = tmp_path / f"{'d' * 200}" / f"{'e' * 200}.py"
    file.parent.mkdir()
    source = "wait()  # \x1b[2J \u202e" + "x" * 1000
    file.write_text(source)
    with Parked(source, str(file), name="bad\x1b]0;\udcff" + "n" * 500):
        (thread,) = (thread for thread in take(seat).threads if thread.name.startswith("bad"))
    call = next(call for call in thread.calls if "e" * 200 in call.file)
    assert call.file.startswith("…") and call.file.endswith("e.py") and len(call.file) == 300
    assert call.code.startswith("wait()  # \\x1b[2J \\u202exxx") and len(call.code) == 200
    assert thread.name.startswith("bad\\x1b]0;\\udcffnn") and len(thread.name) == 150


def test_a_deep_stack_is_cut_in_the_middle(seat: Seat) -> None:
    source = "def down(n):\n    return down(n - 1) if n else wait()\ndown(500)\n"
    with Parked(source):
        found = take(seat)
    thread = own(found)
    assert len(thread.calls) == stacks.CALLS_SHOWN[0]
    assert thread.calls[0].function == "Thread._bootstrap"
    assert thread.calls[-1].function.endswith("wait")
    assert found.dropped > 500 - stacks.CALLS_SHOWN[0]


def test_many_deep_stacks_fit_into_a_message(seat: Seat) -> None:
    names = [f"{'level' * 25}{number}" for number in range(150)]
    # Different names, so that nothing is saved by telling the same call once.
    source = "".join(f"def {name}():\n    return {inner}()\n" for name, inner in itertools.pairwise(names))
    source += f"def {names[-1]}():\n    wait()\n{names[0]}()\n"
    parked = [Parked(source, f"<{number}>", name=f"parked {number}") for number in range(20)]
    for each in parked:
        each.__enter__()
    try:
        found = take(seat)
    finally:
        for each in parked:
            each.__exit__()
    shown = [thread for thread in found.threads if thread.name.startswith("parked ")]
    assert len(shown) == 20
    assert all(thread.calls[0].function == "Thread._bootstrap" for thread in shown)
    assert len({len(thread.calls) for thread in shown}) == 1
    total = sum(len(thread.calls) for thread in shown)
    assert found.dropped >= 20 * 150 - total > 0


def test_stacks_that_never_fit_are_left_out(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "MESSAGE_LIMIT_BYTES", 100)
    with Parked("wait()"):
        found = Stacks([seat]).take(1, None)
    assert found.threads == () or len(msgspec.msgpack.encode(found)) <= 100
    assert found.dropped > 0


# -- a real worker -------------------------------------------------------------------------------------------


def seated(w: WorkerHarness) -> None:
    """Wait until all threads have begun."""
    wait_until(lambda: all(w.thread_word(n, at.NATIVE_ID) for n in range(w.settings.threads)))


def ask(w: WorkerHarness, thread: int | None = None, inquiry: int = 3) -> m.Stacks:
    w.channel.send(m.TakeStacks(inquiry, thread))
    answer = w.message(m.Stacks)
    assert isinstance(answer, m.Stacks) and answer.inquiry == inquiry
    return answer


@pytest.mark.process
@pytest.mark.every_python
def test_a_worker_shows_its_threads_while_all_of_them_are_busy() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), threads=2) as w:
        clients = [w.connect() for _ in range(2)]
        for client in clients:
            client.get("/slow?secret")
            entered.pass_through()
        # Whoever has opened the one gate may not have got to the other.
        wait_until(lambda: all(one.calls[-1].function == "Gate.pass_through" for one in ask(w).threads))
        found = ask(w)
        assert [thread.thread for thread in found.threads] == [0, 1]
        assert [thread.name for thread in found.threads] == ["MainThread", "wsgitop-1"]
        for index, thread in enumerate(found.threads):
            # What the server does until it calls the application is left out.
            assert [call.function for call in thread.calls] == ["gated.<locals>.app", "Gate.pass_through"]
            assert thread.calls[-1].code == "os.eventfd_read(self.fd)"
            assert all(call.application for call in thread.calls)
            serves = thread.serves
            assert serves is not None
            assert serves.request == w.thread_word(index, at.STARTED_NS)
            assert (serves.method, serves.path, serves.client) == ("GET", "/slow", "127.0.0.1")
            assert 0 < serves.elapsed_ns < 10_000_000_000
        one = ask(w, 1)
        assert [thread.thread for thread in one.threads] == [1]
        assert ask(w, 2).threads == ()
        leave.open(2)
        for client in clients:
            assert client.answer().body == b"/slow"
            client.sock.close()
        # An answer is out a moment before its thread is done with it.
        wait_until(lambda: [thread.serves for thread in ask(w).threads] == [None, None])


@pytest.mark.process
def test_the_application_s_own_threads_are_shown_unless_one_is_asked_for() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        threading.Thread(target=threading.Event().wait, name="pool-7", daemon=True).start()
        return apps.text(start_response, b"")

    with worker(app) as w:
        w.get()
        assert [thread.name for thread in ask(w).threads] == ["MainThread", "pool-7"]
        assert [thread.name for thread in ask(w, 0).threads] == ["MainThread"]


@pytest.mark.process
def test_a_look_does_not_disturb_what_is_served() -> None:
    """While all threads serve, somebody looks as often as the worker answers."""
    end = threading.Event()
    wrong: list[object] = []

    def visit(w: WorkerHarness) -> None:
        with w.connect() as client:
            while not end.is_set():
                client.get("/x")
                answer = client.answer()
                if answer.status != 200:
                    wrong.append(answer)

    with worker(apps.plain_echo, threads=3) as w:
        seated(w)
        visitors = [threading.Thread(target=visit, args=(w,)) for _ in range(2)]
        for visitor in visitors:
            visitor.start()
        try:
            for inquiry in range(100):
                assert len(ask(w, None, inquiry).threads) == 3
        finally:
            end.set()
            for visitor in visitors:
                visitor.join(10)
        assert not wrong
        assert "Internal error" not in w.log()


@pytest.mark.process
def test_the_log_level_changes_while_it_serves() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise RuntimeError(environ["PATH_INFO"])

    with worker(app) as w:
        w.get("/first")
        w.channel.send(m.SetLogLevel("critical"))
        ask(w)  # so it has been heard
        w.get("/second")
        w.channel.send(m.SetLogLevel("debug"))
        ask(w)
        w.get("/third")
        assert "RuntimeError: /first" in w.log() and "RuntimeError: /third" in w.log()
        assert "RuntimeError: /second" not in w.log()
