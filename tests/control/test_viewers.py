"""What viewers do not get to see, and what subscribers of the logs get."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.control.fake_backend import raw_client, serving
from tests.support.asynchronous import asynchronous
from wsgitop.control import messages as m
from wsgitop.control.connection import Connection
from wsgitop.control.publisher import LINES_BACKLOG_BYTES
from wsgitop.errors import ActionFailed


@asynchronous
async def test_a_viewer_sees_no_code_and_no_output(path: Path) -> None:
    async with serving(path) as (server, backend):
        backend.event("broken", detail="Traceback: secret")
        backend.death(1, stack="secret", lines=("secret",))
        async with raw_client(path) as operator:
            assert "secret" in str(await operator.call("events"))
            assert "secret" in str(await operator.call("deaths"))
        server._role_of = lambda _uid: "viewer"
        async with raw_client(path) as viewer:
            events = await viewer.call("events")
            deaths = await viewer.call("deaths")
            assert "broken" in str(events) and "secret" not in str(events)
            assert "SIGSEGV" in str(deaths) and "secret" not in str(deaths)
            await viewer.call("subscribe")
            server.publisher.event(backend.event("again", detail="Traceback: secret"))
            live = (await viewer.frame())["params"]
            assert (live["text"], live["detail"]) == ("again", "")
            for number in range(3):  # as when it has missed some
                backend.event(f"missed {number}", detail="Traceback: secret")
            server.publisher.event(backend.event("last"))
            assert "secret" not in str([await viewer.frame() for _ in range(4)])


@asynchronous
async def test_the_logs_are_for_operators(path: Path) -> None:
    async with serving(path, role_of=lambda _uid: "viewer") as (_, backend), raw_client(path) as viewer:
        for which in ("error_log", "access_log"):
            answer = await viewer.call("subscribe", {which: True})
            assert answer["error"]["code"] == m.REFUSED
        assert backend.follows == (False, False)


@asynchronous
async def test_lines_of_the_logs_come_to_those_who_asked(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as one, raw_client(path) as two:
        await one.call("subscribe", {"error_log": True, "snapshots": False, "events": False})
        await two.call("subscribe", {"access_log": True})
        assert backend.follows == (True, True)
        assert server.publisher.fastest_interval_s() == 1.0
        server.publisher.lines("error", ["a", "b"])
        server.publisher.lines("access", ["c"])
        server.publisher.event(backend.event("e"))
        assert [(await one.frame())["params"]["text"] for _ in range(2)] == ["a", "b"]
        assert (await two.frame())["params"] == {"log": "access", "text": "c", "dropped": 0}
        assert (await two.frame())["method"] == "event"
        await two.call("unsubscribe")
        assert backend.follows == (True, False)
    async with serving(path) as (server, backend):
        async with raw_client(path) as gone:
            await gone.call("subscribe", {"error_log": True})
            assert backend.follows == (True, False)
        async with asyncio.timeout(5):
            while backend.follows != (False, False):
                await asyncio.sleep(0)


@asynchronous
async def test_the_last_lines_come_first(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        await client.call("subscribe", {"error_log": True, "access_log": True, "past_lines": 2})
        lines = [(await client.frame())["params"]["text"] for _ in range(4)]
        assert lines == ["error 0", "error 1", "access 0", "access 1"]
        await client.call("subscribe", {"error_log": True, "past_lines": 10**9})
        lines = [(await client.frame())["params"]["text"] for _ in range(500)]
        assert lines[-1] == "error 499"
        assert "result" in await client.call("hello")


@asynchronous
async def test_past_lines_and_live_ones_do_not_overlap(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as one, raw_client(path) as two:
        told: list[str] = []

        def past_lines(log: str, count: int) -> list[str]:
            # What waited is passed on, and what comes from now on is new.
            server.publisher.lines("error", ["waited"])
            asyncio.get_running_loop().call_soon(server.publisher.lines, "error", ["live"])
            told.append(log)
            return ["waited"]

        await one.call("subscribe", {"error_log": True, "snapshots": False, "events": False})
        backend.past_lines = past_lines  # type: ignore[method-assign]
        order = {"error_log": True, "snapshots": False, "events": False, "past_lines": 9}
        await two.send(
            json.dumps({"jsonrpc": "2.0", "id": 7, "method": "subscribe", "params": order}).encode()
        )
        await two.send(b"\n")
        assert (await two.frame())["id"] == 7
        assert [(await two.frame())["params"]["text"] for _ in range(2)] == ["waited", "live"]
        assert [(await one.frame())["params"]["text"] for _ in range(2)] == ["waited", "live"]
        assert told == ["error"]


@asynchronous
async def test_a_log_that_ends_is_told_and_not_followed_any_more(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client, raw_client(path) as other:
        await client.call("subscribe", {"error_log": True, "access_log": True, "snapshots": False})
        await other.call("subscribe", {"error_log": True, "snapshots": False})
        server.publisher.lines("access", [], 3)
        server.publisher.end("access", "the end")
        assert (await client.frame())["params"] == {"log": "access", "text": "the end", "dropped": 3}
        assert server.publisher.followed() == (True, False)
        server.publisher.lines("access", ["no"])
        server.publisher.lines("error", ["yes"])
        for each in (client, other):
            assert (await each.frame())["params"]["text"] == "yes"

        def past_lines(log: str, count: int) -> list[str]:
            server.publisher.end("access", "the end")
            backend.fault = ActionFailed("there is no access log")
            return []

        backend.past_lines = past_lines  # type: ignore[method-assign]
        answer = await client.call("subscribe", {"access_log": True, "past_lines": 1})
        assert answer["error"]["message"] == "there is no access log", "it has ended just then"
        assert server.publisher.followed() == (True, False)


@asynchronous
async def test_lines_that_are_lost_are_counted(path: Path) -> None:
    async with serving(path) as (server, _), raw_client(path) as client:
        await client.call("subscribe", {"error_log": True, "snapshots": False})
        server.publisher.lines("error", [], 5)
        server.publisher.lines("error", ["a"], 2)
        assert (await client.frame())["params"] == {"log": "error", "text": "a", "dropped": 7}
        (connection,) = server._connections
        assert isinstance(connection, Connection)
        line = "x" * 1000
        while connection.unsent_bytes <= LINES_BACKLOG_BYTES:
            server.publisher.lines("error", [line] * 100)
        server.publisher.lines("error", ["lost"] * 3)
        while (await client.frame())["params"]["text"] == line:
            if connection.unsent_bytes == 0:
                server.publisher.lines("error", ["last"])
        assert (connection.subscription is not None) and connection.subscription.lines_dropped["error"] == 0


@asynchronous
async def test_a_log_that_cannot_be_followed_is_refused_and_the_old_subscription_stays(path: Path) -> None:
    async with serving(path) as (server, backend), raw_client(path) as client:
        await client.call("subscribe", {"interval_s": 2})
        backend.fault = ActionFailed("there is no access log", "Start the server with --access-logfile FILE.")
        error = (await client.call("subscribe", {"access_log": True}))["error"]
        assert error["data"]["remedy"].startswith("Start the server")
        assert server.publisher.fastest_interval_s() == 2.0
