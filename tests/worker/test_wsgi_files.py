"""``wsgi.file_wrapper``: regular files go out by sendfile, everything else that can be read in blocks.
Without the validator, which hides it.
"""

# ruff: noqa: SIM115 - the server closes what the application opens

from __future__ import annotations

import gc
import gzip
import io
import os
import socket
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

import pytest

from tests.worker import apps
from tests.worker.harness import Client, wait_until
from tests.worker.wsgi_site import Served, Site, start

pytestmark = pytest.mark.process

CONTENT = bytes(range(256)) * 2000
LARGE_BYTES = 12_000_000
"""Far more than a socket takes at once."""

SITE = Site()
CHANGED, ENTERED = apps.Gate(), apps.Gate()


class Noted:
    """Makes a file note its close(), as often as it is called."""

    def __init__(self, wrapper: Any) -> None:
        close = wrapper.close

        def noted() -> None:
            SITE.notes.put("closed")
            close()

        wrapper.close = noted


def _pipe(content: bytes) -> Any:
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return open(reader, "rb")  # noqa: PTH123 - it has no path


def _from(source: Any, position: int, whence: int = 0) -> Any:
    source.seek(position, whence)
    return source


def _read_from(source: Any, size: int) -> Any:
    assert len(source.read(size)) == size
    return source


def _written(source: Any) -> Any:
    """Not flushed: its end is in the buffer of the file object."""
    source.write(b"0123456789")
    source.seek(0)
    source.seek(0, 2)
    source.write(b"abc")
    source.seek(2)
    return source


def _sockets() -> Any:
    ours, theirs = socket.socketpair()
    ours.sendall(CONTENT[:5000])
    ours.close()
    with theirs:
        return theirs.makefile("rb")


class OnlyRead:
    """The least that PEP 3333 asks for: read(), and no close()."""

    def __init__(self) -> None:
        self._inner = io.BytesIO(CONTENT)

    def read(self, size: int) -> bytes:
        return self._inner.read(size)


FILES: dict[str, tuple[Any, bytes, bool]] = {
    "whole": (lambda path: path.open("rb"), CONTENT, True),
    "unbuffered": (lambda path: path.open("rb", buffering=0), CONTENT, True),
    "for_update": (lambda path: path.open("r+b"), CONTENT, True),
    "from_offset": (lambda path: _from(path.open("rb"), 1000), CONTENT[1000:], True),
    "from_read": (lambda path: _read_from(path.open("rb"), 10), CONTENT[10:], True),
    "last_byte": (lambda path: _from(path.open("rb"), -1, 2), CONTENT[-1:], True),
    "at_end": (lambda path: _from(path.open("rb"), 0, 2), b"", False),
    "beyond_end": (lambda path: _from(path.open("rb"), 10_000_000), b"", False),
    "temporary": (lambda path: _written(tempfile.TemporaryFile()), b"23456789abc", True),
    "named_temporary": (lambda path: _written(tempfile.NamedTemporaryFile()), b"23456789abc", True),
    "spooled": (lambda path: _written(tempfile.SpooledTemporaryFile(5)), b"23456789abc", False),
    "empty": (lambda path: Path(os.devnull).open("rb"), b"", False),
    "memory": (lambda path: _from(io.BytesIO(CONTENT), 7), CONTENT[7:], False),
    "pipe": (lambda path: _pipe(CONTENT[:5000]), CONTENT[:5000], False),
    "socket": (lambda path: _sockets(), CONTENT[:5000], False),
    "gzip": (lambda path: gzip.open(path.with_suffix(".gz")), CONTENT, False),
    "only_read": (lambda path: OnlyRead(), CONTENT, False),
}
"""How it is opened, what is to come, and whether by sendfile."""


