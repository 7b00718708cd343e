"""Figures to statsd, once a second, under gunicorn's names.

Who runs this: the master's loop, right behind a sample. All is taken from counters that are kept anyway;
workers know nothing of it. The socket never blocks, and the name of a server is looked up by a thread, so
that a statsd that is not there costs nothing but its figures.

gunicorn sends one datagram or more for each request. Here a second's latencies are sent as they are counted,
one sample for each bucket of the histogram with the rate 1/n, which says that it stands for n requests.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wsgitop.logs.lines import LevelCounter
from wsgitop.logs.sink import Sink
from wsgitop.master.events import LOGGER
from wsgitop.master.sampler import Sampler
from wsgitop.master.statistics import Growth, Statistics
from wsgitop.scoreboard.histogram import middle_us
from wsgitop.settings.log_targets import Target, parse_statsd_host
from wsgitop.settings.table import Settings
from wsgitop.snapshot import Snapshot

DATAGRAM_BYTES = 1400
"""So that it passes through an Ethernet in one piece."""
INTERVAL_S = 0.95
LOOK_UP_AGAIN_S = 60.0


def open_statsd(settings: Settings, sampler: Sampler, sink: Sink) -> Reporter | None:
    """What the settings ask for; None if they ask for nothing."""
    target = parse_statsd_host(settings.statsd_host)
    if target is None:
        return None
    levels = LevelCounter()
    sink.copies.append(levels.take)
    return Reporter(Statsd(target), sampler, levels, settings)


class Reporter:
    """Makes a second's figures and has them sent.

    ``gauges``: this is the master of the server. Of two, while one takes over from the other, both tell what
    they count, which adds up, but only one how many workers there are: the other's come and go.
    """

    def __init__(self, statsd: Statsd, sampler: Sampler, levels: LevelCounter, settings: Settings) -> None:
        self._statsd = statsd
        self._sampler = sampler
        self._levels = levels
        self._told_levels = dict(levels.counts)
        self._prefix = prefix_of(settings.statsd_prefix)
        self._tags = f"|#{settings.dogstatsd_tags}" if settings.dogstatsd_tags else ""
        self._backlog = settings.enable_backlog_metric
        self._statistics = Statistics()
        self._last_s = 0.0
        self.gauges = True
        sampler.on_removed.append(self._statistics.forget)

    def tick(self, snapshot: Snapshot) -> None:
        """Send, unless less than a second has passed."""
        now_s = time.monotonic()
        if now_s - self._last_s < INTERVAL_S:
            return
        self._last_s = now_s
        self._statistics.read(self._sampler.gauges)
        self._send(len(snapshot.workers), snapshot.totals.queue if self._backlog else None)

    def close(self) -> None:
        """Send what is left."""
        self._sampler.on_removed.remove(self._statistics.forget)
        self._send(0, None)
        self._statsd.close()

    def _send(self, workers: int, backlog: int | None) -> None:
        counts = dict(self._levels.counts)
        levels = {level: count - self._told_levels[level] for level, count in counts.items()}
        self._told_levels = counts
        lines = (
            f"{self._prefix}{line}{self._tags}"
            for line in figures(
                self._statistics.take(),
                levels,
                workers if self.gauges else None,
                backlog if self.gauges else None,
            )
        )
        self._statsd.send(datagrams(lines))


def prefix_of(text: str) -> str:
    """The prefix with exactly one dot behind it, as gunicorn makes it; without what would end a name."""
    clean = "".join(char for char in text if char.isprintable() and char not in " :|@#").rstrip(".")
    return f"{clean}." if clean else ""


def figures(
    growth: Growth, levels: Mapping[str, int], workers: int | None, backlog: int | None
) -> Iterator[str]:
    """A second's figures in the words of statsd, without prefix and tags; counters that stand still are left
    out, and so are gauges that are None.
    """
    if growth.requests:
        yield f"gunicorn.requests:{growth.requests}|c"
    for number, count in enumerate(growth.classes, 1):
        if count:
            yield f"gunicorn.request.status.{number}xx:{count}|c"
    for index, count in enumerate(growth.buckets):
        if count:
            rate = "" if count == 1 else f"|@{1 / count!r}"
            yield f"gunicorn.request.duration:{middle_us(index) / 1000:.6g}|ms{rate}"
    for level, count in levels.items():
        if count:
            yield f"gunicorn.log.{level}:{count}|c"
    if workers is not None:
        yield f"gunicorn.workers:{workers}|g"
    if backlog is not None:
        yield f"gunicorn.backlog:{backlog}|g"


def datagrams(lines: Iterable[str], limit_bytes: int = DATAGRAM_BYTES) -> Iterator[bytes]:
    """Lines put together to datagrams of at most ``limit_bytes``; a longer line goes alone."""
    full: list[bytes] = []
    size = 0
    for line in lines:
        data = line.encode()
        if full and size + len(data) + 1 > limit_bytes:
            yield b"\n".join(full)
            full, size = [], 0
        full.append(data)
        size += len(data) + 1
    if full:
        yield b"\n".join(full)


class Statsd:
    """The way to a statsd server."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sock: socket.socket | None = None
        self._addresses: list[tuple[int, Any]] = []
        self._looking: threading.Thread | None = None
        self._looked_up_s = 0.0
        self._fault = ""
        self._complained = False
        if target.family == "unix":
            self._addresses = [(socket.AF_UNIX, target.path)]
        else:
            with contextlib.suppress(ValueError):
                version = ipaddress.ip_address(target.host).version
                family = socket.AF_INET6 if version == 6 else socket.AF_INET
                self._addresses = [(family, (target.host, target.port))]
        self._by_name = not self._addresses
        self._look_up()

    def send(self, parts: Iterable[bytes]) -> None:
        """Send datagrams; what cannot be sent at once is lost."""
        fault = ""
        for part in parts:
            try:
                self._send(part)
            except BlockingIOError:
                continue
            except OSError as error:
                fault = error.strerror or str(error)
                # A name may stand for two addresses, such as ::1 and 127.0.0.1, of which one is served.
                self._hang_up()
                self._addresses = [*self._addresses[1:], *self._addresses[:1]]
                try:
                    self._send(part)  # refused is what an earlier one was
                except OSError:
                    self._hang_up()
                    break
        self._note(fault)

    def close(self) -> None:
        """Give up the socket."""
        self._hang_up()

    def _send(self, part: bytes) -> None:
        if self._sock is None:
            self._sock = self._connect()
        self._sock.send(part)

    def _connect(self) -> socket.socket:
        failure = OSError(0, self._fault or "its name is being looked up")
        for family, address in list(self._addresses):
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _note(self, fault: str) -> None:
        if fault:
            self._look_up()
            looking = self._looking is not None and self._looking.is_alive() and not self._addresses
            if not self._complained and not looking:
                self._complained = True
                LOGGER.log(logging.WARNING, "statsd at %s takes no figures: %s", self._target, fault)
        elif self._complained:
            self._complained = False
            LOGGER.log(logging.WARNING, "statsd at %s takes figures again", self._target)

    def _look_up(self) -> None:
        """Ask for the addresses of a name, in a thread; not too often."""
        now_s = time.monotonic()
        asked = self._looked_up_s and now_s - self._looked_up_s < LOOK_UP_AGAIN_S
        if not self._by_name or asked or (self._looking is not None and self._looking.is_alive()):
            return
        self._looked_up_s = now_s
        self._looking = threading.Thread(target=self._ask, name="wsgitop-statsd-name", daemon=True)
        self._looking.start()

    def _ask(self) -> None:
        try:
            found = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            self._fault = error.strerror or str(error)
        else:
            self._addresses = [(entry[0], entry[4]) for entry in found]
