"""Reloads: how far the one under way is, and how those of the past went. No Textual, no clock of its own.

The past is read from the server's events, whose texts name the generation they are about; what they do not
tell stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from wsgitop.snapshot import Event, GenerationSnapshot, Severity, Snapshot, WorkerSnapshot
from wsgitop.tui.lists import Order

# -- the past ----------------------------------------------------------------------------------------------

Ending = Literal["under way", "done", "failed", "superseded", "broken off"]
"""``broken off``: the server ended meanwhile."""

_BEGUN = re.compile(r"(.+): reload, loading generation (\d+)$")
_LOADED = re.compile(r"generation (\d+) is loaded after ([\d.]+) s")
_READY = re.compile(r" of generation (\d+) is ready after ([\d.]+) s")
_SERVES = re.compile(r"generation (\d+) serves with (\d+) worker")
_FAILED = re.compile(r"(?:reload to )?generation (\d+) failed: (.*)$", re.DOTALL)
_SUPERSEDED = re.compile(
    r"the reload to generation (\d+) is superseded by a newer reload, to generation (\d+)"
)
_BACK = re.compile(r"generation (\d+) replaces the (\d+) workers? that generation (\d+) had replaced")


@dataclass
class Reload:
    """One reload. ``at`` is when it began (seconds since the epoch), or when it was first heard of, if
    ``begin_known`` is false. Durations count from there: until the code was loaded, until as many new workers
    served as were wanted, until it had ended.
    """

    number: int
    at: float
    begin_known: bool = True
    ending: Ending = "under way"
    what: str = ""
    """HUP, or what else asked for it."""
    actor: str = ""
    text: str = ""
    """Why it failed, or what came of it."""
    detail: str = ""
    loaded_s: float | None = None
    serving_s: float | None = None
    took_s: float | None = None
    workers: int = 0
    boots_s: list[float] = field(default_factory=list)
    """How long each of its workers took to boot, in order."""


def severity_of(reload: Reload) -> Severity:
    """How a reload went."""
    endings: dict[Ending, Severity] = {
        "under way": "info", "done": "good", "failed": "error", "superseded": "info", "broken off": "warning",
    }  # fmt: skip
    return endings[reload.ending]


def past_reloads(events: Iterable[Event]) -> tuple[Reload, ...]:
    """The reloads in these events, the newest first. Events may come in any order; those of two masters, one
    after the other, may be among them.
    """
    reader = _Reader()
    for event in sorted((e for e in events if e.kind in KINDS), key=lambda e: (e.at, e.sequence)):
        reader.read(event)
    return tuple(reversed(reader.found))


class _Reader:
    """Takes events in order of time."""

    def __init__(self) -> None:
        self.found: list[Reload] = []

    def read(self, event: Event) -> None:
        _READERS[event.kind](self, event)

    def _loaded(self, event: Event) -> None:
        if (match := _LOADED.search(event.text)) and (reload := self._open(match[1])):
            reload.loaded_s = event.at - reload.at

    def _ready(self, event: Event) -> None:
        if (match := _READY.search(event.text)) and (reload := self._open(match[1])):
            reload.boots_s.append(float(match[2]))

    def _superseded(self, event: Event) -> None:
        if match := _SUPERSEDED.search(event.text):
            reload = self._open(match[1]) or self._heard_of(match[1], event)
            self._end(reload, "superseded", event, f"by a newer one, to generation {match[2]}")

    def _back(self, event: Event) -> None:
        # Told just before the failure that it is about.
        if match := _BACK.search(event.text):
            reload = self._led_to(match[3]) or self._heard_of(match[3], event)
            reload.text = event.text

    def _stopped(self, event: Event) -> None:
        self._broken_off(event, "the server was stopped")

    def _open(self, number: str) -> Reload | None:
        """The reload to this generation, if it is under way."""
        for reload in reversed(self.found):
            if reload.number == int(number) and reload.ending == "under way":
                return reload
        return None

    def _led_to(self, number: str) -> Reload | None:
        """The reload that fails with this generation: one whose zygote was lost goes on with the generation
        that is to stand in for it."""
        earlier = (one for one in self.found if one.ending == "under way" and one.number < int(number))
        return self._open(number) or next(earlier, None)

    def _heard_of(self, number: str, event: Event) -> Reload:
        reload = Reload(int(number), event.at, begin_known=False)
        self.found.append(reload)
        return reload

    @staticmethod
    def _end(reload: Reload, ending: Ending, event: Event, text: str) -> None:
        reload.ending, reload.text = ending, text
        reload.took_s = event.at - reload.at if reload.begin_known else None

    def _broken_off(self, event: Event, text: str) -> None:
        for reload in self.found:
            if reload.ending == "under way":
                self._end(reload, "broken off", event, text)

    def _begun(self, event: Event) -> None:
        # "HUP: generation 9 has read nothing yet …" begins nothing.
        if match := _BEGUN.search(event.text):
            reload = Reload(int(match[2]), event.at, what=match[1], actor=event.actor)
            self.found.append(reload)

    def _serving(self, event: Event) -> None:
        match = _SERVES.search(event.text)
        if match is None:
            # "serving … at …": a server that has just started has no reload under way.
            self._broken_off(event, "the server ended")
        elif reload := self._open(match[1]):
            reload.serving_s, reload.workers = event.at - reload.at, int(match[2])

    def _done(self, event: Event) -> None:
        match = _SERVES.search(event.text)
        if match is None:
            return
        number = int(match[1])
        # One whose zygote was lost is completed by the generation that replaced it.
        ended = [one for one in self.found if one.ending == "under way" and one.number <= number]
        for reload in ended:
            self._end(reload, "done", event, event.text)
            reload.workers = int(match[2])
            if reload.serving_s is None:
                reload.serving_s = reload.took_s
        if ended or any(one.number >= number for one in self.found):
            return  # or the good generation has replaced what a failed one had begun
        reload = self._heard_of(match[1], event)
        self._end(reload, "done", event, event.text)
        reload.workers = int(match[2])

    def _failed(self, event: Event) -> None:
        match = _FAILED.search(event.text)
        if match is None:
            return
        reload = self._led_to(match[1]) or self._heard_of(match[1], event)
        back = f"; {reload.text}" if reload.text else ""
        self._end(reload, "failed", event, match[2] + back)
        reload.detail = event.detail


_READERS: dict[str, Callable[[_Reader, Event], None]] = {
    "reload": _Reader._begun,
    "loaded": _Reader._loaded,
    "ready": _Reader._ready,
    "serving": _Reader._serving,
    "reloaded": _Reader._done,
    "reload-failed": _Reader._failed,
    "superseded": _Reader._superseded,
    "back": _Reader._back,
    "stop": _Reader._stopped,
}
"""Who reads which kind of event; the others are not about reloads."""
KINDS = frozenset(_READERS)


def typical_boot_s(reloads: Sequence[Reload]) -> float | None:
    """How long a worker takes to boot, from the newest reload that tells; None: not known."""
    return next((median(reload.boots_s) for reload in reloads if reload.boots_s), None)


def typical_load_s(reloads: Sequence[Reload]) -> float | None:
    """How long the code takes to load, from the newest reload that tells; None: not known."""
    return next((reload.loaded_s for reload in reloads if reload.loaded_s is not None), None)


def words(reload: Reload) -> str:
    """What a filter looks in."""
    return f"gen{reload.number} {reload.ending} {reload.what} {reload.actor} {reload.text}"


ORDERS: tuple[Order[Reload], ...] = (
    Order("at", lambda reload: reload.at),
    Order("generation", lambda reload: reload.number),
    Order("ending", lambda reload: reload.ending, largest_first=False),
    Order("took", lambda reload: reload.took_s),
    Order("boot", lambda reload: median(reload.boots_s) if reload.boots_s else None),
)


# -- the present -------------------------------------------------------------------------------------------

Step = Literal["waiting", "booting", "handing over", "done", "leaving"]
"""Of a slot: still the old worker's; the new one boots; the new one serves and the old one finishes; only the
new one is there; what is there goes without a successor.
"""
STEP_ORDER: tuple[Step, ...] = ("booting", "handing over", "waiting", "leaving", "done")
BOOT_SHARE, HANDING_SHARE = 0.6, 0.8
LEAST_BOOT = 0.08
"""So that a bar that has begun is seen."""


@dataclass(frozen=True)
class SlotRow:
    """One slot during a reload. ``old`` is the youngest worker of another generation in it, ``more`` counts
    those beside it; ``share`` is how much of the way is done, 0 to 1.
    """

    slot: int
    old: WorkerSnapshot | None
    new: WorkerSnapshot | None
    step: Step
    share: float
    more: int = 0


def target_of(snapshot: Snapshot) -> int | None:
    """The generation that a reload under way leads to, or that the workers are mixed with; None: all workers
    are of one."""
    master = snapshot.master
    if master.reload is not None:
        return master.reload.to_generation
    if master.reloading_to is not None:
        return master.reloading_to
    mixed = any(worker.generation != master.generation for worker in snapshot.workers)
    return master.generation if mixed else None


def slot_rows(
    workers: Iterable[WorkerSnapshot], target: int, *, boot_s: float | None, later_s: float = 0.0
) -> tuple[SlotRow, ...]:
    """Who is in each slot, of the generation ``target`` and of others, by slot. ``boot_s`` is how long
    booting takes as far as known; ``later_s`` is the time since these workers were sampled.
    """
    slots: dict[int, list[WorkerSnapshot]] = {}
    for worker in workers:
        slots.setdefault(worker.slot, []).append(worker)
    rows = []
    for slot, present in sorted(slots.items()):
        present.sort(key=lambda worker: (worker.started_at, worker.pid))
        old = [worker for worker in present if worker.generation != target]
        new = [worker for worker in present if worker.generation == target]
        # A worker of the new code that retires already is followed by another one of it.
        staying = [worker for worker in new if worker.state != "retiring"] or new
        step, share = _step(old[-1] if old else None, staying[-1] if staying else None, boot_s, later_s)
        more = max(0, len(old) - 1) + max(0, len(new) - 1)
        rows.append(
            SlotRow(slot, old[-1] if old else None, staying[-1] if staying else None, step, share, more)
        )
    return tuple(rows)


def _step(
    old: WorkerSnapshot | None, new: WorkerSnapshot | None, boot_s: float | None, later_s: float
) -> tuple[Step, float]:
    if new is None:
        return ("leaving" if old is not None and old.state == "retiring" else "waiting"), 0.0
    if new.state == "booting":
        age_s = max(0.0, new.age_s + later_s)
        part = 0.5 if not boot_s else min(0.95, age_s / boot_s)
        return "booting", max(LEAST_BOOT, BOOT_SHARE * part)
    if old is not None:
        return "handing over", HANDING_SHARE
    return ("leaving", 0.0) if new.state == "retiring" else ("done", 1.0)


def overall(rows: Sequence[SlotRow], wanted: int) -> tuple[float, float]:
    """Of the whole way: the shares of slots that are done, and of what has begun beside them. Slots that are
    not there yet count too: ``wanted`` is how many there are to be."""
    number = max(wanted, sum(row.step != "leaving" for row in rows), 1)
    done = sum(row.share for row in rows if row.step == "done")
    begun = sum(row.share for row in rows if row.step in ("booting", "handing over"))
    return done / number, begun / number


def slot_words(row: SlotRow) -> str:
    """What a filter looks in."""
    both = [worker for worker in (row.old, row.new) if worker is not None]
    return f"#{row.slot} {row.step} " + " ".join(f"{w.pid} gen{w.generation} {w.state}" for w in both)


SLOT_ORDERS: tuple[Order[SlotRow], ...] = (
    Order("slot", lambda row: row.slot, largest_first=False),
    Order("step", lambda row: STEP_ORDER.index(row.step), largest_first=False),
    Order("share", lambda row: row.share, largest_first=False),
)


def chosen_generations(
    generations: Iterable[GenerationSnapshot], serving: int, room: int
) -> tuple[GenerationSnapshot, ...]:
    """At most ``room`` of them, the newest last: first those that have workers, a zygote, or news; what has
    ended long ago only where there is place for it.
    """

    def rank(generation: GenerationSnapshot) -> tuple[bool, bool, int]:
        alive = bool(generation.workers) or generation.zygote_pid is not None
        news = generation.state == "failed" and generation.number > serving
        return (not (alive or news or generation.state == "loading"), generation.number != serving,
                -generation.number)  # fmt: skip

    return tuple(sorted(sorted(generations, key=rank)[: max(1, room)], key=lambda one: one.number))
