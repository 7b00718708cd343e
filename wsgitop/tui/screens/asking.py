"""What must be asked before an order is given, and giving it.

Whatever breaks requests off or replaces the master is asked first, with the focus on Cancel. The target is
fixed when the question opens, by pid and start time: a worker that has been replaced meanwhile, or a server
that came back as another, gets nothing. Each of these runs as a task of the application's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from wsgitop.snapshot import MasterSnapshot, WorkerSnapshot
from wsgitop.tui import actions, figures
from wsgitop.tui.actions import ACTIONS, Action
from wsgitop.tui.figures import plural
from wsgitop.tui.in_flight import Flight
from wsgitop.tui.screens.dialogs import Confirm
from wsgitop.tui.screens.menus import ActionMenu, Menu, NumberDialog, Row, SignalMenu

if TYPE_CHECKING:
    from wsgitop.tui.app import WsgitopApp

Workers = tuple[WorkerSnapshot, ...]

MOST_WORKERS = 1000
NAMED = 12
"""Of several workers so many are named in a question."""


class Asking:
    """``app`` shows the dialogs; its operations do what was decided."""

    def __init__(self, app: WsgitopApp) -> None:
        self._app = app
        self._do: dict[str, Callable[[Workers], Awaitable[None]]] = {
            "reload": lambda _: self.reload(),
            "scale": lambda _: self.scale(),
            "loglevel": lambda _: self.log_level(),
            "reopen": lambda _: self._app.operations.reopen(),
            "signal the master": lambda _: self.signal_master(),
            "upgrade": lambda _: self.upgrade(),
            "stop": lambda _: self.stop(quick=False),
            "stop at once": lambda _: self.stop(quick=True),
            "signal": self.signal,
            "quarantine": lambda workers: self.order("quarantine", workers),
            "release": lambda workers: self.order("release", workers),
            "retire": lambda workers: self.order("retire", workers),
        }

    async def cancel(self, flight: Flight) -> None:
        """Cut this very request of this very process. Both are fixed before anything can move."""
        told, request = flight.told, flight.told.request
        question = (
            f"{flight.line}\n\n"
            f"elapsed     {figures.elapsed(flight.elapsed_s)} when this opened\n"
            f"client      {request.client or figures.UNKNOWN}\n"
            f"worker      {told.slot}, pid {told.pid}, generation {told.generation}, thread "
            f"{request.thread}\n\n"
            "It is answered 503, or broken off if its answer has begun. A thread cannot be stopped: one that "
            "does not come back costs its worker, which is replaced."
        )
        confirm = Confirm("Cancel a request", question, yes="Cut it", danger=True)
        if await self._app.push_screen_wait(confirm):
            await self._app.operations.cancel(
                told.slot, flight.worker, request.thread, request.request, flight.line
            )
        else:
            self._app.say("info", "not cut: cancelled")

    async def menu(self, workers: Workers) -> None:
        """All actions; those that cannot be done now say why."""
        who = who_of(workers) if workers else "no worker is selected"
        rows = [
            Row(
                action.name,
                action.key,
                action.summary,
                self.hindrance(action, workers),
                action.keys,
                f"Workers: {who}" if action.scope == "worker" else "Server",
                action.danger,
                f"{action.help}{' Asks first.' if action.asks else ''}",
            )
            for action in ACTIONS.values()
        ]
        name = await self._app.push_screen_wait(ActionMenu("Actions", rows))
        if name is not None:
            await self.act(name, workers)

    async def act(self, name: str, workers: Workers, *, seen: bool = True) -> None:
        """Do one of the actions, or say why not. ``seen``: the user has the names of the workers before his
        eyes; otherwise whatever is done to them is asked first.
        """
        action = ACTIONS[name]
        trouble = self.hindrance(action, workers)
        if trouble:
            self._app.say("warning", f"{name}: {trouble}")
            return
        if action.scope == "worker" and not seen and name != "signal":
            await self.order(name, workers, asks=True)
        else:
            await self._do[name](workers)

    def hindrance(self, action: Action, workers: Workers) -> str:
        """Why an action cannot be done now, '' if it can."""
        model = self._app.model
        if trouble := model.hindrance(action.method):
            return trouble
        if not model.is_connected:
            return "no connection to the server; it is tried again"
        if action.scope == "server":
            return ""
        if not workers:
            return "no worker is selected"
        return next(
            ("" for worker in workers if not actions.misfit(action.name, worker.state)),
            actions.misfit(action.name, workers[0].state),
        )

    # -- the server ------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """HUP."""
        master = self._master("not reloaded")
        if master is None:
            return
        snapshot = self._app.model.snapshot
        number = len(snapshot.workers) if snapshot is not None else 0
        question = f"Load {master.app} again and replace {plural(number, 'worker')} one by one?"
        facts = (("requests", "none is broken off"), ("bad code", "the old generation goes on"))
        if await self._sure("not reloaded", master, "Reload (HUP)", question, facts, yes="Reload"):
            shown = self._app.seen.SUBJECT == "reload"
            await self._app.operations.reload("" if shown else " (g shows it)")

    async def scale(self) -> None:
        """A number of workers, typed."""
        master = self._master("not scaled")
        if master is None:
            return
        text = f"How many workers are to serve? {master.workers_wanted} are wanted now.\nu undoes it."
        number = await self._app.push_screen_wait(
            NumberDialog(
                "Scale", text, label="workers:", value=master.workers_wanted, least=1, most=MOST_WORKERS,
                yes="Scale",
            )
        )  # fmt: skip
        if number is None:
            self._app.say("info", "not scaled: cancelled")
        elif self._still("not scaled", master):
            await self._app.operations.scale_to(number)

    async def log_level(self) -> None:
        """A severity, chosen."""
        rows = [Row(level, level[0], text) for level, text in zip(actions.LEVELS, LEVEL_TEXTS, strict=True)]
        note = "Of the error log, in all processes, until the next start or change of the setting."
        level = await self._app.push_screen_wait(
            Menu("Log from which severity on?", rows, note=note, chosen="info")
        )
        if level is None:
            self._app.say("info", "log level not set: cancelled")
        else:
            await self._app.operations.log_level(level)

    async def upgrade(self) -> None:
        """USR2, with what follows."""
        master = self._master("not upgraded")
        if master is None:
            return
        question = "Start a new master from what is on disk, and hand the sockets over to it?"
        facts = (
            ("requests", "none is broken off"),
            ("failure", "this master goes on"),
            ("now", f"wsgitop {master.version or 'unknown'}"),
        )
        if await self._sure("not upgraded", master, "Upgrade", question, facts, yes="Upgrade"):
            await self._app.operations.upgrade()

    async def stop(self, *, quick: bool) -> None:
        """TERM or QUIT."""
        master = self._master("not stopped")
        snapshot = self._app.model.snapshot
        if master is None or snapshot is None:
            return
        number = plural(sum(len(worker.in_flight) for worker in snapshot.workers), "request")
        fate = "broken off" if quick else "finished first"
        question = f"Stop {master.name or master.app}? Nobody is served after that."
        facts = (("in flight", f"{number}: {fate}"),)
        word = "Stop at once" if quick else "Stop"
        if await self._sure("not stopped", master, word, question, facts, yes=word, danger=True):
            await self._app.operations.stop(quick=quick)

    async def signal_master(self) -> None:
        """Which signal, and whether really."""
        master = self._master("no signal sent")
        if master is None:
            return
        rows = [Row(row.name, row.key, row.text, danger=row.danger) for row in actions.MASTER_SIGNALS]
        name = await self._app.push_screen_wait(
            SignalMenu(f"Signal to the master, pid {master.pid}", rows, note=ASKS_AGAIN)
        )
        if name is None:
            self._app.say("info", "no signal sent: cancelled")
            return
        row = next(row for row in actions.MASTER_SIGNALS if row.name == name)
        question = f"Send {name} to the master?\n\n{row.text}."
        title = f"{name} to pid {master.pid}"
        if await self._sure(
            f"{name} not sent", master, title, question, (), yes=f"Send {name}", danger=row.danger
        ):
            await self._app.operations.signal_master(name)

    def _master(self, failed: str) -> MasterSnapshot | None:
        """The master as it is now, the target of a question; None, and said, when there is none."""
        snapshot = self._app.model.snapshot
        if snapshot is None or not self._app.model.is_connected:
            self._app.say("error", f"{failed}: no connection to the server; it is tried again")
            return None
        return snapshot.master

    def _still(self, failed: str, master: MasterSnapshot) -> bool:
        """Whether it is this master that would get the order. Says so if not."""
        snapshot = self._app.model.snapshot
        now = snapshot.master if snapshot is not None else None
        if now is None or (now.pid, now.started_at) != (master.pid, master.started_at):
            pid = now.pid if now is not None else "none"
            self._app.say("warning", f"{failed}: pid {master.pid} is not the master any more (now {pid})")
            return False
        return True

    async def _sure(
        self,
        failed: str,
        master: MasterSnapshot,
        title: str,
        question: str,
        facts: Sequence[tuple[str, str]],
        *,
        yes: str,
        danger: bool = False,
    ) -> bool:
        """Ask; True if it is wanted and the master is still the one that was asked about."""
        target = (
            ("target", master.control or self._app.target_label),
            ("master", f"pid {master.pid}, generation {master.generation}"),
        )
        lines = "\n".join(f"{label:<12}{value}" for label, value in (*target, *facts))
        confirm = Confirm(title, f"{question}\n\n{lines}", yes=yes, danger=danger)
        if not await self._app.push_screen_wait(confirm):
            self._app.say("info", f"{failed}: cancelled")
            return False
        return self._still(failed, master)

    # -- workers ---------------------------------------------------------------------------------------------

    async def signal(self, workers: Workers) -> None:
        """Which signal, and whether really. The targets are fixed already: the caller's picture of them."""
        if not workers:
            self._app.say("warning", "no signal sent: no worker is selected")
            return
        who = who_of(workers)
        rows = [
            Row(row.name, row.key, row.text, self._order_hindrance(row.name), danger=row.danger)
            for row in actions.WORKER_SIGNALS
            if any(not actions.misfit(row.name, worker.state) for worker in workers)
        ]
        name = await self._app.push_screen_wait(SignalMenu(f"Signal to {who}", rows, note=ASKS_AGAIN))
        if name is None:
            self._app.say("info", "no signal sent: cancelled")
            return
        if name in ("quarantine", "release", "retire"):
            await self.order(name, workers)
            return
        row = next(row for row in actions.WORKER_SIGNALS if row.name == name)
        serving = plural(sum(len(worker.in_flight) for worker in workers), "request")
        was = "It was" if len(workers) == 1 else "They were"
        question = f"Send {name} to {who}?\n\n{row.text}.\n{was} serving {serving} when the menu opened."
        if len(workers) > 1:
            question += f"\n\n{_pids(workers)}"
        title = (
            f"{name} to pid {workers[0].pid}" if len(workers) == 1 else f"{name} to {len(workers)} workers"
        )
        confirm = Confirm(title, question, yes=f"Send {name}", danger=row.danger)
        if not await self._app.push_screen_wait(confirm):
            self._app.say("info", f"{name} not sent: cancelled")
            return
        if not any(self._app.operations.is_current(worker) for worker in workers):
            self._app.say("warning", f"{name} not sent: {who} is not there any more")
            return
        # Of several, one that is gone is reported by the server, which compares start times as well.
        await self._app.operations.signal(name, *workers)

    def _order_hindrance(self, name: str) -> str:
        return self._app.model.hindrance(name if name.islower() else "signal")

    async def order(self, name: str, workers: Workers, *, asks: bool = False) -> None:
        """Quarantine, release or retire. Nothing is interrupted: for one worker that was pointed at there is
        nothing to ask."""
        fit = tuple(worker for worker in workers if not actions.misfit(name, worker.state))
        if not fit:
            why = actions.misfit(name, workers[0].state) if workers else "no worker is selected"
            self._app.say("warning", f"{name}: {why}")
            return
        if asks or len(fit) > 1:
            row = next(row for row in actions.WORKER_SIGNALS if row.name == name)
            question = f"{name.capitalize()} {who_of(fit)}?\n\n{row.text}."
            if len(fit) > 1:
                question += f"\n\n{_pids(fit)}"
            confirm = Confirm(f"{name} {plural(len(fit), 'worker')}", question, yes=name.capitalize())
            if not await self._app.push_screen_wait(confirm):
                self._app.say("info", f"{name}: cancelled")
                return
        operations = self._app.operations
        orders = {
            "quarantine": operations.put_aside,
            "release": operations.release,
            "retire": operations.retire,
        }
        await orders[name](*fit)


ASKS_AGAIN = "Enter or its key chooses. A signal asks again."
LEVEL_TEXTS = (
    "everything, for finding faults",
    "what happens: the default",
    "what may need a look",
    "what went wrong",
    "only what ends the service",
)


def who_of(workers: Workers) -> str:
    """Workers as questions name them."""
    if len(workers) == 1:
        worker = workers[0]
        return f"worker {worker.slot}, pid {worker.pid}, generation {worker.generation}"
    return f"{len(workers)} marked workers"


def _pids(workers: Workers) -> str:
    """All targets, as far as they can be read."""
    named = ", ".join(f"{worker.slot} (pid {worker.pid})" for worker in workers[:NAMED])
    more = f" and {len(workers) - NAMED} more" if len(workers) > NAMED else ""
    return f"workers {named}{more}"
