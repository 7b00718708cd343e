"""A real worker process without master and zygote: forked here, with a channel, a scoreboard and a listener
on loopback.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, ChannelClosed, pair
from wsgitop.logs import error_log
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.board import Board, RequestText, read_text
from wsgitop.settings.addresses import Address
from wsgitop.settings.table import Settings
from wsgitop.worker.boot import WorkerBoot
from wsgitop.worker.hook_objects import HookListener, HookServer, HookWorker, make_config
from wsgitop.worker.hooks import NoHooks, WorkerHooks
from wsgitop.worker.process import run
from wsgitop.wsgi.types import WSGIApplication

DEADLINE_S = 10.0


class Shared:
    """What the workers of one server share: scoreboard, listener, and the exchange of connections. ``unix``
    is the path of the listener, if it is none of TCP.
    """

    def __init__(self, threads: int, unix: str = "") -> None:
        self.board = Board.create(threads)
        self.exchange = pair()
        self.listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(unix or ("127.0.0.1", 0))
        self.listener.listen(256)
        if unix:
            self.bound = Address("unix", path=unix)
        else:
            self.bound = Address("tcp", host="127.0.0.1", port=self.listener.getsockname()[1])

    def close(self) -> None:
        self.board.close()
        self.listener.close()
        for end in self.exchange:
            end.close()


class WorkerHarness:
    """One worker. ``access_fd`` is where its access log goes, if not to a file of the harness; it is taken
    over. ``hooks`` are those of a config file. ``shared`` makes it the sibling of others, with ``row`` as its
    row of the scoreboard.
    """

    def __init__(
        self,
        app: WSGIApplication | None,
        *,
        access_log: bool = False,
        access_fd: int = -1,
        unix: str = "",
        loglevel: str = "info",
        shared: Shared | None = None,
        row: int = 0,
        hooks: Mapping[str, Callable[..., Any]] | None = None,
        **settings: Any,
    ) -> None:
        self.shared = shared
        self.row = row
        self.settings = Settings(
            loglevel=loglevel, **{"workers": 1, "wsgi_app": "tests.app:application", **settings}
        )
        self.board = Board.create(self.settings.threads) if shared is None else shared.board
        ours, theirs = pair()
        self.channel: Channel[m.FromWorker] = Channel(ours, m.FromWorker, blocking=False)
        if unix:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(unix)
            self.address: Any = unix
            bound = Address("unix", path=unix)
        elif shared is not None:
            listener = shared.listener
            bound = shared.bound
            self.address = bound.path or listener.getsockname()
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            self.address = listener.getsockname()
            bound = Address("tcp", host="127.0.0.1", port=self.address[1])
        listener.listen(256)
        self.listener = listener
        self.log_file = tempfile.TemporaryFile(prefix="wsgitop-log-", buffering=0)  # noqa: SIM115 - closed by end()
        self.access_file = tempfile.NamedTemporaryFile(prefix="wsgitop-access-", buffering=0)  # noqa: SIM115 - the same
        if access_log:
            access_fd = os.open(self.access_file.name, os.O_WRONLY | os.O_APPEND)
        self.status: int | None = None
        boot = WorkerBoot(
            worker=1,
            slot=1,
            row=row,
            generation=1,
            settings=self.settings,
            board=self.board,
            channel=theirs,
            listeners=((bound, listener),),
            exchange=None if shared is None else shared.exchange,
            access_log_fd=access_fd,
            app=app,
            hooks=NoHooks() if hooks is None else self._worker_hooks(hooks, bound, listener),
        )
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                ours.close()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(self.log_file.fileno(), 2)
                import sys

                sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - pytest has replaced the real one
                error_log.configure(loglevel)
                status = run(boot)
            finally:
                os._exit(status)
        theirs.close()
        if access_fd >= 0:
            os.close(access_fd)

    def _worker_hooks(
        self, hooks: Mapping[str, Callable[..., Any]], address: Address, listener: socket.socket
    ) -> NoHooks:
        """As a zygote prepares them."""
        cfg = make_config(self.settings, {}, hooks)
        server = HookServer(os.getpid(), cfg, [HookListener(address, listener)])
        return WorkerHooks(hooks, server, HookWorker(1, server))

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def message(self, kind: type[Any], timeout_s: float = DEADLINE_S) -> Any:
        """The next message of this kind; others before it are thrown away. Raises TimeoutError,
        ChannelClosed.
        """
        limit_s = time.monotonic() + timeout_s
        while True:
            left_s = limit_s - time.monotonic()
            if left_s <= 0 or not select.select([self.channel], [], [], left_s)[0]:
                raise TimeoutError(f"no {kind.__name__} from the worker; its log:\n{self.log()}")
            try:
                received = self.channel.receive()
            except ChannelClosed:
                raise ChannelClosed(f"waiting for {kind.__name__}; the worker's log:\n{self.log()}") from None
            if received is not None and isinstance(received[0], kind):
                return received[0]

    def ready(self) -> WorkerHarness:
        """Wait until it serves."""
        assert self.message(m.WorkerReady).pid == self.pid
        return self

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait until it has ended; its exit status, or minus the signal's number."""
        if self.status is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                if not select.select([pidfd], [], [], timeout_s)[0]:
                    raise TimeoutError(f"the worker does not end; its log:\n{self.log()}")
            finally:
                os.close(pidfd)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def end(self) -> None:
        """End it, whatever it is doing, and give everything back."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait_exit()
        self.channel.close()
        self.log_file.close()
        self.access_file.close()
        if self.shared is None:
            self.listener.close()
            self.board.close()

    # -- looking ---------------------------------------------------------------------------------------

    def log(self) -> str:
        """Its error log so far."""
        return os.pread(self.log_file.fileno(), 1 << 22, 0).decode("utf-8", "replace")

    def access_log(self) -> str:
        """Its access log so far."""
        return Path(self.access_file.name).read_text(encoding="utf-8")

    def word(self, offset: int) -> int:
        """A process word of its scoreboard row."""
        return self.board.row(self.row)[offset]

    def thread_word(self, thread: int, offset: int) -> int:
        """A word of a thread's block."""
        return self.board.thread(self.row, thread)[offset]

    def total(self, offset: int) -> int:
        """The sum of a thread word over all threads."""
        return sum(self.thread_word(thread, offset) for thread in range(self.settings.threads))

    def text(self, thread: int = 0) -> RequestText | None:
        """What a thread serves or served last."""
        return read_text(self.board.thread(self.row, thread))

    def wait_busy(self, count: int = 1) -> None:
        """Wait until so many threads are inside the application."""
        wait_until(
            lambda: (
                sum(
                    self.thread_word(thread, at.THREAD_STATE) in (at.THREAD_BUSY, at.THREAD_WRITING)
                    for thread in range(self.settings.threads)
                )
                >= count
            )
        )

    # -- talking ---------------------------------------------------------------------------------------

    def connect(self, timeout_s: float = DEADLINE_S) -> Client:
        """A connection to it."""
        sock = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        sock.settimeout(timeout_s)
        sock.connect(self.address)
        return Client(sock)

    def get(self, target: str = "/", **headers: str) -> Answer:
        """One GET on a connection of its own."""
        with self.connect() as client:
            client.get(target, **headers)
            return client.answer()


