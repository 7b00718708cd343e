"""A reload beyond its steps: what it announces, when there is no way back, and what going back means.

Who runs this: the loop of the master; the supervisor calls it before each look at the plan. Which worker goes
next is the plan's. The moment at which as many new workers serve as are wanted is the point of no return: the
addresses that the new configuration leaves out are closed then, *before* the last old worker is told to go,
because it is the last that can serve who waits there; and what goes wrong later is a crash like any other.
"""

from __future__ import annotations

from typing import NamedTuple

from wsgitop.master.context import Context
from wsgitop.master.roster import GenerationRecord, Roster


class _Scale(NamedTuple):
    """The number of workers: what the configuration says, and what is wanted."""

    configured: int
    wanted: int


class Rollout:
    """Watches over the reload that is under way, if there is one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._configured = context.configuration.workers
        self._before: _Scale | None = None  # the scale before this reload changed it, for going back
        self._set_by_reload = 0

    # -- forward ------------------------------------------------

    def look(self) -> list[int]:
        """Take note of where the reload is; the generations whose zygotes are not needed any more."""
        self._follow_scale()
        roster = self._context.roster
        if not roster.rolling or roster.target == roster.good or roster.stopping:
            return []
        fresh = sum(1 for worker in roster.ready() if worker.generation == roster.target)
        if fresh < roster.wanted:
            return []
        self._commit(roster)
        return [g.number for g in roster.generations.values() if g.forks and g.number != roster.target]

    def _commit(self, roster: Roster) -> None:
        roster.good = roster.target
        self._before = None
        old = [worker for worker in roster.live() if worker.generation != roster.target]
        self._context.bindings.accept(roster.target, self._context.settings)
        self._context.logs.accept(self._context.settings)
        if old:
            numbers = sorted({worker.generation for worker in old})
            whose = "generation " + ", ".join(map(str, numbers))
            rest = f"{len(old)} worker{'s' if len(old) > 1 else ''} of {whose} still to go"
            text = f"generation {roster.target} serves with {roster.wanted} workers; {rest}"
            self._context.events.add("info", "serving", text)

    # -- back ------------------------------------------------

    def goes_back(self, record: GenerationRecord) -> bool:
        """Whether the failure of ``record`` means that the last good generation takes over again.

        So it does when the reload has led to it, and when it was to stand in for the zygote of the one that
        the reload has led to: else half of the workers would stay old for as long as the code is broken.
        """
        roster = self._context.roster
        if roster.good in (0, record.number):
            return False
        target = roster.target_generation()
        stands_in = (
            roster.rolling and record.roll and target is not None and roster.target != roster.good
            and not target.forks
        )  # fmt: skip
        return roster.target == record.number or stands_in

    def back(self, failed: GenerationRecord) -> None:
        """Make the last good generation the one that workers are forked from."""
        roster = self._context.roster
        self._context.follow(roster.good)
        self._follow_scale(back=True)
        roster.target = roster.good
        # What the failed generation has started is replaced by the good one.
        roster.rolling = any(worker.generation != roster.good for worker in roster.active())
        loading = roster.loading()
        keep = (roster.good, loading.number if loading is not None else 0)
        self._context.bindings.give_up(*self._context.bindings.others(*keep))
        missing = roster.wanted - sum(1 for w in roster.active() if w.generation == roster.good)
        if missing > 0:
            text = (
                f"generation {roster.good} replaces the {missing} worker{'s' if missing > 1 else ''} "
                f"that generation {failed.number} had replaced"
            )
            self._context.events.add("info", "back", text)

    # -- the scale ------------------------------------------------

    def _follow_scale(self, *, back: bool = False) -> None:
        """Take over the configuration's number of workers when it has changed; the scale set by TTIN and TTOU
        survives otherwise, and a reload that fails, too.
        """
        roster, configured = self._context.roster, self._context.configuration.workers
        if back and self._before is not None:
            if roster.wanted == self._set_by_reload:  # unless somebody has changed it meanwhile
                roster.wanted = self._before.wanted
            self._configured, self._before = configured, None
        elif configured != self._configured:
            if roster.rolling and self._before is None:
                self._before = _Scale(self._configured, roster.wanted)
            self._configured = configured
            self._set_by_reload = roster.wanted = configured
