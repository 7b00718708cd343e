"""What an operator does to the server, and what the interface says about it.

Each runs as a task of its own, because reload and scale answer only when they are done; meanwhile the status
line says that they are under way. Whatever comes of it is said in one line; a failure names its cause and the
next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from wsgitop.control.messages import Cancelled, Outcome
from wsgitop.errors import ActionFailed, CannotConnect, WsgitopError
from wsgitop.snapshot import Severity, WorkerSnapshot
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.figures import plural
from wsgitop.tui.model import Model
from wsgitop.tui.source import Source

Failure = Callable[[str, str, str], None]
"""Shows what is too long for a line: title, heading, text."""

AT_ONCE = 4
"""Orders for several workers that are under way at a time; the server limits what one client may ask for."""


class Operations:
    """``source`` gives the live connection or None; ``changed`` is called after each thing said;
    ``failure`` shows a text."""

    def __init__(
        self,
        model: Model,
        source: Callable[[], Source | None],
        *,
        changed: Callable[[], None],
        failure: Failure,
    ) -> None:
        self._model = model
        self._source = source
        self._changed = changed
        self._failure = failure
        self._wanted_before: list[int] = []

    def say(self, severity: Severity, text: str) -> None:
        self._model.say(severity, text)
        self._changed()

    async def reload(self, where: str = "") -> None:
        """HUP, and wait for the outcome. ``where`` says what shows it meanwhile."""
        await self._do(f"reloading{where}", "not reloaded", lambda source: source.reload())

    async def scale(self, change: int) -> None:
        """TTIN or TTOU. Below one worker there is nothing to take away: said at once, without asking the
        server."""
        snapshot = self._model.snapshot
        wanted = snapshot.master.workers_wanted if snapshot is not None else None
        if change < 0 and wanted == 1:
            self.say(
                "warning",
                "not removed: one worker is the least; q leaves, `wsgitop ctl stop` stops the server",
            )
            return
        doing = "adding a worker" if change > 0 else "removing a worker"
        if (
            await self._do(doing, "not scaled", lambda source: source.scale(change=change))
            and wanted is not None
        ):
            self._wanted_before.append(wanted)

    async def scale_to(self, workers: int) -> None:
        """So many workers, from however many there are."""
        snapshot = self._model.snapshot
        before = snapshot.master.workers_wanted if snapshot is not None else None
        if before == workers:
            self.say("info", f"nothing to do: {plural(workers, 'worker')} already")
            return
        doing = f"scaling to {plural(workers, 'worker')}"
        done = await self._do(doing, "not scaled", lambda source: source.scale(workers=workers))
        if done and before is not None:
            self._wanted_before.append(before)

    async def undo_scale(self) -> None:
        """Back to the number of workers wanted before the last change made here."""
        if not self._wanted_before:
            self.say("warning", "nothing to undo: nothing was scaled from here")
            return
        wanted = self._wanted_before.pop()
        doing = f"going back to {plural(wanted, 'worker')}"
        await self._do(doing, "not undone", lambda source: source.scale(workers=wanted))

    async def log_level(self, level: str) -> None:
        """The severity from which on the server logs."""
        await self._do(f"setting the log level to {level}", "log level not set", lambda s: s.loglevel(level))

    async def reopen(self) -> None:
        """The log files anew."""
        await self._do("opening the log files again", "log files not reopened", lambda s: s.reopen())

    async def upgrade(self) -> None:
        """A new master in place of this one."""
        await self._do("upgrading the master", "not upgraded", lambda source: source.upgrade())

    async def stop(self, *, quick: bool) -> None:
        """The end of the server."""
        await self._do("stopping the server", "not stopped", lambda source: source.stop(quick=quick))

    async def signal_master(self, name: str) -> None:
        """Send a signal to the master."""
        await self._do(
            f"sending {name} to the master", f"{name} not sent", lambda source: source.signal(name)
        )

    async def signal(self, name: str, *workers: WorkerSnapshot) -> None:
        """Send a signal to exactly the processes that were chosen, even if their slots are others' by now."""
        await self._order(
            f"sending {name} to {{}}", f"{name} not sent", f"{name} sent", workers,
            lambda source, pid, started_at: source.signal(name, pid=pid, started_at=started_at),
        )  # fmt: skip

    async def put_aside(self, *workers: WorkerSnapshot) -> None:
        """Quarantine for those processes."""
        await self._order(
            "putting {} into quarantine", "not put into quarantine", "put into quarantine", workers,
            lambda source, pid, started_at: source.quarantine(pid, started_at),
        )  # fmt: skip

    async def retire(self, *workers: WorkerSnapshot) -> None:
        """Their end, once others serve in their place."""
        await self._order(
            "replacing {}", "not retired", "retired", workers,
            lambda source, pid, started_at: source.retire(pid, started_at),
        )  # fmt: skip

    async def release(self, *workers: WorkerSnapshot) -> None:
        """The end of their quarantine."""
        await self._order(
            "releasing {}", "not released", "released", workers,
            lambda source, pid, started_at: source.release(pid, started_at),
        )  # fmt: skip

    async def cancel(self, slot: int, target: Identity, thread: int, request: int, what: str) -> None:
        """Cut one request: that very one of that very process, so that no later one on its thread is hit.
        ``what`` is its method and path. A thread cannot be killed: the answer says what has become of it.
        """
        pid, started_at = target
        if not request:
            self.say("error", f"not cut: the server does not say which request {what} is; it is too old")
            return
        await self._do(
            f"cutting {what} of worker {slot} (pid {pid})", "not cut",
            lambda source: source.cancel(pid, thread, request=request, started_at=started_at),
            told=lambda outcome: _cut(outcome, slot, what),
        )  # fmt: skip

    async def _order(
        self,
        doing: str,
        failed: str,
        done: str,
        workers: Sequence[WorkerSnapshot],
        call: Callable[[Source, int, float], Awaitable[Outcome]],
    ) -> None:
        """The same for each worker. ``doing`` has {} where it is named. Of several it is said at the end how
        many it has worked for, and why not for the others.
        """
        if len(workers) == 1:
            await self._do(doing.format(_name(workers[0])), failed, _about(workers[0], call))
            return
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(worker: WorkerSnapshot) -> _End:
            async with limit:
                return await self._attempt(doing.format(_name(worker)), failed, _about(worker, call))

        ends = await asyncio.gather(*(one(worker) for worker in workers))
        pids = " ".join(str(w.pid) for w, end in zip(workers, ends, strict=True) if end.severity == "good")
        reasons = [
            f"pid {worker.pid} {end.text}"
            for worker, end in zip(workers, ends, strict=True)
            if end.severity != "good"
        ]
        if not reasons:
            self.say("good", f"{done}: {plural(len(workers), 'worker')}, {pids}")
            return
        good = f"{done}: {pids}; " if pids else ""
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        self.say("error", f"{good}{reasons[0]}{more}")
        if len(reasons) > 1:
            self._failure(failed, good, "\n".join(reasons))

    def is_current(self, worker: WorkerSnapshot) -> bool:
        """Whether this very process is still among the workers."""
        snapshot = self._model.snapshot
        return snapshot is not None and identity(worker) in {identity(other) for other in snapshot.workers}

    async def _do(
        self,
        doing: str,
        failed: str,
        call: Callable[[Source], Awaitable[Outcome]],
        *,
        told: Callable[[Outcome], tuple[Severity, str]] = lambda outcome: ("good", outcome.text),
    ) -> bool:
        """Do it and say what came of it, as ``told`` words it: True if it was done."""
        end = await self._attempt(doing, failed, call)
        self.say(*(told(end.outcome) if end.outcome is not None else (end.severity, end.text)))
        if end.detail:
            self._failure(failed, end.heading, end.detail)
        return end.outcome is not None

    async def _attempt(self, doing: str, failed: str, call: Callable[[Source], Awaitable[Outcome]]) -> _End:
        source = self._source()
        if source is None:
            return _End("error", f"{failed}: no connection to the server; it is tried again")
        token = self._model.begin(doing)
        self._changed()
        try:
            outcome = await call(source)
        except ActionFailed as error:
            why = f"{failed}: {_line(error)}{' (v: why)' if error.detail else ''}"
            return _End("error", why, _line(error), error.detail)
        except CannotConnect as error:
            why = f"{failed}, or not known: the connection was lost meanwhile; {error.cause}"
            return _End("error", why)
        except WsgitopError as error:
            return _End("error", f"{failed}: {_line(error)}")
        finally:
            self._model.end(token)
        return _End("good", outcome.text, outcome=outcome)


