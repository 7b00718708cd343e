"""A program whose standard input and output carry the bytes of a connection.

Runs in the caller's event loop. It owns the process from its start until it is reaped: whoever has a
:class:`ProcessStream` closes it, and waits for :attr:`ProcessStream.ended`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence

from wsgitop.errors import CannotConnect
from wsgitop.snapshot import printable

GRACE_S = 1.0
"""Between the end of its input, TERM and KILL."""
LAST_WORDS_S = 0.25
"""How long its standard error may go on when it has ended: something that it started may hold that open."""
SAID_BYTES = 8192
"""How much of its standard error is kept, from the end."""

STDIN, STDOUT, STDERR = 0, 1, 2


class ProcessStream(asyncio.SubprocessProtocol):
    """Bytes to and from a process.

    ``received`` gets what it writes; ``lost`` is called once, when it has ended, with its exit status,
    negative for a signal, and with the end of what it wrote to standard error. One that closes its output is
    ended, and its status is None. ``say`` gets standard error as it comes.
    """

    def __init__(
        self,
        received: Callable[[bytes], None],
        lost: Callable[[int | None, str], None],
        *,
        say: Callable[[str], None] | None = None,
        own_session: bool = True,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._received = received
        self._lost: Callable[[int | None, str], None] | None = lost
        self._say = say
        self._own_session = own_session
        self._said = bytearray()
        self._open = {STDOUT, STDERR}
        self._closing = False
        self._gave_up = False
        self._timers: list[asyncio.TimerHandle] = []
        self._transport: asyncio.SubprocessTransport | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == STDOUT:
            self._received(data)
            return
        self._said += data
        del self._said[:-SAID_BYTES]
        if self._say is not None:
            self._say(data.decode(errors="replace"))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if fd == STDOUT:
            # It usually ends with that; if not, there is nothing more to hear from it.
            self._timers.append(self._loop.call_later(GRACE_S, self._give_up))
        elif fd == STDERR and self.ended.done():
            self._tell()

    def process_exited(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        for timer in self._timers:
            timer.cancel()
        self._timers = [self._loop.call_later(LAST_WORDS_S, self._tell)]
        if not self._open:
            self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell()

    # -- the owner's side

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing

    def write(self, data: bytes) -> None:
        """Send ``data``; dropped when the process is on its way out."""
        pipe = self._transport.get_pipe_transport(STDIN) if self._transport is not None else None
        if pipe is not None and not self._closing:
            assert isinstance(pipe, asyncio.WriteTransport)
            pipe.write(data)

    def close(self) -> None:
        """Let it end: its input ends, after a while TERM, then KILL."""
        if self._begin_to_end():
            self._timers.append(self._loop.call_later(GRACE_S, self._end))

    def abort(self) -> None:
        """End it: TERM now, then KILL."""
        self._begin_to_end()
        self._end()

    def kill(self) -> None:
        """End it at once, stopped or not."""
        self._begin_to_end()
        self._signal(signal.SIGKILL)

    # -- inside

    def _begin_to_end(self) -> bool:
        """Whether it has just begun to."""
        if self._closing:
            return False
        self._closing = True
        if self._transport is not None and (pipe := self._transport.get_pipe_transport(STDIN)) is not None:
            pipe.close()
        return True

    def _give_up(self) -> None:
        self._gave_up = True
        self._end()

    def _end(self) -> None:
        self._begin_to_end()
        self._signal(signal.SIGTERM)
        self._timers.append(self._loop.call_later(GRACE_S, self._signal, signal.SIGKILL))

    def _signal(self, number: signal.Signals) -> None:
        if self._transport is None or self.ended.done():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._own_session:
                os.killpg(self._transport.get_pid(), number)
            else:
                self._transport.send_signal(number)

    def _tell(self) -> None:
        """Once: that it is over, and why; and give back what is still open."""
        lost, self._lost = self._lost, None
        if lost is None or self._transport is None:
            return
        for timer in self._timers:
            timer.cancel()
        self._closing = True
        if self._own_session:
            # What it has started is in its session, and has nothing to do any more.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), signal.SIGTERM)
        self._transport.close()
        status = self._transport.get_returncode()
        lost(None if self._gave_up else status, self._said.decode(errors="replace"))


async def start(
    words: Sequence[str],
    received: Callable[[bytes], None],
    lost: Callable[[int | None, str], None],
    *,
    say: Callable[[str], None] | None = None,
    own_session: bool = True,
) -> ProcessStream:
    """Start ``words``, a list of arguments that no shell sees.

    ``own_session``: away from the terminal, whose Ctrl-C it then does not get and where it can ask nothing.
    Raises CannotConnect when there is no such program.
    """
    loop = asyncio.get_running_loop()
    try:
        _, stream = await loop.subprocess_exec(
            lambda: ProcessStream(received, lost, say=say, own_session=own_session),
            *words,
            start_new_session=own_session,
        )
    except (OSError, ValueError) as error:
        raise _cannot_start(words[0], error) from None
    return stream


def _cannot_start(program: str, error: OSError | ValueError) -> CannotConnect:
    name = printable(program, 100)
    if isinstance(error, FileNotFoundError):
        return CannotConnect(f"there is no program {name} here", "Install it, or give its path.")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return CannotConnect(f"{name} cannot be started: {reason}", "Give the path of a program.")
