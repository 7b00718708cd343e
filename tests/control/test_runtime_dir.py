"""Where control sockets are, who may have them, and how masters are found."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from wsgitop.control import runtime_dir
from wsgitop.control.claim import claim, file_name
from wsgitop.control.runtime_dir import Found, base_directory, discover
from wsgitop.errors import ControlSocketError
from wsgitop.transport.unix import connect


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


def record(path: str, pid: int = 0) -> Found:
    return Found(pid or os.getpid(), 1.0, "shop:app", "shop", ("0:8000",), path)


def names(directory: Path | str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_a_claim_is_private_found_and_removed(environ: dict[str, str], tmp_path: Path) -> None:
    held = claim("", name="shop", environ=environ)
    held.announce(record(held.path))
    entry = tmp_path / "wsgitop" / f"shop-{os.getpid()}"
    assert held.path == str(entry / "control.sock")
    assert [mode(tmp_path / "wsgitop"), mode(entry), mode(held.path)] == [0o700, 0o700, 0o600]
    assert all(mode(path) == 0o600 for path in entry.iterdir())
    assert discover(environ) == [record(held.path)]
    connect(held.path).close()
    held.close()
    held.close()
    assert names(tmp_path / "wsgitop") == []
    assert discover(environ) == []


def test_the_socket_is_private_whatever_the_umask(environ: dict[str, str]) -> None:
    before = os.umask(0)
    try:
        held = claim("", name="shop", environ=environ)
    finally:
        os.umask(before)
    assert mode(held.path) == 0o600
    held.close()


def test_a_master_with_a_socket_elsewhere_is_found_too(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "own" / "c.sock"
    held = claim(str(path), name="shop", environ=environ)
    held.announce(record(held.path))
    assert mode(path.parent) == 0o700
    assert [found.control for found in discover(environ)] == [str(path)]
    held.close()
    assert names(path.parent) == []


def test_a_second_master_is_refused_and_the_first_stays_whole(
    environ: dict[str, str], tmp_path: Path
) -> None:
    path = str(tmp_path / "c.sock")
    first = claim(path, name="one", environ=environ, pid=11)
    inode = Path(path).stat().st_ino
    with pytest.raises(ControlSocketError, match=r"in use by another master \(pid 11\)"):
        claim(path, name="two", environ=environ, pid=12)
    assert Path(path).stat().st_ino == inode
    connect(path).close()
    assert names(tmp_path / "wsgitop") == ["one-11"]
    first.close()
    assert not Path(path).exists()
    claim(path, name="two", environ=environ, pid=12).close()


def test_a_stale_socket_is_replaced(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    stale_socket(path)
    held = claim(str(path), name="shop", environ=environ)
    connect(str(path)).close()
    held.close()


def test_the_live_socket_of_another_program_is_left_alone(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        with pytest.raises(ControlSocketError, match="in use by another program"):
            claim(str(path), name="shop", environ=environ)
        assert path.is_socket()
    assert not (tmp_path / "docker.sock.lock").exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(environ: dict[str, str], tmp_path: Path, kind: str) -> None:
    path, precious = tmp_path / "c.sock", tmp_path / "precious"
    precious.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(precious)
    with pytest.raises(ControlSocketError, match="something else"):
        claim(str(path), name="shop", environ=environ)
    assert os.path.lexists(path)
    assert precious.read_text() == "precious"


def test_a_socket_that_took_our_place_is_not_removed(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    held = claim(str(path), name="shop", environ=environ)
    path.unlink()
    stale_socket(path)
    held.close()
    assert path.is_socket()


def test_long_paths_work(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / ("d" * 100) / ("e" * 100) / "c.sock"
    path.parent.mkdir(parents=True)
    stale_socket_long(path)
    held = claim(str(path), name="shop", environ=environ)
    assert held.path == str(path)
    connect(str(path)).close()
    held.close()
    assert names(path.parent) == []


def stale_socket_long(path: Path) -> None:
    directory = os.open(path.parent, os.O_PATH)
    stale_socket(Path(f"/proc/self/fd/{directory}/{path.name}"))
    os.close(directory)


def test_a_relative_path_is_made_absolute(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = claim("c.sock", name="shop", environ=environ)
    assert held.path == str(tmp_path / "c.sock")
    held.close()


# -- foreign and open directories ----------------------------------------------------------------------------


def test_a_directory_that_others_may_write_to_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ControlSocketError, match="others may write"):
        claim(str(shared / "c.sock"), name="shop", environ=environ)
    shared.chmod(0o1777)  # as /tmp: nobody can replace what is not his
    claim(str(shared / "c.sock"), name="shop", environ=environ).close()


def test_an_open_runtime_directory_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "wsgitop").mkdir()
    (tmp_path / "wsgitop").chmod(0o755)
    for attempt in (lambda: claim("", name="shop", environ=environ), lambda: discover(environ)):
        with pytest.raises(ControlSocketError, match="open to others") as refusal:
            attempt()
        assert "chmod 700" in refusal.value.remedy


def test_a_runtime_directory_that_is_a_link_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "wsgitop").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlSocketError, match="link"):
        claim("", name="shop", environ=environ)
    with pytest.raises(ControlSocketError, match="link"):
        discover(environ)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_foreign_directories_sockets_and_locks_are_refused(environ: dict[str, str], tmp_path: Path) -> None:
    nobody = 65534
    (tmp_path / "wsgitop").mkdir(mode=0o700)
    os.chown(tmp_path / "wsgitop", nobody, nobody)
    with pytest.raises(ControlSocketError, match="belongs to user id 65534"):
        claim("", name="shop", environ=environ)
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    stale_socket(own / "c.sock")
    os.chown(own / "c.sock", nobody, nobody)
    with pytest.raises(ControlSocketError, match="belongs to user id 65534"):
        claim(str(own / "c.sock"), name="shop", environ=environ)
    (own / "d.sock.lock").touch()
    os.chown(own / "d.sock.lock", nobody, nobody)
    with pytest.raises(ControlSocketError, match="somebody else"):
        claim(str(own / "d.sock"), name="shop", environ=environ)
    os.chown(own, nobody, nobody)
    with pytest.raises(ControlSocketError, match="belongs to user id 65534"):
        claim(str(own / "e.sock"), name="shop", environ=environ)


def test_a_socket_of_ones_own_choosing_does_not_need_the_runtime_directory(tmp_path: Path) -> None:
    (tmp_path / "wsgitop").mkdir()
    (tmp_path / "wsgitop").chmod(0o777)
    held = claim(str(tmp_path / "c.sock"), name="shop", environ={"XDG_RUNTIME_DIR": str(tmp_path)})
    held.announce(record(held.path))
    connect(held.path).close()
    held.close()


def test_a_failed_claim_leaves_nothing_behind(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "c.sock").write_text("")
    before = len(names("/proc/self/fd"))
    with pytest.raises(ControlSocketError):
        claim(str(tmp_path / "c.sock"), name="shop", environ=environ)
    assert names(tmp_path / "wsgitop") == []
    assert not (tmp_path / "c.sock.lock").exists()
    assert len(names("/proc/self/fd")) == before


# -- the base directory --------------------------------------------------------------------------------------


def test_the_base_directory_without_a_runtime_directory(tmp_path: Path) -> None:
    uid = os.geteuid()
    expected = (
        Path(f"/run/user/{uid}/wsgitop") if Path(f"/run/user/{uid}").is_dir() else tmp_path / f"wsgitop-{uid}"
    )
    for runtime in ("", "relative", str(tmp_path / "missing")):
        assert base_directory({"XDG_RUNTIME_DIR": runtime, "TMPDIR": str(tmp_path)}) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
def test_the_runtime_directory_of_another_user_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 65534, 65534)
    base = base_directory({"XDG_RUNTIME_DIR": str(tmp_path / "run"), "TMPDIR": str(tmp_path)})
    assert not base.is_relative_to(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rmadmin.wsgi", "rmadmin.wsgi"),
        ("../../etc", "etc"),
        ("a/b c\n", "a_b_c"),
        ("…", "wsgitop"),
        ("", "wsgitop"),
        ("x" * 300, "x" * 48),
    ],
)
def test_names_of_files(name: str, expected: str) -> None:
    assert file_name(name) == expected


# -- discovery -----------------------------------------------------------------------------------------------


def test_entries_of_dead_masters_are_removed(environ: dict[str, str], tmp_path: Path) -> None:
    held = claim("", name="shop", environ=environ)
    held.announce(record(held.path))
    dead = tmp_path / "wsgitop" / "dead-1"
    dead.mkdir(mode=0o700)
    stale_socket(dead / "control.sock")
    for name in ("lock", "control.sock.lock", "master.json"):
        (dead / name).write_text("{}")
    assert discover(environ) == [record(held.path)]
    assert not dead.exists()
    held.close()


def test_an_entry_in_the_making_is_left_alone(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = claim("", name="shop", environ=environ)
    assert discover(environ) == []
    held.announce(record(held.path))
    assert len(discover(environ)) == 1
    held.close()
    # Half made, and nobody holds it: it may go once it is old.
    entry = base_directory(environ) / "half-1"
    entry.mkdir(mode=0o700)
    assert discover(environ) == []
    assert entry.exists()
    monkeypatch.setattr(runtime_dir, "HALF_MADE_S", -1.0)
    assert discover(environ) == []
    assert not entry.exists()


def test_files_that_are_not_ours_to_judge_stay(environ: dict[str, str], tmp_path: Path) -> None:
    base = tmp_path / "wsgitop"
    base.mkdir(mode=0o700)
    (base / "notes.txt").write_text("mine")
    dead = base / "dead-1"
    dead.mkdir(mode=0o700)
    (dead / "lock").touch()
    (dead / "master.json").write_text("{}")
    (dead / "precious").write_text("mine")
    (base / "link-2").symlink_to(tmp_path)
    assert discover(environ) == []
    assert (base / "notes.txt").exists()
    assert names(dead) == ["precious"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x"}', b"\xff\xfe", b"[" * 60000, b"x" * 100_000])
def test_an_unreadable_record_is_passed_over(environ: dict[str, str], content: bytes) -> None:
    held = claim("", name="shop", environ=environ)
    (Path(held.path).parent / "master.json").write_bytes(content)
    assert discover(environ) == []
    connect(held.path).close()
    held.close()
