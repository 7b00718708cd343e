"""What an operator does to the server, and what the interface says about it.

Each runs as a task of its own, because reload and scale answer only when they are done; meanwhile the status
line says that they are under way. Whatever comes of it is said in one line; a failure names its cause and the
next step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from wsgitop.control.messages import Cancelled, Outcome
from wsgitop.errors import ActionFailed, CannotConnect, WsgitopError
from wsgitop.snapshot import Severity, WorkerSnapshot
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.figures import plural
from wsgitop.tui.model import Model
from wsgitop.tui.source import Source

Failure = Callable[[str, str, str], None]
"""Shows what is too long for a line: title, heading, text."""


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
        self._reloading = False

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

    async def undo_scale(self) -> None:
        """Back to the number of workers wanted before the last change made here."""
        if not self._wanted_before:
            self.say("warning", "nothing to undo: nothing was scaled from here")
            return
        wanted = self._wanted_before.pop()
        doing = f"going back to {plural(wanted, 'worker')}"
        await self._do(doing, "not undone", lambda source: source.scale(workers=wanted))

    async def signal(self, name: str, slot: int, target: Identity) -> None:
        """Send a signal to exactly the process that was chosen, even if its slot is another's by now."""
        await self._order(
            f"sending {name} to {{}}", f"{name} not sent", slot, target,
            lambda source, pid, started_at: source.signal(name, pid=pid, started_at=started_at),
        )  # fmt: skip

    async def put_aside(self, slot: int, target: Identity) -> None:
        """Quarantine for that process."""
        await self._order(
            "putting {} into quarantine", "not put into quarantine", slot, target,
            lambda source, pid, started_at: source.quarantine(pid, started_at),
        )  # fmt: skip

    async def retire(self, slot: int, target: Identity) -> None:
        """Its end, once another serves in its place."""
        await self._order(
            "replacing {}", "not retired", slot, target,
            lambda source, pid, started_at: source.retire(pid, started_at),
        )  # fmt: skip

    async def release(self, slot: int, target: Identity) -> None:
        """The end of its quarantine."""
        await self._order(
            "releasing {}", "not released", slot, target,
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
        slot: int,
        target: Identity,
        call: Callable[[Source, int, float], Awaitable[Outcome]],
    ) -> None:
        """An order for exactly the process that was chosen, even if its slot is another's by now. ``doing``
        has {} where the worker is named.
        """
        pid, started_at = target
        what = doing.format(f"worker {slot} (pid {pid})")
        await self._do(what, failed, lambda source: call(source, pid, started_at))

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
        source = self._source()
        if source is None:
            self.say("error", f"{failed}: no connection to the server; it is tried again")
            return False
        token = self._model.begin(doing)
        self._changed()
        try:
            outcome = await call(source)
        except ActionFailed as error:
            self._model.end(token)
            self.say("error", f"{failed}: {_line(error)}{' (v: why)' if error.detail else ''}")
            if error.detail:
                self._failure(failed, _line(error), error.detail)
            return False
        except CannotConnect as error:
            self._model.end(token)
            self.say("error", f"{failed}, or not known: the connection was lost meanwhile; {error.cause}")
            return False
        except WsgitopError as error:
            self._model.end(token)
            self.say("error", f"{failed}: {_line(error)}")
            return False
        finally:
            self._model.end(token)
        self.say(*told(outcome))
        return True


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
