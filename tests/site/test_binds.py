"""Where a server can listen: IPv6, several addresses at once, unix sockets."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.processes import end_session
from tests.support.server import APPS, PROGRAM, UnixConnection, environment, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.process


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="needs IPv6")
def test_ipv6(start_server: StartServer) -> None:
    port = free_port("::1")
    server = start_server("lab:application", bind=[f"[::1]:{port}"])
    assert server.get() == (200, b"lab\n")
    assert server.status()["master"]["bind"] == [f"[::1]:{port}"]


def test_several_addresses_are_all_served(start_server: StartServer, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    path = tmp_path / "web.sock"
    binds = [f"127.0.0.1:{first}", f"127.0.0.1:{second}", f"unix:{path}"]
    server = start_server("lab:application", "--workers", "2", bind=binds)
    assert server.status()["master"]["bind"] == binds

    for address in binds:
        server.bind = (address,)
        for _ in range(5):
            assert server.get() == (200, b"lab\n")
    assert server.ctl("reload").returncode == 0
    for address in binds:
        server.bind = (address,)
        assert server.get() == (200, b"lab\n")


@pytest.mark.every_python
def test_unix_socket_is_removed_at_the_end_and_taken_over_when_stale(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "web.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = start_server("lab:application", bind=[f"unix:{path}"])
    assert stat.S_ISSOCK(path.stat().st_mode)
    connection = UnixConnection(str(path), 5)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"lab\n"
    connection.close()
    assert server.stop() == 0
    assert not path.exists()


def test_port_0_is_told(start_server: StartServer) -> None:
    server = start_server("lab:application", bind=["127.0.0.1:0"], wait=False)
    (address,) = eventually(
        lambda: server.ctl("status").returncode == 0 and server.status()["master"]["bind"]
    )
    server.bind = (address,)
    assert not address.endswith(":0")
    assert server.wait_until_serving().get()[0] == 200


def test_inherited_descriptor(start_server: StartServer, tmp_path: Path) -> None:
    """``fd://N``, as a supervisor passes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [*PROGRAM, "serve", "--bind", f"fd://{listener.fileno()}", "lab:application"],
            pass_fds=[listener.fileno()],
            cwd=APPS,
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.settimeout(20)
            client.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
            assert b"200 OK" in client.recv(65536)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        end_session(process.pid)
        process.wait()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
