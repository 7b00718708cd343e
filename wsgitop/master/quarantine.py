"""Putting a worker aside to look at it, giving it back, and sending one worker home.

A worker in quarantine accepts nothing, finishes what it has, and stays; the plan forks another in its place.
It is nobody's replacement and counts neither as a worker that is wanted nor as surge, so their number is
bounded here.
"""

from __future__ import annotations

from wsgitop.channel import messages as m
from wsgitop.errors import ActionFailed
from wsgitop.master.context import Context
from wsgitop.master.roster import WorkerRecord
from wsgitop.master.states import WorkerEvent, WorkerPhase
from wsgitop.master.workers import Workers

QUARANTINE_LIMIT = 4
"""Each costs the memory of a worker, and nobody serves with it."""


class Quarantine:
    """Who runs this: the loop of the master, on behalf of an operator. Each raises ActionFailed with the
    reason.
    """

    def __init__(self, context: Context, workers: Workers) -> None:
        self._context = context
        self._workers = workers

    def begin(self, record: WorkerRecord, actor: str) -> str:
        """Put a worker that serves into quarantine; what was done, in words."""
        who = f"worker {record.slot} (pid {record.pid})"
        if record.phase is WorkerPhase.QUARANTINED:
            raise ActionFailed(f"{who} is in quarantine already", "`wsgitop ctl release` ends that.")
        if record.phase is not WorkerPhase.READY:
            raise ActionFailed(f"{who} is {record.phase.value}: only one that serves can be put aside")
        if len(self._context.roster.quarantined()) >= QUARANTINE_LIMIT:
            raise ActionFailed(
                f"{QUARANTINE_LIMIT} workers are in quarantine already",
                "Release or retire one of them first.",
            )
        if len(self._context.roster.ready()) < 2:
            raise ActionFailed(
                f"{who} is the only one that serves: nobody would answer until another has booted",
                "Add a worker first, as with `wsgitop ctl scale +1`.",
            )
        if self._context.roster.boot_failures:
            raise ActionFailed(
                f"{who} stays in service: workers fail to boot, so nobody would take its place",
                "See the error log; mend the code and reload first.",
            )
        if not self._workers.tell(record, m.Quarantine(True)):
            raise ActionFailed(f"{who} does not read what the master says", "Look at its stack, or kill it.")
        record.see(WorkerEvent.QUARANTINE)
        record.ordered = ""
        record.releasing = False
        text = f"{who} is in quarantine: it accepts nothing and stays until it is released or retired"
        self._context.events.add("warning", "quarantine", text, actor=actor)
        self._context.reconcile()
        return text

    def end(self, record: WorkerRecord, actor: str) -> str:
        """Let a worker that is in quarantine serve again. It does when it says so (a debugger may hold it):
        until then its stand-in stays. The plan then retires who is one too many.
        """
        who = f"worker {record.slot} (pid {record.pid})"
        if record.phase is not WorkerPhase.QUARANTINED:
            raise ActionFailed(f"{who} is not in quarantine, but {record.phase.value}")
        if not self._workers.tell(record, m.Quarantine(False)):
            raise ActionFailed(f"{who} does not read what the master says", "Retire or kill it.")
        record.releasing = True
        self._context.events.add("info", "release", f"{who} is released from quarantine", actor=actor)
        return f"{who} is released from quarantine and serves again"

    def retire(self, record: WorkerRecord, actor: str) -> str:
        """Have one worker finish and end. One that serves is replaced first, as one that is worn: see
        :func:`wsgitop.master.recycling.worn`.
        """
        who = f"worker {record.slot} (pid {record.pid})"
        if record.phase is WorkerPhase.RETIRING or record.ordered:
            raise ActionFailed(f"{who} retires already")
        why = f"an operator asked for it ({actor})" if actor else "asked for"
        if record.phase is WorkerPhase.READY:
            record.ordered = why
            self._context.events.add("info", "retire", f"{who} is to be replaced", actor=actor)
        else:
            self._workers.retire(record, why, quick=False)
        self._context.reconcile()
        return f"{who} has retired"

    def forget(self, record: WorkerRecord) -> None:
        """The order to retire failed: it is not carried out later, when nobody expects it."""
        record.ordered = ""
        self._context.reconcile()
