"""Looking into a worker: what it serves, where its threads are, and cutting one of its requests.

Who runs this: the loop of the master, on behalf of clients; nothing here blocks it. A worker's watchdog
answers, or, if the interpreter does not let it run, faulthandler: a signal has it write the stacks to
standard error, which the master reads. What comes from a worker is made fit to be shown once more, since the
application might have got hold of the channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from wsgitop.channel import messages as m
from wsgitop.control.faults import TargetGone
from wsgitop.control.messages import (
    Cancelled,
    Frame,
    RequestInFlight,
    RequestsResult,
    StackResult,
    ThreadStack,
)
from wsgitop.errors import ActionFailed
from wsgitop.master.context import Context
from wsgitop.master.inquiries import NotRead, WorkerGone
from wsgitop.master.processes import WorkerProcess
from wsgitop.master.roster import WorkerRecord
from wsgitop.master.workers import Workers
from wsgitop.snapshot import InFlight, Snapshot, printable, printable_lines

WATCHDOG_S = 1.0
"""How long the watchdog may take to show stacks; it needs some milliseconds."""
CANCEL_S = 3.0
"""How long it may take to tell what came of a cut: it waits a second itself."""
DUMP_S = 2.0
DUMP_QUIET_S = 0.2
"""faulthandler is done when nothing has come for so long."""
DUMP_LIMIT_BYTES = 64 * 1024
DUMP_SIGNAL = signal.SIGRTMIN + 1
"""As in wsgitop.worker.process."""
_DUMP_BEGIN = re.compile(rb"^(Thread|Current thread|Stack) .*\(most recent call first\):", re.MULTILINE)
METHOD_LIMIT, PATH_LIMIT, TEXT_LIMIT = 16, 200, 300


@dataclass(slots=True)
class _Look:
    """A look at a worker that is under way; who asks for the same meanwhile gets the same."""

    thread: int | None
    task: asyncio.Task[StackResult]


@dataclass(slots=True)
class _Dump:
    """What a worker writes to standard error meanwhile."""

    data: bytes = b""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, data: bytes) -> None:
        if len(self.data) < DUMP_LIMIT_BYTES:
            self.data += data[: DUMP_LIMIT_BYTES - len(self.data)]
            self.news.set()

    @property
    def full(self) -> bool:
        return len(self.data) >= DUMP_LIMIT_BYTES


class Inspection:
    """Each worker is looked at once at a time."""

    def __init__(self, context: Context, workers: Workers) -> None:
        self._context = context
        self._workers = workers
        self._looks: dict[int, _Look] = {}

    # -- requests ------------------------------------------------

    def requests(self, snapshot: Snapshot, limit: int) -> RequestsResult:
        """What is in flight in ``snapshot``, the oldest first, and what took longest lately."""
        found = [
            RequestInFlight(worker.slot, worker.pid, worker.started_at, worker.generation, request)
            for worker in snapshot.workers
            for request in worker.in_flight
        ]
        found.sort(key=lambda one: -one.request.elapsed_s)
        slowest = self._context.slowest.longest(limit, time.time())
        return RequestsResult(tuple(found[:limit]), slowest, len(found))

    # -- stacks ------------------------------------------------

    async def stack(self, record: WorkerRecord, thread: int | None, actor: str) -> StackResult:
        """Where the threads of a worker are. Raises ActionFailed, TargetGone."""
        threads = self._context.generations[record.generation].settings.threads
        if thread is not None and not 0 <= thread < threads:
            raise ActionFailed(
                f"{_who(record)} has no thread {thread}", f"Its threads are 0 to {threads - 1}."
            )
        while (look := self._looks.get(record.worker)) is not None and look.thread != thread:
            await asyncio.wait((look.task,))
        if look is None:
            task = self._context.loop.create_task(self._look(record, thread, actor))
            look = self._looks[record.worker] = _Look(thread, task)
            task.add_done_callback(lambda _task: self._looks.pop(record.worker, None))
        # Several may wait for the same one, and one that leaves must not take it from the others.
        return await asyncio.shield(look.task)

    async def _look(self, record: WorkerRecord, thread: int | None, actor: str) -> StackResult:
        process = self._process(record)
        try:
            answer = await self._context.inquiries.ask(
                record.worker,
                lambda number: self._workers.tell(record, m.TakeStacks(number, thread)),
                WATCHDOG_S,
            )
        except WorkerGone:
            raise _gone(record) from None
        except (TimeoutError, NotRead):
            text = await self._dump(record, process, actor)
            return StackResult(record.slot, process.pid or 0, "faulthandler", text=text)
        if not isinstance(answer, m.Stacks):
            raise ActionFailed(f"{_who(record)} answered something else than was asked")
        stacks = tuple(_thread_stack(each) for each in answer.threads)
        return StackResult(record.slot, process.pid or 0, "watchdog", stacks, dropped=answer.dropped)

    async def _dump(self, record: WorkerRecord, process: WorkerProcess, actor: str) -> str:
        """Have faulthandler write the stacks, and read them. Raises ActionFailed, TargetGone."""
        who = _who(record)
        state, handles = _status(process.pid or 0)
        if state in ("T", "t"):
            raise ActionFailed(
                f"{who} is stopped: it can show nothing",
                f"`wsgitop ctl signal CONT --worker {record.pid}` lets it go on, unless a debugger holds it.",
            )
        if not handles:
            # The signal would end it: it has only just been forked, or the application has taken the handler.
            raise ActionFailed(f"{who} does not answer, and has no handler that could show its stacks")
        dump = _Dump()
        process.output.taps.append(dump.take)
        try:
            if not process.signal(DUMP_SIGNAL):
                raise _gone(record)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DUMP_S):
                    await _until_quiet(dump)
        finally:
            process.output.taps.remove(dump.take)
        begin = _DUMP_BEGIN.search(dump.data)
        if begin is None:
            if record.worker not in self._context.roster.workers:
                raise _gone(record)
            raise ActionFailed(
                f"{who} shows its stacks neither by its watchdog nor by faulthandler",
                f"It may wait for the kernel, as for a disk; `wsgitop ctl signal KILL --worker {record.pid}` "
                "ends it, if anything does.",
            )
        text = f"{who} does not let its watchdog run; faulthandler has written its stacks, to the log as well"
        self._context.events.add("warning", "stack", text, actor=actor)
        return printable_lines(dump.data[begin.start() :].decode("utf-8", "backslashreplace").rstrip())

    # -- cancelling ------------------------------------------------

    async def cancel(self, record: WorkerRecord, thread: int, request: int, actor: str) -> Cancelled:
        """Cut one request, and what came of it. Raises ActionFailed, TargetGone."""
        started = time.monotonic()
        who = _who(record)
        self._process(record)
        try:
            answer = await self._context.inquiries.ask(
                record.worker,
                lambda number: self._workers.tell(record, m.CancelRequest(number, thread, request)),
                CANCEL_S,
            )
        except WorkerGone:
            raise _gone(record) from None
        except TimeoutError:
            text = f"{who} does not answer: the request on its thread {thread} is cut as soon as it does"
            self._context.events.add("warning", "cancel", text, actor=actor)
            raise ActionFailed(
                text,
                f"Look at it: `wsgitop ctl stack {record.pid}`. "
                f"`wsgitop ctl signal KILL --worker {record.pid}` ends it.",
            ) from None
        except NotRead:
            raise ActionFailed(
                f"{who} could not be told: it does not read what it is sent, or is about to end",
                "Look again in a moment.",
            ) from None
        if not isinstance(answer, m.RequestCancelled):
            raise ActionFailed(f"{who} answered something else than was asked")
        text = _outcome(who, thread, answer)
        self._context.events.add("warning" if answer.cut else "info", "cancel", text, actor=actor)
        roster = self._context.roster
        return Cancelled(
            text=text,
            generation=roster.target,
            workers=len(roster.ready()),
            elapsed_s=round(time.monotonic() - started, 3),
            end=answer.end,
            answered=answer.answered,
        )

    def _process(self, record: WorkerRecord) -> WorkerProcess:
        found = None if record.pid is None else self._workers.by_pid(record.pid)
        if found is None or found[0] is not record:
            raise _gone(record)
        return found[1]


def _outcome(who: str, thread: int, answer: m.RequestCancelled) -> str:
    if not answer.cut:
        return f"the request on thread {thread} of {who} was over before it could be cut"
    what = f"{printable(answer.method, METHOD_LIMIT)} {printable(answer.path, PATH_LIMIT)}"
    told = "was answered with an error" if answer.answered else "was cut off"
    match answer.end:
        case "finished":
            then = "the application has ended by itself"
        case "raised":
            then = "the application has ended by the exception that it met"
        case _:
            then = "the thread still runs it, and the worker is replaced if it does not come back in 10 s"
    return f"{what} on thread {thread} of {who}, after {answer.elapsed_ns / 1e9:.1f} s, {told}; {then}"


def _thread_stack(thread: m.ThreadCalls) -> ThreadStack:
    serves = thread.serves
    request = None
    if serves is not None:
        request = InFlight(
            thread=thread.thread or 0,
            method=printable(serves.method, METHOD_LIMIT),
            path=printable(serves.path, PATH_LIMIT),
            client=printable(serves.client, TEXT_LIMIT),
            elapsed_s=round(serves.elapsed_ns / 1e9, 3),
            request=serves.request,
        )
    frames = tuple(
        Frame(
            printable(call.file, TEXT_LIMIT),
            call.line,
            printable(call.function, TEXT_LIMIT),
            printable(call.code, TEXT_LIMIT),
            call.application,
        )
        for call in thread.calls
    )
    return ThreadStack(printable(thread.name, TEXT_LIMIT), frames, thread.thread, request)


async def _until_quiet(dump: _Dump) -> None:
    """Return when something has come and then nothing for a while, or when there is enough."""
    await dump.news.wait()
    while not dump.full:
        dump.news.clear()
        try:
            async with asyncio.timeout(DUMP_QUIET_S):
                await dump.news.wait()
        except TimeoutError:
            return


def _status(pid: int) -> tuple[str, bool]:
    """The state of a process as the kernel names it, and whether it has a handler for DUMP_SIGNAL."""
    state, handles = "", False
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "State":
                state = value.strip()[:1]
            elif name == "SigCgt":
                handles = bool(int(value, 16) >> (DUMP_SIGNAL - 1) & 1)
    return state, handles


def _who(record: WorkerRecord) -> str:
    return f"worker {record.slot} (pid {record.pid})"


def _gone(record: WorkerRecord) -> TargetGone:
    return TargetGone(f"{_who(record)} has just ended", "Look again: it has been replaced.")
