"""The server's hooks as the master knows them: which there are, when each is due, whether it comes back.

Who runs this: the loop of the master. The hooks themselves are the user's code and run in a zygote, that of
the target generation (:mod:`wsgitop.zygote.hooks`). A channel keeps the order: a hook that is sent before a
Fork has returned before that fork. What is due while no zygote can run it waits for the next one.

A hook that exceeds its time is ended by its zygote, which stays. If the zygote does not manage that, because
the hook is within C code or swallows every exception, the zygote is ended and replaced: the option not taken
is to give up a thread in it, because a process that forks must not have any.
"""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from wsgitop.channel import messages as m
from wsgitop.master.processes import WorkerProcess, ZygoteProcess
from wsgitop.master.roster import GenerationRecord, WorkerRecord
from wsgitop.master.states import GenerationPhase

if TYPE_CHECKING:
    from wsgitop.master.context import Context
    from wsgitop.master.gauge import WorkerGauge

GRACE_S = 2.0
"""Beyond a hook's own limit, before its zygote is replaced."""
DUMP_S = 0.5
"""Between SIGABRT, which makes a zygote show where it hangs, and SIGKILL."""
LAST_LOOK_S = 1.0
"""After SIGABRT to a worker with a hook for it: if it still lives then, its interpreter does not answer, and
its stacks are asked for in another way.
"""
AT_ONCE = 16
"""Hooks that a zygote has been sent and has not run yet: its channel must not be full."""
WAITING_LIMIT = 1000
ANSWER_S = 15.0
"""How long the zygote that is to run on_exit may take to begin with it, and how long pre_exec may wait for
one.
"""


