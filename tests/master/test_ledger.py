"""The death ledger: bounded, harmless text, kept over restarts whatever the disk does."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import eventually
from wsgitop.master import ledger_file
from wsgitop.master.events import LOGGER
from wsgitop.master.ledger import (
    KEPT,
    LINE_LIMIT,
    LINES_KEPT,
    SERVING_LIMIT,
    STACK_LIMIT,
    WANTED_KEPT,
    Ledger,
    clean,
)
from wsgitop.master.ledger_file import LedgerFile, file_name, open_ledger, state_directory
from wsgitop.settings.table import Settings
from wsgitop.snapshot import Death, InFlight

SETTINGS = Settings(wsgi_app="shop:app", bind=("127.0.0.1:8000",))


def death(pid: int = 7, *, at: float = 1.0, **more: Any) -> Death:
    values = {"text": "it ended", "generation": 1} | more
    return Death(sequence=0, at=at, process="worker", cause="exited", pid=pid, **values)


class Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.levels: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.levels.append(record.levelno)


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    handler, before = Warnings(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(before)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    """Opens the ledger in ``tmp_path``, as a server does at its start; the server before it has ended."""
    files: list[LedgerFile] = []

    def build(settings: Settings = SETTINGS, *, beside: bool = False) -> Ledger:
        if not beside:
            finish()
        ledger, file = open_ledger(settings, {"XDG_STATE_HOME": str(tmp_path)})
        if file is not None:
            files.append(file)
        return ledger

    def finish() -> None:
        while files:
            file = files.pop()
            file.close()
            assert not file._thread.is_alive()

    build.finish = finish  # type: ignore[attr-defined] # the end of the last server
    yield build
    finish()
    assert not [t for t in threading.enumerate() if t.name == "wsgitop-ledger"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wsgitop" / file_name("shop:app", "127.0.0.1:8000")


# -- in memory


def test_the_newest_are_kept_and_numbered() -> None:
    ledger = Ledger()
    for pid in range(KEPT + 50):
        ledger.add(death(pid))
    found = ledger.after(0, 10_000)
    assert [one.pid for one in found] == list(range(50, KEPT + 50))
    assert [one.sequence for one in found] == list(range(51, KEPT + 51))
    assert ledger.after(KEPT + 48, 10) == found[-2:]
    assert ledger.after(0, 3) == found[-3:]
    assert ledger.after(0, 0) == ledger.after(KEPT + 50, 5) == ()


_NASTY = st.text(max_size=600)


@given(_NASTY, st.lists(_NASTY, max_size=40), st.lists(_NASTY, max_size=30))
def test_text_from_outside_is_harmless_and_short(text: str, lines: list[str], paths: list[str]) -> None:
    serving = tuple(InFlight(0, text, path, text, 1.0) for path in paths)
    found = clean(
        death(text=text, actor=text, stack="\n".join(lines * 9), lines=tuple(lines), serving=serving)
    )
    assert clean(found) == found, "what is read back is not escaped twice"
    assert len(found.lines) <= LINES_KEPT and len(found.serving) <= SERVING_LIMIT
    assert len(found.stack) <= STACK_LIMIT
    for part in (
        found.text,
        found.actor,
        *found.lines,
        *(r.path for r in found.serving),
        *found.stack.split("\n"),
    ):
        assert "\x1b" not in part and "\n" not in part and len(part) <= max(LINE_LIMIT, STACK_LIMIT)
    assert len(msgspec.json.encode(found)) < 150_000, "hundreds of them are bearable"


# -- on disk


def test_deaths_outlive_the_server(make: Any, path: Path) -> None:
    first = make()
    first.add(death(7, stack="Stack\n  x", lines=("a", "b"), memory=((0.0, 5), (1.0, 9))))
    first.add(death(8, at=2.0))
    before = first.after(0, 10)
    second = make()
    assert second.after(0, 10) == before
    assert second.add(death(9, at=3.0)).sequence == 3
    make.finish()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path], "nothing half-made is left"


def test_another_server_has_another_file(make: Any, path: Path) -> None:
    make().add(death(7))
    other = make(msgspec.structs.replace(SETTINGS, bind=("127.0.0.1:8001",)))
    assert other.after(0, 10) == ()
    assert [one.pid for one in make().after(0, 10)] == [7]
    names = {
        file_name(*pair) for pair in [("a:b", "c"), ("a", "b:c"), ("../../a:b", "c"), ("x" * 300, "y" * 300)]
    }
    assert len(names) == 4
    assert all("/" not in name and len(name) < 200 and name.startswith("deaths-") for name in names)


def test_a_thousand_ends_at_once_keep_nobody_waiting(make: Any) -> None:
    ledger = make()
    for pid in range(1000):
        ledger.add(death(pid, at=pid))
    assert [one.pid for one in make().after(0, 1000)] == list(range(800, 1000))


def test_two_masters_of_one_server_lose_nothing(make: Any, path: Path) -> None:
    """During an upgrade the old master's workers end while the new one writes already."""
    old = make()
    new = make(beside=True)
    old.add(death(1, at=1.0))
    eventually(path.exists)
    new.add(death(2, at=2.0))
    eventually(lambda: b'"pid":2' in path.read_bytes())
    old.add(death(3, at=3.0))
    eventually(lambda: b'"pid":3' in path.read_bytes())
    found = make().after(0, 10)
    assert [one.pid for one in found] == [1, 2, 3]
    assert [one.sequence for one in found] == sorted({one.sequence for one in found})


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (lambda data: data[:-20], [1, 2]),  # the disk was full, or the power gone
        (lambda data: b"\0" * 4096, []),
        (lambda data: b"", []),
        (lambda data: b"#!/bin/sh\necho hello\n", []),
        (lambda data: data.replace(b'"pid":2', b'"pid":[]'), [1, 3]),
        (lambda data: data.replace(b'"wsgitop_deaths":1', b'"wsgitop_deaths":99'), []),
        (lambda data: data.replace(b"shop:app", b"shop:\xff\xfe"), []),
        (lambda data: data.replace(b"it ended", b"\xff\xfe ended"), []),
    ],
    ids=["cut", "zeros", "empty", "script", "one bad", "newer", "bad head", "bad text"],
)
def test_a_damaged_file_is_set_aside_with_one_warning(
    make: Any, path: Path, warnings: Warnings, spoil: Callable[[bytes], bytes], left: list[int]
) -> None:
    ledger = make()
    for pid in (1, 2, 3):
        ledger.add(death(pid, at=pid))
    make.finish()
    spoiled = spoil(path.read_bytes())
    path.write_bytes(spoiled)
    again = make()
    assert [one.pid for one in again.after(0, 10)] == left
    assert len(warnings.texts) == 1 and "set-aside" in warnings.texts[0]
    assert path.with_name(path.name + ".set-aside").read_bytes() == spoiled
    again.add(death(4, at=9.0))
    assert [one.pid for one in make().after(0, 10)] == [*left, 4]
    assert len(warnings.texts) == 1


