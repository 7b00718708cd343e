"""What the master notes about its children while they live, and what it files when they end.

Who runs this: the master's loop. It owns the notes, one for each living worker, the ledger and the look-out
for the kernel's out-of-memory killer. Why somebody ended is decided in master.causes, from these facts.
"""

from __future__ import annotations

import os
import signal
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from wsgitop.channel import messages as m
from wsgitop.master.causes import Facts, Phase, Sent, Verdict, verdict
from wsgitop.master.ledger import Ledger
from wsgitop.master.oom import MIB, OomWatch, describe_limit
from wsgitop.master.processes import WorkerProcess, ZygoteProcess, signal_name
from wsgitop.master.roster import GenerationRecord, WorkerRecord
from wsgitop.master.states import GenerationPhase, WorkerPhase
from wsgitop.snapshot import Death, InFlight, printable

SERVING_SHOWN = 2
PATH_SHOWN = 80
"""In an event, which is one line and has a next step to tell; the ledger has all."""
PEAKS_KEPT = 64
"""Of children whose number has not been told yet, or never will be."""


@dataclass(slots=True)
class Notes:
    """About one worker: what it was told to end for, what it said itself, signals sent to it, a request that
    was cut.
    """

    order: str = ""
    given_up: str = ""
    boot_error: str = ""
    boot_traceback: str = ""
    sent: list[Sent] = field(default_factory=list)
    timeout: m.RequestTimeout | None = None


class Deaths:
    """``stopped_by`` is who had the server stop."""

    def __init__(self, ledger: Ledger, oom: OomWatch) -> None:
        self.ledger = ledger
        self.oom = oom
        self.stopping = False
        self.stopped_by = ""
        self._notes: dict[int, Notes] = {}
        self._peaks: OrderedDict[int, int] = OrderedDict()

    # -- noting ------------------------------------------------

    def of(self, worker: int) -> Notes:
        """The notes about a living worker, to add to."""
        return self._notes.setdefault(worker, Notes())

    def ordered(self, worker: int, why: str) -> None:
        """The master has told a worker to end; the first reason counts."""
        notes = self.of(worker)
        notes.order = notes.order or why

    def sent(self, worker: int, number: int, why: str, actor: str = "") -> None:
        """A signal has been sent to a worker; ``actor`` is '' for the master itself."""
        self.of(worker).sent.append(Sent(number, actor, why))

    def forget(self, worker: int) -> None:
        """This worker is gone, or never came."""
        self._notes.pop(worker, None)

    def reaped(self, pid: int, peak_rss_bytes: int) -> None:
        """The kernel's last word about a child, before anybody says which one it was."""
        self._peaks[pid] = peak_rss_bytes
        while len(self._peaks) > PEAKS_KEPT:
            self._peaks.popitem(last=False)

    def stop(self, actor: str) -> None:
        """The server stops."""
        self.stopping, self.stopped_by = True, actor

    # -- filing ------------------------------------------------

    def worker_ended(
        self,
        record: WorkerRecord,
        status: int,
        process: WorkerProcess,
        serving: Sequence[InFlight],
        counts: tuple[int, int],
    ) -> tuple[Verdict, Death]:
        """A worker has been reaped: why it ended, and what has been filed. ``serving`` is what it had in
        hand, ``counts`` its requests and errors.
        """
        assert record.pid is not None
        notes = self.of(record.worker)
        peak = self._peaks.pop(record.pid, None) or process.memory.peak_bytes()
        killed_by_us = any(sent.number == signal.SIGKILL for sent in notes.sent)
        found = verdict(
            Facts(
                status=status,
                phase=_phase(record.phase),
                order=notes.order,
                given_up=notes.given_up,
                boot_error=notes.boot_error,
                sent=tuple(notes.sent),
                timed_out=notes.timeout is not None,
                oom=not killed_by_us and self._is_oom(status),
                memory=_memory(peak) if status == signal.SIGKILL else "",
                stopping=self.stopping,
                stopped_by=self.stopped_by,
            )
        )
        now = time.monotonic()
        lines, dump = process.output.last_words()
        death = Death(
            sequence=0,
            at=round(time.time(), 3),
            process="worker",
            cause=found.cause,
            text=f"worker {record.slot} (pid {record.pid}) {found.how}",
            generation=record.generation,
            pid=record.pid,
            slot=record.slot,
            worker=record.worker,
            uptime_s=_elapsed(record.asked_at, now),
            served_s=None if record.ready_at is None else _elapsed(record.ready_at, now),
            requests=counts[0],
            errors=counts[1],
            peak_rss_bytes=peak,
            memory=process.memory.points(),
            serving=(*_cut(notes.timeout, serving), *serving),
            stack=(notes.timeout.stack if notes.timeout is not None else notes.boot_traceback) or dump,
            lines=tuple(lines),
        )
        return found, self._file(found, status, death)

    def zygote_ended(
        self, record: GenerationRecord, status: int, process: ZygoteProcess, target: int
    ) -> tuple[Verdict, Death]:
        """The same for a zygote. ``target`` is the generation that workers come from now."""
        peak = self._peaks.pop(process.pid, None) or process.memory.peak_bytes()
        order = error = ""
        if record.phase is GenerationPhase.ENDING:
            order = "the server stops" if self.stopping else f"replaced by generation {target}"
        elif record.error.startswith("superseded"):
            order = f"replaced by a newer reload ({record.error})"
        elif record.phase is GenerationPhase.FAILED:
            error = record.error
        sent = tuple(
            Sent(number, "", process.killed_for)
            for number in (signal.SIGABRT, signal.SIGKILL)
            if process.killed_for
        )
        found = verdict(
            Facts(
                status=status,
                process="zygote",
                phase="booting" if record.phase is GenerationPhase.LOADING else "serving",
                order=order,
                boot_error=error,
                sent=sent,
                oom=not (order or error or sent) and self._is_oom(status),
                memory=_memory(peak) if status == signal.SIGKILL else "",
                stopping=self.stopping,
                stopped_by=self.stopped_by,
            )
        )
        now = time.monotonic()
        lines, dump = process.output.last_words()
        death = Death(
            sequence=0,
            at=round(time.time(), 3),
            process="zygote",
            cause=found.cause,
            text=f"zygote of generation {record.number} (pid {process.pid}) {found.how}",
            generation=record.number,
            pid=process.pid,
            uptime_s=_elapsed(record.started_at, now),
            served_s=None if record.ready_at is None else _elapsed(record.ready_at, now),
            peak_rss_bytes=peak,
            memory=process.memory.points(),
            stack=dump or record.detail,
            lines=tuple(lines),
        )
        return found, self._file(found, status, death)

    def _is_oom(self, status: int) -> bool:
        return status == signal.SIGKILL and self.oom.explains_kill()

    def _file(self, found: Verdict, status: int, death: Death) -> Death:
        exited = os.WIFEXITED(status)
        return self.ledger.add(
            msgspec.structs.replace(
                death,
                actor=found.actor,
                next_step=found.next_step,
                status=os.WEXITSTATUS(status) if exited else None,
                signal="" if exited else signal_name(os.WTERMSIG(status)),
                master=os.getpid(),
            )
        )


