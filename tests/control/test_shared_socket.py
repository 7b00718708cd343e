"""The socket for other users: its place, its modes, and what it leaves alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.users import ALICE, as_root, effective
from wsgitop.control import shared_socket
from wsgitop.control.shared_socket import default_directory, open_shared
from wsgitop.control.socket_file import bind_private
from wsgitop.errors import ControlSocketError
from wsgitop.transport.unix import connect


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def shared(open_dir: Path) -> Path:
    """A directory as it should be, not made yet."""
    return open_dir / "shared"


def test_others_get_through_and_not_in(shared: Path) -> None:
    before = os.umask(0o077)
    try:
        held = open_shared("", name="shop", pid=7, directory=shared)
    finally:
        os.umask(before)
    assert held.path == str(shared / "shop-7.sock")
    assert (mode(shared), mode(held.path), mode(held.path + ".lock")) == (0o711, 0o666, 0o600)
    connect(held.path).close()
    held.close()
    held.close()
    assert names(shared) == []


@as_root
def test_another_user_can_connect_and_nothing_else(open_dir: Path, shared: Path) -> None:
    held = open_shared(str(shared / "c.sock"), name="shop", pid=7)
    with effective(ALICE):
        connect(held.path).close()
        for attempt in (
            lambda: names(shared),
            Path(held.path).unlink,
            lambda: Path(held.path).rename(shared / "other"),
            (shared / "new").touch,
            Path(held.path + ".lock").read_text,
            lambda: Path(held.path).chmod(0o600),
        ):
            with pytest.raises(PermissionError):
                attempt()
    held.close()


def test_nobody_can_connect_before_the_mode_is_set(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    let_in = shared_socket._let_others_in

    def look(directory_fd: int, path: Path, bound: tuple[int, int]) -> None:
        for moment in (lambda: None, lambda: let_in(directory_fd, path, bound)):
            moment()
            with socket.socket(socket.AF_UNIX) as probe:
                seen.append((mode(path), probe.connect_ex(str(path))))

    monkeypatch.setattr(shared_socket, "_let_others_in", look)
    before = os.umask(0)
    try:
        open_shared(str(shared / "c.sock"), name="shop", pid=7).close()
    finally:
        os.umask(before)
    assert seen == [(0o600, errno.ECONNREFUSED), (0o666, errno.ECONNREFUSED)]


def test_a_file_that_takes_the_sockets_place_is_not_opened_to_others(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = shared.parent / "precious"
    precious.touch(0o600)

    def bind_and_lose(*arguments: object) -> tuple[int, int]:
        bound = bind_private(*arguments)  # type: ignore[arg-type]  # handed through
        (shared / "c.sock").unlink()
        (shared / "c.sock").symlink_to(precious)
        return bound

    monkeypatch.setattr(shared_socket, "bind_private", bind_and_lose)
    with pytest.raises(ControlSocketError, match="cannot be opened to others"):
        open_shared(str(shared / "c.sock"), name="shop", pid=7)
    assert mode(precious) == 0o600


def test_a_second_master_is_refused_and_the_first_stays_whole(shared: Path) -> None:
    path = str(shared / "c.sock")
    first = open_shared(path, name="one", pid=11)
    inode = Path(path).stat().st_ino
    with pytest.raises(ControlSocketError, match=r"another master \(pid 11\)") as fault:
        open_shared(path, name="two", pid=12, patience_s=0)
    assert "--control-allow-socket" in fault.value.remedy
    assert Path(path).stat().st_ino == inode
    connect(path).close()
    first.close()
    open_shared(path, name="two", pid=12).close()
    assert names(shared) == []


def stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_what_a_dead_master_left_is_replaced_and_what_took_our_place_is_not_removed(shared: Path) -> None:
    shared.mkdir(mode=0o711)
    stale(shared / "c.sock")
    held = open_shared(str(shared / "c.sock"), name="shop", pid=7)
    connect(held.path).close()
    Path(held.path).unlink()
    stale(shared / "c.sock")
    held.close()
    assert (shared / "c.sock").is_socket()


def test_leftovers_of_killed_masters_are_swept(shared: Path) -> None:
    living = open_shared("", name="living", pid=1, directory=shared)
    stale(shared / "dead-2.sock")
    (shared / "dead-2.sock.lock").write_text("2\n")
    (shared / "dead-3.sock.lock").touch()
    (shared / "file-4.sock").write_text("precious")
    (shared / "notes").touch()
    held = open_shared("", name="new", pid=5, directory=shared)
    assert names(shared) == [
        "file-4.sock", "living-1.sock", "living-1.sock.lock", "new-5.sock", "new-5.sock.lock", "notes"
    ]  # fmt: skip
    connect(living.path).close()
    for each in (held, living):
        each.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda shared: shared.symlink_to(shared.parent), "link"),
        (lambda shared: shared.touch(), "link or no directory"),
        (lambda shared: (shared.mkdir(), shared.chmod(0o777)), r"others may write .*0777"),
        (lambda shared: (shared.mkdir(), shared.chmod(0o1777)), "others may write"),
        (lambda shared: (shared.mkdir(), shared.chmod(0o775)), "others may write"),
        (lambda shared: shared.mkdir(mode=0o700), "nobody else gets into"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_an_unsafe_directory_is_refused(
    shared: Path, spoil: Callable[[Path], object], why: str, named: bool
) -> None:
    spoil(shared)
    with pytest.raises(ControlSocketError, match=why) as fault:
        open_shared(str(shared / "c.sock") if named else "", name="shop", pid=7, directory=shared)
    assert fault.value.remedy
    assert not shared.is_dir() or shared.is_symlink() or names(shared) == []


@as_root
def test_the_directory_of_another_user_is_refused(shared: Path) -> None:
    shared.mkdir(mode=0o711)
    shared.chmod(0o711)
    os.chown(shared, ALICE, ALICE)
    for named in (str(shared / "c.sock"), ""):
        with pytest.raises(ControlSocketError, match=f"belongs to user id {ALICE}"):
            open_shared(named, name="shop", pid=7, directory=shared)


def test_a_failed_attempt_leaves_nothing_behind(shared: Path) -> None:
    shared.mkdir()
    shared.chmod(0o711)
    (shared / "c.sock").write_text("precious")
    before = len(names(Path("/proc/self/fd")))
    with pytest.raises(ControlSocketError, match="something else"):
        open_shared(str(shared / "c.sock"), name="shop", pid=7)
    assert names(shared) == ["c.sock"]
    assert len(names(Path("/proc/self/fd"))) == before


def test_the_default_place_is_one_that_others_can_get_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == Path("/run/wsgitop")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_directory() == Path("/tmp/wsgitop-shared-1000")
