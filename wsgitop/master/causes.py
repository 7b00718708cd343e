"""Why a process has ended: a pure function of how it ended and of what is known about it.

The wait status alone does not tell: status 0 is a worker that was scaled down and one that called
os._exit(0); SIGKILL is an operator, the master's own deadline, the kernel for want of memory, or a stranger.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Literal

from wsgitop.master.processes import CRASH_SIGNALS, describe_status, signal_name
from wsgitop.master.roster import STABLE_S
from wsgitop.snapshot import DeathCause

TOLD_BY = "it was told to by "
"""How a worker announces that it goes because of a signal; the signal's name follows (worker.process)."""

Phase = Literal["booting", "serving", "retiring", "quarantined"]

_ORDERS: tuple[tuple[str, DeathCause], ...] = (
    ("scaled down", "scaled down"),
    ("replaced by", "replaced"),
    ("recycled", "recycled"),
    ("the server stops", "stopped"),
)
"""What the plan retires workers for, by the beginning of its words."""


_FAULT = "Native code fails so, not Python: its stack tells where"
_CRASHES: tuple[tuple[frozenset[int], str], ...] = (
    (frozenset({signal.SIGXCPU, signal.SIGXFSZ}), "It has exceeded a resource limit (ulimit -t, ulimit -f)"),
    (
        frozenset({signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF}),
        "The application has set a timer (signal.alarm, setitimer) and no handler for it",
    ),
    (frozenset({signal.SIGPIPE}), "The application has given SIGPIPE its default action back"),
)
AT_ONCE_S = 0.25
"""After it was ready. Whoever ends workers by kill -9, one after the other, seldom meets one so young."""
INTERNAL_ERROR_STATUS = 70
"""Of a worker that has ended itself over a fault of its own machinery (worker.loop; EX_SOFTWARE)."""

_FROM_OUTSIDE = "Nobody here sent that: signals are meant for the master, not for its children."


@dataclass(frozen=True, slots=True)
class Sent:
    """A signal that was sent from here. ``actor`` is the operator, '' if the master did it by itself."""

    number: int
    actor: str
    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known. ``status`` is a wait status.

    ``order`` is what the master told it to end for, ``given_up`` what it said itself. ``boot_error`` is what
    it said before it ended because it could not load; ``oom`` that the kernel has counted a kill for want of
    memory, and ``memory`` what it had and might have, in words.
    """

    status: int
    process: Literal["worker", "zygote"] = "worker"
    phase: Phase = "serving"
    order: str = ""
    given_up: str = ""
    boot_error: str = ""
    sent: tuple[Sent, ...] = ()
    timed_out: bool = False
    oom: bool = False
    memory: str = ""
    stopping: bool = False
    stopped_by: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``how`` completes "worker 2 (pid 7) …"; ``next_step`` is what to do, '' if nothing needs to be done."""

    cause: DeathCause
    how: str
    actor: str = ""
    next_step: str = ""

    @property
    def self_inflicted(self) -> bool:
        """Nobody wanted it and no signal from outside did it."""
        return self.cause in ("crashed", "exited", "out of memory", "boot failed")


def is_crash(found: Verdict, served_s: float) -> bool:
    """Whether forking the next one at once would not help: it ended by itself soon after it was ready. One
    that was killed at once has done that by itself, too: nobody else is so quick, each time.
    """
    if found.cause == "killed" and not found.actor:
        return served_s < AT_ONCE_S
    return found.self_inflicted and served_s < STABLE_S


def verdict(facts: Facts) -> Verdict:
    """Why it ended."""
    how = describe_status(facts.status)
    if facts.phase == "quarantined":
        return Verdict("quarantined", f"{how} while it was in quarantine")
    if facts.boot_error:
        error, _, remedy = facts.boot_error.partition("\n")
        step = remedy.strip() or "Mend the application and reload."
        return Verdict("boot failed", f"could not load the application: {error}", next_step=step)
    if facts.process == "zygote" and facts.order:
        return _obeyed(facts, how)
    if os.WIFSIGNALED(facts.status):
        return _signalled(facts, how)
    return _exited(facts, how)


