"""All sockets that a master listens at when it starts by itself: for clients and for health checks."""

from __future__ import annotations

import contextlib
import os

import msgspec

from wsgitop.master import systemd
from wsgitop.master.events import LOGGER
from wsgitop.master.listeners import Listener, open_listener, open_listeners
from wsgitop.settings.addresses import parse_address
from wsgitop.settings.table import Settings


def open_sockets(settings: Settings) -> tuple[list[Listener], Listener | None]:
    """The listeners, and that of the health checks, if there is to be one. Raises BindError, ConfigError."""
    with contextlib.ExitStack() as stack:
        given = systemd.take_sockets(os.environ)
        listeners = open_listeners(msgspec.structs.replace(settings, bind=given) if given else settings)
        if given:
            LOGGER.info("systemd has opened the sockets; --bind is not looked at")
        for listener in listeners:
            stack.callback(listener.close)
        health = open_health(settings)
        stack.pop_all()
        return listeners, health


def open_health(settings: Settings) -> Listener | None:
    """The listener for health checks, if there is to be one. Raises BindError, ConfigError."""
    if not settings.health_bind:
        return None
    return open_listener(parse_address(settings.health_bind), settings, v6_only=False)
