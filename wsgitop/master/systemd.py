"""What systemd is told and tells: sd_notify(3) and socket activation (sd_listen_fds(3)).

Who runs this: the loop of the master. Datagrams go to systemd's socket without waiting; if it does not take
them the server serves all the same. The variables are taken out of the environment, so that neither zygotes
nor what the application starts believe that they are meant.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Protocol

from wsgitop.master.condition import condition, reloading_to
from wsgitop.master.events import LOGGER
from wsgitop.master.roster import Roster

LISTEN_FDS_START = 3
STATUS_INTERVAL_S = 1.0


class Notifier:
    """The socket that NOTIFY_SOCKET names. ``watchdog_s`` is how often systemd wants to hear of us at least;
    0: it does not.
    """

    def __init__(self, address: str, watchdog_s: float = 0.0) -> None:
        self.watchdog_s = watchdog_s
        # "@" stands for the null byte in front of an abstract name (unix(7)).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._complained = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier | None:
        """None: systemd does not want to be told. The variables are removed."""
        address = environ.pop("NOTIFY_SOCKET", "")
        interval = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        meant = pid in ("", str(os.getpid()))
        watchdog_s = int(interval) / 1e6 if meant and interval.isascii() and interval.isdigit() else 0.0
        return cls(address, watchdog_s)

    def tell(self, **state: object) -> None:
        """Send assignments, for example ``READY=1``. Never waits and raises nothing."""
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        try:
            self._socket.sendto(text.encode(errors="replace"), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                LOGGER.warning("systemd cannot be told anything at NOTIFY_SOCKET: %s", error.strerror)

    def close(self) -> None:
        """Say no more."""
        self._socket.close()


def take_sockets(environ: MutableMapping[str, str]) -> tuple[str, ...]:
    """The sockets that systemd has opened for this process, as addresses ``fd://N``; they take the place of
    ``bind``, as in gunicorn. The variables are removed.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return ()
    return tuple(f"fd://{fd}" for fd in range(LISTEN_FDS_START, LISTEN_FDS_START + min(int(count), 1000)))


class _Loop(Protocol):
    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """As asyncio's."""


class Unit:
    """Keeps systemd informed of the server: ready, reloading, stopping, a line of status, and alive."""

    def __init__(self, notifier: Notifier, roster: Roster, loop: _Loop) -> None:
        self._notifier = notifier
        self._roster = roster
        self._loop = loop
        self._phase = "starting"
        self._status = ""
        self._said_at = 0.0
        self._silent = False
        if notifier.watchdog_s > 0:
            self._beat()

    def look(self, rps: float | None = None) -> None:
        """Tell what has changed; called whenever something may have, and once a second."""
        if self._silent:
            return
        phase = self._current()
        if phase != self._phase:
            self._enter(phase)
        now = time.monotonic()
        status = self.status(rps)
        if status != self._status and now - self._said_at >= STATUS_INTERVAL_S:
            self._status, self._said_at = status, now
            self._notifier.tell(STATUS=status)

    def status(self, rps: float | None) -> str:
        """One line for ``systemctl status``."""
        roster = self._roster
        state, reason = condition(roster, time.monotonic())
        words = [f"{state}: {reason}" if reason else state, f"generation {roster.target}"]
        words.append(f"{len(roster.ready())}/{roster.wanted} workers")
        if rps is not None:
            words.append(f"{rps:,.0f} requests/s")
        return ", ".join(words)

    def succeed(self, pid: int) -> None:
        """Another process is the server's main process from now on; nothing more is told by this one."""
        self._notifier.tell(MAINPID=pid)
        self._silent = True

    def _current(self) -> str:
        roster = self._roster
        if roster.stopping:
            return "stopping"
        if not roster.ever_ready:
            return "starting"
        return "reloading" if reloading_to(roster) is not None else "ready"

    def _enter(self, phase: str) -> None:
        self._phase = phase
        match phase:
            case "ready":
                self._notifier.tell(READY=1)
            case "reloading":
                # systemd.service(5), Type=notify-reload: the time tells which reload is meant.
                self._notifier.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
            case "stopping":
                self._notifier.tell(STOPPING=1)

    def _beat(self) -> None:
        if self._silent:
            return
        # From the loop itself: if it hangs, systemd is right to act.
        self._notifier.tell(WATCHDOG=1)
        self._loop.call_later(self._notifier.watchdog_s / 2, self._beat)
