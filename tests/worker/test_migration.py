"""Connections that move between two workers of a server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import socket
import sys
import termios
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from tests.worker import apps
from tests.worker.harness import DEADLINE_S, Client, Shared, WorkerHarness, wait_until, worker
from wsgitop.channel import messages as m
from wsgitop.channel.channel import pair
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board
from wsgitop.worker.migration import Exchange, Parcel
from wsgitop.worker.siblings import Siblings

pytestmark = pytest.mark.process


@contextlib.contextmanager
def siblings(
    app: WSGIApplication, count: int = 2, *, threads: int = 1, **settings: Any
) -> Iterator[tuple[WorkerHarness, ...]]:
    """Workers that share a listener. Only the first has been started: connections made now are its own."""
    shared = Shared(threads)
    with contextlib.ExitStack() as stack:
        stack.callback(shared.close)
        yield tuple(
            stack.enter_context(
                WorkerHarness(app, shared=shared, row=row, threads=threads, **settings)
                if row == 0
                else Later(
                    lambda row=row: WorkerHarness(app, shared=shared, row=row, threads=threads, **settings)
                )
            )
            for row in range(count)
        )


class Later:
    """A worker that begins when it is wanted."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._made: WorkerHarness | None = None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._made is not None:
            self._made.end()

    def start(self) -> WorkerHarness:
        self._made = self._make()
        return self._made.ready()


