"""Users with roles at a control server with two sockets: who gets in, as what, and how many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control.fake_backend import PATIENT, FakeBackend, RawClient, raw_client, serving
from tests.control.test_server import asynchronous, until
from tests.support.users import ALICE, BOB, as_root, effective
from wsgitop.control import acceptor
from wsgitop.control import messages as m
from wsgitop.control import sharing as sharing_module
from wsgitop.control.allow import AllowList
from wsgitop.control.methods import METHODS
from wsgitop.control.peers import Known
from wsgitop.control.server import ControlServer, Limits
from wsgitop.control.shared_socket import open_shared
from wsgitop.control.sharing import Sharing
from wsgitop.errors import ControlSocketError

pytestmark = as_root
ALLOW = AllowList({ALICE: "viewer"}, {BOB: "operator"}, "alice, and bob's group")
CARL = BOB + 1


@pytest.fixture(autouse=True)
def own_open_dir(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(open_dir))
    return open_dir


@contextlib.asynccontextmanager
async def shared_server(
    directory: Path, *, limits: Limits = PATIENT, is_guest: bool = False
) -> AsyncIterator[tuple[ControlServer, FakeBackend, Sharing]]:
    """A control server with a second socket below ``directory``."""
    sharing = Sharing(ALLOW, str(directory / "shared" / "s.sock"), "shop", is_guest=is_guest)
    async with serving(directory / "c.sock", limits=limits, sharing=sharing) as (server, backend):
        yield server, backend, sharing
    assert not (directory / "shared" / "s.sock").exists()


@contextlib.asynccontextmanager
async def client_of(uid: int, *groups: int, path: str) -> AsyncIterator[RawClient]:
    """A connection that another user has made."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        with effective(uid, *groups):
            sock.connect(path)  # immediate, or it fails
    except OSError:
        sock.close()
        raise
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=4 * 1024 * 1024)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def refusal(client: RawClient) -> str:
    """Why the server cuts a client that it does not want."""
    error = (await client.frame())["error"]
    assert error["code"] == m.REFUSED
    assert await client.at_end() == b""
    return str(error["message"])


@asynchronous
async def test_each_has_the_role_that_the_list_gives(open_dir: Path) -> None:
    async with shared_server(open_dir) as (_, backend, sharing):
        for uid, groups, role in (
            (ALICE, (), "viewer"), (CARL, (BOB,), "operator"), (CARL, (7, BOB), "operator"),
            (ALICE, (BOB,), "operator"), (0, (), "operator"),
        ):  # fmt: skip
            async with client_of(uid, *groups, path=sharing.path) as client:
                hello = (await client.call("hello"))["result"]
                assert (hello["role"], "stop" in hello["methods"]) == (role, role == "operator")
        async with client_of(CARL, path=sharing.path) as client:
            assert await refusal(client) == f"user id {CARL} may not control this server"
        assert backend.told == []


@asynchronous
async def test_a_viewer_cannot_give_an_order_by_any_method(open_dir: Path) -> None:
    async with (
        shared_server(open_dir) as (_, backend, sharing),
        client_of(ALICE, path=sharing.path) as client,
    ):
        for row in METHODS.values():
            answer = await client.call(row.name, {"role": "operator", "actor": "root"})
            if row.role == "operator":
                assert answer["error"]["code"] == m.REFUSED
        assert (await client.call("hello", {"role": "operator"}))["result"]["role"] == "viewer"
        assert backend.told == []


@asynchronous
async def test_the_private_socket_does_not_know_the_list(open_dir: Path) -> None:
    async with shared_server(open_dir):
        private = open_dir / "c.sock"
        with pytest.raises(PermissionError):
            async with client_of(ALICE, path=str(private)):
                pass
        private.chmod(0o666)  # somebody was careless
        async with client_of(ALICE, path=str(private)) as client:
            assert "may not control" in await refusal(client)


