"""The control server over a real socket: answers, actions, subscriptions, limits."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.control.fake_backend import PATIENT, FakeBackend, failed_reload, raw_client, serving
from tests.support.asynchronous import asynchronous
from wsgitop.control import messages as m
from wsgitop.control.connection import WRITE_HIGH_BYTES, Connection, Limits
from wsgitop.control.examples import EXAMPLES
from wsgitop.control.methods import METHODS
from wsgitop.control.publisher import LINES_BACKLOG_BYTES
from wsgitop.control.server import ControlServer

ME = f"{pwd.getpwuid(os.geteuid()).pw_name} (pid {os.getpid()})"


@pytest.fixture(autouse=True)
def own_runtime_dir(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    return runtime_dir


async def first(server: ControlServer) -> list[Connection]:
    """The connections, once there is one."""
    await until(lambda: bool(server._connections))
    return list(server._connections)


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until ``condition`` holds; the test's own deadline limits that."""
    while not condition():
        await asyncio.sleep(0.005)


# -- answers -------------------------------------------------------------------------------------------------


@asynchronous
async def test_hello_says_who_answers(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        hello = (await client.call("hello"))["result"]
        assert (hello["protocol"], hello["pid"], hello["role"]) == (m.PROTOCOL, os.getpid(), "operator")
        assert hello["app"] == "shop.wsgi:application"
        assert hello["methods"] == list(METHODS)


@asynchronous
async def test_questions_are_answered(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        for text in "abc":
            backend.event(text)
        assert (await client.call("status"))["result"]["master"]["state"] == "serving"
        assert [w["pid"] for w in (await client.call("workers"))["result"]["workers"]] == [4001, 4002]
        assert len((await client.call("history", {"seconds": 5}))["result"]["seconds"]) == 5
        assert len((await client.call("history", {"seconds": 10**9}))["result"]["seconds"]) == 900
        events = (await client.call("events", {"after": 1}))["result"]["events"]
        assert [event["text"] for event in events] == ["b", "c"]


@asynchronous
async def test_deaths(path: Path) -> None:
    backend = FakeBackend()
    for pid in (1, 2, 3):
        backend.death(pid, stack="x" * 400_000)
    async with serving(path, backend), raw_client(path) as client:
        deaths = (await client.call("deaths", {"after": 1}))["result"]["deaths"]
        assert [death["pid"] for death in deaths] == [2, 3]
        assert deaths[0]["cause"] == "crashed" and deaths[0]["status"] is None
        deaths = (await client.call("deaths", {"limit": 1000000}))["result"]["deaths"]
        assert [death["pid"] for death in deaths] == [2, 3], "as many as an answer may hold"
        deaths = (await client.call("deaths", {"pid": 1}))["result"]["deaths"]
        assert [death["pid"] for death in deaths] == [1], "one that does not fit beside the others"


@asynchronous
async def test_events_that_do_not_fit_give_way_oldest_first(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        for number in range(100):
            backend.event(str(number), detail="x" * 60_000)
        await client.send(b'{"jsonrpc":"2.0","id":1,"method":"events"}\n')
        line = await client.reader.readline()
        assert len(line) <= m.RESULT_LIMIT_BYTES
        texts = [event["text"] for event in json.loads(line)["result"]["events"]]
        assert texts == [str(number) for number in range(100 - len(texts), 100)]
        assert len(texts) > 10


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nothing", None, m.METHOD_NOT_FOUND),
        ("__init__", None, m.METHOD_NOT_FOUND),
        ("backend.stop", None, m.METHOD_NOT_FOUND),
        ("x" * 60_000, None, m.METHOD_NOT_FOUND),
        ("scale", {}, m.INVALID_PARAMS),
        ("scale", {"workers": 2, "change": 1}, m.INVALID_PARAMS),
        ("scale", {"workers": "2"}, m.INVALID_PARAMS),
        ("scale", [2], m.INVALID_PARAMS),
        ("scale", {"workers": 10**4000}, m.INVALID_PARAMS),
        ("scale", {"change": -(10**4000)}, m.INVALID_PARAMS),
        ("signal", {"signal": "TERM", "pid": 10**4000, "started_at": 1.0}, m.INVALID_PARAMS),
        ("retire", {"pid": 1 << 31, "started_at": 1.0}, m.INVALID_PARAMS),
        ("quarantine", {"pid": -1, "started_at": 1.0}, m.INVALID_PARAMS),
        ("stack", {"pid": 10**4000, "started_at": 1.0}, m.INVALID_PARAMS),
        ("stack", {"pid": 4001, "started_at": 1.0, "thread": 10**4000}, m.INVALID_PARAMS),
        ("stack", {"pid": 4001, "started_at": 1.0, "thread": -1}, m.INVALID_PARAMS),
        ("cancel", {"pid": 10**4000, "started_at": 1.0, "thread": 0, "request": 1}, m.INVALID_PARAMS),
        ("cancel", {"pid": 4001, "started_at": 1.0, "thread": 0, "request": 10**4000}, m.INVALID_PARAMS),
        ("signal", {"signal": "HUP; rm"}, m.INVALID_PARAMS),
        ("signal", {"signal": "TERM", "pid": 4001}, m.INVALID_PARAMS),
        ("signal", {"signal": "TERM", "pid": 4001, "started_at": 1.0}, m.TARGET_GONE),
        ("retire", {"pid": 4001}, m.INVALID_PARAMS),
        ("loglevel", {"level": "loud"}, m.INVALID_PARAMS),
        ("reload", {"key": "x" * 129}, m.INVALID_PARAMS),
        ("events", {"limit": 0}, m.INVALID_PARAMS),
        ("deaths", {"limit": 0}, m.INVALID_PARAMS),
        ("deaths", {"after": -1}, m.INVALID_PARAMS),
        ("history", {"seconds": -1}, m.INVALID_PARAMS),
        ("subscribe", {"interval_s": "often"}, m.INVALID_PARAMS),
    ],
)
def test_what_cannot_be_answered_is_refused(path: Path, method: str, params: object, code: int) -> None:
    @asynchronous
    async def check() -> None:
        async with serving(path) as (_, backend), raw_client(path) as client:
            answer = await client.call(method, params, "id")
            assert (answer["error"]["code"], answer["id"]) == (code, "id")
            assert len(answer["error"]["message"]) < 300
            assert backend.told == []
            assert "result" in await client.call("hello")

    check()


# -- actions -------------------------------------------------------------------------------------------------


@asynchronous
async def test_actions_name_their_actor(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        assert (await client.call("reload"))["result"]["text"] == "reload is done"
        await client.call("scale", {"change": 1})
        await client.call("signal", {"signal": "TERM", "pid": 4001, "started_at": 1_700_000_000.25})
        assert backend.told == [
            ("reload", None, ME),
            ("scale", m.ScaleArguments(change=1), ME),
            ("signal", m.SignalArguments("TERM", 4001, 1_700_000_000.25), ME),
        ]


@asynchronous
async def test_every_method_of_the_table_is_answered(path: Path) -> None:
    async with serving(path) as (_, _backend), raw_client(path) as client:
        for row in METHODS.values():
            params = msgspec.to_builtins(EXAMPLES[row.name].arguments)
            if "pid" in params:
                params |= {"pid": 4001, "started_at": 1_700_000_000.25}
            assert "result" in await client.call(row.name, params), row.name


@asynchronous
async def test_a_failed_action_says_why(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        backend.fault = failed_reload()
        error = (await client.call("reload"))["error"]
        assert error["code"] == m.ACTION_FAILED
        assert error["data"]["remedy"].startswith("Generation 7 serves on")
        assert "NameError" in error["data"]["detail"]


@asynchronous
async def test_an_unforeseen_fault_is_logged_and_told_without_its_text(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        backend.fault = RuntimeError("secret")
        error = (await client.call("reload"))["error"]
        assert error["code"] == m.INTERNAL_ERROR
        assert "secret" not in json.dumps(error)
        backend.events = None  # type: ignore[assignment,method-assign]  # any fault in an answer will do
        assert (await client.call("events"))["error"]["code"] == m.INTERNAL_ERROR


@asynchronous
async def test_an_action_under_way_does_not_hold_up_other_calls(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        backend.gate.clear()
        await client.send(b'{"jsonrpc":"2.0","id":"slow","method":"reload"}\n')
        assert (await client.call("status", call_id=2))["id"] == 2
        backend.gate.set()
        assert (await client.answer())["id"] == "slow"


@asynchronous
async def test_calls_under_way_are_limited(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        backend.gate.clear()
        for number in range(PATIENT.calls_in_flight):
            await client.send(b'{"jsonrpc":"2.0","id":%d,"method":"reload"}\n' % number)
        assert (await client.call("reload", call_id="one more"))["error"]["code"] == m.BUSY
        backend.gate.set()
        for _ in range(PATIENT.calls_in_flight):
            assert "result" in await client.answer()
        assert "result" in await client.call("reload")


@asynchronous
async def test_an_order_is_carried_out_though_its_giver_is_gone(path: Path) -> None:
    async with serving(path) as (server, backend):
        backend.gate.clear()
        async with raw_client(path) as client:
            await client.send(b'{"jsonrpc":"2.0","id":1,"method":"scale","params":{"workers":5}}\n')
            await until(lambda: bool(backend.told))
        await until(lambda: all(connection._at_end for connection in server._connections))
        backend.gate.set()
        await until(lambda: backend.wanted == 5 and not server._connections)


@asynchronous
async def test_the_answer_to_stop_arrives_before_the_end(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        backend.gate.clear()
        await client.send(b'{"jsonrpc":"2.0","id":1,"method":"stop"}\n')
        await until(lambda: bool(backend.told))
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        backend.gate.set()
        assert (await client.answer())["result"]["text"] == "stop is done"
        assert await client.at_end() == b""
        await closing
        assert not path.exists()


@asynchronous
async def test_what_is_not_done_when_the_server_ends_is_told_so(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        backend.gate.clear()
        await client.send(b'{"jsonrpc":"2.0","id":1,"method":"reload"}\n')
        await until(lambda: bool(backend.told))
        await server.close(drain_s=0.05)
        assert (await client.answer())["error"]["code"] == m.ACTION_FAILED


@asynchronous
async def test_a_client_that_does_not_read_cannot_hold_up_the_end(path: Path) -> None:
    async with serving(path, FakeBackend(workers=2000)) as (server, _):
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n' * 3)
            await until(lambda: any(c.unsent_bytes for c in server._connections))
            started = asyncio.get_running_loop().time()
            await server.close(drain_s=0.1)
            assert asyncio.get_running_loop().time() - started < 2


@asynchronous
async def test_a_client_that_ends_its_side_still_gets_its_answers(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        backend.gate.clear()
        await client.send(
            b'{"jsonrpc":"2.0","id":1,"method":"reload"}\n{"jsonrpc":"2.0","id":2,"method":"hello"}\n'
        )
        client.writer.write_eof()
        assert (await client.answer())["id"] == 2
        backend.gate.set()
        assert (await client.answer())["id"] == 1
        assert await client.at_end() == b""


# -- subscriptions -------------------------------------------------------------------------------------------


@asynchronous
async def test_a_subscriber_gets_a_snapshot_at_once_and_then_at_its_rate(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        assert server.publisher.fastest_interval_s() is None
        granted = (await client.call("subscribe", {"interval_s": 0.5}))["result"]
        assert (granted["interval_s"], granted["snapshot"]["sequence"]) == (0.5, 1)
        assert server.publisher.fastest_interval_s() == 0.5
        server.publisher.snapshot(backend.snapshot())  # too early: nobody is due
        server.publisher.event(backend.event("hello"))
        assert (await client.frame())["method"] == "event"
        await asyncio.sleep(0.5)
        server.publisher.snapshot(backend.snapshot())
        frame = await client.frame()
        assert (frame["method"], frame["params"]["sequence"], frame["params"]["dropped"]) == (
            "snapshot",
            3,
            0,
        )
        await client.call("unsubscribe")
        assert server.publisher.fastest_interval_s() is None


@pytest.mark.parametrize(("asked", "granted"), [(0, 0.25), (-5, 0.25), (1e300, 10.0), (2.5, 2.5)])
def test_the_rate_has_bounds(path: Path, asked: float, granted: float) -> None:
    @asynchronous
    async def check() -> None:
        async with serving(path), raw_client(path) as client:
            answer = await client.call("subscribe", {"interval_s": asked})
            assert answer["result"]["interval_s"] == granted

    check()


@asynchronous
async def test_a_subscriber_that_does_not_read_is_passed_over_and_told(path: Path) -> None:
    backend = FakeBackend(workers=500)
    async with serving(path, backend) as (server, _), raw_client(path) as reading:
        await reading.call("subscribe", {"interval_s": 0.25})
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"interval_s":0.25}}\n')
            await until(lambda: len([c for c in server._connections if c.subscription]) == 2)
            most = 0
            for _ in range(12):
                for connection in server._connections:
                    if connection.subscription:
                        connection.subscription.due_at = 0.0
                server.publisher.snapshot(backend.snapshot())
                server.publisher.event(backend.event("something"))
                assert (await reading.frame())["method"] == "snapshot"
                assert (await reading.frame())["method"] == "event"
                most = max(most, *(c.unsent_bytes for c in server._connections))
            assert most < 2 * 1024 * 1024  # the newest only, not a queue of them
            # It reads again: first what was cut short, then what it missed and how much that was.
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            received = b""
            while any(c.unsent_bytes for c in server._connections):
                received += await loop.sock_recv(deaf, 1 << 20)
            for connection in server._connections:
                if connection.subscription:
                    connection.subscription.due_at = 0.0
            server.publisher.snapshot(backend.snapshot())
            while not re.search(rb'"dropped":[1-9]\d*}}\n$', received):
                received += await loop.sock_recv(deaf, 1 << 20)
            lines = [json.loads(line) for line in received.splitlines()]
            assert lines[-1]["params"]["dropped"] >= 8
            events = [line["params"]["sequence"] for line in lines if line.get("method") == "event"]
            assert events == list(range(1, 13))


@asynchronous
async def test_events_that_were_held_back_come_without_another_one(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        await client.call("subscribe", {"snapshots": False})
        (connection,) = server._connections
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # it reads no more
        count = 0
        for held_back in (LINES_BACKLOG_BYTES, WRITE_HIGH_BYTES):
            while connection.unsent_bytes <= held_back:
                count += 1
                server.publisher.event(backend.event(str(count), detail="x" * 10_000))
            for _ in range(3):
                count += 1
                server.publisher.event(backend.event(str(count)))
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        texts = [(await client.frame())["params"]["text"] for _ in range(count)]
        assert texts == [str(number + 1) for number in range(count)]


@asynchronous
async def test_an_event_comes_only_once_when_a_subscription_is_renewed(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        backend.event("before")
        await client.call("subscribe")
        await client.call("subscribe", {"interval_s": 2})
        server.publisher.event(backend.event("after"))
        assert (await client.frame())["params"]["text"] == "after"
        assert "result" in await client.call("hello")


# -- who may -------------------------------------------------------------------------------------------------


@asynchronous
async def test_a_foreign_user_is_turned_away(path: Path) -> None:
    async with serving(path, role_of=lambda _uid: None), raw_client(path) as client:
        await client.send(b'{"jsonrpc":"2.0","id":1,"method":"stop"}\n')
        answer = await client.frame()
        assert answer["error"]["code"] == m.REFUSED
        assert answer["id"] is None
        assert await client.at_end() == b""


@asynchronous
async def test_a_viewer_may_look_and_not_touch(path: Path) -> None:
    async with serving(path, role_of=lambda _uid: "viewer") as (_, backend), raw_client(path) as client:
        hello = (await client.call("hello"))["result"]
        assert hello["role"] == "viewer"
        for row in METHODS.values():
            offered = row.name in hello["methods"]
            assert offered == (row.role == "viewer")
            params = msgspec.to_builtins(EXAMPLES[row.name].arguments)
            if row.name == "subscribe":
                params["error_log"] = False
            answer = await client.call(row.name, params)
            assert ("result" in answer) == offered
            assert offered or answer["error"]["code"] == m.REFUSED
        assert backend.told == []
        refused = [note[2] for note in backend.notes]
        assert refused == [
            f"{row.name}: refused to a viewer" for row in METHODS.values() if row.role == "operator"
        ]


@asynchronous
async def test_what_names_no_request_cannot_be_cancelled(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        fitting = {"pid": 4001, "started_at": 1_700_000_000.25, "thread": 0, "request": 7}
        for wrong in (
            {"started_at": None},
            {"request": 0},
            {"request": -1},
            {"request": 1 << 63},
            {"thread": -1},
            {"thread": 1 << 40},
        ):
            answer = await client.call("cancel", fitting | wrong)
            assert answer["error"]["code"] == m.INVALID_PARAMS
        assert backend.told == []
        answer = await client.call("cancel", fitting)
        assert (answer["result"]["end"], answer["result"]["answered"]) == ("disconnected", True)
        assert backend.told == [("cancel", m.CancelArguments(*fitting.values()), ME)]


@asynchronous
async def test_a_histogram_is_of_exactly_one_worker(path: Path) -> None:
    target = {"pid": 4002, "started_at": 1_700_000_000.25}
    async with serving(path), raw_client(path) as client:
        answer = await client.call("histogram", target)
        assert answer["result"] == {
            "slot": 2,
            "pid": 4002,
            "seconds": 10,
            "buckets": [[8.192, 12], [40.96, 1]],
        }
        assert (await client.call("histogram", {"pid": 4002}))["error"]["code"] == m.INVALID_PARAMS
        assert (await client.call("histogram", target | {"pid": 1}))["error"]["code"] == m.TARGET_GONE


@asynchronous
async def test_requests_are_as_many_as_fit(path: Path) -> None:
    backend = FakeBackend(workers=1000, path="\U0001f600" * 200)
    backend.slow *= 1000
    async with serving(path, backend) as _, raw_client(path) as client:
        found = (await client.call("requests", {"limit": 3}))["result"]
        assert (len(found["in_flight"]), len(found["slowest"]), found["total"]) == (3, 3, 1000)
        answer = await client.call("requests", {"limit": 10_000})
        assert 100 <= len(answer["result"]["in_flight"]) <= 500
        assert len(json.dumps(answer, ensure_ascii=False).encode()) < m.RESULT_LIMIT_BYTES
        assert (await client.call("requests", {"limit": 0}))["error"]["code"] == m.INVALID_PARAMS


@asynchronous
async def test_a_client_too_many_is_told_so(path: Path) -> None:
    limits = Limits(clients=2)
    async with serving(path, limits=limits), raw_client(path) as one, raw_client(path) as two:
        await one.call("hello")
        await two.call("hello")
        async with raw_client(path) as three:
            assert "2 clients" in (await three.frame())["error"]["message"]
        assert "result" in await one.call("hello")


@asynchronous
async def test_a_second_server_on_the_same_path_is_refused(path: Path) -> None:
    from wsgitop.errors import ControlSocketError

    async with serving(path), raw_client(path) as client:
        with pytest.raises(ControlSocketError, match="another master"):
            ControlServer(app="other", name="other", path=str(path)).open()
        assert "result" in await client.call("hello")


# -- clients that misbehave ----------------------------------------------------------------------------------


@asynchronous
async def test_a_frame_that_is_too_long_ends_the_connection(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        await client.send(b"x" * (m.FRAME_LIMIT_BYTES + 2))
        assert "at most" in (await client.frame())["error"]["message"]
        assert await client.at_end() == b""


@asynchronous
async def test_a_frame_of_just_the_limit_is_read(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        call = b'{"jsonrpc":"2.0","id":1,"method":"hello"}'
        await client.send(call.ljust(m.FRAME_LIMIT_BYTES) + b"\n")
        assert "result" in await client.answer()


@asynchronous
async def test_half_a_frame_ends_the_connection_and_a_pause_between_frames_does_not(path: Path) -> None:
    limits = Limits(frame_s=0.15)
    async with serving(path, limits=limits), raw_client(path) as half, raw_client(path) as slow:
        await half.send(b'{"jsonrpc":"2.0","id":1,"method":"hello"}\n{"jsonrpc":')
        assert "result" in await half.frame()
        assert "not complete" in (await half.frame())["error"]["message"]
        assert await half.at_end() == b""
        # The other one has been silent for longer than a frame may take: that is its right.
        assert "result" in await slow.call("hello")


@asynchronous
async def test_a_complete_frame_may_wait_for_its_turn(path: Path) -> None:
    async with serving(path, limits=Limits(frame_s=5)) as (server, _), raw_client(path) as client:
        await client.send(b'{"jsonrpc":"2.0","id":1,')
        (connection,) = await first(server)
        await until(lambda: connection._frame_timer is not None)
        asked: list[object] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server.turns, "ask", asked.append)
            await client.send(b'"method":"hello"}\n{"half')
            await until(lambda: bool(asked))
            assert connection._frame_timer is None
        server.turns.ask(connection)
        assert "result" in await client.frame()
        await until(lambda: connection._frame_timer is not None)


@asynchronous
async def test_a_client_that_cannot_be_taken_in_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(path) as (server, _):

        async def fail(*_: object) -> None:
            raise ValueError("anything")

        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", fail)
            async with raw_client(path) as client:
                assert await client.at_end() == b""
        assert server.clients == 0
        async with raw_client(path) as client:
            assert "result" in await client.call("hello")


@asynchronous
async def test_no_name_is_looked_up_once_the_server_lives(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ControlServer(app="a", path=str(path))
    monkeypatch.setattr("wsgitop.control.server.user_name", None)
    await server.start(FakeBackend())
    await server.close()


@asynchronous
async def test_a_byte_now_and_then_does_not_keep_a_frame_alive(path: Path) -> None:
    async with serving(path, limits=Limits(frame_s=0.2)), raw_client(path) as client:
        with pytest.raises((ConnectionError, AssertionError)):
            for _ in range(100):
                await client.send(b" ")
                await asyncio.sleep(0.02)
                assert not client.reader.at_eof()
                if client.reader._buffer:  # type: ignore[attr-defined]  # only to see that an answer has come
                    raise ConnectionResetError


@asynchronous
async def test_a_flood_is_throttled_and_others_are_served(path: Path) -> None:
    limits = Limits(calls_per_s=50, calls_burst=10)
    async with serving(path, limits=limits), raw_client(path) as flood, raw_client(path) as other:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await flood.send(b'{"jsonrpc":"2.0","id":1,"method":"hello"}\n' * 30)
        assert "result" in await other.call("hello")
        assert loop.time() - started < 0.2
        for _ in range(30):
            assert "result" in await flood.answer()
        assert loop.time() - started > 0.35  # 20 calls beyond the burst at 50 a second


@asynchronous
async def test_stalled_flooding_and_half_frame_clients_do_not_hold_up_others(path: Path) -> None:
    backend = FakeBackend(workers=50)
    async with serving(path, backend, limits=Limits()) as (server, _):
        status = b'{"jsonrpc":"2.0","id":1,"method":"status"}\n'
        bad_manners = [b'{"jsonrpc"', status * 500, b"{}\n" * 9000]
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(90)]
        try:
            for number, sock in enumerate(crowd):
                sock.setblocking(False)
                sock.connect(str(path))
                sock.send(bad_manners[number % 3])
                if number % 10 == 0:
                    await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            lags: list[float] = []

            async def feel() -> None:
                while True:
                    started = loop.time()
                    await asyncio.sleep(0.005)
                    lags.append(loop.time() - started - 0.005)

            feeling = asyncio.create_task(feel())
            async with raw_client(path) as client:
                for _ in range(10):
                    started = loop.time()
                    assert "result" in await client.call("hello")
                    assert loop.time() - started < 2
            feeling.cancel()
            # The control socket takes 2 ms in a row; the rest is for a machine that is busy otherwise.
            assert sorted(lags)[len(lags) // 2] < 0.01
            assert max(lags) < 0.3
            # One answer may go beyond the high mark.
            assert all(c.unsent_bytes < 1024 * 1024 for c in server._connections)
        finally:
            for sock in crowd:
                sock.close()
        await until(lambda: not server._connections)