def who(entered: apps.Gate, leave: apps.Gate) -> WSGIApplication:
    """Answers with the worker's pid; /slow waits at the gate."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            entered.open()
            leave.pass_through()
        return apps.text(start_response, b"%d" % os.getpid())

    return app


def connected(w: WorkerHarness, count: int) -> list[Client]:
    """Connections that this worker has accepted and served once."""
    clients = [w.connect() for _ in range(count)]
    for client in clients:
        client.get("/")
        assert int(client.answer().body) == w.pid
    return clients


def close(clients: list[Client]) -> None:
    for client in clients:
        client.sock.close()


@pytest.mark.every_python
def test_a_stuck_worker_gives_its_other_connections_to_an_idle_sibling() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 6)
        second = later.start()
        clients[0].get("/slow")
        entered.pass_through()
        for client in clients[1:]:
            client.get("/")
            assert int(client.answer().body) == second.pid
        # It is counted when it has been sent: the sibling may have answered before.
        wait_until(lambda: first.word(at.MIGRATED_OUT) == second.word(at.MIGRATED_IN) == 5)
        leave.open()
        assert int(clients[0].answer().body) == first.pid
        clients[0].get("/")  # it was never given away
        assert int(clients[0].answer().body) == first.pid
        close(clients)


WORK_S = 0.01


def at_work(entered: apps.Gate, leave: apps.Gate, held: apps.Gate, go_on: apps.Gate) -> WSGIApplication:
    """The same; /hold waits at another gate, and /work takes a while. It sleeps: what is tested is how others
    fare meanwhile.
    """
    answer, hold = who(entered, leave), who(held, go_on)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/work":
            time.sleep(WORK_S)
        if environ["PATH_INFO"] == "/hold":
            environ["PATH_INFO"] = "/slow"
            return hold(environ, start_response)
        return answer(environ, start_response)

    return app


@pytest.mark.parametrize("connections", [1, 3])
def test_nobody_waits_for_a_request_that_takes_long_though_all_other_workers_are_busy(
    connections: int,
) -> None:
    """``connections`` of the worker that is stuck; with one, it is others that must not count on it."""
    entered, leave, held, go_on = (apps.Gate() for _ in range(4))
    with (
        siblings(at_work(entered, leave, held, go_on), 3, keepalive=30) as (first, *later),
        contextlib.ExitStack() as stack,
    ):
        stuck, *waiting = connected(first.ready(), connections)
        stuck.get("/slow")
        entered.pass_through()
        workers = []
        busy = []
        for other in later:
            workers.append(other.start())
            busy += connected(workers[-1], 3)
            busy[-1].get("/hold")  # so that the next gets what comes now
            held.pass_through()
        for client in busy:
            stack.callback(client.sock.close)
            # Some seconds of work, of which nothing moves because it is pipelined.
            client.send(b"GET /work HTTP/1.1\r\nHost: t\r\n\r\n" * 200)
        go_on.open(2)
        for other in workers:
            wait_until(lambda other=other: other.word(at.LOAD) >= 3)  # type: ignore[misc]
        wait_until(lambda: first.word(at.LOAD) > 3)  # it is none to count on, though it seems to do little
        waiting = waiting or [first.connect()]
        sent_s = time.monotonic()
        for client in waiting:
            client.get("/")
        for client in waiting:
            assert int(client.answer().body) != first.pid
        assert time.monotonic() - sent_s < 1
        wait_until(lambda: first.word(at.MIGRATED_OUT) == connections - 1)  # counted behind the sending
        leave.open()
        assert int(stuck.answer().body) == first.pid
        close([stuck, *waiting])


def test_workers_that_are_all_slow_alike_keep_what_they_have() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(at_work(entered, leave, entered, leave), keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 2)
        clients[0].get("/slow")
        entered.pass_through()
        second = later.start()
        for _ in range(2):
            clients.append(first.connect())
            clients[-1].get("/")
            assert int(clients[-1].answer().body) == second.pid
        leave.open()
        clients[0].answer()
        for client in clients:
            client.get("/work")
        until_s = time.monotonic() + 1.5
        while time.monotonic() < until_s:
            for sock in select.select([client.sock for client in clients], [], [], DEADLINE_S)[0]:
                client = next(client for client in clients if client.sock is sock)
                assert client.answer().status == 200
                client.get("/work")
        assert first.word(at.MIGRATED_OUT) + second.word(at.MIGRATED_OUT) <= 2
        close(clients)


def test_what_is_not_between_two_messages_stays() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 4)
        half, idle, free, slow = clients
        half.send(b"GET / HTTP/1.1\r\nHo")
        have_read(half)
        later.start()
        slow.get("/slow")
        entered.pass_through()
        half.send(b"st: t\r\n\r\n")
        wait_until(lambda: first.word(at.LOAD) == 2)  # it waits, before the one that can go
        free.get("/")
        assert int(free.answer().body) != first.pid
        leave.open()
        assert int(half.answer().body) == int(slow.answer().body) == first.pid
        idle.get("/")
        assert int(idle.answer().body) == first.pid, "nothing waited on it"
        close(clients)


def test_what_cannot_travel_does_not_hold_up_what_waits_behind_it() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 3)
        half, free, slow = clients
        half.send(b"GET / HTTP/1.1\r\nHo")
        have_read(half)
        second = later.start()
        second.get("/")  # so it is idle, and has been since before the other is stuck
        slow.get("/slow")
        entered.pass_through()
        half.send(b"st")
        wait_until(lambda: first.word(at.LOAD) == 2)
        free.get("/")
        assert int(free.answer().body) == second.pid
        leave.open()
        assert int(slow.answer().body) == first.pid
        close(clients)


def have_read(client: Client) -> None:
    """Wait until the worker has read what this client has sent: it is served in the order in which it came,
    so a request that comes later and is answered tells.
    """
    with Client(socket.create_connection(client.sock.getpeername())) as other:
        other.get("/")
        other.answer()


def test_no_sibling_no_passing() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30) as (first, _):
        first.ready()
        clients = connected(first, 3)
        clients[0].get("/slow")
        entered.pass_through()
        for client in clients[1:]:
            client.get("/")
        leave.open()
        assert {int(client.answer().body) for client in clients} == {first.pid}
        assert first.word(at.MIGRATED_OUT) == 0
        close(clients)


def test_connections_of_a_unix_socket_with_any_path_travel(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.sock")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        return apps.text(start_response, b"%d" % os.getpid())

    shared = Shared(1, path)
    with contextlib.closing(shared), WorkerHarness(app, shared=shared, keepalive=30) as first:
        clients = connected(first.ready(), 2)
        with WorkerHarness(app, shared=shared, row=1, keepalive=30) as second:
            second.ready()
            first.channel.send(m.Retire(20, 20, True))
            assert first.wait_exit() == 0, first.log()
            for client in clients:
                client.get("/")
                assert int(client.answer().body) == second.pid
        close(clients)


@pytest.mark.every_python
@pytest.mark.parametrize("threads", [1, 3])
def test_a_retiring_worker_passes_its_connections_on(threads: int) -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), threads=threads, keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 8)
        second = later.start()
        clients[0].get("/slow")
        entered.pass_through()
        first.channel.send(m.Retire(20, 20, True))
        leave.open()
        assert int(clients[0].answer().body) == first.pid
        assert first.wait_exit() == 0, "it has nothing left to wait for"
        for client in clients:
            client.get("/")
            answer = client.answer()
            assert int(answer.body) == second.pid and "connection" not in answer.headers
        close(clients)


def test_a_connection_travels_behind_the_response_of_a_thread_that_has_lost_the_lead() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), threads=2, keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 2)
        second = later.start()
        clients[0].get("/slow")
        entered.pass_through()
        first.channel.send(m.Retire(20, 20, True))
        wait_until(lambda: second.word(at.MIGRATED_IN) == 1)  # so the rest comes behind all others
        leave.open()
        assert int(clients[0].answer().body) == first.pid
        assert first.wait_exit() == 0
        clients[0].get("/")
        assert int(clients[0].answer().body) == second.pid
        close(clients)


def test_a_stuck_worker_that_retires_gives_its_connections_to_the_next_generation() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30) as (first, _):
        first.ready()
        clients = connected(first, 4)
        # Those of another generation have a scoreboard of their own; a row so far away is not seen either.
        with WorkerHarness(who(entered, leave), shared=first.shared, row=20, keepalive=30) as second:
            second.ready()
            clients[0].get("/slow")
            entered.pass_through()
            clients[1].get("/")
            first.channel.send(m.Retire(20, 20, True))
            for client in clients[2:]:
                client.get("/")
            assert {int(client.answer().body) for client in clients[1:]} == {second.pid}
            leave.open()
            assert int(clients[0].answer().body) == first.pid
            assert first.wait_exit() == 0
            close(clients)


def test_connections_of_a_worker_that_is_told_not_to_pass_on_are_kept() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 2)
        later.start()
        first.channel.send(m.Retire(20, 20, False))
        wait_until(lambda: first.word(at.READY_NS) == 0)
        for client in clients:
            client.get("/")
            answer = client.answer()
            assert (int(answer.body), answer.headers["connection"]) == (first.pid, "close")
        close(clients)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_that_retires_passes_nothing_on_once_the_server_stops(threads: int) -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), threads=threads, keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 2)
        second = later.start()
        clients[0].get("/slow")
        entered.pass_through()
        first.channel.send(m.Retire(20, 20, True))
        wait_until(lambda: second.word(at.MIGRATED_IN) == 1)
        first.channel.send(m.Retire(20, 0, False))
        first.channel.send(m.Retire(20, 20, True))  # and does not begin again
        wait_until(lambda: unread_bytes(first.channel.fileno()) == 0)
        leave.open()
        assert int(clients[0].answer().body) == first.pid
        assert clients[0].ended()
        assert first.wait_exit() == 0
        assert second.word(at.MIGRATED_IN) == 1
        close(clients)


def test_a_worker_that_has_lost_all_threads_gives_away_what_it_has() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30, timeout=0.5) as (first, later):
        first.ready()
        clients = connected(first, 3)
        stuck, half, waiting = clients
        half.send(b"GET /half HTTP/1.1\r\nHo")
        have_read(half)
        second = later.start()
        stuck.get("/slow")
        entered.pass_through()
        waiting.get("/")
        assert stuck.answer().status == 504
        half.send(b"st: t\r\n\r\n")
        assert int(waiting.answer().body) == int(half.answer().body) == second.pid
        assert first.wait_exit() == 0
        leave.open()
        close(clients)


def test_requests_that_wait_teach_the_worker_to_hand_over_before_the_call() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            time.sleep(0.01)  # what is tested is how a request is served that waits
        return apps.text(start_response, b"")

    with worker(app, threads=3) as w, w.connect() as client:

        def handed_over(path: str, times: int) -> int:
            before = w.word(at.HANDOVERS)
            for _ in range(times):
                client.get(path)
                assert client.answer().status == 200
            client.get(path)
            assert client.answer().status == 200
            return w.word(at.HANDOVERS) - before

        assert handed_over("/wait", 40) >= 20
        wait_until(lambda: handed_over("/", 50) <= 5)  # and that fast ones need none


def test_computing_does_not_give_the_lead_away() -> None:
    """Two threads that compute take turns at the GIL, and both take longer."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/compute":
            until_s = time.thread_time() + 0.004
            while time.thread_time() < until_s:
                pass
        return apps.text(start_response, b"")

    with worker(app, threads=4) as w, w.connect() as client:
        for _ in range(30):
            client.get("/compute")
            assert client.answer().status == 200
        assert w.word(at.HANDOVERS) <= 15