@asynchronous
async def test_orders_of_others_bear_their_name(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shared_server(open_dir) as (server, backend, sharing):
        server._lookups._look = lambda peer: Known(f"user {peer.uid}", "198.51.100.7")
        async with client_of(CARL, BOB, path=sharing.path) as client:
            await client.call("reload")
        assert backend.told == [
            ("reload", None, f"user {CARL} (pid {os.getpid()}, ssh from 198.51.100.7)"),
        ]


# -- how many ------------------------------------------------------------------------------------------------

FEW = Limits(clients=8, clients_of_others=6, clients_per_user=4, turned_away=3)


@asynchronous
async def test_others_cannot_keep_the_owner_out(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "TURNED_AWAY_S", 0.1)
    async with contextlib.AsyncExitStack() as stack:
        server, _, sharing = await stack.enter_async_context(shared_server(open_dir, limits=FEW))

        async def come(uid: int, *groups: int) -> RawClient:
            return await stack.enter_async_context(client_of(uid, *groups, path=sharing.path))

        for _number in range(4):
            assert "result" in await (await come(ALICE)).call("hello")
        assert "4 clients of user id" in await refusal(await come(ALICE))
        for _number in range(2):
            assert "result" in await (await come(CARL, BOB)).call("hello")
        assert "6 clients of other users" in await refusal(await come(CARL, BOB))
        # Who is not wanted takes no place, however many come.
        unwanted = [await come(CARL) for _ in range(20)]
        for client in unwanted:
            await client.at_end()
        owners = [await stack.enter_async_context(raw_client(open_dir / "c.sock")) for _number in range(2)]
        for client in owners:
            assert "result" in await client.call("hello")
        late = await stack.enter_async_context(raw_client(open_dir / "c.sock"))
        assert "8 clients" in await refusal(late)
        assert server._places.taken == 8
        await stack.aclose()
        assert server._places.taken == 0


@asynchronous
async def test_a_crowd_of_others_does_not_stand_before_the_owner(open_dir: Path) -> None:
    limits = Limits(share=0.05, clients_of_others=60, clients_per_user=60)
    async with contextlib.AsyncExitStack() as stack:
        _, backend, sharing = await stack.enter_async_context(shared_server(open_dir, limits=limits))
        backend.wanted = 50
        for _number in range(60):
            client = await stack.enter_async_context(client_of(ALICE, path=sharing.path))
            client.writer.write(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n' * 100)
        owner = await stack.enter_async_context(raw_client(open_dir / "c.sock"))
        loop = asyncio.get_running_loop()
        for _number in range(5):
            started = loop.time()
            assert "result" in await owner.call("hello")
            # One call of theirs at most, and the pause behind it.
            assert loop.time() - started < 0.5


# -- one master after another --------------------------------------------------------------------------------


@asynchronous
async def test_a_new_master_opens_its_socket_when_the_old_one_closes_it(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing_module, "TRY_S", 0.01)
    path = str(open_dir / "shared" / "s.sock")
    old = open_shared(path, name="shop", pid=1)
    async with shared_server(open_dir, is_guest=True) as (_, _backend, sharing):
        assert sharing.path == ""
        opening = asyncio.create_task(sharing.opened())
        loop = asyncio.get_running_loop()
        for _ in range(5):
            started = loop.time()
            await asyncio.sleep(0.01)
            assert loop.time() - started < 0.06, "the loop has waited for a lock"
        assert not opening.done()
        old.close()
        await opening
        async with client_of(ALICE, path=sharing.path) as client:
            assert "result" in await client.call("status")


@asynchronous
async def test_a_path_that_is_not_given_up_is_told(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing_module, "TRIES", 3)
    monkeypatch.setattr(sharing_module, "TRY_S", 0.01)
    other = open_shared(str(open_dir / "shared" / "s.sock"), name="shop", pid=1)
    async with shared_server(open_dir, is_guest=True) as (_, _backend, sharing):
        with pytest.raises(ControlSocketError, match="another master"):
            await sharing.opened()
        async with raw_client(open_dir / "c.sock") as client:
            assert "result" in await client.call("hello")
        other.close()


@asynchronous
async def test_handing_over_frees_the_path_and_keeps_who_waits(open_dir: Path) -> None:
    async with shared_server(open_dir) as (server, backend, sharing):
        backend.gate.clear()
        async with client_of(CARL, BOB, path=sharing.path) as client:
            await client.send(b'{"jsonrpc":"2.0","id":1,"method":"reload"}\n')
            await until(lambda: bool(backend.told))
            server.hand_over()
            open_shared(sharing.path, name="shop", pid=2).close()
            backend.gate.set()
            assert (await client.answer())["result"]["text"] == "reload is done"


# -- limits of connections -----------------------------------------------------------------------------------


@asynchronous
async def test_connections_are_accepted_at_a_rate(open_dir: Path) -> None:
    limits = Limits(accepts_per_s=50, accepts_burst=5)
    async with shared_server(open_dir, limits=limits) as (server, _, sharing):
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with contextlib.AsyncExitStack() as stack:
            for _number in range(20):
                await stack.enter_async_context(client_of(ALICE, path=sharing.path))
            async with raw_client(open_dir / "c.sock") as owner:
                assert "result" in await owner.call("hello")
                assert loop.time() - started < 0.25, "the owner's socket has a queue of its own"
            await until(lambda: server._places.taken == 20)
            assert loop.time() - started > 0.25


def frame(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "hello"} | fields).encode() + b"\n"


@asynchronous
async def test_a_call_that_is_nested_or_full_of_keys_is_refused(open_dir: Path) -> None:
    deep: Callable[[int], Any] = lambda depth: {"a": deep(depth - 1)} if depth else 1  # noqa: E731
    async with (
        shared_server(open_dir) as (_, _backend, sharing),
        client_of(ALICE, path=sharing.path) as client,
    ):
        for params, fits in (
            (deep(20), True), (deep(63), True), (deep(64), False), (deep(900), False),
            ({str(key): 0 for key in range(1000)}, True), ({str(key): 0 for key in range(1025)}, False),
        ):  # fmt: skip
            await client.send(frame(params=params))
            answer = await client.frame()
            assert ("result" in answer) == fits
            assert fits or answer["error"]["code"] == m.PARSE_ERROR
