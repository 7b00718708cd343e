"""Who is told how the server is: systemd, and whoever asks at --health-bind.

Who runs this: the loop of the master. A new master (see ``upgrade.py``) does neither before it has taken
over: systemd listens to the main process alone, and the address of the checks is the old one's until then.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from wsgitop.errors import WsgitopError
from wsgitop.master.events import LOGGER
from wsgitop.master.health import answer_checks
from wsgitop.master.listeners import Listener, open_listeners
from wsgitop.master.responder import Responder
from wsgitop.master.supervisor import Supervisor
from wsgitop.master.systemd import Notifier, Unit
from wsgitop.settings.table import Settings

TRIES, TRY_S = 50, 0.1
"""How often and how fast an address is tried that the old master is about to give up."""


class Surroundings:
    """Opens the address of the health checks at once, unless ``guest``: then in :meth:`start`, if it is not
    the ``inherited`` one, where the old master answers until then.

    Raises BindError, ConfigError.
    """

    def __init__(self, settings: Settings, *, guest: bool, inherited: Listener | None = None) -> None:
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        """What systemd has given, for a new master; it is taken out of this one's environment."""
        self._address = settings.health_bind
        self._settings = msgspec.structs.replace(settings, bind=(settings.health_bind,))
        self._notifier = Notifier.from_environment(os.environ)
        self._listener = inherited
        self._health: Responder | None = None
        self._unit: Unit | None = None
        if self._address and not guest:
            (self._listener,) = open_listeners(self._settings)

    @property
    def health_listener(self) -> Listener | None:
        """Where health checks are answered, for a new master to inherit."""
        return self._listener

    async def start(self, supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer and to tell."""
        if self._notifier is not None:
            self._unit = Unit(self._notifier, supervisor.roster, loop)
            supervisor.on_change.append(self._unit.look)
            self._unit.look()
        if not self._address:
            return
        if self._listener is None:
            self._listener = await self._take_over_address()
        if self._listener is not None:
            self._health = Responder(self._listener, answer_checks(supervisor.roster))
            await self._health.start()
            LOGGER.info("health checks at %s: /healthy, /ready", self._listener.address)

    async def _take_over_address(self) -> Listener | None:
        for tried in range(TRIES):
            try:
                return open_listeners(self._settings)[0]
            except WsgitopError as error:
                if tried == TRIES - 1:
                    LOGGER.error("no health checks are answered: %s", error)
            await asyncio.sleep(TRY_S)
        return None

    def look(self, rps: float | None) -> None:
        """Once a second."""
        if self._unit is not None:
            self._unit.look(rps)

    def hand_over(self, pid: int) -> None:
        """Process ``pid`` is the master from now on: tell systemd, then no more, and free the address."""
        if self._unit is not None:
            self._unit.succeed(pid)
        if self._health is not None:
            self._health.stop()

    def close(self) -> None:
        """Answer and tell no more. May be called again."""
        if self._health is not None:
            self._health.stop()
        elif self._listener is not None:
            self._listener.close()
        if self._notifier is not None:
            self._notifier.close()
