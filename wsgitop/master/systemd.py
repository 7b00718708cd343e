"""What systemd is told and tells: sd_notify(3) and socket activation (sd_listen_fds(3)).

Who runs this: the loop of the master. Datagrams go to systemd's socket without waiting; if it does not take
them the server serves all the same. The variables are taken out of the environment, so that neither zygotes
nor what the application starts believe that they are meant.
"""

from __future__ import annotations

import asyncio
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
RETRY_S = 0.05
FAREWELL_S = 1.0
UNSENT_LIMIT = 50
"""Beyond it the oldest are given up: systemd has not read for long, or never will."""


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
        self._unsent: list[str] = []
        self._waits = False

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
        """Send assignments that count, for example ``READY=1``, in order. Never waits and raises nothing: if
        systemd has no room for them, they are sent again in a moment.
        """
        self._unsent.append(_text(state))
        del self._unsent[:-UNSENT_LIMIT]
        self._send_on()

    def mention(self, **state: object) -> None:
        """Send assignments that lose their worth at once, such as ``WATCHDOG=1``: now, or never."""
        if not self._unsent:
            self._send(_text(state))

    def _send_on(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.pop(0)
        if self._unsent and not self._waits:
            self._waits = True
            asyncio.get_running_loop().call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._waits = False
        if self._socket.fileno() >= 0:
            self._send_on()

    def _send(self, text: str) -> bool:
        """False: there is no room."""
        try:
            self._socket.sendto(text.encode(errors="replace"), self._address)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError as error:
            if not self._complained:
                self._complained = True
                LOGGER.warning("systemd cannot be told anything at NOTIFY_SOCKET: %s", error.strerror)
        return True

    def close(self) -> None:
        """Say no more. What could not be sent before is waited for, FAREWELL_S at most."""
        if self._unsent and self._socket.fileno() >= 0:
            self._socket.settimeout(FAREWELL_S / len(self._unsent))
            for text in self._unsent:
                self._send(text)
        self._unsent.clear()
        self._socket.close()


def _text(state: dict[str, object]) -> str:
    return "\n".join(f"{name}={value}" for name, value in state.items())


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
        self._number: int | None = None
        self._rps: float | None = None
        self._status = ""
        self._said_at = 0.0
        self._silent = False
        if notifier.watchdog_s > 0:
            self._beat()

    def look(self, rps: float | None = None) -> None:
        """Tell what has changed; called whenever something may have, and once a second."""
        if self._silent:
            return
        phase, number = self._current(), reloading_to(self._roster)
        # Each reload is told, also one that is ordered while another is under way: systemd waits for it.
        if phase != self._phase or (phase == "reloading" and number != self._number):
            self._number = number
            self._enter(phase)
        now = time.monotonic()
        if rps is not None:
            self._rps = rps
        status = self.status(self._rps)
        if status != self._status and now - self._said_at >= STATUS_INTERVAL_S:
            self._status, self._said_at = status, now
            self._notifier.mention(STATUS=status)

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
        self._notifier.mention(WATCHDOG=1)
        self._loop.call_later(self._notifier.watchdog_s / 2, self._beat)
