"""Orders: carried out once per key, remembered for their user alone, and told to everybody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.control.fake_backend import FakeBackend, RawClient, failed_reload, raw_client, serving
from tests.support.asynchronous import asynchronous
from wsgitop.control import messages as m
from wsgitop.control import orders
from wsgitop.control.connection import Limits
from wsgitop.control.orders import KeptOrder, described


async def scale(client: RawClient, key: str, change: int = 1) -> dict[str, Any]:
    return await client.call("scale", {"change": change, "key": key})


@asynchronous
async def test_an_order_given_again_with_its_key_is_carried_out_once(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as one, raw_client(path) as two:
        first = await scale(one, "a")
        assert first == await scale(one, "a") == await scale(two, "a")
        assert len(backend.told) == 1
        await scale(one, "b")
        await scale(one, "")
        await scale(one, "")
        assert len(backend.told) == 4


@asynchronous
async def test_who_joins_an_order_under_way_gets_its_outcome(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as one, raw_client(path) as two:
        backend.gate.clear()
        for client in (one, two):
            await client.send(b'{"jsonrpc":"2.0","id":1,"method":"reload","params":{"key":"k"}}\n')
        await one.call("hello", call_id=2)
        await two.call("hello", call_id=2)
        assert len(backend.told) == 1
        backend.fault = failed_reload()
        backend.gate.set()
        answer = await one.answer()
        assert answer["error"]["code"] == m.ACTION_FAILED and "NameError" in answer["error"]["data"]["detail"]
        assert answer == await two.answer()


@asynchronous
async def test_an_order_whose_giver_is_gone_is_carried_out_and_its_outcome_kept(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as again:
        backend.gate.clear()
        async with raw_client(path) as gone:
            await gone.send(b'{"jsonrpc":"2.0","id":1,"method":"reload","params":{"key":"k"}}\n')
            await gone.call("hello", call_id=2)
        async with asyncio.timeout(5):
            while not any(c._at_end for c in server._connections):
                await asyncio.sleep(0)
        backend.gate.set()
        assert (await again.call("reload", {"key": "k"}))["result"]["text"] == "reload is done"
        assert len(backend.told) == 1


@asynchronous
async def test_a_key_belongs_to_one_order(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        await scale(client, "a")
        for answer in (await scale(client, "a", change=2), await client.call("reload", {"key": "a"})):
            assert answer["error"]["code"] == m.INVALID_PARAMS
            assert "another order" in answer["error"]["message"]
        assert len(backend.told) == 1


@asynchronous
async def test_the_oldest_keys_give_way(path: Path) -> None:
    most = orders.KEYS_PER_UID
    async with serving(path) as (server, backend), raw_client(path) as client:
        for number in range(most + 1):
            await client.call("loglevel", {"level": "info", "key": str(number)})
        await client.call("loglevel", {"level": "info", "key": "1"})
        assert len(backend.told) == most + 1
        await client.call("loglevel", {"level": "info", "key": "0"})
        assert len(backend.told) == most + 2
        assert sum(map(len, server._orders._remembered.values())) == most


@asynchronous
async def test_an_order_under_way_does_not_lose_its_key_to_newer_ones(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as one, raw_client(path) as two:
        quick, done = backend.reload, asyncio.Event()

        async def slow(actor: str) -> m.Outcome:
            await done.wait()
            return await quick(actor)

        backend.reload = slow  # type: ignore[method-assign]
        await one.send(b'{"jsonrpc":"2.0","id":1,"method":"reload","params":{"key":"slow"}}\n')
        await one.call("hello", call_id=2)
        for number in range(orders.KEYS_PER_UID + 1):
            await two.call("loglevel", {"level": "info", "key": str(number)})
        done.set()
        assert "result" in await one.answer()
        await two.call("reload", {"key": "slow"})
        assert [told[0] for told in backend.told].count("reload") == 1


@asynchronous
async def test_keys_outlive_an_upgrade(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        scaled = await scale(client, "a")
        backend.fault = failed_reload()
        failed = await client.call("reload", {"key": "b"})
        backend.fault = None
        backend.gate.clear()
        await client.send(b'{"jsonrpc":"2.0","id":1,"method":"upgrade","params":{"key":"c"}}\n')
        await client.call("hello", call_id=2)
        kept = msgspec.json.decode(msgspec.json.encode(server.kept_orders(4400)), type=tuple[KeptOrder, ...])
    assert [(order.method, order.key) for order in kept] == [
        ("scale", "a"),
        ("reload", "b"),
        ("upgrade", "c"),
    ]
    strange = msgspec.structs.replace(kept[0], method="no such method")
    old = msgspec.structs.replace(kept[0], key="old", age_s=orders.KEY_LIFE_S)
    async with serving(path) as (server, backend), raw_client(path) as client:
        server.adopt_orders((*kept, strange, old))
        assert await scale(client, "a") == scaled
        assert await client.call("reload", {"key": "b"}) == failed
        upgraded = await client.call("upgrade", {"key": "c"})
        assert upgraded["result"]["text"] == "process 4400 is the master now"
        assert backend.told == []
        await scale(client, "old")
        assert len(backend.told) == 1


@asynchronous
async def test_no_more_orders_are_kept_than_fit(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        fault = failed_reload()
        fault.detail = "x" * 30_000
        backend.fault = fault
        for key in "abcd":
            await client.call("reload", {"key": key})
        assert [order.key for order in server.kept_orders(1)] == ["c", "d"], "the newest"


def test_a_key_is_forgotten_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "KEY_LIFE_S", 0.01)

    @asynchronous
    async def check(path: Path) -> None:
        async with serving(path) as (server, backend), raw_client(path) as client:
            await scale(client, "a")
            async with asyncio.timeout(5):
                while server._orders._remembered:
                    await asyncio.sleep(0.005)
            await scale(client, "a")
            assert len(backend.told) == 2

    check(path)


@asynchronous
async def test_each_order_is_told_with_who_what_and_outcome(path: Path) -> None:
    async with serving(path) as (_, backend), raw_client(path) as client:
        await scale(client, "secret-key")
        backend.fault = failed_reload()
        await client.call("reload")
        backend.fault = RuntimeError("x")
        await client.call("stop", {"quick": True})
        await client.call("status")
        assert [note[:3] for note in backend.notes] == [
            ("info", "order", "scale change=1: scale is done"),
            (
                "warning",
                "order",
                "reload: failed: reload to generation 8 failed: NameError: name 'x' is not defined",
            ),
            ("error", "order", "stop quick=True: failed: internal error; the server's log says more"),
        ]
        assert all("(pid " in note[3] for note in backend.notes)


@asynchronous
async def test_too_many_orders_of_one_client(path: Path) -> None:
    limits = Limits(calls_in_flight=2, calls_per_s=1e6, calls_burst=1e6, share=1e3)
    async with serving(path, limits=limits) as (_, backend), raw_client(path) as client:
        backend.gate.clear()
        for number in (1, 2):
            await client.send(b'{"jsonrpc":"2.0","id":%d,"method":"reload"}\n' % number)
        answer = await client.call("reload", call_id=3)
        assert (answer["id"], answer["error"]["code"]) == (3, m.BUSY)
        backend.gate.set()
        assert {(await client.answer())["id"] for _ in range(2)} == {1, 2}
        assert "result" in await client.call("reload", call_id=4)


@asynchronous
async def test_an_order_that_the_end_of_the_server_breaks_off(path: Path) -> None:
    backend = FakeBackend()
    async with serving(path, backend) as (server, _), raw_client(path) as client:
        backend.gate.clear()
        await client.send(b'{"jsonrpc":"2.0","id":1,"method":"reload"}\n')
        await client.call("hello", call_id=2)
        await server.close(drain_s=0.05)
        error = (await client.answer())["error"]
        assert error["message"] == "the server ended before this was done"


@pytest.mark.parametrize(
    ("method", "arguments", "text"),
    [
        ("reload", m.OrderArguments(key="k"), "reload"),
        ("scale", m.ScaleArguments(change=-1), "scale change=-1"),
        ("retire", m.WorkerArguments(pid=7, started_at=1.5), "retire pid=7"),
        ("stop", m.StopArguments(), "stop"),
    ],
)
def test_an_order_in_one_line(method: str, arguments: object, text: str) -> None:
    assert described(method, arguments) == text


@asynchronous
async def test_refused_orders_cannot_push_the_rest_out_of_the_record(path: Path) -> None:
    async with serving(path, role_of=lambda _uid: "viewer") as (_, backend), raw_client(path) as client:
        for _ in range(50):
            assert (await client.call("stop"))["error"]["code"] == m.REFUSED
        assert [text for _, _, text, _ in backend.notes] == ["stop: refused to a viewer"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(orders, "REFUSED_EVERY_S", 0.0)
            await client.call("stop")
            await client.call("stop")
        assert [text for _, _, text, _ in backend.notes[1:]] == [
            "stop: refused to a viewer, and 49 times before",
            "stop: refused to a viewer",
        ]