class Answer:
    """A response: ``status``, ``headers`` (names in lower case), ``body``."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Client:
    """A client that sends exactly what it is told and reads exactly one response at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str = "/", method: str = "GET", **headers: str) -> None:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.send(f"{method} {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode("latin-1"))

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"the connection ended; unread: {self.data[:200]!r}")
        self.data += data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.data:
            self._more()
        part, _, self.data = self.data.partition(mark)
        return part

    def _exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            self._more()
        part, self.data = self.data[:size], self.data[size:]
        return part

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one response. Raises EOFError when the connection ends within it."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", head[0])
        assert match, head[0]
        status = int(match[1])
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        if head_only or status < 200 or status in (204, 304):
            body = b""
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._exactly(2) == b"\r\n"
        else:
            body = self.rest()
        return Answer(status, headers, body)

    def rest(self) -> bytes:
        """Everything until the connection ends."""
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        data, self.data = self.data, b""
        return data

    def ended(self) -> bool:
        """Wait for the end of the connection; False if more data comes instead."""
        try:
            return not self.data and not self.sock.recv(1)
        except ConnectionResetError:
            return True


def wait_until(condition: Callable[[], bool], timeout_s: float = DEADLINE_S) -> None:
    """Look every few milliseconds for what sends no event, such as a word in shared memory. Raises
    TimeoutError.
    """
    limit_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > limit_s:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.002)


@contextlib.contextmanager
def worker(app: WSGIApplication | None, **options: Any) -> Iterator[WorkerHarness]:
    """A worker that serves ``app``, ready; it ends with the block."""
    with WorkerHarness(app, **options) as harness:
        yield harness.ready()