def test_text_in_a_file_that_was_tampered_with_is_harmless(make: Any, path: Path) -> None:
    make().add(death(1))
    make.finish()
    path.write_bytes(path.read_bytes().replace(b"it ended", b"it \\u001b[2J ended" + b"x" * 5000))
    (found,) = make().after(0, 10)
    assert found.text.startswith("it \\x1b[2J") and len(found.text) <= 400


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_is_no_file_of_ours_is_not_followed(
    make: Any, path: Path, warnings: Warnings, kind: str
) -> None:
    path.parent.mkdir(mode=0o700)
    victim = path.parent.parent / "victim"
    victim.write_text("precious")
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    make().add(death(1))
    assert [one.pid for one in make().after(0, 10)] == [1]
    assert victim.read_text() == "precious"
    assert len(warnings.texts) == 1


def test_a_full_disk_is_one_warning_and_the_next_death_is_the_next_try(
    make: Any, path: Path, warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make()
    full = threading.Event()
    full.set()
    tried: list[int] = []
    replace = LedgerFile._replace

    def on_full_disk(file: LedgerFile, data: bytes) -> None:
        tried.append(len(data))
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(file, data)

    monkeypatch.setattr(LedgerFile, "_replace", on_full_disk)
    monkeypatch.setattr(ledger_file, "PAUSE_S", 0.0)
    for pid in (1, 2, 3):
        ledger.add(death(pid, at=pid))
        eventually(lambda pid=pid: len(tried) >= pid)
    assert [one.pid for one in ledger.after(0, 10)] == [1, 2, 3]
    eventually(lambda: warnings.texts)
    full.clear()
    ledger.add(death(4, at=4))
    make.finish()
    assert len(warnings.texts) == 1 and "No space left" in warnings.texts[0]
    assert [one.pid for one in make().after(0, 10)] == [1, 2, 3, 4]


def test_a_look_at_the_file_that_fails_loses_no_death(
    make: Any, path: Path, warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make()
    merge = LedgerFile._merge
    faults = [OSError(errno.EIO, "Input/output error")]

    def look(file: LedgerFile) -> None:
        if faults:
            raise faults.pop()
        merge(file)

    monkeypatch.setattr(LedgerFile, "_merge", look)
    ledger.add(death(1))
    eventually(lambda: warnings.texts)
    ledger.add(death(2, at=2))
    make.finish()
    assert [one.pid for one in make().after(0, 10)] == [1, 2]


def test_two_masters_that_write_at_once_lose_nothing(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "PAUSE_S", 0.0)
    old, new = make(), make(beside=True)
    merge, looked, other = LedgerFile._merge, threading.Event(), threading.Event()

    def look(file: LedgerFile) -> None:
        merge(file)
        if not looked.is_set():  # the other one comes between this look and the rename
            looked.set()
            other.wait(0.3)

    monkeypatch.setattr(LedgerFile, "_merge", look)
    replace = LedgerFile._replace

    def write(file: LedgerFile, data: bytes) -> None:
        replace(file, data)
        other.set()

    monkeypatch.setattr(LedgerFile, "_replace", write)
    old.add(death(1, at=1.0))
    assert looked.wait(5)
    new.add(death(2, at=2.0))
    make.finish()
    assert [one.pid for one in make().after(0, 10)] == [1, 2]


def test_a_disk_that_hangs_holds_nobody_up(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hangs, writing = threading.Event(), threading.Event()

    def slow(_file: LedgerFile, _data: bytes) -> None:
        writing.set()
        hangs.wait(10)

    monkeypatch.setattr(LedgerFile, "_replace", slow)
    ledger, file = open_ledger(SETTINGS, {"XDG_STATE_HOME": str(tmp_path)})
    assert file is not None
    for pid in range(500):
        ledger.add(death(pid))
    assert writing.wait(5)
    file.close(timeout_s=0.05)
    hangs.set()
    file.close()


# -- where


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = msgspec.structs.replace(SETTINGS, state_dir="/srv/state")
    assert state_directory(given, {"XDG_STATE_HOME": "/x"}) == Path("/srv/state")
    assert state_directory(SETTINGS, {"XDG_STATE_HOME": "/x"}) == Path("/x/wsgitop")
    for uid, expected in ((0, Path("/var/lib/wsgitop")), (1000, tmp_path / ".local/state/wsgitop")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert (
            state_directory(SETTINGS, {}) == state_directory(SETTINGS, {"XDG_STATE_HOME": "rel"}) == expected
        )


@pytest.mark.parametrize(
    ("fault", "asked_for"), [(errno.EROFS, False), (errno.EACCES, False), (errno.EROFS, True)]
)
def test_where_nothing_can_be_written_one_note_says_so(
    make: Any, warnings: Warnings, monkeypatch: pytest.MonkeyPatch, fault: int, asked_for: bool
) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Path, "mkdir", refuse)
    directory = "/srv/state" if asked_for else ""
    ledger = make(msgspec.structs.replace(SETTINGS, state_dir=directory))
    ledger.add(death(1))
    assert [one.pid for one in ledger.after(0, 10)] == [1]
    assert len(warnings.texts) == 1 and "in memory only" in warnings.texts[0]
    # In a container that is how it is; who has named a directory wants to know.
    assert warnings.levels == [logging.WARNING if asked_for else logging.INFO]


def test_a_directory_that_others_may_write_is_not_used(make: Any, warnings: Warnings, path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    make().add(death(1))
    assert not path.exists()
    assert "can be written by others" in warnings.texts[0]
    path.parent.chmod(0o700)
    path.parent.rmdir()
    path.parent.write_text("a file")
    make().add(death(1))
    assert len(warnings.texts) == 2


def test_the_file_can_be_read_by_other_programs(make: Any, path: Path) -> None:
    make().add(death(1))
    make.finish()
    head, line = path.read_text().splitlines()
    assert json.loads(head) == {"wsgitop_deaths": 1, "app": "shop:app", "bind": "127.0.0.1:8000"}
    assert json.loads(line)["cause"] == "exited"


def test_what_systemd_gives_is_taken() -> None:
    given = {"STATE_DIRECTORY": "/var/lib/shop:/var/lib/more", "XDG_STATE_HOME": "/x"}
    assert state_directory(SETTINGS, given) == Path("/var/lib/shop")
    assert state_directory(SETTINGS, given | {"STATE_DIRECTORY": "shop"}) == Path("/x/wsgitop")


@given(st.lists(st.booleans(), max_size=500))
def test_a_day_of_deploys_does_not_push_out_a_crash(wanted: list[bool]) -> None:
    ledger = Ledger()
    for pid, was_wanted in enumerate(wanted):
        ledger.add(msgspec.structs.replace(death(pid), cause="replaced" if was_wanted else "crashed"))
    kept = ledger.after(0, 1000)
    assert len(kept) == min(KEPT, len(wanted))
    assert [d.sequence for d in kept] == sorted(d.sequence for d in kept)
    crashes = [pid for pid, was_wanted in enumerate(wanted) if not was_wanted]
    assert [d.pid for d in kept if d.cause == "crashed"][-WANTED_KEPT:] == crashes[-WANTED_KEPT:]
    if wanted:
        assert kept[-1].pid == len(wanted) - 1


def test_the_file_keeps_what_the_memory_keeps(make: Callable[..., Ledger], tmp_path: Path) -> None:
    ledger = make()
    ledger.add(death(4711))
    for pid in range(KEPT + 50):
        ledger.add(msgspec.structs.replace(death(pid, at=2.0 + pid), cause="stopped"))
    assert make().after(0, 1000) == ledger.after(0, 1000)
    assert ledger.after(0, 1000)[0].pid == 4711