def test_a_worker_without_room_takes_nothing_over_and_does_not_spin() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30, worker_connections=4) as (first, later):
        first.ready()
        clients = connected(first, 2)
        second = later.start()
        first.channel.send(m.Retire(20, 20, True))
        assert first.wait_exit() == 0
        clients += connected(second, 2)  # now it is full
        ours, theirs = socket.socketpair()
        assert first.shared is not None
        for _ in range(2):
            assert Exchange(*first.shared.exchange).send(parcel(), theirs.fileno())
        theirs.close()
        used_s = cpu_s(second.pid)
        wait_until(lambda: second.word(at.CONNECTIONS) == 4)
        time.sleep(0.5)  # what is measured is what it costs to wait
        assert cpu_s(second.pid) - used_s < 0.2
        ours.close()
        close(clients)


def test_a_worker_without_room_retires_as_any_other() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30, worker_connections=3) as (first, later):
        first.ready()
        clients = connected(first, 3)
        second = later.start()
        first.channel.send(m.Retire(20, 20, True))
        assert first.wait_exit() == 0, first.log()
        for client in clients:
            client.get("/")
            assert int(client.answer().body) == second.pid
        close(clients)


def test_a_full_worker_is_not_woken_in_the_place_of_one_that_has_room() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with siblings(who(entered, leave), keepalive=30, worker_connections=2) as (first, later):
        first.ready()
        clients = connected(first, 2)
        second = later.start()
        clients += connected(second, 1)  # so it listens to its sibling by now
        assert first.shared is not None
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(DEADLINE_S)
            ours.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            with theirs:
                waiting = parcel(deadline_s=time.monotonic() + 30)
                assert Exchange(*first.shared.exchange).send(waiting, theirs.fileno())
            assert int(Client(ours).answer().body) == second.pid
        close(clients)


