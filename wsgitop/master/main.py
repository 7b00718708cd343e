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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from wsgitop import __version__
from wsgitop.control.allow import AllowList, wanted_allow_list
from wsgitop.control.claim import file_name
from wsgitop.control.server import ControlServer
from wsgitop.control.settings_shown import as_text
from wsgitop.control.sharing import Sharing
from wsgitop.errors import ControlSocketError
from wsgitop.logs import error_log
from wsgitop.logs.sink import Sink, SinkHandler, open_log
from wsgitop.master import daemon, signals, systemd
from wsgitop.master.backend import Backend
from wsgitop.master.configuration import Configuration
from wsgitop.master.descriptors import raise_limit
from wsgitop.master.events import LOGGER, EventLog
from wsgitop.master.ledger_file import open_ledger
from wsgitop.master.listeners import Listener, close_listeners, open_listeners
from wsgitop.master.log_streams import LogStreams
from wsgitop.master.monitoring import Metrics
from wsgitop.master.pidfile import SUCCESSOR_SUFFIX, Pidfile
from wsgitop.master.roster import Roster
from wsgitop.master.sampler import Sampler
from wsgitop.master.statsd import Reporter, open_statsd
from wsgitop.master.successor import Guest, Predecessor
from wsgitop.master.supervisor import Supervisor
from wsgitop.master.surroundings import Surroundings, monitor_addresses
from wsgitop.master.syslog_output import open_syslog
from wsgitop.master.upgrade import Upgrade
from wsgitop.settings.identity import wanted_identity
from wsgitop.settings.load import Layer, Resolved
from wsgitop.snapshot import Snapshot
from wsgitop.transport.launcher import Tether

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_INTERVAL_S = 1.0


