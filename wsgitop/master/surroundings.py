"""Who is told how the server is: systemd, and whoever asks at --health-bind and --metrics.

Who runs this: the loop of the master. A new master (see ``upgrade.py``) does neither before it has taken
over: systemd listens to the main process alone, and the addresses are the old one's until then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from wsgitop.errors import BindError, WsgitopError
from wsgitop.master.events import LOGGER
from wsgitop.master.handover import MONITORS, Monitor
from wsgitop.master.health import answer_checks
from wsgitop.master.listeners import Found, Listener, is_name, open_listener
from wsgitop.master.lookup import Outcome, look_up
from wsgitop.master.monitoring import PATH, Metrics
from wsgitop.master.responder import Asked, Reply, Responder
from wsgitop.master.supervisor import Supervisor
from wsgitop.master.systemd import Notifier, Unit
from wsgitop.settings.addresses import Address, parse_address
from wsgitop.settings.table import Settings

TRIES, TRY_S = 50, 0.1
"""How often and how fast an address is tried that the old master is about to give up."""


def monitor_addresses(settings: Settings) -> dict[Monitor, str]:
    """Where the master answers by itself. Both at one address share its listener, which goes by the name of
    the health checks.
    """
    wanted: dict[Monitor, str] = {"health": settings.health_bind, "metrics": settings.metrics}
    found = {monitor: str(parse_address(text)) for monitor, text in wanted.items() if text}
    if found.get("health") == found.get("metrics"):
        found.pop("metrics", None)
    return found


class Surroundings:
    """Opens the addresses at once, unless ``guest``: then in :meth:`start`, those that are not among the
    ``inherited`` ones, where the old master answers until then.

    Raises BindError, ConfigError.
    """

    def __init__(
        self, settings: Settings, *, guest: bool, inherited: dict[Monitor, Listener] | None = None
    ) -> None:
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        """What systemd has given, for a new master; it is taken out of this one's environment."""
        self._addresses = monitor_addresses(settings)
        self._settings = settings
        self._notifier = Notifier.from_environment(os.environ)
        self.listeners = dict(inherited or {})
        """Where the master answers, for a new one to inherit."""
        self._responders: list[Responder] = []
        self._unit: Unit | None = None
        self._ended = False
        if not guest:
            try:
                for monitor in self._addresses:
                    self.listeners[monitor] = self._open(monitor)
            except WsgitopError:
                self.close()
                raise

    async def start(self, supervisor: Supervisor, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer and to tell."""
        if self._notifier is not None:
            self._unit = Unit(self._notifier, supervisor.roster, loop)
            supervisor.on_change.append(self._unit.look)
            self._unit.look()
        checks = answer_checks(supervisor.roster)
        for monitor in self._addresses:
            if monitor not in self.listeners:
                await self._take_over_address(monitor, loop)
            if self._ended:
                return
            listener = self.listeners.get(monitor)
            if listener is None:
                continue
            answer: Callable[[Asked], Reply]
            if monitor == "metrics":
                answer, told = metrics.answer, f"metrics at {listener.address}: {PATH}"
            elif self._settings.metrics and "metrics" not in self._addresses:
                answer = _either(metrics.answer, checks)
                told = f"health checks and metrics at {listener.address}: /healthy, /ready, {PATH}"
            else:
                answer, told = checks, f"health checks at {listener.address}: /healthy, /ready"
            responder = Responder(listener, answer)
            self._responders.append(responder)
            await responder.start()
            LOGGER.info("%s", told)

    def _open(self, monitor: Monitor, found: Found | None = None) -> Listener:
        address = parse_address(self._addresses[monitor])
        try:
            return open_listener(address, self._settings, v6_only=False, found=found)
        except BindError as error:
            flag = "--health-bind" if monitor == "health" else "--metrics"
            raise BindError(error.cause, error.remedy.replace("--bind", flag)) from None

    async def _take_over_address(self, monitor: Monitor, loop: asyncio.AbstractEventLoop) -> None:
        """Open it once the old master has closed it. The server lives: a name is looked up beside the loop,
        once.
        """
        address = parse_address(self._addresses[monitor])
        found: Outcome = await _looked_up(address, loop) if is_name(address) else {}
        for tried in range(TRIES):
            if tried:
                await asyncio.sleep(TRY_S)
            if self._ended:
                return
            try:
                if isinstance(found, BindError):
                    raise found
                self.listeners[monitor] = self._open(monitor, found)
                return
            except WsgitopError as error:
                if error is found or tried == TRIES - 1:
                    LOGGER.error("no %s are answered: %s", MONITORS[monitor], error)
                    return

    def look(self, rps: float | None) -> None:
        """Once a second."""
        if self._unit is not None:
            self._unit.look(rps)

    def hand_over(self, pid: int) -> None:
        """Process ``pid`` is the master from now on: tell systemd, then no more, and free the addresses."""
        self._ended = True
        if self._unit is not None:
            self._unit.succeed(pid)
        for responder in self._responders:
            responder.stop()

    def close(self) -> None:
        """Answer and tell no more. May be called again, and while :meth:`start` waits."""
        self._ended = True
        for responder in self._responders:
            responder.stop()
        for listener in self.listeners.values():
            listener.close()
        if self._notifier is not None:
            self._notifier.close()


async def _looked_up(address: Address, loop: asyncio.AbstractEventLoop) -> Outcome:
    answer: asyncio.Future[Outcome] = loop.create_future()
    look_up(loop, [address], lambda found: None if answer.done() else answer.set_result(found))
    return await answer


def _either(metrics: Callable[[Asked], Reply], checks: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """What answers both at one address."""
    return lambda asked: (metrics if asked.path == PATH else checks)(asked)
