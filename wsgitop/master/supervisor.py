"""The master's centre: takes what happens, asks the plan what to do, and has it done.

Who runs this: the loop of the master, one thread. Everything that happens (a message, a death, a signal, a
command, a deadline) ends in :meth:`Supervisor.reconcile`, which performs the plan's actions until there are
none. Nothing here waits or sleeps.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable

from setproctitle import setproctitle

from wsgitop.errors import AppImportError, ConfigError, HookError, WorkerBootError, WsgitopError
from wsgitop.logs.sink import Sink
from wsgitop.master import plan as p
from wsgitop.master.bindings import Bindings
from wsgitop.master.condition import condition, failed_reload
from wsgitop.master.configuration import Configuration
from wsgitop.master.context import Context
from wsgitop.master.deaths import Deaths
from wsgitop.master.events import LOGGER, EventLog
from wsgitop.master.inspection import Inspection
from wsgitop.master.ledger import Ledger
from wsgitop.master.listeners import Listener
from wsgitop.master.oom import OomWatch
from wsgitop.master.quarantine import Quarantine
from wsgitop.master.recycling import worn
from wsgitop.master.reload_logs import ReloadLogs
from wsgitop.master.rollout import Rollout
from wsgitop.master.roster import GenerationRecord, Roster
from wsgitop.master.sampler import Sampler
from wsgitop.master.scaling import Scaling
from wsgitop.master.states import GenerationEvent
from wsgitop.master.watching import FileWatch
from wsgitop.master.workers import Workers
from wsgitop.master.zygotes import Zygotes
from wsgitop.settings.table import LogLevel, Settings
from wsgitop.snapshot import printable_lines

ACTIONS_PER_TURN = 100
DEVELOPMENT_SURGE = 64
"""With --reload: all at once, and no matter how many of the generations before still finish something."""


class Supervisor:
    """Keeps the server as it is wanted to be."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        configuration: Configuration,
        listeners: list[Listener],
        roster: Roster,
        sampler: Sampler,
        events: EventLog,
        sink: Sink,
        access_log_fd: int,
        control_socket: str,
        exchange: tuple[socket.socket, socket.socket] | None = None,
        access_pipe_fd: int = -1,
        ledger: Ledger | None = None,
    ) -> None:
        self._context = Context(
            loop=loop,
            configuration=configuration,
            settings=configuration.settings,
            listeners=listeners,
            bindings=Bindings(listeners, configuration.settings, events),
            logs=ReloadLogs(configuration.settings, access_log_fd, sink=sink, sampler=sampler, events=events),
            watch=FileWatch(loop, events, self._files_changed),
            roster=roster,
            sampler=sampler,
            events=events,
            deaths=Deaths(ledger or Ledger(), OomWatch()),
            sink=sink,
            reconcile=self.reconcile,
            give_up=self._give_up,
        )
        if exchange is not None:
            for end in self._context.exchange:
                end.close()
            self._context.exchange = exchange
        self.exchange = self._context.exchange
        self.sink = sink
        self.roster = roster
        self.events = events
        self.ledger = self._context.deaths.ledger
        self.logs = self._context.logs
        self.workers = Workers(self._context)
        self.quarantine = Quarantine(self._context, self.workers)
        self.inspection = Inspection(self._context, self.workers)
        self.scaling = Scaling(self._context)
        self._zygotes = Zygotes(
            self._context, self.workers, control_socket=control_socket, access_pipe_fd=access_pipe_fd
        )
        self._rollout = Rollout(self._context)
        self.hooks = self._context.hooks
        self._sampler = sampler
        sampler.stale = self._context.code.stale
        self._timer: asyncio.TimerHandle | None = None
        self._reconciling = False
        self._before_winch = 0
        self._reload: int | None = None  # the commanded reload that is under way
        self._title = ""
        self._outworn: dict[int, str] = {}
        self._followed: Settings | None = None
        self.fatal: WsgitopError | None = None
        self.finished: asyncio.Event = asyncio.Event()
        self.on_child: Callable[[int, int], bool] = lambda _pid, _status: False
        self.on_stop: Callable[[str], str] = lambda _actor: ""
        self.on_finish: list[Callable[[], None]] = []
        self.on_change: list[Callable[[], None]] = []
        self.reloads = Counter(done=0, failed=0, superseded=0)
        self.on_reload_end: Callable[[int, str, str], None] | None = None
        sampler.set_zygotes(self._zygotes.processes)

    # -- commands ------------------------------------------------

    def start(self) -> None:
        """Begin with the first generation."""
        self._zygotes.spawn(roll=False)
        self.reconcile()

    def reload(self, actor: str, what: str = "HUP") -> int:
        """Begin a reload; it supersedes one that is under way. The number of the new generation."""
        self.roster.wanted = self.roster.wanted or self._before_winch
        loading = self.roster.loading()
        if loading is not None and loading.number == self._reload and not loading.reads:
            # A storm of signals would else end one zygote after the other before any gets to the code.
            text = f"{what}: generation {loading.number} has read nothing yet and will load what is there now"
            self.events.add("info", "reload", text, actor=actor)
            return loading.number
        number = self.roster.next_generation
        superseded = f"superseded by a newer reload, to generation {number}"
        if self._reload is not None:
            text = f"the reload to generation {self._reload} is {superseded}"
            self.events.add("info", "superseded", text)
        self._end_of_reload(superseded, "")
        if loading is not None:
            self._give_up(loading, superseded, by_plan=False)
        self._reload = number
        self.events.add("info", "reload", f"{what}: reload, loading generation {number}", actor=actor)
        self._zygotes.spawn(roll=True, commanded=True)
        self.reconcile()
        return number

    def set_wanted(self, wanted: int, actor: str, what: str) -> str:
        """Change the number of workers (at least 1); what was begun, and the memory that it will take."""
        text = self.scaling.begin(max(1, wanted), actor, what)
        self.reconcile()
        return text

    def winch(self, actor: str) -> None:
        """Retire all workers and start none, until a reload or TTIN."""
        if self.roster.stopping or not self.roster.wanted:
            return
        self._before_winch, self.roster.wanted = self.roster.wanted, 0
        text = f"WINCH: workers {self._before_winch} → 0; HUP or TTIN brings them back"
        self.events.add("warning", "scale", text, actor=actor)
        self.reconcile()

    def stop(self, actor: str, *, quick: bool) -> None:
        """Stop the server; a second call with ``quick`` hurries the first."""
        if self.roster.stopping and (self.roster.quick or not quick):
            return
        how = "quickly" if quick else f"gracefully, at most {self._context.settings.graceful_timeout:g} s"
        text = "" if self.roster.stopping else self.on_stop(actor)
        self.roster.stopping = True
        self.roster.quick = quick
        self._context.deaths.stop(actor)
        self.events.add("info", "stop", f"{text or 'the server stops'} {how}", actor=actor)
        for listener in self._context.listeners:
            # Workers keep their copies until they have seen Retire; nobody new is let in by the master's own.
            self._context.loop.call_soon(listener.close)
        self.reconcile()

    def refuses(self, name: str, pid: int) -> bool:
        """Whether a signal is not to be obeyed because its sender belongs to a generation that does not serve
        yet: code that ends its parent while it is imported must not end the server.
        """
        try:
            group = os.getpgid(pid) if pid else 0  # a zygote's own, which its workers are in, too
        except ProcessLookupError:
            return False
        number = next((n for n, zygote in self._zygotes.processes.items() if zygote.pid == group), None)
        if number is None or not self.roster.ever_ready or number in (self.roster.good, 0):
            return False
        text = f"{name} ignored: it comes from pid {pid} of generation {number}, which does not serve yet"
        self.events.add("warning", "signal", text)
        return True

    def succeeded(self, *, by_exchange: bool) -> None:
        """A new master has taken over. ``by_exchange``: its workers take connections over, too."""
        self._context.taken_over = True
        self._context.hands_on = by_exchange

    def set_log_level(self, level: LogLevel, actor: str) -> None:
        """Log from this severity on, in all processes."""
        context = self._context
        context.configuration.order_level(level, f"ctl loglevel, by {actor}")
        context.settings = context.configuration.settings
        LOGGER.setLevel(level.upper())
        self.workers.set_log_level(level)
        self._zygotes.set_log_level(level)
        self.events.add("info", "loglevel", f"the log has everything from {level} on", actor=actor)

    def reopen_logs(self, actor: str) -> str:
        """Open the log files again, after rotation, and hand the access logs to everybody. What went wrong,
        '' for nothing.
        """
        generations = {number: each.settings for number, each in self._context.generations.items()}
        try:
            with self.logs.reopened(generations) as access_logs:
                self._zygotes.reopen(access_logs)
                self.workers.reopen(access_logs)
        except ConfigError as error:
            self.events.add("error", "reopen", f"the old log files stay open: {error.cause}", actor=actor)
            return error.cause
        self.events.add("info", "reopen", "log files reopened", actor=actor)
        return ""

    def reap(self) -> None:
        """Collect every child that has ended, known or not (PID 1 duty)."""
        # Burying a child reads its last messages; none of them may set the plan going before the rolls of the
        # dead are complete.
        self._reconciling = True
        try:
            while True:
                try:
                    pid, status, usage = os.wait4(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                self._context.deaths.reaped(pid, usage.ru_maxrss * 1024)
                if not self._zygotes.died(pid, status) and not self.on_child(pid, status):
                    self.workers.died(pid, status)
        finally:
            self._reconciling = False
        self._context.deaths.oom.look()
        self.reconcile()

    # -- the plan ------------------------------------------------

    def reconcile(self) -> None:
        """Compare what is with what is wanted and act, until there is nothing left to do now."""
        if self._reconciling:
            return  # an action has led here; the loop below looks again anyway
        self._reconciling = True
        try:
            self._follow_settings()
            for _ in range(ACTIONS_PER_TURN):
                now = time.monotonic()
                self.roster.forgive(now)
                for number in self._rollout.look():
                    self._zygotes.end(self.roster.generations[number])
                self.hooks.look()
                self._outworn = worn(self.roster, self._sampler.usage(), now)
                actions = p.plan(self.roster, self._limits(), now, self._sampler.silent(), self._outworn)
                for action in actions:
                    self._perform(action)
                if not actions or self.finished.is_set():
                    break
            else:
                self._context.loop.call_later(0.1, self.reconcile)
        finally:
            self._reconciling = False
        self._follow_settings()
        self._context.forget_generations(set(self._zygotes.processes))
        self._set_timer()
        self._show_title()
        self.scaling.check()
        for callback in list(self.on_change):
            callback()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        deadline = p.next_deadline(self.roster, self._limits(), now)
        if deadline is not None and not self.finished.is_set():
            self._timer = self._context.loop.call_later(max(0.01, deadline - now + 0.005), self.reconcile)

    def _limits(self) -> p.Limits:
        settings = self._context.settings
        loading = self.roster.loading()
        known = None if loading is None else self._context.generations.get(loading.number)
        return p.Limits(
            surge=DEVELOPMENT_SURGE if settings.reload else settings.reload_surge,
            boot_timeout_s=settings.boot_timeout,
            graceful_timeout_s=settings.graceful_timeout,
            load_timeout_s=(settings if known is None else known.settings).boot_timeout,
        )

    def _perform(self, action: p.Action) -> None:
        # An earlier action of the same turn may have been the end of a worker that a later one means.
        if isinstance(action, p.Retire | p.Abort | p.Kill) and action.worker not in self.roster.workers:
            return
        match action:
            case p.SpawnZygote():
                self._zygotes.spawn(roll=self.roster.rolling)
            case p.EndZygote(generation):
                self._zygotes.end(self.roster.generations[generation])
            case p.Fork(generation, slot):
                self.workers.fork(generation, slot, self._zygotes.processes[generation])
            case p.Retire(worker, why, quick):
                record = self.roster.workers[worker]
                record.recycled = worker in self._outworn
                self.workers.retire(record, why, quick=quick)
            case p.Abort(worker, why):
                self.workers.abort(self.roster.workers[worker], why)
            case p.Kill(worker, why):
                self.workers.kill(self.roster.workers[worker], why)
            case p.FailGeneration(number, why):
                self._give_up(self.roster.generations[number], why)
            case p.ReloadDone(number):
                self.roster.rolling = False
                self.roster.good = number
                # It may be the one that a reload that has failed went back to.
                failed = failed_reload(self.roster)
                self._context.watch.keep(number, failed, hopes=bool(failed))
                self.events.add(
                    "good", "reloaded", f"generation {number} serves with {self.roster.wanted} workers"
                )
                # A reload whose zygote was lost is completed by the generation that replaced it.
                if self._reload is not None and self._reload <= number:
                    self._end_of_reload("", "")
            case p.Finished():
                self._zygotes.close()
                self._context.watch.close()
                for callback in self.on_finish:
                    callback()
                self.finished.set()

    def _follow_settings(self) -> None:
        """Take over what a newly loaded generation's settings say about the server as a whole."""
        settings = self._context.settings
        self._sampler.timeout_s = settings.timeout
        self._sampler.threads = settings.threads
        if settings is not self._followed:
            self._followed = settings
            configuration = self._context.configuration
            self._context.watch.follow(settings, home=configuration.app_directory(), config=settings.config)

    def look_at_code(self) -> None:
        """Compare the code that serves with what is on disk. To be called often, while somebody watches."""
        home = self._context.configuration.app_directory()
        self._context.code.look(self.roster.target, time.monotonic(), home=home)

    def _files_changed(self, what: str) -> None:
        if not self.roster.stopping:
            self.reload(what, "--reload")

    # -- outcomes ------------------------------------------------

    def _give_up(self, record: GenerationRecord, why: str, *, by_plan: bool = True) -> None:
        """A generation cannot serve: end its zygote and go back to the last good one."""
        roster = self.roster
        was_good = roster.good == record.number
        record.error, record.detail = printable_lines(why), printable_lines(record.detail)
        starting = not self.roster.ever_ready and by_plan
        kept = starting and self.hooks.keep(record)
        record.see(GenerationEvent.FAIL)
        if not kept:
            self._zygotes.kill(record.number)
        if starting and roster.good in (0, record.number):
            if roster.target in (0, record.number):
                self._fail_start(record)
                return
            roster.good = 0  # a reload has come in between, and its generation may do better
        going_back = self._rollout.goes_back(record)
        if going_back:
            self._rollout.back(record)
        else:
            self._context.bindings.give_up(record.number)
        self._context.watch.keep(
            roster.good, roster.target, record.number, roster.next_generation - 1, hopes=True
        )
        if by_plan:
            if record.commanded and not was_good:
                serves = f"generation {self.roster.target} serves on"
                text = f"reload to generation {record.number} failed: {_first_line(why)}; {serves}"
            else:
                self.roster.count_zygote_failure(time.monotonic())
                text = f"generation {record.number} failed: {_first_line(why)}; existing workers serve on"
            self.events.add("error", "reload-failed", text, detail=record.detail)
        if record.number == self._reload or (
            going_back and self._reload is not None and self._reload < record.number
        ):
            self._end_of_reload(record.error, record.detail)

    def _fail_start(self, record: GenerationRecord) -> None:
        """The very first generation cannot serve: say why and end."""
        if self.fatal is None:
            cause, _, remedy = record.error.partition("\n")
            if self.hooks.start_failed:
                cause = cause if "on_starting" in cause else f"hook on_starting does not come back: {cause}"
                self.fatal = HookError(cause, remedy.strip(), traceback=record.detail)
            elif record.import_error:
                self.fatal = AppImportError(cause, remedy.strip(), traceback=record.detail)
            elif record.detail or not remedy:
                self.fatal = WorkerBootError(cause, remedy.strip() or "The log above tells more.")
            else:
                self.fatal = ConfigError(cause, remedy.strip())
        self.roster.stopping = self.roster.quick = True
        self._context.deaths.stop("")

    def _end_of_reload(self, error: str, detail: str) -> None:
        """Tell who waits for the reload that was commanded, if there is one."""
        number, self._reload = self._reload, None
        if number is None:
            return
        self.reloads["superseded" if error.startswith("superseded") else "failed" if error else "done"] += 1
        if self.on_reload_end is not None:
            self.on_reload_end(number, error, detail)

    def _show_title(self) -> None:
        state, _ = condition(self.roster, time.monotonic())
        behind = "" if state == "serving" else f" {state}"
        name = self._context.settings.proc_name or self._context.settings.wsgi_app.partition(":")[0]
        title = f"wsgitop: master [{name}] gen {self.roster.target}{behind}"
        if title != self._title:
            self._title = title
            setproctitle(title)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
