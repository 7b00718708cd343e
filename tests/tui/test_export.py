"""What is written to files, and how."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Self

import msgspec
import pytest

from tests.tui.drive import Driver
from tests.tui.fake import EPOCH, FakeServer, snapshot
from tests.tui.test_keys import drive
from wsgitop.snapshot import Snapshot
from wsgitop.tui.export import SAME_SECOND, as_json, write

pytestmark = pytest.mark.tui

STEM = "wsgitop-20251009-085320"  # EPOCH in UTC


def test_a_file_is_new_and_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, "txt", "ä\n", EPOCH)
    assert path == tmp_path / f"{STEM}.txt"
    assert path.read_text("utf-8") == "ä\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / f"{STEM}.json").symlink_to(victim)
    assert write(tmp_path, "json", "2", EPOCH).name == f"{STEM}-2.json"
    assert not victim.exists()
    for number in range(3, SAME_SECOND + 1):
        assert write(tmp_path, "json", "n", EPOCH).name == f"{STEM}-{number}.json"
    with pytest.raises(FileExistsError):
        write(tmp_path, "json", "one too many", EPOCH)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def write(self, _text: str) -> None:
            raise OSError(28, "No space left on device")

    def full(descriptor: int, *_arguments: object, **_options: object) -> Full:
        os.close(descriptor)
        return Full()

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, "svg", "x", EPOCH)
    assert not list(tmp_path.iterdir())


def test_json_is_the_snapshot() -> None:
    picture = snapshot()
    assert msgspec.json.decode(as_json(picture), type=Snapshot) == picture


def test_each_row_writes_a_file_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(driver: Driver) -> None:
        for key, name, beginning in [
            ("j", f"{STEM}.json", '{\n  "sequence": 1,'),
            ("s", f"{STEM}.svg", '<svg xml:space="preserve"'),
            ("t", f"{STEM}.txt", " wsgitop  ● LIVE"),
        ]:
            await driver.press("e")
            await driver.dialog("ExportMenu")
            assert str(tmp_path)[:40] in driver.text
            await driver.press(key)
            await driver.until(lambda name=name: f"written to {tmp_path / name}" in driver.said())
            text = (tmp_path / name).read_text("utf-8")
            assert text.startswith(beginning)
            assert "Write to a file" not in text, "the screen without the menu"
        await driver.press("e")
        await driver.dialog("ExportMenu")
        await driver.press("escape")
        await driver.until(lambda: "nothing written: cancelled" in driver.said())

    drive(scenario)


def test_where_nothing_may_be_written_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsgitop.tui.screens.exporting.write", refused)

    async def scenario(driver: Driver) -> None:
        await driver.press("e", "t")
        await driver.until(lambda: "Permission denied; start the interface where" in driver.said())

    drive(scenario)


def test_without_a_picture_there_is_no_json() -> None:
    server = FakeServer()
    server.up = False

    async def scenario(driver: Driver) -> None:
        await driver.press("e")
        await driver.dialog("ExportMenu")
        await driver.press("j")
        assert "there is no picture of the server yet" in driver.text

    drive(scenario, server)


def test_paused_it_is_the_picture_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(driver: Driver) -> None:
        await driver.press("p")
        await driver.tick()
        await driver.press("e", "j")
        await driver.until(lambda: "written to" in driver.said())
        path = next(tmp_path.glob("*.json"))
        assert msgspec.json.decode(path.read_bytes(), type=Snapshot).sequence == 1

    drive(scenario)
