"""What scripts use: wait, log, top, settings, history, log level, completion."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.control.fake_backend import FakeBackend, ServerThread
from tests.support.waiting import eventually
from wsgitop.cli.main import main
from wsgitop.cli.scripting import unmet
from wsgitop.control.messages import LogLevelArguments
from wsgitop.snapshot import ReloadSnapshot, Snapshot

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_runtime_dir(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    monkeypatch.setenv("TZ", "UTC")


def server(workers: int = 2, wanted: int | None = None, states: str = "", **master: Any) -> Snapshot:
    """Generation 7 with so many workers; ``states`` are those of the first ones."""
    snapshot = FakeBackend(workers=workers).snapshot()
    changed = [
        msgspec.structs.replace(worker, state=state)
        for worker, state in zip(snapshot.workers, states.split(), strict=False)
    ]
    return msgspec.structs.replace(
        snapshot,
        workers=(*changed, *snapshot.workers[len(changed) :]),
        master=msgspec.structs.replace(
            snapshot.master, workers_wanted=workers if wanted is None else wanted, **master
        ),
    )


RELOAD = ReloadSnapshot(7, 8, "replacing", 1, 2, 1, 0.5)


@pytest.mark.parametrize(
    ("snapshot", "conditions", "missing"),
    [
        (server(), {"ready": True}, ""),
        (server(), {"ready": True, "generation": 7, "workers": 2}, ""),
        (server(), {"generation": 6}, ""),
        (server(), {"generation": 8}, "generation 7 serves"),
        (server(state_reason="broken\x1b"), {"generation": 8}, "generation 7 serves (broken\\x1b)"),
        (server(), {"workers": 3}, "2 workers serve"),
        (server(wanted=3), {"ready": True}, "serving, 2 of 3 workers serve"),
        (server(wanted=3), {"generation": 7}, ""),
        (server(states="booting"), {"ready": True}, "serving, 1 of 2 workers serve"),
        (server(states="stuck"), {"ready": True}, "serving, 1 of 2 workers serve"),
        (server(wanted=1, states="quarantined"), {"ready": True}, ""),
        (server(state="degraded"), {"ready": True}, "degraded, 2 of 2 workers serve"),
        (server(generation=8), {"ready": True}, "2 workers of another generation than 8 are left"),
        (server(generation=8), {"generation": 8}, "2 workers of another generation than 8 are left"),
        (server(generation=8), {"workers": 2}, ""),
        (server(0), {"generation": 7}, "no worker serves"),
        (server(0), {"workers": 0}, ""),
        (server(reload=RELOAD), {"ready": True}, "a reload is under way: to generation 8, replacing"),
        (server(reload=RELOAD), {"workers": 2}, ""),
    ],
)
def test_conditions(snapshot: Snapshot, conditions: dict[str, Any], missing: str) -> None:
    found = unmet(snapshot, **{"ready": False, "generation": None, "workers": None} | conditions)
    assert (found == missing) if not missing else found.startswith(missing)


def test_wait_that_is_over(capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", "wait"]) == 0
        assert capsys.readouterr().out == "generation 7 serves with 2 workers\n"
        assert main(["ctl", "wait", "--generation", "8", "--timeout", "0.3"]) == 1
    assert "not as wanted after 0.3 s: generation 7 serves" in capsys.readouterr().err


def test_wait_for_a_server_that_is_not_there_yet(capsys: Captured) -> None:
    assert main(["ctl", "wait", "--timeout", "0.3"]) == 1
    assert "no server of yours is running" in capsys.readouterr().err
    statuses: list[int] = []
    waiting = threading.Thread(
        target=lambda: statuses.append(main(["ctl", "wait", "--workers", "3", "--timeout", "20"]))
    )
    waiting.start()
    backend = FakeBackend(workers=2)
    with ServerThread(backend=backend):
        eventually(lambda: backend.sequence > 2)
        backend.wanted = 3
        waiting.join(15)
    assert statuses == [0]


def test_wait_outlives_a_restart(capsys: Captured) -> None:
    statuses: list[int] = []
    waiting = threading.Thread(
        target=lambda: statuses.append(main(["ctl", "wait", "--workers", "3", "--timeout", "20"]))
    )
    first = FakeBackend(workers=2)
    with ServerThread(backend=first):
        waiting.start()
        eventually(lambda: first.sequence > 2)
    with ServerThread(backend=FakeBackend(workers=3)):
        waiting.join(15)
    assert statuses == [0]


def test_wait_does_not_log_in_over_and_over(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    tries = runtime_dir / "tries"
    script = f"echo x >> {tries}; exit 1"
    target = f"exec:sh -c {shlex.quote(script)}"
    assert main(["ctl", "-s", target, "wait", "--timeout", "1.5"]) == 1
    assert tries.read_text() == "x\n"


@pytest.fixture
def lines() -> Iterator[FakeBackend]:
    class Logging(FakeBackend):
        def past_lines(self, log: str, count: int) -> list[str]:
            if log == "access":
                return ["GET /\x1b[2J"][:count]
            return [
                "[2026-01-01 00:00:00 +0000] [7] [INFO] fine",
                "[2026-01-01 00:00:00 +0000] [7] [ERROR] broken",
                "Traceback [INFO] of it",
                "[2026-01-01 00:00:00 +0000] [7] [DEBUG] detail",
            ][-count:]

    backend = Logging()
    with ServerThread(backend=backend):
        yield backend


def test_log(lines: FakeBackend, capsys: Captured) -> None:
    assert main(["ctl", "log", "-n", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["ctl", "log", "--level", "error"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line[-6:] for line in out] == ["broken", " of it"]
    assert main(["ctl", "log", "--access"]) == 0
    assert capsys.readouterr().out == "GET /\\x1b[2J\n"


@pytest.mark.process
def test_log_that_is_followed(lines: FakeBackend, runtime_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "wsgitop", "ctl", "log", "-f", "-n", "1"],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"XDG_RUNTIME_DIR": str(runtime_dir)},
    ) as following:  # fmt: skip
        try:
            assert following.stdout is not None
            assert "detail" in following.stdout.readline()
            assert lines.follows == (True, False)
        finally:
            following.terminate()
            following.wait(10)
    eventually(lambda: lines.follows == (False, False))


def test_top(capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", "top", "--interval", "0.25", "--count", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("master      4000, serving") == 2
    assert "\x1b" not in out, "no terminal, no control characters"


def test_settings(capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", "settings"]) == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
            ["SETTING", "VALUE", "SOURCE"], ["workers", "2", "command", "line"], ["threads", "1", "default"],
        ]  # fmt: skip
        assert main(["ctl", "settings", "--changed", "--json"]) == 0
        assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["workers"]
        assert main(["ctl", "settings", "threads"]) == 0
        assert "default  1\n" in capsys.readouterr().out
        assert main(["ctl", "settings", "no-such"]) == 2
    assert "no setting is called 'no-such'" in capsys.readouterr().err


def test_history(capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", "history", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_orders_about_the_log(capsys: Captured) -> None:
    backend = FakeBackend()
    with ServerThread(backend=backend):
        assert main(["ctl", "loglevel", "debug"]) == 0
        assert main(["ctl", "reopen"]) == 0
        assert main(["ctl", "loglevel", "loud"]) == 2
    assert [told[:2] for told in backend.told] == [("loglevel", LogLevelArguments("debug")), ("reopen", None)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, capsys: Captured) -> None:
    assert main(["completion", shell]) == 0
    assert "_WSGITOP_COMPLETE" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("wsgitop at", {"attach"}),
        ("wsgitop ctl relo", {"reload"}),
        ("wsgitop ctl loglevel e", {"error"}),
        ("wsgitop serve --preloa", {"--preload"}),
    ],
)
def test_completion(words: str, expected: set[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_WSGITOP_COMPLETE": "bash_complete"}
    code = "from wsgitop.cli.main import main; import sys; sys.argv[0] = 'wsgitop'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == expected, done.stderr
