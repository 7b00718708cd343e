"""What an operator can do to the server from any screen, made from the control plane's method table. No
Textual here.

Menu, palette and help show these rows. Name and help come from :data:`~wsgitop.control.methods.METHODS`; what
is added here is only how people reach a row, and what is asked before. Methods that need more than a worker
to point at have a page of their own and stand in :data:`ELSEWHERE`, with the reason; a test walks the table,
so that a new method cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from wsgitop.control.messages import Role
from wsgitop.control.methods import METHODS, Method
from wsgitop.snapshot import WorkerState

Scope = Literal["server", "worker"]


class Action(NamedTuple):
    """``key`` chooses it in the menu, ``keys`` names the keys that do the same without it. ``scope``: about
    the whole server, or the selected worker. ``asks``: there is a question before it is done, with the focus
    on Cancel; ``chooses``: there is something to choose or to type before.
    """

    name: str
    method: str
    key: str
    help: str
    scope: Scope = "server"
    keys: str = ""
    asks: bool = False
    chooses: bool = False
    danger: bool = False

    @property
    def summary(self) -> str:
        """The first part of its help."""
        return self.help.partition(";")[0].rstrip(".")

    @property
    def row(self) -> Method:
        """Its row of the method table."""
        return METHODS[self.method]


def _action(
    name: str,
    key: str,
    *,
    method: str = "",
    text: str = "",
    scope: Scope = "server",
    keys: str = "",
    asks: bool = False,
    chooses: bool = False,
    danger: bool = False,
) -> Action:
    row = METHODS[method or name]
    return Action(name, row.name, key, text or row.help, scope, keys, asks or row.interrupts, chooses, danger)


ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        _action("reload", "r", keys="H", asks=True),
        _action("scale", "s", keys="= + -", chooses=True),
        _action("loglevel", "l", chooses=True),
        _action("reopen", "o"),
        _action("signal the master", "m", method="signal", chooses=True,
                text="Send a signal to the master: HUP, USR1, USR2, TERM and others."),
        _action("upgrade", "u", asks=True),
        _action("stop", "t", danger=True, text="Stop the server: requests in flight are finished (TERM)."),
        _action("stop at once", "Q", method="stop", danger=True,
                text="Stop the server without waiting for requests in flight (QUIT)."),
        _action("signal", "x", scope="worker", keys="x", chooses=True,
                text="Send a signal to the selected worker."),
        _action("quarantine", "z", scope="worker"),
        _action("release", "a", scope="worker"),
        _action("retire", "e", scope="worker"),
    )
}  # fmt: skip
"""By name, in the order of the menu."""

ELSEWHERE: dict[str, str] = {
    "stack": "on the page of a worker: S",
    "cancel": "on the page of the requests: it needs a request to point at",
    "log": "on the page of the log",
}
"""Operator methods that are reached from a page, and where."""

METHOD_OF = {
    "reload": "reload",
    "scale": "scale",
    "scale_to": "scale",
    "undo_scale": "scale",
    "signal_menu": "signal",
}
"""The method behind an operator's action of a screen, for those that are not rows of :data:`ACTIONS`."""

LEVELS = ("debug", "info", "warning", "error", "critical")


class SignalRow(NamedTuple):
    """A row of a signal menu: a signal, or an order in lower case. ``danger``: breaks requests off."""

    name: str
    key: str
    text: str
    danger: bool = False


MASTER_SIGNALS = (
    SignalRow("HUP", "h", "Load the code again, replace the workers one by one"),
    SignalRow("TTIN", "i", "One worker more"),
    SignalRow("TTOU", "o", "One worker fewer"),
    SignalRow("USR1", "u", "Open the log files again, behind their rotation"),
    SignalRow("USR2", "n", "Start a new master beside this one; both serve"),
    SignalRow("TERM", "t", "Stop the server; finish the requests in flight", danger=True),
    SignalRow("INT", "c", "Stop the server at once", danger=True),
    SignalRow("QUIT", "q", "Stop the server at once", danger=True),
)

WORKER_SIGNALS = (
    SignalRow("TERM", "t", "Finish the requests in flight, then exit"),
    SignalRow("QUIT", "q", "Exit at once, breaking off requests in flight", danger=True),
    SignalRow("USR1", "u", "For an application that listens to it; else nothing"),
    SignalRow("ABRT", "a", "Log the traceback of every thread, then die", danger=True),
    SignalRow("KILL", "k", "Die on the spot, cleaning up nothing", danger=True),
    SignalRow("quarantine", "z", "Accept nothing, stay to be looked at"),
    SignalRow("release", "r", "End its quarantine: serve again"),
    SignalRow("retire", "e", "Finish and end, once a successor serves"),
)

_FITTING: dict[str, frozenset[WorkerState]] = {
    "quarantine": frozenset(("idle", "busy", "stuck")),
    "release": frozenset(("quarantined",)),
    "retire": frozenset(("booting", "idle", "busy", "stuck", "quarantined")),
}
"""In which states of a worker an order for it can make sense."""


def misfit(name: str, state: WorkerState) -> str:
    """Why an order for a worker makes no sense in its state, '' if it does. Signals always do."""
    fitting = _FITTING.get(name)
    if fitting is None or state in fitting:
        return ""
    if name == "release":
        return "it is not in quarantine"
    return {"quarantined": "it is in quarantine already", "booting": "it does not serve yet"}.get(
        state, "it retires already"
    )


def fitting(state: WorkerState) -> tuple[SignalRow, ...]:
    """The rows of the signal menu for a worker in this state."""
    return tuple(row for row in WORKER_SIGNALS if not misfit(row.name, state))


def hindrance(method: str, role: Role | None, offered: Collection[str]) -> str:
    """Why this client cannot call a method of this server, '' if it can. ``offered`` are the methods that
    the server named when it was connected; nothing: not known yet.
    """
    if role == "viewer" and METHODS[method].role == "operator":
        return "for operators; you are a viewer here (connect as its user)"
    if offered and method not in offered:
        return "not offered by this server: it is another version, or keeps it from you"
    return ""