class ServerHooks:
    """Which hooks are due. ``zygotes`` is a live view, by generation, and ``dismiss`` tells one of them to
    end.
    """

    def __init__(
        self, context: Context, zygotes: dict[int, ZygoteProcess], dismiss: Callable[[int], None]
    ) -> None:
        self._context = context
        self._zygotes = zygotes
        self._dismiss = dismiss
        self._declared: dict[int, frozenset[str]] = {}
        self._waiting: deque[m.RunHook] = deque(maxlen=WAITING_LIMIT)
        self._sent: dict[int, list[str]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._names: frozenset[str] = frozenset()  # of the generation that was loaded last
        self._answer: set[int] = set()  # zygotes that have said that they cannot serve, and so would answer
        self._was_ready = False
        self._due = ""  # on_reload or when_ready
        self._told_wanted: int | None = None
        self._before_exec: list[Callable[[], None]] = []
        self._exec_timer: asyncio.TimerHandle | None = None
        self._kept: int | None = None  # the zygote that is to run the last hooks of a server that stops
        self._farewell = False
        self.start_failed = False
        """on_starting has failed, or has not come back yet."""

    # -- what the rest of the master tells ------------------------------------------------

    def declared(self, number: int, names: tuple[str, ...]) -> None:
        """A generation's config file has these hooks."""
        for old in [n for n in self._declared if n not in self._context.roster.generations]:
            del self._declared[old]
        self._declared[number] = frozenset(names)

    def starting(self, number: int) -> bool:
        """The zygote of this generation is to run on_starting before it loads the application."""
        if number > 1:
            return False
        self._told_wanted = self._context.roster.wanted
        return True

    def loaded(self, record: GenerationRecord) -> None:
        """A generation has loaded and is the target."""
        self._names = self._declared.get(record.number, frozenset())
        if not self._was_ready:
            self._was_ready = True
            self._due = "when_ready"
        elif record.commanded:
            self._due = "on_reload"

    def child_exit(self, record: WorkerRecord, gauge: WorkerGauge) -> None:
        """A worker has been reaped."""
        if record.pid is not None and self._anywhere("child_exit"):
            self._await("child_exit", worker=m.DeadWorker(record.pid, record.worker, gauge.requests))

    def before_exec(self, then: Callable[[], None]) -> None:
        """Run pre_exec, for a new master that is about to be started; ``then`` is called when it is over,
        however it went, or at once if there is none.
        """
        if not self._anywhere("pre_exec"):
            then()
            return
        self._before_exec.append(then)
        self._await("pre_exec")
        self.look()
        if any(message.name == "pre_exec" for message in self._waiting):
            self._exec_timer = self._context.loop.call_later(ANSWER_S, self._exec_without)

    def begun(self, number: int, message: m.HookBegun) -> None:
        """A zygote runs a hook now."""
        self.start_failed = self.start_failed or message.name == "on_starting"
        self._stop_timer(number)
        self._timers[number] = self._context.loop.call_later(
            message.limit_s + GRACE_S, self._overdue, number, message.name
        )

    def done(self, number: int, message: m.HookDone) -> None:
        """It has returned or failed."""
        if message.name == "on_starting":
            self.start_failed = False
        self._stop_timer(number)
        if message.error:
            text = f"{message.error} (generation {number})"
            self._context.events.add("error", "hook", text, detail=message.traceback)
        sent = self._sent.get(number, [])
        if message.name in sent:
            sent.remove(message.name)
        if message.name == "pre_exec":
            self._exec()

    def zygote_failed(self, number: int, stage: str, error: str, traceback: str) -> None:
        """It cannot serve, and says so itself."""
        if stage == "hook":
            self._stop_timer(number)
            self._context.events.add("error", "hook", error, detail=traceback)
        elif stage == "app":
            self._names = self._declared.get(number, frozenset())
            self._answer.add(number)

    def zygote_gone(self, number: int) -> None:
        """Its process has ended, and what it was to run it has not run."""
        self._stop_timer(number)
        lost = self._sent.pop(number, [])
        self._answer.discard(number)
        for name in lost:
            self._context.events.add("error", "hook", f"hook {name} was not run to its end: its zygote died")
            if name == "pre_exec":
                self._exec()
        if self._kept == number:
            self._kept = None

    def watch_abort(self, record: WorkerRecord, process: WorkerProcess) -> None:
        """SIGABRT was sent to a worker. The handler that runs a hook is Python's and shows no stack if the
        interpreter hangs; another signal does.
        """
        if "worker_abort" in self._declared.get(record.generation, ()):
            self._context.loop.call_later(LAST_LOOK_S, process.signal, signal.SIGRTMIN + 1)

    # -- the end ------------------------------------------------

    def keep(self, record: GenerationRecord) -> bool:
        """The server stops, and this zygote could end: true if it is needed until the last worker is gone.
        :meth:`look` dismisses it then.
        """
        number = record.number
        if (
            number not in self._zygotes
            or self._kept not in (None, number)
            or self._context.roster.target not in (0, number)
            or not (record.phase is GenerationPhase.READY or number in self._answer)
            or self._declared.get(number, frozenset()).isdisjoint(("on_exit", "child_exit"))
        ):
            return False
        self._kept = number
        self._zygotes[number].peer.send(m.CloseListeners())
        return True

    # -- the queue ------------------------------------------------

    def state(self) -> m.ServerState:
        """What hooks see of the server."""
        roster = self._context.roster
        workers = tuple((w.pid, w.worker) for w in roster.live() if w.pid is not None)
        return m.ServerState(roster.wanted, workers)

    def state_at_fork(self, number: int) -> m.ServerState | None:
        """The same for a fork of this generation; None if it has no hooks."""
        return self.state() if self._declared.get(number) else None

    def look(self) -> None:
        """See what has changed and what is due, and send it."""
        roster = self._context.roster
        if self._told_wanted is not None and roster.wanted != self._told_wanted:
            before, self._told_wanted = self._told_wanted, roster.wanted
            self._await("nworkers_changed", before=before)
        if self._due:
            name, self._due = self._due, ""
            self._await(name)
        self._say_farewell()
        number = self._runner()
        if number is None:
            return
        sent = self._sent.setdefault(number, [])
        while self._waiting and len(sent) < AT_ONCE:
            message = self._waiting[0]
            if message.name in self._declared.get(number, ()):
                if not self._zygotes[number].peer.send(message):
                    return  # its death or its deadline decides
                sent.append(message.name)
            elif message.name == "pre_exec":
                self._exec()
            self._waiting.popleft()
        if self._farewell and not sent and not self._waiting and self._kept is not None:
            number, self._kept = self._kept, None
            self._dismiss(number)

    def _say_farewell(self) -> None:
        """When the last worker is gone, on_exit is due."""
        stopping = self._context.roster.stopping
        if not stopping or self._farewell or any(True for _ in self._context.roster.live()):
            return
        if self._kept is not None:
            self._farewell = True
            self._await("on_exit")
            if self._kept not in self._timers:
                self._timers[self._kept] = self._context.loop.call_later(
                    ANSWER_S, self._overdue, self._kept, "on_exit"
                )
        elif "on_exit" in self._names and self._runner() is None:
            self._farewell = True
            text = "hook on_exit was not run: there is no zygote that could"
            self._context.events.add("warning", "hook", text)

    def _await(self, name: str, *, worker: m.DeadWorker | None = None, before: int | None = None) -> None:
        self._waiting.append(m.RunHook(name, self.state(), worker, before))

    def _runner(self) -> int | None:
        """The generation whose zygote runs hooks now."""
        if self._kept is not None:
            return self._kept
        target = self._context.roster.target_generation()
        return (
            target.number if target is not None and target.forks and target.number in self._zygotes else None
        )

    def _anywhere(self, name: str) -> bool:
        """Some generation has this hook; whether that which is to run it has, is seen when it is sent."""
        return any(name in names for names in self._declared.values())

    def _exec_without(self) -> None:
        """A server without a zygote may be in need of just that: a new master."""
        waiting = [message for message in self._waiting if message.name == "pre_exec"]
        if not waiting:
            return
        for message in waiting:
            self._waiting.remove(message)
        text = f"hook pre_exec was not run: there was no zygote that could within {ANSWER_S:g} s"
        remedy = (
            "The new master is started all the same. Why there is no zygote is said above: mend that; if the "
            "hook's work is needed, do it by hand."
        )
        self._context.events.add("warning", "hook", text, detail=remedy)
        self._exec()

    def _exec(self) -> None:
        if self._exec_timer is not None:
            # It would find the hook of a later order waiting, and cut its time short.
            self._exec_timer.cancel()
            self._exec_timer = None
        waiting, self._before_exec = self._before_exec, []
        for then in waiting:
            then()

    def _stop_timer(self, number: int) -> None:
        timer = self._timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _overdue(self, number: int, name: str) -> None:
        self._timers.pop(number, None)
        zygote = self._zygotes.get(number)
        if zygote is None:
            return
        replaced = "" if self._context.roster.stopping else " and replaced"
        text = f"hook {name} does not come back; the zygote of generation {number} is ended{replaced}"
        self._context.events.add("error", "hook", text)
        zygote.killed_for = f"hook {name} did not come back"
        zygote.abort()
        self._context.loop.call_later(DUMP_S, self._kill, number)

    def _kill(self, number: int) -> None:
        zygote = self._zygotes.get(number)
        if zygote is not None:
            zygote.kill()