def test_a_worker_without_descriptors_leaves_connections_in_the_exchange() -> None:
    held: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/hog":
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - one listing
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.dup(2))
        if environ["PATH_INFO"] == "/free":
            while held:
                os.close(held.pop())
        return apps.text(start_response, b"%d" % os.getpid())

    with siblings(app, keepalive=30) as (first, later):
        first.ready()
        clients = connected(first, 4)
        second = later.start()
        first.channel.send(m.Retire(20, 20, False))  # so that who connects now gets the second
        wait_until(lambda: first.word(at.READY_NS) == 0)
        assert first.shared is not None
        with second.connect() as hog:
            hog.get("/hog")
            assert int(hog.answer().body) == second.pid
            ours, theirs = socket.socketpair()
            with ours, theirs:
                exchange = Exchange(*first.shared.exchange)
                assert exchange.send(parcel(), theirs.fileno())
                wait_until(
                    lambda: (
                        "Cannot take over connections of other workers: Too many open files" in second.log()
                    )
                )
                assert exchange.pending()
                hog.get("/free")
                assert hog.answer().status == 200
                wait_until(lambda: second.word(at.MIGRATED_IN) == 1)
        close(clients)


def unread_bytes(fd: int) -> int:
    """What the other side of a unix socket has not read yet (unix(7))."""
    return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the parts ---------------------------------------------------------------------------------------------


