"""The client against a real control server, and against servers that mean no good."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.control.fake_backend import (
    FakeBackend,
    ServerThread,
    failed_reload,
    hostile_server,
    serving,
)
from tests.support.asynchronous import asynchronous
from wsgitop.client import AsyncClient, Client, find, link, running
from wsgitop.control.faults import TargetGone
from wsgitop.errors import (
    ActionFailed,
    CannotConnect,
    ProtocolError,
    Refused,
    UsageError,
    WsgitopError,
)
from wsgitop.snapshot import Event, Snapshot


@pytest.fixture(autouse=True)
def own_runtime_dir(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))


@pytest.fixture
def path(runtime_dir: Path) -> Path:
    return runtime_dir / "c.sock"


@asynchronous
async def test_questions(path: Path) -> None:
    async with serving(path) as (_, backend), AsyncClient(str(path)) as client:
        backend.event("one")
        assert (await client.status()).master.app == "shop.wsgi:application"
        assert [worker.slot for worker in await client.workers()] == [1, 2]
        assert [event.text for event in await client.events()] == ["one"]
        assert len(await client.history(60)) == 60


@asynchronous
async def test_orders(path: Path) -> None:
    async with serving(path) as (_, backend), AsyncClient(str(path)) as client:
        assert (await client.reload()).text == "reload is done"
        assert (await client.scale(change=1)).workers == 2
        await client.signal("sigterm", pid=4001)
        await client.stop(quick=True)
        assert [told[0] for told in backend.told] == ["reload", "scale", "signal", "stop"]
        # The worker's start time was looked up, so that no other process can be hit.
        assert backend.told[2][1].started_at == 1_700_000_000.25  # type: ignore[attr-defined]


@asynchronous
async def test_orders_that_fail(path: Path) -> None:
    async with serving(path) as (_, backend), AsyncClient(str(path)) as client:
        with pytest.raises(UsageError):
            await client.scale()
        with pytest.raises(UsageError, match="no worker has pid 1"):
            await client.signal("TERM", pid=1)
        with pytest.raises(TargetGone):
            await client.signal("TERM", pid=4001, started_at=3.0)
        backend.fault = failed_reload()
        with pytest.raises(ActionFailed, match="NameError") as failure:
            await client.reload()
        assert failure.value.detail.startswith("Traceback")


@asynchronous
async def test_a_subscription_beside_calls(path: Path) -> None:
    async with serving(path) as (server, backend), AsyncClient(str(path)) as client:
        news = client.subscribe(0.25)
        first = await anext(news)
        assert isinstance(first, Snapshot)
        server.publisher.event(backend.event("now"))
        backend.gate.clear()
        reloading = asyncio.create_task(client.reload())
        assert await anext(news) == backend.remembered[0]
        assert (await client.status()).sequence > first.sequence
        backend.gate.set()
        assert (await reloading).text == "reload is done"
        await news.aclose()  # type: ignore[attr-defined]  # it is an async generator
        await client.status()
        assert server.publisher.fastest_interval_s() is None


@asynchronous
async def test_a_slow_reader_gets_the_newest_snapshot_and_all_events(path: Path) -> None:
    async with serving(path) as (server, backend), AsyncClient(str(path)) as client:
        news = client.subscribe(0.25)
        await anext(news)
        for _ in range(5):
            for connection in server._connections:
                if connection.subscription:
                    connection.subscription.due_at = 0.0
            server.publisher.snapshot(backend.snapshot())
            server.publisher.event(backend.event("x"))
        newest = backend.sequence
        await client.workers()  # behind everything that was published
        got = [await anext(news) for _ in range(6)]
        assert isinstance(got[0], Snapshot)
        assert got[0].sequence == newest
        assert [event.sequence for event in got[1:] if isinstance(event, Event)] == [1, 2, 3, 4, 5]


@asynchronous
async def test_a_new_subscription_ends_the_old_one(path: Path) -> None:
    async with serving(path) as (server, _), AsyncClient(str(path)) as client:
        old, new = client.subscribe(0.25), client.subscribe(5.0)
        await anext(old)
        await anext(new)
        assert [item async for item in old] == []
        await client.status()
        assert server.publisher.fastest_interval_s() == 5.0


@asynchronous
async def test_a_lost_link_is_told_to_everybody_who_waits(path: Path) -> None:
    async with serving(path) as (server, backend):
        client = AsyncClient(str(path))
        await client.connect()
        backend.gate.clear()
        news = client.subscribe(1.0)
        await anext(news)
        waiting = [asyncio.create_task(client.reload()), asyncio.create_task(anext(news))]  # type: ignore[arg-type,list-item]
        await client.status()
        for connection in list(server._connections):
            connection.abort()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, CannotConnect)
        with pytest.raises(CannotConnect):
            await client.status()
        backend.gate.set()
        await client.connect()  # the same client may try again
        assert (await client.status()).master.pid == 4000
        await client.close()
        await client.close()
        with pytest.raises(CannotConnect, match="not connected"):
            await client.status()


@asynchronous
async def test_being_turned_away(path: Path) -> None:
    async with serving(path, role_of=lambda _uid: None):
        with pytest.raises(Refused, match="may not control"):
            await AsyncClient(str(path)).connect()


@asynchronous
async def test_large_snapshots_arrive(path: Path) -> None:
    backend = FakeBackend(workers=5000)
    async with serving(path, backend), AsyncClient(str(path)) as client:
        assert len((await client.status()).workers) == 5000
        assert len(await client.workers()) == 5000


def test_the_plain_client(runtime_dir: Path) -> None:
    with ServerThread() as server, Client(str(server.path)) as client:
        assert client.status().master.pid == 4000
        assert len(client.workers()) == 2
        assert client.events() == ()
        assert len(client.history(3)) == 3
        assert client.reload().text == "reload is done"
        assert client.scale(workers=3).text == "scale is done"
        assert client.signal("TERM", pid=4001).text == "signal is done"
        found = []
        for news in client.subscribe(0.25):
            found.append(news)
            if len(found) == 3:
                break
        assert all(isinstance(news, Snapshot) for news in found)
        assert client.stop().text == "stop is done"


# -- targets -------------------------------------------------------------------------------------------------


def test_the_plain_client_can_be_closed_twice(runtime_dir: Path) -> None:
    with ServerThread(str(runtime_dir / "c" / "control.sock")) as server:
        with Client(server.path) as client:
            client.status()
        client.close()


def test_a_server_is_found_by_pid_and_by_name(runtime_dir: Path) -> None:
    with ServerThread() as server:
        for target in (str(os.getpid()), "shop", "shop.wsgi", "shop.wsgi:application"):
            assert find(target) == server.path
        assert [master.control for master in running()] == [server.path]
        for target in ("1", "other"):
            with pytest.raises(CannotConnect) as failure:
                find(target)
            assert "shop" in failure.value.remedy
    with pytest.raises(CannotConnect, match="no running server is called 'shop'"):
        find("shop")


def test_a_name_that_fits_several_is_not_guessed(runtime_dir: Path) -> None:
    with ServerThread(name="a"), ServerThread(name="b"):
        with pytest.raises(CannotConnect, match="2 running servers are called"):
            find("shop.wsgi")
        assert find("a") != find("b")


def test_an_unsafe_runtime_directory_is_not_believed(runtime_dir: Path) -> None:
    (runtime_dir / "wsgitop").mkdir()
    (runtime_dir / "wsgitop").chmod(0o777)
    with pytest.raises(CannotConnect, match="open to others"):
        running()


def test_nothing_there(path: Path) -> None:
    with pytest.raises(CannotConnect, match="there is no control socket"):
        connect_once(str(path))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    with pytest.raises(CannotConnect, match="left behind"):
        connect_once(f"unix:{path}")
    path.unlink()
    path.write_text("")
    with pytest.raises(CannotConnect):
        connect_once(str(path))


def connect_once(target: str) -> None:
    with Client(target):
        pass


# -- hostile servers -----------------------------------------------------------------------------------------


def answer(result: object, call_id: object = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "result": result}).encode() + b"\n"


HELLO = answer({"protocol": 1, "version": "9", "pid": 1, "role": "operator", "app": "a"})


def says(*frames: bytes) -> Callable[[socket.socket], None]:
    """A server that answers each call with the next of ``frames`` and then hangs up."""

    def behave(client: socket.socket) -> None:
        for frame in frames:
            if not client.recv(65536):
                return
            client.sendall(frame)

    return behave


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ((b"",), CannotConnect),
        ((b"\n",), CannotConnect),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), CannotConnect),
        ((b"[" * 100_000 + b"\n",), CannotConnect),
        ((b"\xff\xff\n",), CannotConnect),
        ((b"null\n",), CannotConnect),
        ((answer(None),), CannotConnect),
        ((answer({"protocol": "1"}),), CannotConnect),
        (
            (answer({"protocol": 2, "version": "\x1b[2J", "pid": 1, "role": "operator", "app": ""}),),
            ProtocolError,
        ),
        ((answer({}, call_id=99),), CannotConnect),
        ((HELLO, b'{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"x"}}\n'), ProtocolError),
        ((HELLO, b'{"jsonrpc":"2.0","id":2,"error":"x"}\n'), ProtocolError),
        ((HELLO, b'{"jsonrpc":"2.0","method":"snapshot","params":{"sequence":1}}\n'), CannotConnect),
        ((HELLO, answer({"workers": "x"}, 2)), ProtocolError),
    ],
)
def test_what_a_hostile_server_says_is_a_fault(
    path: Path, frames: tuple[bytes, ...], fault: type[WsgitopError]
) -> None:
    with hostile_server(path, says(*frames)) as target:
        client = Client(target)
        with pytest.raises(fault) as failure:
            client.connect()
            client.status()
        assert "\x1b" not in str(failure.value)
        client.close()


def test_an_endless_frame_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SNAPSHOT_LIMIT_BYTES", 1_000_000)

    def endless(client: socket.socket) -> None:
        while True:
            client.sendall(b"x" * 65536)

    with hostile_server(path, endless) as target, pytest.raises(CannotConnect, match="more than a snapshot"):
        connect_once(target)


def test_an_answer_that_is_too_long_for_its_call_is_refused(path: Path) -> None:
    long = answer({"events": [], "padding": "x" * 1_100_000}, 2)
    with hostile_server(path, says(HELLO, long)) as target:
        client = Client(target)
        client.connect()
        with pytest.raises(ProtocolError, match="longer than it may be"):
            client.events()
        client.close()


def test_a_server_that_does_not_answer_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsgitop.client.asynchronous.HELLO_DEADLINE_S", 0.1)

    def silent(client: socket.socket) -> None:
        while client.recv(65536):
            pass

    with hostile_server(path, silent) as target, pytest.raises(CannotConnect, match="does not answer"):
        connect_once(target)


@pytest.mark.parametrize(
    "frame",
    [
        {
            "method": "event",
            "params": {"sequence": 1, "at": 1, "severity": "info", "kind": "k", "text": "x" * 300_000},
        },
        {"method": "log", "params": {"log": "error", "text": "x" * 300_000}},
    ],
    ids=["event", "log"],
)
def test_news_that_are_too_long_are_refused(path: Path, frame: dict[str, object]) -> None:
    subscribed = json.dumps({"interval_s": 1, "snapshot": json.loads(_snapshot_json())}).encode()

    def flood(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(HELLO)
        client.recv(65536)
        client.sendall(b'{"jsonrpc":"2.0","id":2,"result":' + subscribed + b"}\n")
        client.sendall(json.dumps({"jsonrpc": "2.0", **frame}).encode() + b"\n")
        client.recv(65536)

    async def check(target: str) -> None:
        async with AsyncClient(target) as client:
            with pytest.raises(ProtocolError, match=f"a longer {frame['method']}"):
                async for _ in client.subscribe(1.0):
                    pass

    with hostile_server(path, flood) as target:
        asyncio.run(check(target))


def test_events_without_end_are_bounded(path: Path) -> None:
    params = b'{"sequence":1,"at":1,"severity":"info","kind":"k","text":"t"}'
    event = b'{"jsonrpc":"2.0","method":"event","params":' + params + b"}\n"
    subscribed = json.dumps({"interval_s": 1, "snapshot": json.loads(_snapshot_json())}).encode()

    def flood(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(HELLO)
        client.recv(65536)
        client.sendall(b'{"jsonrpc":"2.0","id":2,"result":' + subscribed + b"}\n" + event * 5000)
        client.recv(65536)
        client.sendall(b'{"jsonrpc":"2.0","id":3,"result":{"workers":[]}}\n')
        client.recv(65536)

    async def check(target: str) -> None:
        async with AsyncClient(target) as client:
            news = client.subscribe(1.0)
            await anext(news)
            await client.workers()
            assert client._link is not None
            assert client._link.feed is not None
            assert len(client._link.feed.events) == link.EVENTS_KEPT

    with hostile_server(path, flood) as target:
        asyncio.run(check(target))


def _snapshot_json() -> bytes:
    import msgspec

    async def make() -> Snapshot:
        return FakeBackend(workers=1).snapshot()

    return msgspec.json.encode(asyncio.run(make()))
