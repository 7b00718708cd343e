"""Listening sockets: every kind of address, what stands in the way, what is left behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from wsgitop.errors import BindError
from wsgitop.master.listeners import Listener, open_listeners
from wsgitop.settings.table import Settings

Open = Callable[..., list[Listener]]


@pytest.fixture
def opened() -> Iterator[Open]:
    everything: list[Listener] = []

    def open_(*bind: str, **options: object) -> list[Listener]:
        listeners = open_listeners(Settings(bind=bind, **options))  # type: ignore[arg-type] # any setting
        everything.extend(listeners)
        return listeners

    yield open_
    for listener in everything:
        listener.close()


def port_of(listener: Listener) -> int:
    return int(listener.socket.getsockname()[1])


def talk(listener: Listener) -> None:
    """A client gets in."""
    with socket.socket(listener.socket.family) as client:
        client.connect(listener.socket.getsockname())
        listener.socket.setblocking(True)
        listener.socket.settimeout(5)
        listener.socket.accept()[0].close()


needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="needs IPv6")


# -- kinds of address


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:0", pytest.param("[::1]:0", marks=needs_ipv6)])
def test_tcp(opened: Open, bind: str) -> None:
    (listener,) = opened(bind)
    assert listener.address.port == port_of(listener) != 0
    assert str(listener.address).endswith(f":{port_of(listener)}")
    assert not listener.socket.getblocking()
    assert not os.get_inheritable(listener.socket.fileno())
    talk(listener)


@needs_ipv6
def test_both_wildcards_on_one_port(opened: Open) -> None:
    (first,) = opened("0.0.0.0:0")
    port = port_of(first)
    first.close()
    both = opened(f"0.0.0.0:{port}", f"[::]:{port}")
    assert [port_of(listener) for listener in both] == [port, port]


def test_unix(opened: Open, runtime_dir: Path) -> None:
    path = runtime_dir / "site.sock"
    (listener,) = opened(f"unix:{path}", umask=0o027)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    talk(listener)
    listener.close()
    assert not path.exists()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_adopted(opened: Open, family: socket.AddressFamily, runtime_dir: Path) -> None:
    path = runtime_dir / "given.sock"
    with socket.socket(family) as given:
        given.bind(str(path) if family == socket.AF_UNIX else ("127.0.0.1", 0))
        given.listen()
        given.set_inheritable(True)
        (listener,) = opened(f"fd://{given.fileno()}")
        assert not given.get_inheritable(), "a zygote would inherit it and hand it on to all its children"
        talk(listener)
        assert str(path if family == socket.AF_UNIX else given.getsockname()[1]) in str(listener.address)
        listener.close()
        assert path.exists() == (family == socket.AF_UNIX), "it was not ours to remove"


# -- what stands in the way


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("fd://987", "Bad file descriptor"),
        ("fd://0", "socket"),
        ("192.0.2.1:0", "does not have that address"),
        ("no-such-host.invalid:80", "host name"),
        (f"{'x' * 70}.example:80", "host name"),
        ("unix:/nowhere/at/all.sock", "Create /nowhere/at first"),
        (f"unix:/tmp/{'x' * 120}.sock", "longer than 107 bytes"),
        (f"unix:/tmp/{'x' * 300}.sock", "Create /tmp first"),
        ("unix:/dev/null/x.sock", "Not a directory"),
    ],
)
def test_what_cannot_be_opened(opened: Open, bind: str, words: str) -> None:
    with pytest.raises(BindError) as caught:
        opened(bind)
    assert words in str(caught.value)
    assert caught.value.cause.startswith("cannot listen on ")
    assert caught.value.remedy


def test_port_in_use_names_its_holder(opened: Open) -> None:
    (first,) = opened("127.0.0.1:0")
    with pytest.raises(BindError, match=rf"in use by .*\(pid {os.getpid()}\)"):
        opened(f"127.0.0.1:{port_of(first)}")


def test_port_of_a_server_names_its_master(opened: Open) -> None:
    (first,) = opened("127.0.0.1:0")
    said, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(said, 1)  # a worker holds the listener as well, and would be replaced if it were stopped
        os._exit(0)
    try:
        with pytest.raises(BindError, match=rf"in use by .*\(pid {os.getpid()}\)"):
            opened(f"127.0.0.1:{port_of(first)}")
    finally:
        os.close(say)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(said)


def test_all_or_none(opened: Open, runtime_dir: Path) -> None:
    (first,) = opened("127.0.0.1:0")
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    with pytest.raises(BindError):
        opened("127.0.0.1:0", f"unix:{runtime_dir}/one.sock", f"127.0.0.1:{port_of(first)}")
    assert list(runtime_dir.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names only


def test_socket_that_is_not_listening_is_not_adopted(opened: Open) -> None:
    with socket.socket() as idle, pytest.raises(BindError, match="no listening socket"):
        opened(f"fd://{idle.fileno()}")


def test_stale_unix_socket_is_replaced(opened: Open, runtime_dir: Path) -> None:
    path = runtime_dir / "site.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    (listener,) = opened(f"unix:{path}")
    talk(listener)


def test_live_unix_socket_is_left_alone(opened: Open, runtime_dir: Path) -> None:
    path = runtime_dir / "site.sock"
    (first,) = opened(f"unix:{path}")
    with pytest.raises(BindError, match="another process listens there"):
        opened(f"unix:{path}")
    # The probe itself stands in the queue of the living.
    first.socket.settimeout(5)
    first.socket.accept()[0].close()
    talk(first)


def test_other_files_are_left_alone(opened: Open, runtime_dir: Path) -> None:
    path = runtime_dir / "site.sock"
    path.write_text("precious")
    with pytest.raises(BindError, match="not a socket"):
        opened(f"unix:{path}")
    assert path.read_text() == "precious"


def test_only_the_own_socket_is_removed_at_the_end(opened: Open, runtime_dir: Path) -> None:
    path = runtime_dir / "site.sock"
    (listener,) = opened(f"unix:{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        listener.close()
        assert path.exists()


def test_socket_of_a_successor_is_safe_from_a_second_close(opened: Open, runtime_dir: Path) -> None:
    path = runtime_dir / "site.sock"
    (listener,) = opened(f"unix:{path}")
    listener.close()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        assert listener.inode is None, "its number may be the one of the successor's file by now"
        listener.close()
        assert path.exists()


def test_the_title_of_who_holds_a_port_is_told_without_what_fills_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        psutil.Process, "cmdline", lambda _self: ["wsgitop: master [shop] gen 1" + 90 * " ", ""]
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(BindError, match=r"in use by wsgitop: master \[shop\] gen 1 \(pid \d+\)"):
            open_listeners(Settings(bind=(bind,)))
