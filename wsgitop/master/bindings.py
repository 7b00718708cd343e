"""Which generation serves at which address: listeners over reloads.

Who runs this: the loop of the master. Every listener that is open stands in one list, which the rest of the
master shows; here is which generation uses which. A reload binds what is new before anything of the old is
given up, so that an address that is taken makes it fail and nothing is lost; it closes what is left out when
the new workers serve. A socket that both configurations name stays the same, with who waits at it.
"""

from __future__ import annotations

import contextlib
import os
import socket

from wsgitop.errors import BindError, ConfigError
from wsgitop.master.events import EventLog
from wsgitop.master.listeners import Found, Listener, is_name, open_listener, wanted_addresses
from wsgitop.settings.addresses import Address
from wsgitop.settings.table import Settings

WILDCARDS = {"tcp": "0.0.0.0", "tcp6": "::"}


class Bindings:
    """The listeners of each generation. ``listeners`` are those that the server was started with; the list
    itself is kept up to date.
    """

    def __init__(self, listeners: list[Listener], settings: Settings, events: EventLog) -> None:
        self.open = listeners
        asked = {str(address) for address, _ in wanted_addresses(settings)}
        # Opened by systemd: the configuration does not say where, and a reload cannot change it.
        self._activated = any(each.given not in asked for each in listeners)
        self._umask = settings.umask
        self._events = events
        self._current = list(listeners)
        self._of: dict[int, list[Listener]] = {}

    def names(self, settings: Settings, *, fixed: bool) -> list[Address]:
        """Addresses that :meth:`prepare` would have to look up. Raises ConfigError."""
        if fixed or self._activated:
            return []
        return [address for address, _, same in self._match(settings) if same is None and is_name(address)]

    def prepare(
        self, number: int, settings: Settings, *, fixed: bool, found: Found | None = None
    ) -> list[Listener]:
        """The listeners of a generation; opens those that are not there yet, all or none.

        ``fixed``: its workers will serve beside those of the generation before it, and so where they do.
        ``found`` is where those of :meth:`names` are. Raises BindError, ConfigError.
        """
        if fixed or self._activated:
            self._of[number] = self._current
            return self._current
        its, fresh = [], []
        try:
            for address, v6_only, same in self._match(settings):
                if same is None:
                    fresh.append(self._bind(address, settings, v6_only=v6_only, found=found))
                its.append(fresh[-1] if same is None else same)
        except BaseException:
            for listener in fresh:
                listener.close()
            raise
        self._of[number] = its
        self.open += fresh
        for listener in fresh:
            self._events.add(
                "info", "listening", f"listening at {listener.address}, too, for generation {number}"
            )
        return its

    def _match(self, settings: Settings) -> list[tuple[Address, bool, Listener | None]]:
        """The addresses that are wanted, and the listener that is there for each. Raises ConfigError."""
        unused, found = list(self.open), []
        for address, v6_only in wanted_addresses(settings):
            wanted = (str(address), v6_only)
            same = next((e for e in unused if (e.given, e.v6_only) == wanted and e.reachable()), None)
            if same is not None:
                unused.remove(same)
            found.append((address, v6_only, same))
        return found

    def _bind(self, address: Address, settings: Settings, *, v6_only: bool, found: Found | None) -> Listener:
        if address.kind == "fd":
            raise ConfigError(
                f"bind: {address} cannot be added by a reload: descriptors are handed over at the start",
                "Restart the server with it.",
            )
        ours = [each for each in self.open if _overlap(each.address, address)]
        if not ours:
            return open_listener(address, settings, v6_only=v6_only, found=found)
        # Only a wider one: the kernel prefers the narrower socket for as long as it is there, so nobody waits
        # at the new one before there are workers that accept from it.
        everywhere = WILDCARDS.get(address.kind)
        wider = address.host == everywhere and all(each.address.host != everywhere for each in ours)
        if not wider:
            raise BindError(
                f"cannot listen on {address}: this server listens on {ours[0].address} already",
                "Restart the server for this change, or choose another port.",
            )
        for each in ours:
            each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener = open_listener(address, settings, v6_only=v6_only, reuse_port=True, found=found)
        finally:
            for each in ours:
                each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(settings.reuse_port))
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(settings.reuse_port))
        return listener

    def others(self, *numbers: int) -> list[int]:
        """The generations that have listeners, but for these."""
        return [number for number in self._of if number not in numbers]

    def accept(self, number: int, settings: Settings) -> None:
        """This generation serves: close what it does not use, and bring what it keeps up to date.

        Workers that retire have copies of their own, and serve who waits there before they close them.
        """
        self._current = keep = self._of.get(number, self._current)
        self._of = {number: keep}
        for listener in [each for each in self.open if each not in keep]:
            self._close(listener)
            self._events.add("info", "listening", f"{listener.address} is not listened at any more")
        if self.open != keep:
            self.open[:] = keep
        for listener in keep:
            if listener.backlog != settings.backlog:
                listener.socket.listen(settings.backlog)
                listener.backlog = settings.backlog
            if settings.umask != self._umask:
                listener.chmod(0o777 & ~settings.umask)
        self._umask = settings.umask

    def give_up(self, *numbers: int) -> None:
        """These generations will not serve: close what only they would have used."""
        for number in numbers:
            self._of.pop(number, None)
        used = [*self._current, *(each for some in self._of.values() for each in some)]
        for listener in [each for each in self.open if each not in used]:
            self._close(listener)
            self.open.remove(listener)
            self._events.add("info", "listening", f"{listener.address} is not listened at: the reload failed")

    def _close(self, listener: Listener) -> None:
        listener.close()
        if listener.adopted_fd >= 0:
            # It is the same socket, and would go on to take clients in.
            with contextlib.suppress(OSError):
                os.close(listener.adopted_fd)
            listener.adopted_fd = -1


def _overlap(ours: Address, address: Address) -> bool:
    """Whether both would take the same connections."""
    if ours.kind != address.kind or ours.kind not in WILDCARDS or ours.port != address.port or not ours.port:
        return False
    return ours.host == address.host or WILDCARDS[ours.kind] in (ours.host, address.host)