def describe_serving(requests: Sequence[InFlight]) -> str:
    """What a worker has in hand, to be put behind what happened to it; '' for nothing."""
    shown = "".join(
        f"; it was serving {r.method} {printable(r.path, PATH_SHOWN)} for {r.elapsed_s:.1f} s"
        for r in requests[:SERVING_SHOWN]
    )
    more = len(requests) - SERVING_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def one_line(death: Death, serving: str = "") -> str:
    """The death as an event tells it: the cause, what it was serving, and the next step in one line."""
    step = f". {death.next_step} More: wsgitop ctl deaths --pid {death.pid}" if death.next_step else ""
    return f"{death.text}{serving}{step}"


def _phase(phase: WorkerPhase) -> Phase:
    match phase:
        case WorkerPhase.STARTING | WorkerPhase.BOOTING:
            return "booting"
        case WorkerPhase.READY:
            return "serving"
        case WorkerPhase.QUARANTINED:
            return "quarantined"
    return "retiring"


def _memory(peak: int | None) -> str:
    had = "" if peak is None else f"it had {peak / MIB:,.0f} MiB at most"
    return "; ".join(part for part in (had, describe_limit()) if part)


def _cut(timeout: m.RequestTimeout | None, serving: Sequence[InFlight]) -> tuple[InFlight, ...]:
    """The request that it was ended for, unless that is still in hand."""
    if timeout is None or any(request.thread == timeout.thread for request in serving):
        return ()
    return (InFlight(timeout.thread, timeout.method, timeout.path, "", round(timeout.elapsed_s, 3)),)


def _elapsed(since: float, now: float) -> float:
    return round(max(0.0, now - since), 3)