@SITE.app
def opened(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """/opened/NAME, with ?length=N as Content-Length."""
    name = environ["PATH_INFO"].rpartition("/")[2]
    length = environ["QUERY_STRING"].rpartition("=")[2]
    start(start_response, *([("Content-Length", length)] if length else []))
    wrapper = environ["wsgi.file_wrapper"](FILES[name][0](PATH))
    if name != "only_read":
        Noted(wrapper)
    return wrapper  # type: ignore[no-any-return]


@SITE.app
def after_write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start(start_response)(b"written ")
    wrapper = environ["wsgi.file_wrapper"](_from(PATH.open("rb"), -20, 2))
    Noted(wrapper)
    return wrapper  # type: ignore[no-any-return]


@SITE.app
def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Middleware that looks at each block; of 1,000 bytes, because the application wants it so."""

    def blocks() -> Iterator[bytes]:
        with PATH.open("rb") as file:
            for block in environ["wsgi.file_wrapper"](file, 1000):
                assert len(block) == 1000
                yield block

    start(start_response)
    return blocks()


def _hidden(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start(start_response)
    wrapper = environ["wsgi.file_wrapper"]
    return wrapper(PATH.open("rb"))  # type: ignore[no-any-return]


SITE.apps["hidden"] = validator(_hidden)


@SITE.app
def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start(start_response)
    wrapper = environ["wsgi.file_wrapper"](LARGE.open("rb"))
    Noted(wrapper)
    return wrapper  # type: ignore[no-any-return]


PATH = Path()
LARGE = Path()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One worker; it notes when it uses sendfile."""
    global PATH, LARGE  # noqa: PLW0603 - the worker is forked behind this
    directory = tmp_path_factory.mktemp("files")
    PATH = directory / "file"
    PATH.write_bytes(CONTENT)
    with gzip.open(PATH.with_suffix(".gz"), "wb") as packed:
        packed.write(CONTENT)
    LARGE = directory / "large"
    sendfile = os.sendfile

    def noted(*arguments: Any) -> int:
        sent = sendfile(*arguments)
        SITE.notes.put("sendfile")
        return sent

    # What other tests have left open, as a failed one does, is not to be found and closed in the worker.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sendfile", noted)
        with SITE.worker(threads=2) as served:
            yield served


@pytest.fixture
def descriptors(served: Served) -> Iterator[None]:
    """As many are open after a test as before."""
    before = served.open_files()
    yield
    wait_until(lambda: served.open_files() == before)


def notes(served: Served) -> tuple[int, bool]:
    """How often close() was called, and whether sendfile was used."""
    lines = served.site.notes.take()
    return lines.count("closed"), "sendfile" in lines


@pytest.mark.every_python
@pytest.mark.usefixtures("descriptors")
def test_everything_that_can_be_read_can_be_sent(served: Served) -> None:
    with served.connect() as client:
        for name, (_, content, by_sendfile) in FILES.items():
            answer = served.ask(f"/opened/{name}", client=client)
            assert answer.body == content, name
            assert notes(served) == (name != "only_read", by_sendfile), name
            if by_sendfile:
                assert answer.headers["content-length"] == str(len(content)), name
            served.ask(f"/opened/{name}", client=client, method="HEAD")
            assert notes(served) == (name != "only_read", False), name
    assert not served.complaints()


@pytest.mark.usefixtures("descriptors")
def test_a_shorter_content_length_is_a_part_of_the_file(served: Served) -> None:
    with served.connect() as client:
        for name, (_, content, _) in FILES.items():
            if len(content) > 4:
                answer = served.ask(f"/opened/{name}?length=4", client=client)
                assert (answer.body, answer.headers["content-length"]) == (content[:4], "4"), name
                assert notes(served)[0] == (name != "only_read"), name
                # A file ends where it ends, so it may be given whole; who makes blocks knows how many.
                served.complaints()


@pytest.mark.usefixtures("descriptors")
def test_a_longer_content_length_ends_the_connection(served: Served) -> None:
    for name, (_, content, _) in FILES.items():
        target = f"/opened/{name}?length={len(content) + 1}"
        with served.connect() as client:
            client.get(target)
            client._until(b"\r\n\r\n")
            assert client.rest() == content, name
        served.wait_done()
        (complaint,) = served.complaints()
        assert f"gave {len(content)} bytes where its Content-Length says" in complaint.text
        assert f"GET {target}" in complaint.text
        assert notes(served)[0] == (name != "only_read"), name


@pytest.mark.usefixtures("descriptors")
def test_files_behind_write_within_middleware_and_under_the_validator(served: Served) -> None:
    with served.connect() as client:
        assert served.ask("/after_write", client=client).body == b"written " + CONTENT[-20:]
        assert notes(served) == (1, False)
        assert served.ask("/wrapped", client=client).body == CONTENT
        assert notes(served) == (0, False)
        assert served.ask("/hidden", client=client).body == CONTENT
        assert notes(served) == (0, False)
    assert not served.complaints()


def write_large() -> None:
    with LARGE.open("wb") as file:
        file.truncate(LARGE_BYTES)


def begin(served: Served, client: Client) -> None:
    """Ask for the large file and read its head; the application is done with it, the client is not."""
    client.get("/large")
    client._until(b"\r\n\r\n")
    served.wait_done()
    assert notes(served)[0] == 1


@pytest.mark.usefixtures("descriptors")
def test_a_slow_reader_gets_a_file_that_the_application_has_closed(served: Served) -> None:
    write_large()
    with served.connect() as slow:
        begin(served, slow)
        LARGE.unlink()
        assert served.ask("/opened/whole").body == CONTENT  # nobody waits for the slow one
        assert slow._exactly(LARGE_BYTES) == bytes(LARGE_BYTES)
        assert served.ask("/opened/whole", client=slow).body == CONTENT
    served.site.notes.take()


@pytest.mark.usefixtures("descriptors")
def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(served: Served) -> None:
    write_large()
    with served.connect() as client:
        begin(served, client)
        os.truncate(LARGE, 1000)
        assert len(client.rest()) < LARGE_BYTES
    (complaint,) = served.complaints()
    assert "127.0.0.1: the file that is sent became shorter" in complaint.text
    assert served.ask("/opened/whole").body == CONTENT
    served.site.notes.take()


@pytest.mark.usefixtures("descriptors")
def test_a_file_that_grows_while_it_is_sent_goes_out_as_long_as_it_was(served: Served) -> None:
    write_large()
    with served.connect() as client:
        begin(served, client)
        with LARGE.open("ab") as file:
            file.write(b"more")
        assert client._exactly(LARGE_BYTES) == bytes(LARGE_BYTES)
        assert served.ask("/opened/whole", client=client).body == CONTENT
    served.site.notes.take()


@pytest.mark.usefixtures("descriptors")
def test_a_client_that_leaves_within_a_file_leaves_nothing_open(served: Served) -> None:
    write_large()
    with served.connect() as client:
        begin(served, client)
    with served.connect() as client:
        begin(served, client)
        client.sock.shutdown(socket.SHUT_WR)  # this one reads on
        assert client._exactly(LARGE_BYTES) == bytes(LARGE_BYTES)
        assert client.ended()
    served.site.notes.take()
