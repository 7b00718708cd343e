"""The master's signals: blocked everywhere, taken by one thread, handed to the loop.

Who runs this: ``SignalThread`` is one thread of the master that does nothing but sit in sigwaitinfo(2). It
owns nothing; it calls into the loop by ``call_soon_threadsafe``. Why not ``loop.add_signal_handler``:
sigwaitinfo also tells who sent a signal, and a blocked SIGTTIN or SIGTTOU from the terminal does no harm,
where a handler under ``stty tostop`` makes every write to the terminal fail and raise the signal again.
"""

from __future__ import annotations

import asyncio
import pwd
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psutil

SIGNALS = frozenset({
    signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCHLD,
})  # fmt: skip
_WAKE = signal.SIGRTMIN
"""Ends the thread; nobody else sends it."""


@dataclass(frozen=True, slots=True)
class Received:
    """A signal and its sender. ``pid`` is 0 when the kernel sent it, for example on Ctrl-C."""

    number: signal.Signals
    pid: int
    uid: int

    def actor(self) -> str:
        """Who that is, for the audit: ``alice (kill, pid 4711)``, or ``terminal`` if the kernel sent it."""
        if self.pid == 0:
            return "terminal"
        try:
            name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            name = f"uid {self.uid}"
        try:
            command = psutil.Process(self.pid).name()
        except psutil.Error:
            command = "gone"  # a kill(1) has usually ended by now
        except OSError:
            command = "unknown"  # no descriptor is left to read it with; the signal counts all the same
        return f"{name} ({command}, pid {self.pid})"


def block() -> None:
    """Block the master's signals in this thread and all that it starts. Call before the first thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS | {_WAKE})


class SignalThread:
    """Waits for signals and passes each to ``receive`` in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[Received], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._thread = threading.Thread(target=self._run, name="wsgitop-signals", daemon=True)

    def start(self) -> None:
        """Begin to wait. :func:`block` must have been called."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; signals that come later stay blocked."""
        if self._thread.ident is not None and self._thread.is_alive():
            signal.pthread_kill(self._thread.ident, _WAKE)
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while True:
            info = signal.sigwaitinfo(SIGNALS | {_WAKE})
            if info.si_signo == _WAKE:
                return
            received = Received(signal.Signals(info.si_signo), info.si_pid, info.si_uid)
            try:
                self._loop.call_soon_threadsafe(self._receive, received)
            except RuntimeError:
                return  # the loop has been closed: the master is ending
