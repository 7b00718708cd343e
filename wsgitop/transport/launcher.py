"""Start ``wsgitop serve`` as a process of its own; know when it serves, why it did not, when to let it go.

``wsgitop run`` and ``wsgitop demo`` use :func:`launch`; the server talks back through :class:`Tether`.
Between them is one stream socket pair, inherited over exec and named by an environment variable:

    server -> launcher   {"pid": 4242, "control": "unix:/run/user/1000/wsgitop/…"}   when it serves; and again
                         when another master has taken its place
    launcher -> server   leave                                                       stay when I am gone
    end-of-file          the launcher is gone: stop gracefully, unless "leave" came before

One descriptor does both jobs (readiness and lifeline), because the kernel closes it however the launcher
ends, kill -9 included. A pid polled by the server would race with pid reuse, and PR_SET_PDEATHSIG follows
the thread that started the server, not its process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from wsgitop.errors import (
    AppImportError,
    ConfigError,
    ProtocolError,
    UsageError,
    WorkerBootError,
    WsgitopError,
)

VARIABLE = "WSGITOP_TETHER_FD"
"""Environment variable with the number of the server's end of the tether."""

LEAVE = b"leave\n"
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import wsgitop; del sys.path[0]; "
    "from wsgitop.cli.main import main; sys.exit(main())"
)
COMMAND = (sys.executable, "-P", "-c", _BOOTSTRAP, str(Path(__file__).parents[2]), "serve")
"""Not ``-m wsgitop``: it would put the working directory first in sys.path, where a site's own ``types.py``
would shadow the standard library. The package is the one that runs here, wherever it is."""
PR_SET_CHILD_SUBREAPER = 36
QUICK_GRACE_S = 5.0
ERROR_LINES = 12
TAIL_BYTES = 16 * 1024

_BY_STATUS: dict[int, type[WsgitopError]] = {2: UsageError, 3: WorkerBootError, 4: AppImportError}


class Serving(msgspec.Struct, frozen=True):
    """What the server says, and what one says that has taken its place. ``control`` is a target as attach
    and ctl take it; '' for none.
    """

    pid: int
    control: str


class Launched:
    """A server started from here. As a context manager it stops the server, unless it was left running."""

    def __init__(
        self, process: subprocess.Popen[bytes], tether: socket.socket, log_path: Path, log_start: int
    ) -> None:
        self._process = process
        self._tether = tether
        self._log_start = log_start
        self._received = b""
        self._left = False
        self._successor: _Process | None = None
        self.log_path = log_path
        self.pid = process.pid

    def wait_until_serving(self, deadline_s: float = 60.0) -> str:
        """Return the control target once the server serves.

        Raises, with the server's own last lines, the error of its exit status when it ends before that, and
        WorkerBootError when it does not serve within ``deadline_s`` seconds; it is stopped then.
        """
        end = time.monotonic() + deadline_s
        while b"\n" not in self._received:
            if not select.select([self._tether], [], [], max(0.0, end - time.monotonic()))[0]:
                self.stop(QUICK_GRACE_S)
                raise WorkerBootError(
                    f"the server does not serve after {deadline_s:g} s{self._last_words()}",
                    f"Its log is {self.log_path}; --boot-timeout limits how long the application may load.",
                )
            try:
                chunk = self._tether.recv(4096)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise self._death()
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        try:
            return msgspec.json.decode(line, type=Serving).control
        except msgspec.MsgspecError as error:
            self.stop(QUICK_GRACE_S)
            raise ProtocolError(f"the server announced itself unreadably: {error}") from None

    def leave_running(self) -> None:
        """Cut the tether without stopping the server: it goes on when this process ends."""
        with contextlib.suppress(OSError):
            self._tether.sendall(LEAVE)
        self._tether.close()
        self._left = True
        # Popen warns about a child that it drops while it runs; this one is meant to outlive us.
        self._process.returncode = 0

    def stop(self, timeout_s: float = 30.0) -> int:
        """TERM, after ``timeout_s`` seconds QUIT, then KILL. Returns the exit status. May be called again."""
        for number, patience_s in (
            (signal.SIGTERM, timeout_s),
            (signal.SIGQUIT, QUICK_GRACE_S),
            (signal.SIGKILL, QUICK_GRACE_S),
        ):
            if self.poll() is not None:
                break
            if self._successor is not None:
                self._successor.send_signal(number)
                self._successor.wait(patience_s)
                continue
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        self._tether.close()
        status = self._process.wait(QUICK_GRACE_S)
        if self._successor is None:
            return status
        status = self._successor.wait(QUICK_GRACE_S) or 0
        self._successor.close()
        return status

    def poll(self) -> int | None:
        """The exit status of the server, None while it runs. The server is whoever has taken its place."""
        self._follow()
        status = self._process.poll()
        return status if self._successor is None else self._successor.wait(0)

    def _follow(self) -> None:
        """Hear of a new master, if there is one: `pid` is its from now on."""
        with contextlib.suppress(OSError):
            self._received += self._tether.recv(4096, socket.MSG_DONTWAIT)
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            with contextlib.suppress(msgspec.MsgspecError, OSError):
                pid = msgspec.json.decode(line, type=Serving).pid
                successor = _Process(pid)
                if self._successor is not None:
                    self._successor.close()
                self._successor, self.pid = successor, pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._left and self.poll() is None:
            self.stop()
        self._tether.close()

    def _death(self) -> WsgitopError:
        """The error for a server that cut the tether before it served."""
        try:
            status = self._process.wait(QUICK_GRACE_S)
        except subprocess.TimeoutExpired:
            status = self.stop(QUICK_GRACE_S)
        self._tether.close()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        error = _BY_STATUS.get(status, ConfigError)
        return error(
            f"the server ended with {how} while starting{self._last_words()}", f"Its log is {self.log_path}"
        )

    def _last_words(self) -> str:
        """The last lines that the server wrote since it was launched, indented; '' if there are none."""
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - TAIL_BYTES))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            return "".join(f"\n    {line}" for line in lines[-ERROR_LINES:])
        return ""


