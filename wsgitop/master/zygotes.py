"""The zygotes as the master knows them: started, told what to load, heard, ended.

Who runs this: the loop of the master. It owns the zygotes' channels and outputs. Decisions are the plan's;
what a message or a death means for a reload is the supervisor's (``context.give_up``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import msgspec

from wsgitop import __version__
from wsgitop.channel import messages as m
from wsgitop.errors import BindError, ConfigError, WsgitopError
from wsgitop.master.context import Context, Generation
from wsgitop.master.deaths import one_line
from wsgitop.master.hooks import ServerHooks
from wsgitop.master.listeners import Found, Listener
from wsgitop.master.lookup import Outcome, look_up
from wsgitop.master.processes import Output, Peer, ZygoteProcess, close_all, describe_status, spawn_zygote
from wsgitop.master.roster import GenerationRecord
from wsgitop.master.states import GenerationEvent, GenerationPhase
from wsgitop.master.workers import DEATH_NEWS_S, Workers
from wsgitop.scoreboard.board import Board
from wsgitop.settings.table import Settings

GRACE_S = 2.0
"""For a zygote that has been told to end; it serves nobody."""


class Zygotes:
    """Every zygote process, by generation. ``environment`` is what they are started with."""

    def __init__(
        self,
        context: Context,
        workers: Workers,
        *,
        control_socket: str,
        access_pipe_fd: int = -1,
    ) -> None:
        self._context = context
        self._workers = workers
        self._access_pipe_fd = access_pipe_fd
        self._control_socket = control_socket
        self._environment = dict(os.environ)
        self._exchange = context.exchange
        self.processes: dict[int, ZygoteProcess] = {}
        context.hooks = ServerHooks(context, self.processes, self._dismiss)

    def close(self) -> None:
        """Nobody is left who could take over a connection."""
        for end in self._exchange:
            end.close()

    def spawn(self, *, roll: bool, commanded: bool = False) -> int:
        """Start a new generation; its number. ``roll`` and ``commanded`` as in its record."""
        record = self._context.roster.add_generation(time.monotonic(), roll=roll, commanded=commanded)
        try:
            pid, sock, errors = spawn_zygote(self._environment)
        except WsgitopError as error:
            self._context.give_up(record, error.cause)
            return record.number
        number = record.number
        peer: Peer[m.FromZygote] = Peer(
            self._context.loop,
            sock,
            m.FromZygote,
            lambda message, descriptors: self._receive(number, message, descriptors),
            lambda fault: self._lost(number, fault),
        )
        record.zygote_pid = pid
        self.processes[number] = ZygoteProcess(
            pid, peer, Output(self._context.loop, errors, self._context.sink)
        )
        return number

    def _receive(self, number: int, message: m.FromZygote, descriptors: list[int]) -> None:
        close_all(descriptors)
        record = self._context.roster.generations[number]
        match message:
            case m.ZygoteHello():
                self._welcome(record, message)
            case m.ConfigLoaded():
                self._prepare(record, message)
            case m.ZygoteReady():
                self._ready(record, message)
            case m.ZygoteFailed():
                self._context.hooks.zygote_failed(number, message.stage, message.error, message.traceback)
                record.import_error = message.import_error
                record.detail = message.traceback
                self._context.give_up(record, message.error)
            case m.Forked():
                self._workers.known(message.worker, message.pid)
            case m.ModuleFiles():
                self._context.watch.add(number, message.files)
            case m.ForkFailed():
                self._workers.fork_failed(message.worker, message.error)
            case m.HookBegun():
                self._context.hooks.begun(number, message)
            case m.HookDone():
                self._context.hooks.done(number, message)
        self._context.reconcile()

    def _welcome(self, record: GenerationRecord, hello: m.ZygoteHello) -> None:
        if hello.protocol != m.PROTOCOL or hello.version != __version__:
            why = (
                f"wsgitop {hello.version} (protocol {hello.protocol}) is on disk, and this master is "
                f"{__version__} (protocol {m.PROTOCOL}): use USR2 to upgrade it, not a reload"
            )
            self._context.give_up(record, why)
            return
        config = self._context.configuration.python_file
        directory = self._context.configuration.app_directory()
        record.reads = True
        self.processes[record.number].peer.send(m.LoadConfig(record.number, directory, config))

    def _prepare(self, record: GenerationRecord, loaded: m.ConfigLoaded) -> None:
        if record.phase is not GenerationPhase.LOADING:
            return
        self._context.hooks.declared(record.number, loaded.hooks)
        try:
            settings, notes = self._context.configuration.resolve_again(loaded.path, loaded.values_json)
            names = self._context.bindings.names(settings, fixed=not record.roll)
        except (ConfigError, OSError) as error:
            self._context.give_up(record, str(error))
            return
        notes = (*loaded.notes, *notes)
        if not names:
            self._open(record, settings, notes, {})
            return

        def then(outcome: Outcome) -> None:
            if record.phase is not GenerationPhase.LOADING:
                return
            if isinstance(outcome, BindError):
                self._context.give_up(record, str(outcome))
            else:
                self._open(record, settings, notes, outcome)
            self._context.reconcile()

        look_up(self._context.loop, names, then)

    def _open(
        self, record: GenerationRecord, settings: Settings, notes: tuple[str, ...], found: Found
    ) -> None:
        """Open what the generation needs and hand it to its zygote."""
        bindings = self._context.bindings
        try:
            with self._context.logs.prepared(settings) as access_log_fd:
                listeners = bindings.prepare(record.number, settings, fixed=not record.roll, found=found)
                board = Board.create(settings.threads)
                self._send_prepare(record, settings, board, listeners, access_log_fd)
        except (BindError, ConfigError, OSError) as error:
            self._context.give_up(record, str(error))
            return
        if record.number > 1:
            if not record.roll and settings.bind != self._context.settings.bind:
                notes += ("bind has changed: it takes effect at the next reload",)
            for note in notes:
                self._context.events.add("warning", "config", note)

    def _send_prepare(
        self,
        record: GenerationRecord,
        settings: Settings,
        board: Board,
        listeners: list[Listener],
        access_log_fd: int,
    ) -> None:
        self._context.generations[record.number] = Generation(
            settings, board, list(range(board.rows - 1, -1, -1))
        )
        descriptors = [
            board.fd,
            access_log_fd,
            *(end.fileno() for end in self._exchange),
            *(listener.socket.fileno() for listener in listeners),
        ]
        if self._access_pipe_fd >= 0:
            descriptors.append(self._access_pipe_fd)
        message = m.Prepare(
            generation=record.number,
            settings_json=msgspec.json.encode(settings).decode(),
            chdir=self._context.configuration.app_directory(settings),
            board_rows=board.rows,
            board_threads=board.threads,
            access_log=bool(settings.accesslog),
            addresses=tuple(str(listener.address) for listener in listeners),
            control_socket=self._control_socket,
            access_pipe=self._access_pipe_fd >= 0,
            server=self._context.hooks.state(),
            starting=self._context.hooks.starting(record.number),
        )
        self.processes[record.number].peer.send(message, descriptors)

    def _ready(self, record: GenerationRecord, ready: m.ZygoteReady) -> None:
        if record.phase is not GenerationPhase.LOADING:
            return
        record.see(GenerationEvent.LOADED)
        record.ready_at = time.monotonic()
        if record.roll:
            text = f"generation {record.number} is loaded after {record.ready_at - record.started_at:.2f} s"
            self._context.events.add("info", "loaded", text)
        self._context.follow(record.number)
        roster = self._context.roster
        roster.target = record.number
        if not record.roll or not roster.good:
            roster.good = record.number
        roster.rolling = record.roll
        self._context.hooks.loaded(record)
        if record.commanded:
            roster.forget_boot_failures()  # they were of other code
        if not record.roll and roster.mixed_with(record.number):
            text = f"generation {record.number} replaces a lost zygote; existing workers stay (mixed)"
            self._context.events.add("warning", "mixed", text)
        if ready.threads:
            names = ", ".join(ready.threads)
            text = f"--preload: threads started at import do not exist in the workers: {names}"
            self._context.events.add("warning", "preload", text)

    def _lost(self, number: int, fault: str) -> None:
        """Its channel has ended. What matters is its death, which SIGCHLD tells; a fault on the channel ends
        it.
        """
        if fault:
            text = f"zygote of generation {number} sent nonsense and is ended: {fault}"
            self._context.events.add("error", "zygote", text)
            self._end_mute(number, f"it sent nonsense: {fault}")
        else:
            # Not at once: it may be dead, and of what could not be told any more.
            self._context.loop.call_later(
                DEATH_NEWS_S, self._end_mute, number, "it had closed its channel to the master"
            )

    def _end_mute(self, number: int, why: str) -> None:
        zygote = self.processes.get(number)
        if zygote is not None:
            zygote.killed_for = why
            zygote.kill()

    def end(self, record: GenerationRecord) -> None:
        """Tell a zygote to end; one that still loads hears nothing and is killed."""
        loading = record.phase is GenerationPhase.LOADING
        kept = self._context.roster.stopping and self._context.hooks.keep(record)
        record.see(GenerationEvent.END)
        if kept:
            return
        zygote = self.processes.get(record.number)
        if zygote is None:
            record.phase = GenerationPhase.ENDED if record.phase is GenerationPhase.ENDING else record.phase
        elif loading:
            zygote.kill()
        else:
            self._dismiss(record.number)

    def _dismiss(self, number: int) -> None:
        """Tell a zygote that reads its channel to end."""
        if self.processes[number].peer.send(m.EndZygote()):
            self._context.loop.call_later(GRACE_S, self.kill, number)
        else:
            self.kill(number)

    def kill(self, number: int) -> None:
        """SIGKILL the zygote of a generation, if it has one."""
        if number in self.processes:
            self.processes[number].kill()

    def died(self, pid: int, status: int) -> bool:
        """A child has ended; false if it was no zygote."""
        number = next((n for n, zygote in self.processes.items() if zygote.pid == pid), None)
        if number is None:
            return False
        record = self._context.roster.generations[number]
        zygote = self.processes[record.number]
        zygote.peer.drain()
        zygote.output.read_rest()
        _, death = self._context.deaths.zygote_ended(record, status, zygote, self._context.roster.target)
        zygote.close()
        del self.processes[record.number]
        self._context.hooks.zygote_gone(number)
        record.zygote_pid = None
        before = record.phase
        text = f"zygote of generation {record.number} (pid {zygote.pid}) {describe_status(status)}"
        if before is GenerationPhase.LOADING:
            if not record.detail:
                record.detail = "\n".join(zygote.output.last_lines)
            self._context.give_up(record, f"the application does not load: {text}")
            return True
        record.see(GenerationEvent.ZYGOTE_DIED)
        roster = self._context.roster
        if before is GenerationPhase.READY and number != roster.target and not roster.stopping:
            # The one before, in a reload: it would be needed for going back only.
            text = one_line(death, "; the reload goes on without it")
            self._context.events.add("warning", "zygote-died", text)
        elif before is GenerationPhase.READY and not roster.stopping:
            text = one_line(death, "; workers serve on, a new generation is being loaded")
            self._context.events.add("error", "zygote-died", text)
            self._context.roster.count_zygote_failure(time.monotonic())
            if self._context.roster.zygote_failures == 1:
                self._context.roster.zygote_not_before = 0.0
        self._workers.zygote_gone(number)
        return True

    def reopen(self, access_logs: Mapping[int, int]) -> None:
        """Hand on the newly opened access logs, given by generation."""
        for number, process in self.processes.items():
            if number in access_logs:
                process.peer.send(m.Reopen(), [access_logs[number]])

    def set_log_level(self, level: str) -> None:
        """Have all of them log from this severity on."""
        for process in self.processes.values():
            process.peer.send(m.SetLogLevel(level))
