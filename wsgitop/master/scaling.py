"""Changes of the number of workers: what they will cost, said beforehand, and the word when they are done.

Who runs this: the loop of the master.
"""

from __future__ import annotations

import time

from wsgitop.master.cgroup import memory_limit_bytes, memory_room_bytes
from wsgitop.master.context import Context
from wsgitop.master.forecast import forecast
from wsgitop.master.recycling import worn
from wsgitop.master.states import WorkerPhase


class Scaling:
    """The change under way, if there is one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since: float | None = None

    def begin(self, wanted: int, actor: str, what: str) -> str:
        """Set the number of workers; what was begun, and the memory that it will take. Nothing is refused:
        how much a worker will need is a guess, and who scales up in spite of it may know better.
        """
        roster = self._context.roster
        before, roster.wanted = roster.wanted, wanted
        text = f"{what}: workers {before} → {wanted}"
        expected, fits = forecast(
            wanted - before, self._context.sampler.memory(), memory_limit_bytes(), memory_room_bytes()
        )
        if expected:
            text += f", {expected}"
        self._context.events.add("info" if fits else "warning", "scale", text, actor=actor)
        self._since = time.monotonic() if wanted != before else None
        return text

    def settled(self) -> bool:
        """As many workers serve as are wanted, and nobody else is there.

        But those in quarantine, and those that are being recycled: with tight limits somebody always is.
        """
        roster = self._context.roster
        outworn = worn(roster, self._context.sampler.usage(), time.monotonic())
        lasting = [
            worker
            for worker in roster.live()
            if worker.phase is not WorkerPhase.QUARANTINED
            and worker.worker not in outworn
            and not worker.recycled
        ]
        return len(lasting) <= roster.wanted <= len(roster.ready())

    def check(self) -> None:
        """Say so when it is done: TTIN and TTOU get no other answer."""
        roster = self._context.roster
        if self._since is None or not (roster.stopping or self.settled()):
            return
        took_s = time.monotonic() - self._since
        self._since = None
        if not roster.stopping:
            workers = "1 worker serves" if roster.wanted == 1 else f"{roster.wanted} workers serve"
            self._context.events.add("good", "scaled", f"{workers} after {took_s:.2f} s")
