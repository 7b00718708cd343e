"""``wsgitop ctl`` against a control server: output, exit status, and which server is taken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.control.fake_backend import FakeBackend, ServerThread, failed_reload
from wsgitop.cli import tables
from wsgitop.cli.main import main
from wsgitop.control.messages import (
    CancelArguments,
    Frame,
    ScaleArguments,
    SignalArguments,
    StackArguments,
    StackResult,
    StopArguments,
    ThreadStack,
)
from wsgitop.errors import Refused
from wsgitop.snapshot import InFlight

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_runtime_dir(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    monkeypatch.setenv("TZ", "UTC")


def test_status_as_text(capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", "status"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "master      4000, serving, generation 7, up 91s"
    heads, first, second = out[-3:]
    assert heads.split() == [
        "SLOT", "PID", "GEN", "STATE", "AGE", "REQUESTS", "ERRORS", "RPS", "P50", "P95", "P99", "CPU%", "RSS",
        "BUSY", "IN", "FLIGHT",
    ]  # fmt: skip
    assert first.split()[:6] == ["1", "4001", "7", "busy", "90s", "10"]
    assert second.endswith("GET /cart 0.25s")
    # Columns are aligned: every figure ends where its head ends.
    for head, cell in (("PID", "4001"), ("REQUESTS", "10"), ("RSS", "50M")):
        assert first[: heads.index(head) + len(head)].endswith(cell)


def test_status_as_json_has_what_scripts_rely_on(capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", "status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert {"pid", "generation", "state", "uptime_s", "bind", "control"} <= set(status["master"])
    assert {
        "slot", "pid", "generation", "state", "started_at", "requests", "errors", "rps", "p50_ms", "p95_ms",
        "p99_ms", "cpu_percent", "rss_bytes", "in_flight",
    } <= set(status["workers"][0])  # fmt: skip
    assert {"method", "path", "elapsed_s"} <= set(status["workers"][0]["in_flight"][0])


def test_json_cannot_steer_a_terminal(capsys: Captured) -> None:
    backend = FakeBackend()
    text = "red \x9b31m \u202e evil \x7f \U000e0001 – é"
    backend.event(text)
    with ServerThread(backend=backend):
        assert main(["ctl", "events", "--json"]) == 0
    out = capsys.readouterr().out
    assert all(character == "\n" or character.isprintable() for character in out)
    assert json.loads(out)[0]["text"] == text and "– é" in out


def test_json_may_stand_before_the_subcommand(capsys: Captured) -> None:
    with ServerThread() as server:
        assert main(["ctl", "--json", "-s", server.path, "workers"]) == 0
    assert [worker["pid"] for worker in json.loads(capsys.readouterr().out)] == [4001, 4002]


def test_metrics(capsys: Captured) -> None:
    with ServerThread() as server:
        assert main(["ctl", "metrics"]) == 0
        text = capsys.readouterr().out
        assert text == server.backend.metrics()
        assert main(["ctl", "metrics", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"text": text}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["reload"], ("reload", None)),
        (["scale", "4"], ("scale", ScaleArguments(workers=4))),
        (["scale", "+2"], ("scale", ScaleArguments(change=2))),
        (["scale", "-1"], ("scale", ScaleArguments(change=-1))),
        (["scale", "-1", "--json"], ("scale", ScaleArguments(change=-1))),
        (["--json", "scale", "-1"], ("scale", ScaleArguments(change=-1))),
        (["scale", "4", "--key", "k"], ("scale", ScaleArguments(workers=4, key="k"))),
        (["signal", "HUP"], ("signal", SignalArguments("HUP"))),
        (["signal", "sighup"], ("signal", SignalArguments("HUP"))),
        (["signal", "TERM", "--worker", "4002"], ("signal", SignalArguments("TERM", 4002, 1_700_000_000.25))),
        (["cancel", "4001", "0"], ("cancel", CancelArguments(4001, 1_700_000_000.25, 0, 123_456_789))),
        (
            ["cancel", "4001", "1", "--request", "77"],
            ("cancel", CancelArguments(4001, 1_700_000_000.25, 1, 77)),
        ),
        (["stop"], ("stop", StopArguments())),
        (["stop", "--quick"], ("stop", StopArguments(quick=True))),
    ],
)
def test_orders(arguments: list[str], told: tuple[str, object], capsys: Captured) -> None:
    backend = FakeBackend()
    with ServerThread(backend=backend):
        assert main(["ctl", *arguments]) == 0
    assert [(name, given) for name, given, _ in backend.told] == [told]
    out = capsys.readouterr().out
    if "--json" in arguments:
        assert json.loads(out)["text"] == f"{told[0]} is done"
    else:
        assert out == f"{told[0]} is done (0.5 s)\n"


def test_a_failed_reload_says_why_with_the_traceback(capsys: Captured) -> None:
    backend = FakeBackend()
    backend.fault = failed_reload()
    with ServerThread(backend=backend):
        assert main(["ctl", "reload"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "wsgitop: reload to generation 8 failed: NameError: name 'x' is not defined",
        "  Generation 7 serves on; mend the code and reload again.",
        "Traceback (most recent call last):",
        '  File "shop.py", line 1',
        "NameError: x\\x1b[2J",
    ]


def test_a_refusal_has_a_status_of_its_own(capsys: Captured) -> None:
    backend = FakeBackend()
    backend.fault = Refused("USR2 is not a signal that the master acts on")
    with ServerThread(backend=backend):
        assert main(["ctl", "signal", "USR2"]) == 4
    assert capsys.readouterr().err == "wsgitop: USR2 is not a signal that the master acts on\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scale", "many"], "'many' is not a number of workers"),
        (["scale", "1.5"], "'1.5' is not a number of workers"),
        (["scale", "--workers=3"], "is not a number of workers"),
        (["scale"], "Missing argument"),
        (["signal", "HUP; rm"], "signal is a name"),
        (["signal", "TERM", "--worker", "1"], "no worker has pid 1"),
        (["watch", "--interval", "0"], "0.25"),
        (["reboot"], "No such command 'reboot'"),
        (["status", "--jsn"], "no such option: --jsn (did you mean --json?)"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("wsgitop: ")
    assert words in error
    assert "Traceback" not in error


def test_deaths(capsys: Captured) -> None:
    backend = FakeBackend()
    with ServerThread(backend=backend):
        assert main(["ctl", "deaths"]) == 0
        assert capsys.readouterr().out == "no worker and no zygote has ended yet\n"
        serving = tuple(InFlight(n, "GET", f"/cart\x1b{n}", "", 0.25) for n in range(3))
        backend.death(
            51, serving=serving, uptime_s=90.0, requests=12, peak_rss_bytes=50 << 20, actor="alice (pid 4)",
            stack="Stack\n  \x1b[2J", lines=("one", "two\x07"), next_step="Mend it.",
            memory=((0.0, 9 << 20), (60.0, 50 << 20)),
        )  # fmt: skip
        backend.death(52, process="zygote", slot=None, worker=None, cause="boot failed", signal="", status=1)
        assert main(["ctl", "deaths"]) == 0
        heads, worker, zygote = capsys.readouterr().out.splitlines()
        assert heads.split()[:6] == ["TIME", "WHO", "PID", "GEN", "CAUSE", "STATUS"]
        assert worker.startswith("2023-11-14 22:13:20  worker 1   51    7  crashed      SIGSEGV     90s")
        assert worker.endswith("GET /cart\\x1b0 0.25s and 2 more  alice (pid 4)")
        assert zygote.split()[2:7] == ["zygote", "52", "7", "boot", "failed"] and "exit 1" in zygote
        assert main(["ctl", "deaths", "1", "--json"]) == 0
        assert [death["pid"] for death in json.loads(capsys.readouterr().out)] == [52]
        assert main(["ctl", "deaths", "--pid", "51"]) == 0
        out = capsys.readouterr().out
        assert "next step   Mend it." in out and "over time: 0s 9.0M  60s 50M" in out
        assert out.endswith("Stack:\n  Stack\n    \\x1b[2J\n\nLast lines:\n  one\n  two\\x07\n")
        assert main(["ctl", "deaths", "--pid", "9"]) == 2
        assert "no process 9" in capsys.readouterr().err


def test_events(capsys: Captured) -> None:
    backend = FakeBackend()
    for text in ("one", "two\x1b[2J"):
        backend.event(text)
    with ServerThread(backend=backend):
        assert main(["ctl", "events"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert lines[1].endswith("two\\x1b[2J")
        assert main(["ctl", "events", "--after", "1", "--json"]) == 0
        assert [event["text"] for event in json.loads(capsys.readouterr().out)] == ["two\x1b[2J"]


def test_watch(capsys: Captured) -> None:
    with ServerThread():
        assert main(["ctl", "watch", "--count", "2", "--interval", "0.25"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert "req/s" in lines[0]
        assert main(["ctl", "watch", "--count", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["snapshot"]["master"]["pid"] == 4000


def test_hostile_text_does_not_reach_the_terminal(capsys: Captured) -> None:
    with ServerThread(backend=FakeBackend(path="/\x1b]0;x\x07\u202e\n[red]")):
        assert main(["ctl", "status"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "/\\x1b]0;x\\x07\\u202e\\x0a[red]" in out


# -- which server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["shop", "shop.wsgi", "shop.wsgi:application", "its pid"])
def test_targets(target: str, capsys: Captured) -> None:
    target = str(os.getpid()) if target == "its pid" else target
    with ServerThread():
        assert main(["ctl", "-s", target, "status"]) == 0
        assert main(["ctl", "status", "-s", target]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["ctl", "status"], 3, "no server of yours is running"),
        (["ctl", "-s", "shop", "status"], 3, "no running server is called 'shop'"),
        (["ctl", "-s", "/nowhere/c.sock", "status"], 3, "there is no control socket /nowhere/c.sock"),
        (["ctl", "-s", "localhost:9000", "status"], 2, "plain TCP"),
        (["ctl", "-s", "ssh://host:x", "status"], 2, "no number from 1 to 65535"),
    ],
)
def test_no_server(arguments: list[str], status: int, words: str, capsys: Captured) -> None:
    assert main(arguments) == status
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 2


def test_several_servers_are_listed(capsys: Captured) -> None:
    with ServerThread(name="one"), ServerThread(name="two"):
        assert main(["ctl", "status"]) == 3
        error = capsys.readouterr().err
        assert "2 servers are running" in error
        assert "one at 127.0.0.1:8000" in error
        assert main(["ctl", "-s", "one", "status"]) == 0


def test_requests_as_text_and_as_json(capsys: Captured) -> None:
    backend = FakeBackend(path="/cart\x1b[2J")
    with ServerThread(backend=backend):
        assert main(["ctl", "requests"]) == 0
        out = capsys.readouterr().out
        assert out.splitlines() == [
            "in flight: 2",
            "SINCE  SLOT   PID  GEN  THREAD  CLIENT       REQUEST",
            "0.25s     1  4001    7       0  127.0.0.1:4  GET /cart\\x1b[2J",
            "0.25s     2  4002    7       0  127.0.0.1:4  GET /cart\\x1b[2J",
            "",
            "slowest of the last 15 minutes",
            " TOOK     ENDED  SLOT   PID  GEN  STATUS   CLIENT     REQUEST",
            "12.5s  22:13:20     2  4002    7  503 cut  127.0.0.1  POST /pay",
        ]
        assert main(["ctl", "requests", "--limit", "1"]) == 0
        assert capsys.readouterr().out.startswith("in flight: 2 (1 of them not shown)\n")
        assert main(["ctl", "requests", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["in_flight"][0]["request"]["request"] == 123_456_789
        assert found["slowest"][0]["cut"] is True and found["total"] == 2


def test_a_stack_as_text(capsys: Captured) -> None:
    backend = FakeBackend()
    with ServerThread(backend=backend):
        assert main(["ctl", "stack", "4001", "--thread", "0"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "worker 1 (pid 4001), taken by its watchdog",
            "",
            "thread 0 (MainThread): GET /cart, 0.25s",
            "> /srv/shop.py:7 in pay",
            "      return total(cart)",
            "  /usr/lib/python3/socket.py:99 in recv",
            "      return self._sock.recv(n)",
            "",
            "3 calls in the middle were left out",
        ]
        backend.hangs = True
        assert main(["ctl", "stack", "4001"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(
            "worker 1 (pid 4001), taken by faulthandler: its watchdog does not run\n\nThread 0x"
        )
        assert out.endswith('  File "shop.py", line 7 in pay\n')
    assert [given for _, given, _ in backend.told] == [
        StackArguments(4001, 1_700_000_000.25, 0), StackArguments(4001, 1_700_000_000.25)
    ]  # fmt: skip


def test_to_cancel_on_a_thread_that_serves_nothing_is_refused_here(capsys: Captured) -> None:
    backend = FakeBackend()
    with ServerThread(backend=backend):
        assert main(["ctl", "cancel", "4001", "1"]) == 2
    assert "thread 1 of worker 4001 serves no request now" in capsys.readouterr().err
    assert backend.told == []


def test_the_same_call_again_and_again_is_one_line() -> None:
    frame = Frame("/srv/shop.py", 3, "down", "return down(n - 1)", True)
    found = StackResult(
        1, 9, "watchdog", (ThreadStack("pool\x1b", (frame, frame, frame)), ThreadStack("a", (), 1))
    )
    assert tables.stack_text(found).splitlines()[2:] == [
        "pool\\x1b",
        "> /srv/shop.py:3 in down",
        "      return down(n - 1)",
        "  … and 2 times more",
        "",
        "thread 1 (a): idle",
    ]
