"""The master's hold on a child process: its channel, its standard error, its pidfd. Records of them are in
the roster.

Who runs this: the master's loop only. Every descriptor opened here is closed by ``close``, which the
supervisor calls when it has reaped the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import psutil

import wsgitop
from wsgitop.channel.channel import Channel, ChannelClosed, ChannelFull, pair
from wsgitop.channel.messages import FromWorker, FromZygote, Message
from wsgitop.errors import ProtocolError, WsgitopError
from wsgitop.logs.sink import Sink
from wsgitop.master.memory_curve import MemoryCurve

CHANNEL_FD = 3  # as in wsgitop.zygote.process
LINES_KEPT = 20
LINES_HELD = 120
"""Room for the stacks of a crash, which come last."""
LINE_HELD = 1000
"""Characters of each: a thousand workers may write lines without end."""
DUMP_BEGIN = "Fatal Python error: "
READ_BYTES = 64 * 1024
LINE_LIMIT_BYTES = 16 * 1024
MESSAGES_PER_TURN = 32
ANCESTORS = 3  # intermediate process, zygote, master

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import wsgitop; del sys.path[0]; "
    "from wsgitop.zygote.process import main; main()"
)
"""The zygote must find the package where the master did, which may be a checkout, but user code must not see
that path.
"""

T = TypeVar("T")


class Output:
    """The standard error of a child: a pipe, copied to the log line by line; the last lines are kept.
    ``taps`` are called with the lines as they come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, sink: Sink) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._sink = sink
        self._partial = b""
        self._lines: deque[str] = deque(maxlen=LINES_HELD)
        self.taps: list[Callable[[bytes], None]] = []
        loop.add_reader(fd, self._read)

    @property
    def last_lines(self) -> list[str]:
        """The last LINES_KEPT lines."""
        return list(self._lines)[-LINES_KEPT:]

    def last_words(self) -> tuple[list[str], str]:
        """The last LINES_KEPT lines, and the stacks that faulthandler wrote behind them when the process
        crashed or was aborted ('' for none).
        """
        lines = list(self._lines)
        begin = next((n for n, line in enumerate(lines) if line.startswith(DUMP_BEGIN)), len(lines))
        return lines[max(0, begin - LINES_KEPT) : begin], "\n".join(lines[begin:])

    def _read(self) -> bool:
        """Copy what is there; true if there may be more."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            # Every copy of the other end is closed: the reader would be called for ever.
            self._loop.remove_reader(self._fd)
            return False
        data = self._partial + data
        lines, newline, self._partial = data.rpartition(b"\n")
        if len(self._partial) > LINE_LIMIT_BYTES:
            lines, newline, self._partial = data, b"\n", b""
        if newline:
            self._take(lines + b"\n")
        return True

    def _take(self, data: bytes) -> None:
        self._sink.write(data)
        for tap in self.taps:
            tap(data)
        lines = data.decode("utf-8", "backslashreplace").splitlines()
        self._lines.extend(line[:LINE_HELD] for line in lines[-LINES_HELD:])

    def read_rest(self) -> None:
        """Copy what a process that has ended has left, its last line without an end, too."""
        deadline = time.monotonic() + 0.05
        while self._read() and time.monotonic() < deadline:
            pass
        if self._partial:
            self._take(self._partial + b"\n")
            self._partial = b""

    def close(self) -> None:
        """Copy what is left and close. Descendants of the application may still write; nobody hears them
        then.
        """
        self.read_rest()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class Peer(Generic[T]):
    """A child's channel under the loop. ``receive`` is called with each message and its descriptors, ``lost``
    at its end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        incoming: object,
        receive: Callable[[T, list[int]], None],
        lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._channel: Channel[T] = Channel(sock, incoming, blocking=False)
        self._receive = receive
        self._lost = lost
        self._open = True
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        self.drain(MESSAGES_PER_TURN)

    def drain(self, limit: int = 1000) -> None:
        """Handle the messages that are there, at most ``limit``."""
        for _ in range(limit):
            if not self._open:
                return
            try:
                received = self._channel.receive()
            except (ChannelClosed, ProtocolError) as error:
                self.close()
                self._lost(str(error) if isinstance(error, ProtocolError) else "")
                return
            if received is None:
                return
            self._receive(*received)

    def send(self, message: Message, descriptors: list[int] | None = None) -> bool:
        """Send; false if the child is gone or does not read (its deadline or its death decides then)."""
        if not self._open:
            return False
        try:
            self._channel.send(message, descriptors or ())
        except (ChannelClosed, ChannelFull):
            return False
        return True

    def close(self) -> None:
        """Close the channel; the child sees end-of-file."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()


def observed(pid: int) -> psutil.Process | None:
    """A child to look at; None if there is no descriptor left to do so. It is served without figures then."""
    try:
        return psutil.Process(pid)
    except (psutil.Error, OSError):
        return None


class ZygoteProcess:
    """A running zygote."""

    def __init__(self, pid: int, peer: Peer[FromZygote], output: Output) -> None:
        self.pid = pid
        self.peer = peer
        self.output = output
        self.process = observed(pid)
        self.memory = MemoryCurve(time.monotonic())
        self.killed_for = ""  # why the master has killed it, unless its generation says so

    def abort(self) -> None:
        """SIGABRT: it shows where it hangs and dies."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGABRT)

    def kill(self) -> None:
        """SIGKILL; a zygote serves nobody."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # only the master reaps, so the pid is still this zygote's

    def close(self) -> None:
        """Give up all descriptors."""
        self.peer.close()
        self.output.close()


class WorkerProcess:
    """A worker that has been asked for; ``pid`` and what depends on it come with :meth:`known`."""

    def __init__(self, peer: Peer[FromWorker], output: Output) -> None:
        self.peer = peer
        self.output = output
        self.pid: int | None = None
        self.pidfd = -1
        self.process: psutil.Process | None = None
        self.started_at = time.time()
        """By this and its pid others know the process; by the wall clock, as the kernel says it."""
        self.since_s = time.monotonic()
        """Since when it has been there, by a clock that does not jump."""
        self.memory = MemoryCurve(time.monotonic())

    def known(self, pid: int) -> None:
        """Its pid has been told. The process is there or is a zombie of ours: nobody else reaps it."""
        self.pid = pid
        self.since_s = time.monotonic()
        with contextlib.suppress(OSError):
            self.pidfd = os.pidfd_open(pid)
        self.process = observed(pid)
        if self.process is not None:
            self.started_at = self.process.create_time()

    def signal(self, number: int) -> bool:
        """Send a signal to exactly this process; false if it is gone or not known yet."""
        if self.pid is None:
            return False
        try:
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                # There was no descriptor left for it. Only the master reaps: who is its child now, dead or
                # alive, stays that until then, and nobody else can have this pid.
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                os.kill(self.pid, number)
        except (ProcessLookupError, ChildProcessError):
            return False
        return True

    def close(self) -> None:
        """Give up all descriptors."""
        self.peer.drain()
        self.peer.close()
        self.output.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def child_ends() -> tuple[socket.socket, socket.socket, int, int]:
    """What a new child is connected by: the channel's two ends, the read and the write end of its standard
    error. Raises OSError, and leaves nothing open then.
    """
    ours, theirs = pair()
    try:
        output, errors = os.pipe()
    except OSError:
        ours.close()
        theirs.close()
        raise
    return ours, theirs, output, errors


def spawn_zygote(environment: dict[str, str]) -> tuple[int, socket.socket, int]:
    """Exec a fresh interpreter as a zygote: its pid, the master's end of the channel, the read end of its
    standard error.

    The interpreter is the one that this process was started with, its path unresolved, so that a deploy by
    symbolic link takes effect. posix_spawn, because the master must not fork: it has threads. Raises
    WsgitopError.
    """
    try:
        ours, theirs, output, errors = child_ends()
    except OSError as error:
        raise WsgitopError(
            f"no descriptors for a zygote: {error.strerror}", "Raise the limit (ulimit -n)."
        ) from None
    root = str(Path(wsgitop.__file__).parent.parent)
    argv = [sys.executable, "-P", "-c", _BOOTSTRAP, root]
    try:
        pid = os.posix_spawn(
            sys.executable,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, errors, 2),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL_FD),
            ],
            setpgroup=0,
        )
    except OSError as error:
        ours.close()
        os.close(output)
        raise WsgitopError(
            f"cannot start {sys.executable}: {error.strerror}", "Check the memory and process limits."
        ) from None
    finally:
        theirs.close()
        os.close(errors)
    return pid, ours, output


def descends(pid: int) -> bool:
    """Whether a process is this one's child or, while the intermediate process of a double fork is still
    there, a grandchild. One that has ended passes: there is nobody to be mistaken for it.
    """
    own = os.getpid()
    for _ in range(ANCESTORS):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return True
        pid = int(stat.rpartition(")")[2].split()[1])
        if pid <= 1 or pid == own:
            break  # above process 1 there is nobody
    return pid == own


def describe_status(status: int) -> str:
    """A wait status in words: ``exited with status 3``, ``was killed by SIGKILL``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by {signal_name(number)}{' (core dumped)' if os.WCOREDUMP(status) else ''}"
    return f"exited with status {os.WEXITSTATUS(status)}"


def signal_name(number: int) -> str:
    """SIGKILL, or ``signal 42`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


CRASH_SIGNALS = frozenset({
    signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS, signal.SIGABRT,
    signal.SIGTRAP, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF,
    signal.SIGPIPE,
})  # fmt: skip
"""What a process dies of by its own doing: a fault, a limit, a timer of its own."""


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that came with a message that has no use for them."""
    for descriptor in descriptors:
        os.close(descriptor)