def _signalled(facts: Facts, how: str) -> Verdict:
    number = os.WTERMSIG(facts.status)
    ours = next((sent for sent in reversed(facts.sent) if sent.number == number), None)
    if ours is not None and ours.actor:
        return Verdict("killed", f"{how}, sent by {ours.actor}", ours.actor)
    if ours is not None:
        # What it was aborted for, and not that it survived that.
        aborted = next((s for s in facts.sent if s.number == signal.SIGABRT and not s.actor), ours)
        why = (aborted if number == signal.SIGKILL else ours).why
        return _by_master(facts, f"{how}, sent by the master: {why}", why)
    if number == signal.SIGKILL and facts.oom:
        had = f" ({facts.memory})" if facts.memory else ""
        return Verdict(
            "out of memory",
            f"was killed by the kernel for want of memory{had}",
            next_step="Raise the limit, run fewer workers, or replace them before they grow so (--max-rss).",
        )
    if number in CRASH_SIGNALS:
        step = next((step for numbers, step in _CRASHES if number in numbers), _FAULT)
        return Verdict("crashed", how, next_step=f"{step}.")
    if number == signal.SIGKILL:
        step = "Nobody here sent that: look for kill -9 in scripts and supervisors, and in the kernel's log."
    else:
        step = _FROM_OUTSIDE
    return Verdict("killed", f"{how} from outside", next_step=step)


def _by_master(facts: Facts, how: str, why: str) -> Verdict:
    if facts.timed_out or "(--timeout)" in why:
        return _timeout(how)
    option = next((name for name in ("--boot-timeout", "--graceful-timeout") if name in why), "")
    step = "See what it was doing"
    step += f"; if that may take so long, raise {option}." if option else "."
    return Verdict("aborted", how, "master", step)


def _timeout(how: str) -> Verdict:
    step = "See its stack; if that may take so long, raise --timeout."
    return Verdict("timeout", how, "master", step)


def _exited(facts: Facts, how: str) -> Verdict:
    if facts.timed_out:
        return _timeout(f"{how} after a request that exceeded --timeout")
    name = _told_by(facts)
    if name:
        sender = next((s.actor for s in facts.sent if s.actor and signal_name(s.number) == name), "")
        whence = f"sent by {sender}" if sender else "from outside"
        return Verdict("killed", f"{how} after {name} {whence}", sender, "" if sender else _FROM_OUTSIDE)
    if facts.order:
        return _obeyed(facts, how)
    if facts.given_up:
        return Verdict("retired", f"{how}: {facts.given_up}")
    if facts.stopping:
        return Verdict("stopped", how, facts.stopped_by)
    while_what = " while it loaded the application" if facts.phase == "booting" else ""
    if os.WEXITSTATUS(facts.status) == INTERNAL_ERROR_STATUS:
        step = "An error inside wsgitop's own code has ended it, or closed descriptors: see its last lines."
    else:
        step = "The application has ended its process (sys.exit, os._exit): see its last lines."
    return Verdict("exited", f"{how}{while_what}, unasked", next_step=step)


def _obeyed(facts: Facts, how: str) -> Verdict:
    cause: DeathCause = next((cause for words, cause in _ORDERS if facts.order.startswith(words)), "retired")
    return Verdict(cause, f"{how}: {facts.order}", facts.stopped_by if cause == "stopped" else "")


def _told_by(facts: Facts) -> str:
    """The signal that it has gone for, by name; '' for none."""
    if facts.given_up.startswith(TOLD_BY):
        return facts.given_up.removeprefix(TOLD_BY)
    if facts.order:
        return ""
    polite = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    return next((signal_name(s.number) for s in facts.sent if s.actor and s.number in polite), "")