def parcel(**changes: Any) -> Parcel:
    values = {
        "server": (b"127.0.0.1", "80"),
        "client": ("127.0.0.1", "9"),
        "requests": 3,
        "deadline_s": 1.5,
        "waiting": True,
        "first": True,
    }
    return Parcel(**(values | changes))


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange(*pair())
    yield made
    made.close()


def test_a_connection_travels_with_what_is_unread(exchange: Exchange) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.send(b"not read yet")
        assert not exchange.pending()
        assert exchange.send(parcel(unread=b"GET"), theirs.fileno())
        theirs.close()
        assert exchange.pending()
        found = exchange.receive()
        assert found is not None and found[0] == parcel(unread=b"GET")
        with found[1] as sock:
            assert sock.recv(100) == b"not read yet"
        assert exchange.receive() is None


def test_a_full_exchange_leaves_the_connection_where_it_is(exchange: Exchange) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sent = 0
        while exchange.send(parcel(), theirs.fileno()):
            sent += 1
            assert sent < 100_000
        assert sent > 10
        received = 0
        while (found := exchange.receive()) is not None:
            found[1].close()
            received += 1
        assert received == sent


def test_nonsense_and_closed_ends(exchange: Exchange) -> None:
    sender, receiver = pair()
    broken = Exchange(sender, receiver)
    sender.send(b"no parcel, and no descriptor")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(sender, [b"nonsense"], [theirs.fileno()])
        socket.send_fds(sender, [b"two"], [theirs.fileno(), theirs.fileno()])
        assert broken.send(parcel(), theirs.fileno())
        found = broken.receive()
        assert found is not None and found[0] == parcel()
        found[1].close()
        receiver.close()
        assert not broken.send(parcel(), theirs.fileno())
    broken.close()


def test_siblings_see_who_is_idle_and_who_has_the_least_to_do() -> None:
    board = Board.create(2)
    looking = Siblings(board, 0)
    assert (looking.count(), looking.idle_threads(), looking.least_load()) == (0, 0, None)
    for row in range(4):
        board.row(row)[at.READY_NS] = 1
        board.row(row)[at.THREADS] = 2
    board.row(3)[at.READY_NS] = 0  # retires
    for row, thread, state in ((1, 0, at.THREAD_IDLE), (1, 1, at.THREAD_BUSY), (2, 0, at.THREAD_BUSY)):
        board.thread(row, thread)[at.THREAD_STATE] = state
    board.row(1)[at.LOAD], board.row(2)[at.LOAD] = 1, 7
    assert (looking.count(), looking.idle_threads(), looking.least_load()) == (2, 1, 1)
    board.row(1)[at.LOAD] = 5
    assert looking.idle_threads() == 0, "a queue that has not been empty for long is behind it"
    for row, thread, requests in ((0, 0, 100), (1, 0, 3), (1, 1, 4), (2, 1, 5), (3, 0, 100)):
        board.thread(row, thread)[at.REQUESTS] = requests
    assert looking.served() == (12, 2)
    board.row(1)[at.DRAINED_NS] = time.monotonic_ns()
    assert looking.idle() and looking.idle_threads() == 1
    board.close()
