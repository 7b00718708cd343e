"""Log files that root opens: its own links are followed, those of other users are not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.users import ALICE, BOB, as_root, effective
from wsgitop.errors import ConfigError
from wsgitop.logs.sink import Sink, open_log

pytestmark = as_root


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that root owns all the way up, but for the sticky /tmp."""
    with tempfile.TemporaryDirectory(prefix="wsgitop-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def alices(place: Path) -> Path:
    directory = place / "alice"
    directory.mkdir()
    os.chown(directory, ALICE, ALICE)
    return directory


def put(path: Path) -> None:
    """Open ``path`` as a log and write a line."""
    fd = open_log(str(path), 2)
    os.write(fd, b"line\n")
    os.close(fd)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@pytest.mark.parametrize("mode", [0o700, 0o1777])
def test_a_link_in_the_directory_of_another_user_is_refused(place: Path, alices: Path, mode: int) -> None:
    alices.chmod(mode)
    secret = place / "shadow"
    secret.write_text("root\n")
    log = alices / "access.log"
    before = descriptors()
    for target in (secret, place / "made"):
        log.unlink(missing_ok=True)
        log.symlink_to(target)
        with pytest.raises(ConfigError, match=r"access\.log is a link in a directory") as caught:
            put(log)
        assert "Name the file itself" in caught.value.remedy
    assert secret.read_text() == "root\n" and not (place / "made").exists()
    assert descriptors() == before
    log.unlink()
    put(log)
    assert log.read_text() == "line\n", "a file of root's or of hers is a log"
    os.chown(log, ALICE, ALICE)
    put(log)
    assert log.read_text() == "line\n" * 2


def test_a_directory_that_is_a_link_of_another_user_is_refused(place: Path, alices: Path) -> None:
    (place / "etc").mkdir()
    (alices / "logs").symlink_to(place / "etc")
    for path in (alices / "logs" / "x.log", alices / "logs" / ".." / "etc" / "x.log"):
        with pytest.raises(ConfigError, match="logs is a link"):
            put(path)
    # Root's own link leads through her directory.
    (place / "link").symlink_to("alice/logs/x.log")
    with pytest.raises(ConfigError, match="logs is a link"):
        put(place / "link")
    assert list((place / "etc").iterdir()) == []


@pytest.mark.parametrize(("group", "mode"), [(BOB, 0o775), (0, 0o777)])
def test_a_directory_that_others_can_write_to_is_not_roots(place: Path, group: int, mode: int) -> None:
    os.chown(place, 0, group)
    place.chmod(mode)
    (place / "log").symlink_to(place / "file")
    with pytest.raises(ConfigError, match="log is a link"):
        put(place / "log")
    place.chmod(mode | 0o1000)
    put(place / "log")


def test_links_of_root_are_followed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "real").mkdir()
    (place / "logs").symlink_to(place / "real")
    (place / "real" / "current.log").symlink_to("../today.log")
    put(place / "logs" / "current.log")
    monkeypatch.chdir(place / "real")
    put(Path("current.log"))
    put(Path("../logs/./current.log"))
    assert (place / "today.log").read_text() == "line\n" * 3
    (place / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="Too many levels"):
        put(place / "loop")
    with pytest.raises(ConfigError, match="Is a directory"):
        put(place / "logs")


def test_streams_by_their_names_and_pipes(alices: Path) -> None:
    reader, writer = os.pipe()
    for path in (f"/dev/fd/{writer}", f"/proc/self/fd/{writer}"):
        put(Path(path))
        assert os.read(reader, 99) == b"line\n"
    for path in ("/dev/stdout", "/dev/stderr"):
        os.close(open_log(path, 2))
    os.close(reader)
    os.close(writer)
    fifo = alices / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    put(fifo)
    assert os.read(reader, 99) == b"line\n"
    os.close(reader)


def test_reopening_meets_a_link_that_was_laid_meanwhile(place: Path, alices: Path) -> None:
    log = alices / "error.log"
    sink = Sink(str(log))
    sink.start()
    try:
        with effective(ALICE):
            log.rename(alices / "old")
            log.symlink_to(place / "cron")
        with pytest.raises(ConfigError, match="is a link"):
            sink.reopen()
        sink.write(b"on it goes\n")
    finally:
        sink.close()
    assert (alices / "old").read_text() == "on it goes\n" and not (place / "cron").exists()
