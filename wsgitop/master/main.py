"""The master process from start to end: open everything, run the loop, close everything.

Order matters: signals are blocked before the first thread; listeners, logs, pid file and control socket are
there before the first zygote; whatever was made is taken back, however the start ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from wsgitop import __version__
from wsgitop.control.server import ControlServer
from wsgitop.errors import ConfigError
from wsgitop.logs import error_log
from wsgitop.logs.sink import Sink, SinkHandler, open_log
from wsgitop.master import signals, systemd
from wsgitop.master.backend import Backend
from wsgitop.master.configuration import Configuration
from wsgitop.master.descriptors import raise_limit
from wsgitop.master.events import LOGGER, EventLog
from wsgitop.master.health import HealthServer
from wsgitop.master.ledger_file import open_ledger
from wsgitop.master.listeners import Listener, open_listeners
from wsgitop.master.pidfile import Pidfile
from wsgitop.master.roster import Roster
from wsgitop.master.sampler import Sampler
from wsgitop.master.supervisor import Supervisor
from wsgitop.settings.load import Layer, Resolved
from wsgitop.snapshot import Snapshot
from wsgitop.transport.launcher import Tether

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_INTERVAL_S = 1.0


def serve(resolved: Resolved, *, layers: Sequence[Layer], directory: str, notes: Sequence[str] = ()) -> int:
    """Serve until told to stop; the exit status. Raises WsgitopError if the server does not come up.

    ``directory`` is the directory the server was started in, its symbolic links unresolved; ``notes`` go to
    the log.
    """
    signals.block()
    tether = Tether.from_environment()
    # Workers are forked by a zygote that ends before them: without this they would become init's children,
    # and their exit statuses would be lost.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    configuration = Configuration(resolved, layers, directory)
    with contextlib.ExitStack() as stack:
        master = Master(configuration, tether, stack)
        for note in notes:
            LOGGER.warning(note)
        short = raise_limit(configuration.settings.worker_connections)
        if short:
            LOGGER.info(short)
        asyncio.run(master.run())
        return master.end()


class Master:
    """What the master opens, and the loop that drives it. ``stack`` takes it all back."""

    def __init__(
        self, configuration: Configuration, tether: Tether | None, stack: contextlib.ExitStack
    ) -> None:
        settings = configuration.settings
        self._configuration = configuration
        self._tether = tether
        self._sink = Sink(settings.errorlog)
        self._sink.start()
        stack.callback(self._sink.close)
        _log_to(self._sink, settings.loglevel)
        self._access_log_fd = _open_access_log(settings.accesslog)
        stack.callback(lambda: os.close(self._access_log_fd))
        self._notifier = systemd.Notifier.from_environment(os.environ)
        if self._notifier is not None:
            stack.callback(self._notifier.close)
        given = systemd.take_sockets(os.environ)
        self._listeners: list[Listener] = open_listeners(
            msgspec.structs.replace(settings, bind=given) if given else settings
        )
        if given:
            LOGGER.info("systemd has opened the sockets; --bind is not looked at")
        for listener in self._listeners:
            stack.callback(listener.close)
        self._health: Listener | None = None
        if settings.health_bind:
            (self._health,) = open_listeners(msgspec.structs.replace(settings, bind=(settings.health_bind,)))
            stack.callback(self._health.close)
        if settings.pidfile:
            pidfile = Pidfile(settings.pidfile)
            pidfile.create()
            stack.callback(pidfile.remove)
        self._ledger, ledger_file = open_ledger(settings, os.environ)
        if ledger_file is not None:
            stack.callback(ledger_file.close)
        self._events = EventLog()
        self._supervisor: Supervisor | None = None
        self._control: ControlServer | None = None
        self._sampler: Sampler | None = None
        self._unit: systemd.Unit | None = None

    async def run(self) -> None:
        """The life of the server."""
        settings = self._configuration.settings
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_internal_error)
        roster = Roster(self._configuration.workers)
        app = settings.wsgi_app
        name = settings.proc_name or app.partition(":")[0]
        control = (
            None
            if settings.no_control_socket
            else ControlServer(app=app, name=name, path=settings.control_socket)
        )
        control_path = "" if control is None else control.open()
        health = HealthServer(self._health, roster) if self._health is not None else None
        try:
            sampler = Sampler(
                roster, self._listeners, app=app, name=name, control=control_path,
                log="" if settings.errorlog == "-" else str(Path(settings.errorlog).absolute()),
            )  # fmt: skip
            supervisor = Supervisor(
                loop,
                configuration=self._configuration,
                listeners=self._listeners,
                roster=roster,
                sampler=sampler,
                events=self._events,
                sink=self._sink,
                access_log_fd=self._access_log_fd,
                control_socket=control_path,
                ledger=self._ledger,
            )
            self._supervisor, self._sampler, self._control = supervisor, sampler, control
            backend = Backend(supervisor, sampler, self._reopen)
            thread = signals.SignalThread(loop, self._signal)
            LOGGER.info(
                "wsgitop %s, master pid %d, Python %s", __version__, os.getpid(), sys.version.split()[0]
            )
            LOGGER.info("listening at %s", ", ".join(str(listener.address) for listener in self._listeners))
            if control is not None:
                await control.start(
                    backend, bind=tuple(str(listener.address) for listener in self._listeners)
                )
                self._events.announce = control.publish_event
                LOGGER.info("control socket %s (wsgitop attach %d)", control_path, os.getpid())
            if health is not None:
                await health.start()
                LOGGER.info("health checks at %s: /healthy, /ready", settings.health_bind)
            if self._notifier is not None:
                self._unit = systemd.Unit(self._notifier, roster, loop)
                supervisor.on_change.append(self._unit.look)
            thread.start()
            if self._tether is not None:
                loop.add_reader(self._tether.fileno(), self._tethered)
                supervisor.on_change.append(self._announce_serving)
            supervisor.start()
            self._sample()
            await supervisor.finished.wait()
            thread.stop()
        finally:
            if health is not None:
                await health.close()
            if control is not None:
                await control.close()

    def end(self) -> int:
        """After the loop: the exit status, or the error that the start failed with."""
        assert self._supervisor is not None
        fatal = self._supervisor.fatal
        if fatal is not None:
            if self._configuration.settings.errorlog != "-":
                LOGGER.error("%s", fatal)
            raise fatal
        LOGGER.info("master pid %d: stopped", os.getpid())
        return 0

    # -- the clock ------------------------------------------------

    def _sample(self) -> None:
        assert self._supervisor is not None and self._sampler is not None
        if self._supervisor.finished.is_set():
            return
        asked = None if self._control is None else self._control.fastest_interval_s()
        # The next one is certain before anything can go wrong with this one.
        asyncio.get_running_loop().call_later(
            min(SAMPLE_INTERVAL_S, asked or SAMPLE_INTERVAL_S), self._sample
        )
        try:
            snapshot: Snapshot = self._sampler.sample(watched=asked is not None)
            if self._control is not None and asked is not None:
                self._control.publish_snapshot(snapshot)
            if self._unit is not None:
                self._unit.look(snapshot.totals.rps)
        finally:
            self._supervisor.reap()  # ends in a look at the plan

    # -- what comes from outside ------------------------------------------------

    def _signal(self, received: signals.Received) -> None:
        assert self._supervisor is not None
        supervisor, actor = self._supervisor, ""
        number = received.number
        if number == signal.SIGCHLD:
            supervisor.reap()
            return
        actor = received.actor()
        wanted = supervisor.roster.wanted
        match number:
            case signal.SIGHUP if not supervisor.roster.stopping:
                supervisor.reload(actor)
            case signal.SIGTTIN if not supervisor.roster.stopping:
                supervisor.set_wanted(wanted + 1, actor, "TTIN")
            case signal.SIGTTOU if not supervisor.roster.stopping:
                if wanted <= 1:
                    self._events.add("warning", "scale", "TTOU: there must be at least 1 worker", actor=actor)
                else:
                    supervisor.set_wanted(wanted - 1, actor, "TTOU")
            case signal.SIGTERM:
                supervisor.stop(actor, quick=supervisor.roster.stopping)
            case signal.SIGINT | signal.SIGQUIT:
                supervisor.stop(actor, quick=True)
            case signal.SIGUSR1:
                self._reopen(actor)
            case signal.SIGUSR2:
                text = "USR2 is ignored: this version cannot hand over to a new master"
                self._events.add("warning", "signal", text, actor=actor)
            case _:
                LOGGER.debug("%s ignored", number.name)

    def _tethered(self) -> None:
        """Word from who launched this server, or the end of it."""
        assert self._tether is not None and self._supervisor is not None
        word = self._tether.read()
        if word is None:
            return
        asyncio.get_running_loop().remove_reader(self._tether.fileno())
        self._tether.close()
        self._tether = None
        if word == "gone":
            self._supervisor.stop("the launcher has ended", quick=False)

    def _announce_serving(self) -> None:
        assert self._supervisor is not None and self._sampler is not None
        if self._supervisor.roster.ever_ready and self._tether is not None:
            self._supervisor.on_change.remove(self._announce_serving)
            control = "" if self._control is None else self._control.path
            self._tether.announce(os.getpid(), control)

    def _reopen(self, actor: str) -> None:
        """USR1: open the log files again, after rotation."""
        assert self._supervisor is not None
        try:
            self._sink.reopen()
            access_log_fd = _open_access_log(self._configuration.settings.accesslog)
        except ConfigError as error:
            self._events.add("error", "reopen", f"the old log files stay open: {error.cause}", actor=actor)
            return
        os.dup2(access_log_fd, self._access_log_fd, inheritable=False)
        os.close(access_log_fd)
        self._supervisor.reopen_logs(actor, self._access_log_fd)


def _log_internal_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback is a fault of ours; the server goes on, and the log has the traceback."""
    LOGGER.error("internal error: %s", context.get("message", ""), exc_info=context.get("exception"))


def _log_to(sink: Sink, level: str) -> None:
    handler = SinkHandler(sink)
    handler.setFormatter(logging.Formatter(error_log.FORMAT, error_log.DATE_FORMAT))
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())


def _open_access_log(path: str) -> int:
    """The access log, or /dev/null for none: every worker gets a descriptor, though it may never write."""
    return open_log(path or os.devnull, fallback_fd=1)
