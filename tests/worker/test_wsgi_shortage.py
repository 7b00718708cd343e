"""No room for bodies on the disk, and no descriptors: the request that needs them suffers, nobody else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.worker.harness import Answer, Client, wait_until
from tests.worker.wsgi_site import Served, Site, start
from wsgitop.scoreboard import layout as at
from wsgitop.worker import acceptor, shortage

pytestmark = pytest.mark.process

SITE = Site()
ROOM_BYTES = 128 * 1024


@SITE.app
def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start(start_response)
    return [b"%d" % len(body)]


@SITE.app
def file_limit(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """From now on no file of this worker may be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, resource.RLIM_INFINITY))
    start(start_response)
    return [b""]


TAKEN: list[int] = []


@SITE.app
def descriptors_left(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Take all descriptors that this worker may have but for so many."""
    left = int(environ["QUERY_STRING"])
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not TAKEN:
        # Not a number that looks large enough: the worker has inherited what the tests before have open.
        limit = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit + 30, most))
    with contextlib.suppress(OSError):
        while True:
            TAKEN.append(os.dup(0))
    for _ in range(left):
        os.close(TAKEN.pop())
    start(start_response)
    return [b""]


def post(client: Client, size: int, *, chunked: bool = False) -> Answer:
    """Send a body of so many bytes to /echo."""
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\n"
    body = b"b" * size
    if chunked:
        framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    else:
        framed = b"Content-Length: %d\r\n\r\n" % size + body
    client.send(head + framed)
    return client.answer()


# -- a full disk ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["file size limit", "full disk"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A worker that has room for so much in the directory for bodies."""
    directory = tmp_path_factory.mktemp("bodies")
    with contextlib.ExitStack() as stack:
        if request.param == "full disk":
            stack.enter_context(_tmpfs(directory))
        served = stack.enter_context(SITE.worker(threads=2, body_buffer=1000, worker_tmp_dir=str(directory)))
        if request.param == "file size limit":
            served.ask("/file_limit")
        yield served


@contextlib.contextmanager
def _tmpfs(directory: Path) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    options = b"size=%d" % ROOM_BYTES
    if os.geteuid() or libc.mount(b"tmpfs", str(directory).encode(), b"tmpfs", 0, options):
        pytest.skip("only root can mount a file system")
    try:
        yield
    finally:
        wait_until(lambda: libc.umount(str(directory).encode()) == 0)


def bodies_open(served: Served) -> int:
    """Files in the directory for bodies; they have no names there."""
    directory = served.harness.settings.worker_tmp_dir
    return sum(link.startswith(directory) for link in served.open_files())


def rss_bytes(served: Served) -> int:
    status = Path(f"/proc/{served.harness.pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_for_which_there_is_no_room_is_refused(full: Served, chunked: bool) -> None:
    with full.connect() as other, full.connect() as client:
        assert post(other, 100_000).body == b"100000"
        full.wait_done()
        answer = post(client, 2 * ROOM_BYTES, chunked=chunked)
        assert answer.status == 507 and answer.headers["connection"] == "close"
        assert client.ended()
        (complaint,) = full.complaints()
        assert full.harness.settings.worker_tmp_dir in complaint.text
        wait_until(lambda: not bodies_open(full))
        assert post(other, 100_000, chunked=chunked).body == b"100000"
        full.wait_done()
    assert list(Path(full.harness.settings.worker_tmp_dir).iterdir()) == []


def test_a_head_whose_body_has_no_room_is_refused_without_one(full: Served) -> None:
    with full.connect() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (3 * ROOM_BYTES))
        client.send(b"b" * (3 * ROOM_BYTES))
        assert client.answer(head_only=True).status == 507 and client.ended()
    assert len(full.complaints()) == 1


def test_a_client_that_does_not_read_its_refusal_holds_no_room(full: Served) -> None:
    """Its connection lingers, its body does not."""
    with full.connect() as client:
        client.send(
            b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10000000\r\n\r\n" + b"b" * (2 * ROOM_BYTES)
        )
        wait_until(lambda: not bodies_open(full) and bool(full.complaints()))
        assert full.harness.word(at.CONNECTIONS) == 1


@pytest.mark.parametrize("full", ["full disk"], indirect=True)
def test_room_that_is_lacking_when_all_has_come(full: Served) -> None:
    """A body so small that it is written only when the application is to read it."""
    directory = Path(full.harness.settings.worker_tmp_dir)
    with full.connect() as client, (directory / "filler").open("wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while True:
                filler.write(b"f" * 4096)
        assert post(client, 500).body == b"500"  # in memory
        full.wait_done()
        assert post(client, 2000).status == 507
        assert len(full.complaints()) == 1
    (directory / "filler").unlink()
    wait_until(lambda: not bodies_open(full))
    with full.connect() as client:
        assert post(client, 2000).body == b"2000"
        full.wait_done()


def test_refusing_costs_no_memory(full: Served) -> None:
    def refuse(times: int) -> int:
        for _ in range(times):
            with full.connect() as client:
                assert post(client, 2 * ROOM_BYTES).status == 507
        return rss_bytes(full)

    before = refuse(10)
    assert refuse(60) - before < 30 * ROOM_BYTES
    assert len(full.complaints()) == 70


# -- no descriptors ------------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[Served]:
    with SITE.worker(threads=2, body_buffer=1000) as served:
        yield served


def cpu_s(served: Served) -> float:
    fields = Path(f"/proc/{served.harness.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_connections_wait_and_nothing_spins(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(served.connect())
        served.ask("/descriptors_left?4", client=first)
        clients = [stack.enter_context(served.connect()) for _ in range(12)]
        for client in clients:
            client.get("/echo")
        wait_until(lambda: "Cannot accept" in served.harness.log())
        before_s = cpu_s(served)
        for _ in range(14):
            time.sleep(0.05)  # not for an event: it is the time that passes
            first.get("/echo")
            assert first.answer().status == 200
        assert cpu_s(served) - before_s < 0.15, "it spins"
        (complaint,) = served.complaints()  # however often it tried
        assert "Too many open files" in complaint.text and "ulimit -n" in complaint.text
        for client in clients:
            # Each that leaves makes room for another.
            assert client.answer().status == 200
            client.sock.close()
    assert served.harness.get("/echo").status == 200


def test_a_shortage_that_is_over_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortage, "CALM_S", 1.0)
    with SITE.worker(threads=2) as served, served.connect() as first:
        served.ask("/descriptors_left?0", client=first)
        with served.connect() as waiting:
            waiting.get("/echo")
            wait_until(lambda: "Cannot accept" in served.harness.log())
            served.ask("/descriptors_left?20", client=first)
            assert waiting.answer().status == 200, "it was not turned away"

        def said() -> bool:
            return served.harness.get("/echo").status == 200 and "Can accept" in served.harness.log()

        assert not said(), "what is calm for a moment is not over yet"
        wait_until(said)
        failed, worked = served.complaints()
        assert "Cannot accept connections" in failed.text
        assert "Can accept connections again" in worked.text


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_who_waits_in_vain_for_a_descriptor_is_told(
    unix: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PATIENCE_S", 0.3)
    with (
        SITE.worker(unix=str(tmp_path / "s") if unix else "", threads=2) as served,
        served.connect() as first,
    ):
        served.ask("/descriptors_left?0", client=first)
        for _ in range(2):  # the spare is there again
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(served.connect()) for _ in range(5)]
                for client in clients:
                    client.get("/echo")
                for client in clients:
                    answer = client.answer()
                    assert answer.status == 503 and answer.headers["connection"] == "close"
                    assert client.ended()
        assert served.ask("/echo", client=first).status == 200
        assert len(served.complaints()) == 1
        served.ask("/descriptors_left?20", client=first)
        assert served.ask("/echo").status == 200


def test_without_descriptors_bodies_are_refused_and_the_rest_goes_on(served: Served) -> None:
    with served.connect() as client, served.connect() as other:
        served.ask("/echo", client=client)
        served.ask("/echo", client=other)
        served.ask("/descriptors_left?0", client=other)
        answer = post(client, 5000)
        assert answer.status == 503 and client.ended()
        (complaint,) = served.complaints()
        assert "Too many open files" in complaint.text
        assert post(other, 500).body == b"500"
        served.wait_done()
        served.ask("/descriptors_left?20", client=other)
        assert post(other, 5000).body == b"5000"
