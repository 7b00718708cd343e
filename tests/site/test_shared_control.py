"""--control-allow with real servers: other users come in, over an upgrade, beside a second server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import command
from tests.support.users import ALICE, BOB, as_root, effective
from tests.support.waiting import eventually
from wsgitop.client import Client
from wsgitop.errors import Refused

pytestmark = [pytest.mark.process, as_root]


@pytest.fixture
def path(open_dir: Path) -> str:
    return str(open_dir / "shared" / "s.sock")


@contextmanager
def client_of(uid: int, path: str) -> Iterator[tuple[Client, str]]:
    """A user's client, and the role that it has. Raises what that does."""
    client = Client(path)
    try:
        with effective(uid):
            role = client.connect().role
        yield client, role
    finally:
        client.close()


def role_of(uid: int, path: str) -> str:
    """The role that a user has. Raises what its client does."""
    with client_of(uid, path) as (_, role):
        return role


def test_users_groups_and_everybody_else(start_server: StartServer, path: str) -> None:
    allow = ("--control-allow", f"{ALICE}:viewer", "--control-allow", f"@{BOB}")
    server = start_server("hello:application", *allow, "--control-allow-socket", path)
    assert f"control socket for others {path}: {ALICE} as viewer, @{BOB} as operator" in server.log()
    assert "for others" in server.ctl("status").stdout
    assert (role_of(ALICE, path), role_of(BOB, path), role_of(0, path)) == ("viewer", "operator", "operator")
    with pytest.raises(Refused, match="may not control this server"):
        role_of(BOB + 1, path)
    with pytest.raises(Refused) as fault:
        role_of(ALICE, server.status()["master"]["control"])
    assert "--control-allow" in fault.value.remedy
    with client_of(ALICE, path) as (viewer, _), pytest.raises(Refused, match="for operators"):
        viewer.stop()
    with client_of(BOB, path) as (operator, _):
        assert operator.scale(change=1).workers == 2
    assert f"(by uid {BOB} (pid {os.getpid()}" in server.log()
    server.stop()
    assert not Path(path).exists() and not Path(path + ".lock").exists()


def test_a_second_server_is_refused_and_the_first_stays_whole(
    start_server: StartServer, path: str, tmp_path: Path
) -> None:
    words = ("--control-allow", str(ALICE), "--control-allow-socket", path)
    server = start_server("hello:application", *words)
    done = command(
        "serve", "--bind", "127.0.0.1:0", *words, "hello:application",
        runtime_dir=tmp_path, cwd=Path(__file__).parent.parent / "apps",
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{path} is in use by another master (pid {server.pid})" in done.stderr
    assert "--control-allow-socket" in done.stderr
    assert role_of(ALICE, path) == "operator"


def test_a_user_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    done = command(
        "serve", "--bind", "127.0.0.1:0", "--control-allow", "no-such-user-here", "hello:application",
        runtime_dir=tmp_path, cwd=Path(__file__).parent.parent / "apps",
    )  # fmt: skip
    assert done.returncode == 1
    assert "there is no user 'no-such-user-here'" in done.stderr


def test_an_upgrade_takes_the_socket_along(start_server: StartServer, path: str) -> None:
    server = start_server(
        "hello:application", "--control-allow", f"{ALICE}:viewer", "--control-allow-socket", path
    )
    done = server.ctl("upgrade")
    assert done.returncode == 0, done.stderr
    assert server.process.wait(15) == 0
    assert eventually(lambda: role_of(ALICE, path) == "viewer", what="the socket of the new master")
    with Client(path) as client:
        master = client.status().master
    assert master.pid != server.pid and master.control_shared == path
    os.kill(master.pid, signal.SIGTERM)
    eventually(lambda: not Path(path).exists(), what="the end of the socket")