class _Process:
    """A master that was not started from here. Once the one that has started it is gone, it is a child of
    this process, which is a subreaper, so that its exit status can be had.
    """

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)
        self._status: int | None = None

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, as Popen's; None if it runs on. 0 if nobody can tell."""
        if self._status is None and select.select([self._fd], [], [], timeout_s)[0]:
            self._status = 0
            with contextlib.suppress(ChildProcessError):
                ended = os.waitid(os.P_PIDFD, self._fd, os.WEXITED)
                if ended is not None:
                    killed = ended.si_code != os.CLD_EXITED
                    self._status = -ended.si_status if killed else ended.si_status
        return self._status

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def launch(argv: Sequence[str], *, log_path: Path, env: Mapping[str, str] | None = None) -> Launched:
    """Start ``wsgitop serve ARGV…`` in a session of its own, its output appended to ``log_path``.

    The log is made with mode 0600. ``env`` replaces the environment. The server stops when this process
    ends, unless it was left running.
    Raises ConfigError when the log cannot be written.
    """
    try:
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot write the server's log {log_path}: {error.strerror}", "Choose another place for it."
        ) from None
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, theirs = socket.socketpair()
    log_start = os.fstat(log_fd).st_size
    try:
        environment = {**(os.environ if env is None else env), VARIABLE: str(theirs.fileno())}
        process = subprocess.Popen(
            [*COMMAND, *argv],
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            env=environment,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        return Launched(process, ours, log_path, log_start)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(log_fd)


class Tether:
    """The server's end. The master adds ``fileno()`` to its loop and calls :meth:`read` when readable."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._socket = sock
        self._received = b""

    @classmethod
    def from_environment(cls) -> Tether | None:
        """Take the tether that this process was started with; None if there is none.

        The variable is removed and the descriptor made close-on-exec: a zygote that held it would keep the
        launcher waiting for an end-of-file. To be called once, before any other process is started.
        """
        text = os.environ.pop(VARIABLE, "")
        if not text.isdecimal():
            return None
        try:
            return cls(socket.socket(fileno=int(text)))
        except OSError:
            return None  # the variable was inherited, the descriptor was not

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def announce(self, pid: int, control: str) -> None:
        """Say once that the server serves. A launcher that is gone shows in :meth:`read`."""
        with contextlib.suppress(OSError):
            self._socket.send(msgspec.json.encode(Serving(pid, control)) + b"\n", socket.MSG_NOSIGNAL)

    def read(self) -> Literal["leave", "gone"] | None:
        """``leave``: forget the launcher (and close this). ``gone``: it ended, stop. None: nothing yet."""
        try:
            chunk = self._socket.recv(64)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return "gone"
        self._received += chunk
        if LEAVE in self._received:
            return "leave"
        return None if chunk else "gone"

    def close(self) -> None:
        """Let go."""
        self._socket.close()
