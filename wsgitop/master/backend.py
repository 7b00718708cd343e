"""What the control socket may ask of the master: the control methods, performed by supervisor and sampler.

Actions answer when they are done. Each waits for a condition of the roster, checked whenever the supervisor
has reconciled; there is no polling.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import msgspec

from wsgitop.control.faults import TargetGone
from wsgitop.control.messages import (
    CancelArguments,
    Cancelled,
    HistogramArguments,
    HistogramResult,
    LogLevelArguments,
    Outcome,
    RequestsResult,
    ScaleArguments,
    SettingShown,
    SignalArguments,
    StackArguments,
    StackResult,
    StopArguments,
    WorkerArguments,
)
from wsgitop.control.settings_shown import shown
from wsgitop.errors import ActionFailed, Refused
from wsgitop.master.configuration import Configuration
from wsgitop.master.gauge import PERCENTILE_SECONDS
from wsgitop.master.log_streams import LogStreams
from wsgitop.master.monitoring import Metrics
from wsgitop.master.roster import WorkerRecord
from wsgitop.master.sampler import Sampler
from wsgitop.master.states import WorkerPhase
from wsgitop.master.supervisor import Supervisor
from wsgitop.master.upgrade import Upgrade
from wsgitop.scoreboard.histogram import filled_ms
from wsgitop.settings.table import LogLevel
from wsgitop.snapshot import Death, Event, Second, Severity, Snapshot

WORKER_SIGNALS = {
    name: signal.Signals[f"SIG{name}"]
    for name in ("TERM", "QUIT", "INT", "ABRT", "KILL", "USR1", "STOP", "CONT")
}
MASTER_SIGNALS = ("HUP", "TTIN", "TTOU", "TERM", "INT", "QUIT", "USR1", "USR2")
SAME_START_S = 0.05
"""Start times of the kernel have a hundredth of a second; JSON must not make two of one."""
MAX_WORKERS = 1000


class Backend:
    """The control server's view of the master."""

    def __init__(
        self,
        supervisor: Supervisor,
        sampler: Sampler,
        upgrade: Upgrade,
        *,
        configuration: Configuration,
        streams: LogStreams,
        metrics: Metrics,
    ) -> None:
        self.metrics = metrics.text
        self._upgrade = upgrade
        self._configuration = configuration
        self.follow_logs = streams.follow
        self.past_lines = streams.past_lines
        self._supervisor = supervisor
        self._sampler = sampler
        self._reloads: dict[int, asyncio.Future[tuple[str, str]]] = {}
        self._waiting: list[tuple[Callable[[], str | None], asyncio.Future[str]]] = []
        supervisor.on_change.append(self._check)
        supervisor.on_reload_end = self._reload_ended

    # -- looking ------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The picture as it is now."""
        return self._sampler.sample(watched=True)

    def events(self, after: int, limit: int) -> tuple[Event, ...]:
        """The newest events."""
        return self._supervisor.events.after(after, limit)

    def deaths(self, after: int, limit: int) -> tuple[Death, ...]:
        """The newest deaths in the ledger."""
        return self._supervisor.ledger.after(after, limit)

    def history(self, seconds: int) -> tuple[Second, ...]:
        """The last seconds, oldest first."""
        past = self._sampler.history
        return tuple(past)[-seconds:] if seconds > 0 else ()

    def settings(self) -> tuple[SettingShown, ...]:
        """Every setting in force, secrets hidden."""
        return shown(self._configuration.settings, self._configuration.sources)

    def note(self, severity: Severity, kind: str, text: str, actor: str) -> None:
        """Record an event."""
        self._supervisor.events.add(severity, kind, text, actor=actor)

    def requests(self, limit: int) -> RequestsResult:
        """What is in flight, the oldest first, and what took longest lately."""
        return self._supervisor.inspection.requests(self.snapshot(), limit)

    def histogram(self, arguments: HistogramArguments) -> HistogramResult:
        """How long the requests of one worker took lately. Raises TargetGone."""
        record = self._target(arguments.pid, arguments.started_at)
        counts = self._sampler.gauges[record.worker].recent
        return HistogramResult(record.slot, arguments.pid, PERCENTILE_SECONDS, filled_ms(counts))

    async def stack(self, arguments: StackArguments, actor: str) -> StackResult:
        """Where the threads of a worker are. Raises ActionFailed, TargetGone."""
        record = self._target(arguments.pid, arguments.started_at)
        return await self._supervisor.inspection.stack(record, arguments.thread, actor)

    # -- acting ------------------------------------------------

    async def reload(self, actor: str) -> Outcome:
        """Reload, until the last old worker is gone. Raises ActionFailed with the traceback."""
        self._refuse_while_stopping()
        started = time.monotonic()
        number = self._supervisor.reload(actor)
        error, detail = await self._reload_end(number)
        if error:
            serving = self._supervisor.roster.target
            cause, _, remedy = error.partition("\n")
            serves = f"Generation {serving} serves on; mend the code and reload again."
            raise ActionFailed(
                f"reload to generation {number} failed: {cause}",
                f"{' '.join(remedy.split())} {serves}".strip(),
                detail=detail,
            )
        return self._outcome(f"generation {self._supervisor.roster.target} serves", started)

    async def scale(self, arguments: ScaleArguments, actor: str) -> Outcome:
        """Change the number of workers, until they serve or are gone. Raises ActionFailed."""
        self._refuse_while_stopping()
        started = time.monotonic()
        roster = self._supervisor.roster
        if (arguments.workers is None) == (arguments.change is None):
            raise ActionFailed(
                "scale takes either a number of workers or a change", "For example 4, +1 or -1."
            )
        before = roster.wanted
        wanted = arguments.workers if arguments.workers is not None else before + (arguments.change or 0)
        if wanted < 1:
            raise ActionFailed(
                f"there must be at least 1 worker, and {before} are wanted now",
                "To end the server, use stop.",
            )
        if wanted > MAX_WORKERS:
            raise ActionFailed(f"{wanted} workers are more than a server can have ({MAX_WORKERS})")
        what = "TTIN" if wanted > before else "TTOU" if wanted < before else "scale"
        text = self._supervisor.set_wanted(wanted, actor, what)
        problem = await self._settled()
        if problem:
            raise ActionFailed(
                f"{len(roster.ready())} of {roster.wanted} workers serve: {problem}", "See the error log."
            )
        return self._outcome(text.partition(": ")[2], started)

    async def signal(self, arguments: SignalArguments, actor: str) -> Outcome:
        """Send a signal to the master or to one worker. Raises ActionFailed, Refused, TargetGone."""
        name = arguments.signal.upper().removeprefix("SIG")
        started = time.monotonic()
        if arguments.pid is None:
            return await self._signal_master(name, actor, started)
        number = WORKER_SIGNALS.get(name)
        if number is None:
            if name in MASTER_SIGNALS:
                raise Refused(f"{name} is for the master: a worker ignores it", "Leave the pid out.")
            raise Refused(
                f"{name} is not a signal that may be sent to a worker",
                f"Choose one of {', '.join(WORKER_SIGNALS)}.",
            )
        record = self._target(arguments.pid, arguments.started_at)
        if not self._supervisor.workers.signal(record, number, actor):
            raise TargetGone(f"worker {record.slot} (pid {arguments.pid}) has just ended")
        return self._outcome(f"{number.name} sent to worker {record.slot} (pid {arguments.pid})", started)

    async def quarantine(self, arguments: WorkerArguments, actor: str) -> Outcome:
        """Put a worker aside, until another serves in its place. Raises ActionFailed, TargetGone."""
        record = self._known(arguments)
        return await self._about(record, actor, self._supervisor.quarantine.begin)

    async def release(self, arguments: WorkerArguments, actor: str) -> Outcome:
        """Let a worker that was put aside serve again, until who is surplus then is gone. Raises
        ActionFailed, TargetGone.
        """
        record = self._known(arguments)
        outcome = await self._about(
            record,
            actor,
            self._supervisor.quarantine.end,
            lambda: record.phase is not WorkerPhase.QUARANTINED,
        )
        if record.phase is WorkerPhase.READY:
            return outcome
        raise ActionFailed(
            f"worker {record.slot} (pid {record.pid}) was released, and has retired since",
            "The events say why: its code is not the current one, or it was stuck.",
        )

    async def retire(self, arguments: WorkerArguments, actor: str) -> Outcome:
        """Have a worker finish and end, until it is gone and another serves. Raises ActionFailed,
        TargetGone.
        """
        started = time.monotonic()
        record = self._known(arguments)
        text = self._supervisor.quarantine.retire(record, actor)
        problem = await self._settled(lambda: record.phase is WorkerPhase.GONE)
        if problem:
            self._supervisor.quarantine.forget(record)
            raise ActionFailed(
                f"worker {record.slot} (pid {record.pid}) is not replaced: {problem}", "See the error log."
            )
        return self._outcome(text, started)

    async def loglevel(self, arguments: LogLevelArguments, actor: str) -> Outcome:
        """Log from this severity on, in all processes."""
        started = time.monotonic()
        level = msgspec.convert(arguments.level, LogLevel)
        self._supervisor.set_log_level(level, actor)
        return self._outcome(f"the log has everything from {level} on", started)

    async def reopen(self, actor: str) -> Outcome:
        """Open the log files again. Raises ActionFailed."""
        started = time.monotonic()
        problem = self._supervisor.reopen_logs(actor)
        if problem:
            raise ActionFailed(f"the old log files stay open: {problem}", "Mend that and reopen again.")
        return self._outcome("log files reopened", started)

    async def cancel(self, arguments: CancelArguments, actor: str) -> Cancelled:
        """Cut one request. Raises ActionFailed, TargetGone."""
        record = self._target(arguments.pid, arguments.started_at)
        inspection = self._supervisor.inspection
        return await inspection.cancel(record, arguments.thread, arguments.request, actor)

    async def _about(
        self,
        record: WorkerRecord,
        actor: str,
        action: Callable[[WorkerRecord, str], str],
        done: Callable[[], bool] = lambda: True,
    ) -> Outcome:
        started = time.monotonic()
        text = action(record, actor)
        problem = await self._settled(done)
        if problem:
            raise ActionFailed(f"{text}; but {problem}", "See the error log.")
        return self._outcome(text, started)

    def _known(self, arguments: WorkerArguments) -> WorkerRecord:
        self._refuse_while_stopping()
        return self._target(arguments.pid, arguments.started_at)

    def _target(self, pid: int, started_at: float | None) -> WorkerRecord:
        """The worker that was meant. Raises TargetGone."""
        found = self._supervisor.workers.by_pid(pid)
        if found is None:
            raise TargetGone(f"no worker has pid {pid} any more", "Look again: it has been replaced.")
        record, process = found
        if started_at is not None and abs(started_at - process.started_at) > SAME_START_S:
            raise TargetGone(
                f"pid {pid} belongs to another worker now", "Look again: the one you mean is gone."
            )
        return record

    async def _signal_master(  # noqa: PLR0911 - a row for each signal
        self, name: str, actor: str, started: float
    ) -> Outcome:
        match name:
            case "HUP":
                return await self.reload(actor)
            case "TTIN":
                return await self.scale(ScaleArguments(change=1), actor)
            case "TTOU":
                return await self.scale(ScaleArguments(change=-1), actor)
            case "TERM":
                return await self.stop(StopArguments(), actor)
            case "INT" | "QUIT":
                return await self.stop(StopArguments(quick=True), actor)
            case "USR1":
                return await self.reopen(actor)
            case "USR2":
                text = await self._upgrade.begin(actor, automatic=False)
            case _:
                raise Refused(
                    f"{name} is not a signal that the master acts on",
                    f"Choose one of {', '.join(MASTER_SIGNALS)}.",
                )
        return self._outcome(text, started)

    async def upgrade(self, actor: str) -> Outcome:
        """Start a new master and hand over to it, until the last worker here is gone. Raises ActionFailed."""
        started = time.monotonic()
        return self._outcome(await self._upgrade.begin(actor, automatic=True), started)

    async def stop(self, arguments: StopArguments, actor: str) -> Outcome:
        """Stop the server, until the last worker is gone; the master itself ends right after the answer."""
        started = time.monotonic()
        self._supervisor.stop(actor, quick=arguments.quick)
        await self._supervisor.finished.wait()
        heir = self._upgrade.heir
        text = f"process {heir} is the master now: the server goes on" if heir else "the server has stopped"
        return self._outcome(text, started)

    # -- waiting ------------------------------------------------

    def _refuse_while_stopping(self) -> None:
        if self._supervisor.roster.stopping:
            raise ActionFailed("the server is stopping")

    async def _reload_end(self, number: int) -> tuple[str, str]:
        record = self._supervisor.roster.generations.get(number)
        if record is not None and record.error:
            return record.error, record.detail
        future = self._reloads.get(number)
        if future is None:
            future = self._reloads[number] = asyncio.get_running_loop().create_future()
        # Several may wait for the same one, and one that leaves must not take it from the others.
        return await asyncio.shield(future)

    def _reload_ended(self, number: int, error: str, detail: str) -> None:
        future = self._reloads.pop(number, None)
        if future is not None and not future.done():
            future.set_result((error, detail))

    async def _settled(self, too: Callable[[], bool] = lambda: True) -> str:
        """Wait until as many workers serve as are wanted and none is on its way, and until ``too`` is true;
        what went wrong, or ''.
        """
        roster = self._supervisor.roster
        failures = roster.boot_failures
        zygote_failures = roster.zygote_failures

        def condition() -> str | None:
            if roster.stopping:
                return "the server is stopping"
            if roster.boot_failures > failures:
                return "a worker could not boot"
            target = roster.target_generation()
            if roster.zygote_failures > zygote_failures and (target is None or not target.forks):
                return "no worker can be started, because the application does not load"
            return "" if self._supervisor.scaling.settled() and too() else None

        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, future))
        self._check()
        return await future

    def _check(self) -> None:
        if self._supervisor.roster.stopping:
            for number in list(self._reloads):
                self._reload_ended(number, "the server is stopping", "")
        remaining = []
        for condition, future in self._waiting:
            answer = None if future.done() else condition()
            if answer is not None:
                future.set_result(answer)
            elif not future.done():
                remaining.append((condition, future))
        self._waiting = remaining

    def _outcome(self, text: str, started: float) -> Outcome:
        roster = self._supervisor.roster
        return Outcome(
            text=text,
            generation=roster.target,
            workers=len(roster.ready()),
            elapsed_s=round(time.monotonic() - started, 3),
        )