def serve(
    resolved: Resolved,
    *,
    layers: Sequence[Layer],
    directory: str,
    notes: Sequence[str] = (),
    in_background: bool = False,
) -> int:
    """Serve until told to stop; the exit status. Raises WsgitopError if the server does not come up.

    ``directory`` is the directory the server was started in, its symbolic links unresolved; ``notes`` go to
    the log; ``in_background``: it has been daemonised.
    """
    wanted_identity(resolved.settings)  # a user that is not known is told before anything is opened
    allow = wanted_allow_list(resolved.settings)
    signals.block()
    tether = Tether.from_environment()
    predecessor = Predecessor.from_environment()
    if predecessor is not None:
        in_background = predecessor.handover.in_background
    # Workers are forked by a zygote that ends before them: without this they would become init's children,
    # and their exit statuses would be lost.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    configuration = Configuration(resolved, layers, directory)
    with contextlib.ExitStack() as stack:
        master = Master(configuration, tether, predecessor, stack, in_background=in_background, allow=allow)
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
        self,
        configuration: Configuration,
        tether: Tether | None,
        predecessor: Predecessor | None,
        stack: contextlib.ExitStack,
        *,
        in_background: bool,
        allow: AllowList | None = None,
    ) -> None:
        settings = configuration.settings
        self._allow = allow
        self._sharing: Sharing | None = None
        self._configuration = configuration
        self._tether = tether
        self._predecessor = predecessor
        self._in_background = in_background
        self._sink = Sink(settings.errorlog)
        self._sink.start()
        stack.callback(self._sink.close)
        _log_to(self._sink, settings.loglevel)
        self._access_log_fd = _open_access_log(settings.accesslog)
        stack.callback(lambda: os.close(self._access_log_fd))
        self._access_pipe_fd = open_syslog(settings, self._sink, stack)
        self._statsd: Reporter | None = None
        given = systemd.take_sockets(os.environ)
        if predecessor is not None:
            self._listeners: list[Listener] = predecessor.listeners(settings)
        else:
            self._listeners = open_listeners(
                msgspec.structs.replace(settings, bind=given) if given else settings
            )
        if given:
            LOGGER.info("systemd has opened the sockets; --bind is not looked at")
        stack.callback(close_listeners, self._listeners)
        self._surroundings = Surroundings(
            settings,
            guest=predecessor is not None,
            inherited=None
            if predecessor is None
            else predecessor.monitor_listeners(monitor_addresses(settings)),
        )
        stack.callback(self._surroundings.close)
        self._pidfile: Pidfile | None = None
        if settings.pidfile:
            suffix = "" if predecessor is None else SUCCESSOR_SUFFIX
            self._pidfile = pidfile = Pidfile(f"{settings.pidfile}{suffix}")
            pidfile.create()
            stack.callback(pidfile.remove)
        self._ledger, ledger_file = open_ledger(settings, os.environ)
        if ledger_file is not None:
            stack.callback(ledger_file.close)
        self._events = EventLog()
        self._supervisor: Supervisor | None = None
        self._control: ControlServer | None = None
        self._sampler: Sampler | None = None

    async def run(self) -> None:
        """The life of the server."""
        settings = self._configuration.settings
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_internal_error)
        predecessor = self._predecessor
        roster = Roster(self._configuration.workers)
        if predecessor is not None:
            roster.wanted = predecessor.wanted(roster.wanted)
        app = as_text("wsgi_app", settings.wsgi_app)
        name = settings.proc_name or app.partition(":")[0]
        control = None if settings.no_control_socket else self._make_control(app, name)
        control_path = "" if control is None else control.open()
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
                exchange=None if predecessor is None else predecessor.exchange(),
                access_pipe_fd=self._access_pipe_fd,
                ledger=self._ledger,
            )
            supervisor.logs.on_error_log = self._let_go_of_terminal
            self._statsd = open_statsd(settings, sampler, self._sink)
            self._tell_gauges(predecessor is None)
            self._supervisor, self._sampler, self._control = supervisor, sampler, control
            self._upgrade = upgrade = Upgrade(
                loop,
                supervisor=supervisor,
                configuration=self._configuration,
                listeners=self._listeners,
                control=control,
                in_background=self._in_background,
                monitors=self._surroundings.listeners,
                tether_fd=lambda: -1 if self._tether is None else self._tether.fileno(),
                relinquish=self._relinquish,
                environment=self._surroundings.environment,
            )
            upgrade.on_hand_over.append(self._surroundings.hand_over)
            self._metrics = metrics = Metrics(
                roster, sampler, ledger=self._ledger, reloads=supervisor.reloads,
                clients=lambda: None if control is None else control.clients,
            )  # fmt: skip
            thread = signals.SignalThread(loop, self._signal)
            LOGGER.info(
                "wsgitop %s, master pid %d, Python %s", __version__, os.getpid(), sys.version.split()[0]
            )
            LOGGER.info("listening at %s", ", ".join(str(listener.address) for listener in self._listeners))
            self._backend = self._make_backend(loop, supervisor, sampler, metrics)
            if predecessor is None:
                await self._open_control()
                await self._surroundings.start(supervisor, metrics, loop)
            else:
                upgrade.is_guest = True
                guest = Guest(
                    loop, supervisor, predecessor, settle=self._settle_stderr, promote=self._promote
                )
                guest.start()
            thread.start()
            if self._tether is not None:
                loop.add_reader(self._tether.fileno(), self._tethered)
                supervisor.on_change.append(self._announce_serving)
            supervisor.start()
            self._sample()
            await supervisor.finished.wait()
            thread.stop()
        finally:
            if self._statsd is not None:
                self._statsd.close()
            self._surroundings.close()
            if control is not None:
                if self._predecessor is not None and self._predecessor.has_lent_control:
                    control.let_go()
                await control.close()

    def _make_backend(
        self, loop: asyncio.AbstractEventLoop, supervisor: Supervisor, sampler: Sampler, metrics: Metrics
    ) -> Backend:
        """What the control socket may ask for."""
        configuration = self._configuration
        streams = LogStreams(loop, self._sink, lambda: supervisor.logs.access_log)
        if self._control is not None:
            streams.publish, streams.end = self._control.publisher.lines, self._control.publisher.end
        return Backend(
            supervisor, sampler, self._upgrade,
            configuration=configuration, streams=streams, metrics=metrics,
        )  # fmt: skip

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
        asked = None if self._control is None else self._control.publisher.fastest_interval_s()
        # The next one is certain before anything can go wrong with this one.
        asyncio.get_running_loop().call_later(
            min(SAMPLE_INTERVAL_S, asked or SAMPLE_INTERVAL_S), self._sample
        )
        try:
            if asked is not None:
                self._supervisor.look_at_code()
            snapshot: Snapshot = self._sampler.sample(watched=asked is not None or self._metrics.watched)
            if self._control is not None and asked is not None:
                self._control.publisher.snapshot(snapshot)
            if self._statsd is not None:
                self._statsd.tick(snapshot)
            self._surroundings.look(snapshot.totals.rps)
        finally:
            self._supervisor.reap()  # ends in a look at the plan

    # -- what comes from outside ------------------------------------------------

    def _signal(self, received: signals.Received) -> None:  # noqa: PLR0912 - a row for each signal
        assert self._supervisor is not None
        supervisor, actor = self._supervisor, ""
        number = received.number
        if number == signal.SIGCHLD:
            supervisor.reap()
            return
        if supervisor.refuses(number.name, received.pid):
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
            case signal.SIGWINCH if self._in_background:
                supervisor.winch(actor)
            case signal.SIGUSR1:
                supervisor.reopen_logs(actor)
            case signal.SIGUSR2:
                self._upgrade.on_signal(actor)
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
            self._let_go_of_terminal()
            self._tether.announce(os.getpid(), control)

    # -- one master after another ------------------------------------------------

    def _make_control(self, app: str, name: str) -> ControlServer:
        settings, predecessor = self._configuration.settings, self._predecessor
        if self._allow is not None:
            self._sharing = Sharing(
                self._allow, settings.control_allow_socket, file_name(name), is_guest=predecessor is not None
            )
        return ControlServer(
            app=app,
            name=name,
            path=settings.control_socket,
            inherited=None if predecessor is None else predecessor.claim(settings),
            sharing=self._sharing,
        )

    async def _open_control(self) -> None:
        """Answer on the control socket from now on."""
        control = self._control
        if control is not None:
            bind = tuple(str(listener.address) for listener in self._listeners)
            await control.start(self._backend, bind=bind)
            self._events.announce = control.publisher.event
            LOGGER.info("control socket %s (wsgitop attach %d)", control.path, os.getpid())
        if self._sharing is not None:
            self._opening = asyncio.get_running_loop().create_task(self._share(self._sharing))

    async def _share(self, sharing: Sharing) -> None:
        """Tell where others connect, once they can: another master may have to close its socket first."""
        assert self._sampler is not None
        try:
            await sharing.opened()
        except (ControlSocketError, OSError) as error:
            text = f"other users cannot connect: {_cause(error)}"
            self._events.add("error", "control", text, detail="An upgrade (USR2) tries again.")
            return
        if not sharing.path:
            return  # the server has ended before
        self._sampler.control_shared = sharing.path
        LOGGER.info("control socket for others %s: %s", sharing.path, sharing.allow.text)

    def _relinquish(self, control_is_theirs: bool) -> None:
        """A new master has taken over: what there is but once is its own."""
        if self._sharing is not None:
            self._sharing.close()
        self._tell_gauges(False)
        if self._control is not None and control_is_theirs:
            self._control.hand_over()
        if self._tether is not None:
            asyncio.get_running_loop().remove_reader(self._tether.fileno())
            self._tether.close()
            self._tether = None

    def _tell_gauges(self, on: bool) -> None:
        if self._statsd is not None:
            self._statsd.gauges = on

    def _settle_stderr(self, restore: Callable[[], None]) -> None:
        """The workers of a new master are ready: the old one need not read its standard error any more."""
        if self._in_background:
            self._let_go_of_terminal()
        else:
            restore()
            if self._sink.path == "-":
                self._sink.reopen()

    async def _promote(self, predecessor: Predecessor) -> None:
        """The old master has handed over, or is gone: this one is the master now."""
        self._upgrade.is_guest = False
        self._predecessor = None
        self._tell_gauges(True)
        self._tether = predecessor.take_over()
        if self._pidfile is not None:
            try:
                self._pidfile.succeed(self._configuration.settings.pidfile)
            except OSError as error:
                text = f"pid file {self._pidfile.path} cannot be renamed: {error.strerror}"
                self._events.add("error", "pidfile", text)
        try:
            await self._open_control()
            if self._control is not None:
                self._control.adopt_orders(predecessor.last_word.orders)
        except (ControlSocketError, OSError) as error:
            text = f"there is no control socket any more, only signals: {_cause(error)}"
            self._events.add("error", "control", text, detail="An upgrade (USR2) tries again.")
        text = f"this master has taken over from process {predecessor.handover.pid}"
        self._events.add("good", "upgrade", text, actor=predecessor.last_word.actor)
        assert self._supervisor is not None
        await self._surroundings.start(self._supervisor, self._metrics, asyncio.get_running_loop())
        if self._tether is not None:
            asyncio.get_running_loop().add_reader(self._tether.fileno(), self._tethered)
            self._tether.announce(os.getpid(), "" if self._control is None else self._control.path)

    def _let_go_of_terminal(self) -> None:
        """With --daemon: whoever started the server gets its terminal back."""
        if self._in_background:
            daemon.let_go_of_terminal(self._sink.path)
            self._sink.reopen()  # without a file it was a copy of standard error


def _log_internal_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback is a fault of ours; the server goes on, and the log has the traceback."""
    LOGGER.error("internal error: %s", context.get("message", ""), exc_info=context.get("exception"))


def _cause(error: ControlSocketError | OSError) -> str:
    return error.cause if isinstance(error, ControlSocketError) else f"{error.filename}: {error.strerror}"


def _log_to(sink: Sink, level: str) -> None:
    handler = SinkHandler(sink)
    handler.setFormatter(logging.Formatter(error_log.FORMAT, error_log.DATE_FORMAT))
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())


def _open_access_log(path: str) -> int:
    """The access log, or /dev/null for none: every worker gets a descriptor, though it may never write."""
    return open_log(path or os.devnull, fallback_fd=1)
