"""Addresses that a reload changes: which sockets stay, which come, which go."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import free_port
from wsgitop.errors import BindError, ConfigError
from wsgitop.master.bindings import Bindings
from wsgitop.master.events import EventLog
from wsgitop.master.listeners import close_listeners, open_listeners
from wsgitop.settings.table import Settings


class Site:
    """Bindings of a server that was started with some addresses."""

    def __init__(self, *bind: str, **options: object) -> None:
        first = self.settings(*bind, **options)
        self.events = EventLog()
        self.bindings = Bindings(open_listeners(first), first, self.events)
        self.bindings.prepare(1, first, fixed=True)
        self.bindings.accept(1, first)
        self.number = 1

    @staticmethod
    def settings(*bind: str, **options: object) -> Settings:
        return Settings(bind=bind, **options)  # type: ignore[arg-type] # any setting

    def prepare(self, *bind: str, **options: object) -> list[str]:
        self.number += 1
        self.latest = self.settings(*bind, **options)
        found = self.bindings.prepare(self.number, self.latest, fixed=False)
        return [str(listener.address) for listener in found]

    def accept(self) -> None:
        self.bindings.accept(self.number, self.latest)

    def open(self) -> list[str]:
        return [str(listener.address) for listener in self.bindings.open]

    def files(self) -> list[int]:
        return [listener.socket.fileno() for listener in self.bindings.open]


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    made: list[Site] = []
    yield made
    for site in made:
        close_listeners(site.bindings.open)


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


def reached(host: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex((host, port)) == 0


def test_the_same_addresses_are_the_same_sockets(sites: list[Site]) -> None:
    sites.append(site := Site("127.0.0.1:0", "127.0.0.1:0"))
    before = site.files()
    site.prepare("127.0.0.1:0", "127.0.0.1:0")
    site.accept()
    assert site.files() == before
    site.prepare("127.0.0.1:0")
    site.accept()
    assert site.files() == before[:1]


def test_new_ones_are_there_before_old_ones_go(sites: list[Site], ports: tuple[int, int]) -> None:
    first, second = ports
    sites.append(site := Site(f"127.0.0.1:{first}"))
    assert site.prepare(f"127.0.0.1:{second}") == [f"127.0.0.1:{second}"]
    assert reached("127.0.0.1", first) and reached("127.0.0.1", second)
    site.accept()
    assert site.open() == [f"127.0.0.1:{second}"]
    assert not reached("127.0.0.1", first)


def test_all_or_none(sites: list[Site], ports: tuple[int, int]) -> None:
    first, second = ports
    sites.append(site := Site(f"127.0.0.1:{first}"))
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(BindError, match="in use by"):
        site.prepare(f"127.0.0.1:{second}", f"127.0.0.1:{other.getsockname()[1]}")
    assert site.open() == [f"127.0.0.1:{first}"]
    assert not reached("127.0.0.1", second)


def test_given_up(sites: list[Site], ports: tuple[int, int], tmp_path: Path) -> None:
    first, second = ports
    sites.append(site := Site(f"127.0.0.1:{first}"))
    site.prepare(f"127.0.0.1:{first}", f"127.0.0.1:{second}", f"unix:{tmp_path}/s")
    site.bindings.give_up(site.number)
    assert site.open() == [f"127.0.0.1:{first}"]
    assert not reached("127.0.0.1", second) and not (tmp_path / "s").exists()
    assert site.prepare(f"127.0.0.1:{second}") == [f"127.0.0.1:{second}"], "it can be had again"


def test_two_reloads_at_once_share_what_both_name(sites: list[Site], ports: tuple[int, int]) -> None:
    """The first is replacing workers already when the second comes."""
    first, second = ports
    sites.append(site := Site(f"127.0.0.1:{first}"))
    site.prepare(f"127.0.0.1:{second}")
    site.prepare(f"127.0.0.1:{second}")
    assert len(site.open()) == 2
    site.bindings.give_up(3)
    assert reached("127.0.0.1", second), "workers of generation 2 serve there"
    site.bindings.give_up(*site.bindings.others(1))
    assert not reached("127.0.0.1", second)


def test_from_one_address_to_all(sites: list[Site]) -> None:
    port = free_port()
    sites.append(site := Site(f"127.0.0.1:{port}"))
    site.prepare(f"0.0.0.0:{port}")
    assert reached("127.0.0.1", port)
    old, new = site.bindings.open
    assert old.socket.accept()[0].close() is None, "the narrower one is preferred for as long as it is there"
    site.accept()
    assert reached("127.0.0.1", port)
    new.socket.setblocking(True)
    new.socket.settimeout(5)
    new.socket.accept()[0].close()


def test_from_all_addresses_to_one_needs_a_restart(sites: list[Site]) -> None:
    port = free_port()
    sites.append(site := Site(f"0.0.0.0:{port}"))
    with pytest.raises(BindError, match="this server listens on") as caught:
        site.prepare(f"127.0.0.1:{port}")
    assert "Restart" in caught.value.remedy


def test_descriptors_cannot_be_added(sites: list[Site]) -> None:
    """Descriptor N of the master may be anything by now: its control socket listens, too."""
    sites.append(site := Site("127.0.0.1:0"))
    with pytest.raises(ConfigError, match="cannot be added by a reload"):
        site.prepare("127.0.0.1:0", f"fd://{site.files()[0]}")


def test_descriptor_that_goes_takes_nobody_in_any_more(sites: list[Site]) -> None:
    given = socket.create_server(("127.0.0.1", 0))
    port = given.getsockname()[1]
    sites.append(site := Site(f"fd://{given.fileno()}", "127.0.0.1:0"))
    fd = given.detach()
    site.prepare("127.0.0.1:0")
    site.accept()
    assert not reached("127.0.0.1", port)
    assert f"fd://{fd}" not in site.open()


def test_descriptor_of_an_earlier_master_is_nothing_here(sites: list[Site]) -> None:
    """What a new master inherited was adopted from that descriptor of another process."""
    with socket.create_server(("127.0.0.1", 0)) as given, Path("/dev/null").open() as other:
        sites.append(site := Site(f"fd://{given.fileno()}", "127.0.0.1:0"))
        inherited = site.bindings.open[0]
        inherited.given, inherited.adopted_fd = f"fd://{other.fileno()}", -1
        site.prepare("127.0.0.1:0")
        site.accept()
        assert Path(f"/proc/self/fd/{other.fileno()}").resolve() == Path("/dev/null")


def test_unix_socket_that_a_new_master_may_take_over_keeps_its_file(
    sites: list[Site], tmp_path: Path
) -> None:
    path = tmp_path / "s"
    sites.append(site := Site(f"unix:{path}", "127.0.0.1:0"))
    (listener, _) = site.bindings.open
    listener.lent = True
    site.prepare("127.0.0.1:0")
    site.accept()
    assert path.is_socket()
    listener.take_back()
    assert not path.exists(), "it did not take over"


def test_file_in_the_place_of_a_lent_socket_stays(sites: list[Site], tmp_path: Path) -> None:
    """Another server has made itself at home at that path meanwhile. Its socket may not even be known by the
    number of its inode, which is free again when nobody has the first one any more.
    """
    path = tmp_path / "s"
    sites.append(site := Site(f"unix:{path}", "127.0.0.1:0"))
    (listener, _) = site.bindings.open
    listener.lent = True
    number = path.stat().st_ino
    site.prepare("127.0.0.1:0")
    site.accept()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        assert path.stat().st_ino != number, "it was kept from being given away"
        listener.take_back()
        assert path.is_socket()


def test_nothing_of_a_lent_socket_is_kept(sites: list[Site], tmp_path: Path) -> None:
    sites.append(site := Site(f"unix:{tmp_path}/s", "127.0.0.1:0"))
    (listener, _) = site.bindings.open
    listener.lent = True
    before = len(list(Path("/proc/self/fd").iterdir()))
    site.prepare("127.0.0.1:0")
    site.accept()
    listener.give_away()
    listener.close()
    assert (tmp_path / "s").is_socket(), "it is the new master's"
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1


@pytest.mark.parametrize("known_by", ["the socket", "the target", "the link"])
def test_another_mode_goes_to_no_other_file(sites: list[Site], tmp_path: Path, known_by: str) -> None:
    """Who owns the directory puts a link in the socket's place before a reload that changes the mode has come
    to its end. ``known_by``: what the listener takes for its file, as a look that follows links, or one that
    comes too late, would find it.
    """
    path, other = tmp_path / "s", tmp_path / "shadow"
    other.touch(0o600)
    sites.append(site := Site(f"unix:{path}", umask=0o077))
    (listener,) = site.bindings.open
    site.prepare(f"unix:{path}", umask=0)
    path.unlink()
    path.symlink_to(other)
    if known_by != "the socket":
        found = other.stat() if known_by == "the target" else path.lstat()
        listener.inode = (found.st_dev, found.st_ino)
    site.accept()
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


def test_another_mode_goes_to_the_file_that_was_looked_at(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns the directory puts a link in the socket's place right behind the look at it."""
    path, aside, other = tmp_path / "s", tmp_path / "aside", tmp_path / "shadow"
    other.touch(0o600)
    sites.append(site := Site(f"unix:{path}", umask=0o077))
    site.prepare(f"unix:{path}", umask=0)
    look = {"fstat": os.fstat, "lstat": os.lstat, "stat": os.stat}

    def look_and_replace(name: str, *given: Any, **options: Any) -> os.stat_result:
        found = look[name](*given, **options)
        if not aside.exists() and stat.S_ISSOCK(found.st_mode):
            path.rename(aside)
            path.symlink_to(other)
        return found

    for name in look:
        monkeypatch.setattr(os, name, partial(look_and_replace, name))
    site.accept()
    monkeypatch.undo()
    assert path.is_symlink()
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert stat.S_IMODE(aside.stat().st_mode) == 0o777


def test_unix_socket_stays_and_gets_another_mode(sites: list[Site], tmp_path: Path) -> None:
    path = tmp_path / "s"
    sites.append(site := Site(f"unix:{path}", umask=0o077))
    before = path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o700
    site.prepare(f"unix:{path}", umask=0o007)
    site.accept()
    assert path.stat().st_ino == before.st_ino
    assert stat.S_IMODE(path.stat().st_mode) == 0o770


def test_unix_socket_whose_file_was_removed_is_made_again(sites: list[Site], tmp_path: Path) -> None:
    path = tmp_path / "s"
    sites.append(site := Site(f"unix:{path}"))
    path.unlink()
    site.prepare(f"unix:{path}")
    site.accept()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert len(site.open()) == 1


def test_backlog(sites: list[Site]) -> None:
    sites.append(site := Site("127.0.0.1:0", backlog=7))
    site.prepare("127.0.0.1:0", backlog=9)
    assert site.bindings.open[0].backlog == 7
    site.accept()
    assert site.bindings.open[0].backlog == 9
    info = site.bindings.open[0].socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert int.from_bytes(info[28:32], "little") == 9  # tcpi_sacked is the backlog of one that listens
