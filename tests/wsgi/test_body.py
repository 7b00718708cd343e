"""Bodies of requests, in memory and in files."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgitop.wsgi.body import RequestBody


def test_a_body_moves_to_a_file_when_it_gets_too_much_for_memory(tmp_path: Path) -> None:
    body = RequestBody(10, str(tmp_path))
    body.write(b"0123456789")
    assert not body.spooled
    body.write(memoryview(b"ab"))
    body.write(b"cd")
    assert body.spooled and body.size_bytes == 14
    file = body.open()
    assert file.read() == b"0123456789abcd"
    assert list(tmp_path.iterdir()) == []  # it has no name that could stay behind
    body.close()
    assert file.closed


def test_what_the_application_holds_on_to_stays(tmp_path: Path) -> None:
    body = RequestBody(10, str(tmp_path))
    body.write(b"01234")
    source = body.open()
    assert isinstance(source, io.BytesIO)
    view = source.getbuffer()
    body.close()
    assert bytes(view) == b"01234"


def test_a_directory_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    body = RequestBody(10, str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        body.write(b"b" * 11)
    body.close()


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file may be larger than 20,000 bytes.

    Not a fixture: pytest reports a test before its fixtures end, and its own output may be a larger file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("block", [100_000, 3000], ids=["as it is written", "later"])
def test_a_body_without_room_gives_its_file_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    files = []
    temporary = tempfile.TemporaryFile

    def made(*args: object, **options: object) -> object:
        files.append(temporary(*args, **options))  # type: ignore[call-overload]
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", made)
    body = RequestBody(10, str(tmp_path))
    with small_files(), pytest.raises(OSError) as raised:
        for _ in range(10):
            body.write(b"b" * block)
    assert raised.value.errno == errno.EFBIG
    (file,) = files
    assert file.closed
    body.close()


def test_room_that_is_lacking_when_the_body_is_opened(tmp_path: Path) -> None:
    body = RequestBody(10, str(tmp_path))
    body.write(b"b" * 19_000)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    body.write(b"b" * 2000)  # into the buffer of the file object
    with small_files(), pytest.raises(OSError, match="File too large"):
        body.open()
    assert len(os.listdir("/proc/self/fd")) == before - 1  # noqa: PTH208
    body.close()