class _End(NamedTuple):
    """How it ended. ``detail`` is what is too long for a line; ``outcome`` is None if it failed."""

    severity: Severity
    text: str
    heading: str = ""
    detail: str = ""
    outcome: Outcome | None = None


def _about(
    worker: WorkerSnapshot, call: Callable[[Source, int, float], Awaitable[Outcome]]
) -> Callable[[Source], Awaitable[Outcome]]:
    pid, started_at = identity(worker)
    return lambda source: call(source, pid, started_at)


def _name(worker: WorkerSnapshot) -> str:
    return f"worker {worker.slot} (pid {worker.pid})"


def _cut(outcome: Outcome, slot: int, what: str) -> tuple[Severity, str]:
    """What came of cutting a request, the end first: good only if the thread is free again. (The server's
    sentence has it last, where a narrow screen cuts it off.)"""
    if not isinstance(outcome, Cancelled) or (outcome.end == "finished" and not outcome.answered):
        return "info", outcome.text
    told = "answered 503" if outcome.answered else "broken off"
    if outcome.end == "disconnected":
        return "warning", (
            f"{told}, but its thread still runs it; worker {slot} is replaced if it does not come back: "
            f"{what}"
        )
    ended = "ended by an exception" if outcome.end == "raised" else "ended by itself"
    return "good", f"{told}, and the application has {ended}: {what} of worker {slot}"


def _line(error: WsgitopError) -> str:
    return f"{error.cause}; {error.remedy}" if error.remedy else error.cause
