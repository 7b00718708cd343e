"""The orders of ``wsgitop ctl``: each returns when it is done, with its outcome."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import click

from wsgitop.cli.ctl.connecting import as_json, connect, print_json
from wsgitop.client import Client
from wsgitop.control.messages import Outcome
from wsgitop.errors import UsageError
from wsgitop.snapshot import Event, printable

RELOAD_STEPS = frozenset(
    {"reload", "loaded", "ready", "serving", "retired", "died", "listening", "back", "config", "superseded"}
)
"""Kinds of events that a terminal shows while it waits for a reload."""


_AMOUNT = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9]{1,6})")


def _order(context: click.Context, give: Callable[[Client], Outcome]) -> int:
    with connect(context) as client:
        outcome = give(client)
    if as_json(context):
        print_json(outcome)
    else:
        click.echo(f"{printable(outcome.text, 500)} ({outcome.elapsed_s:.1f} s)")
    return 0


def reload(context: click.Context) -> int:
    """Load the code again and replace the workers one by one (HUP)."""
    if as_json(context) or not sys.stderr.isatty():
        return _order(context, lambda client: client.reload(key=context.params["key"]))
    return _order(context, lambda client: client.reload_watched(_tell_step, key=context.params["key"]))


def _tell_step(event: Event) -> None:
    if event.kind in RELOAD_STEPS:
        click.echo(f"  {printable(event.text, 500)}", err=True)


def scale(context: click.Context) -> int:
    """Set the number of workers (4), or change it (+1, -1)."""
    amount = context.params["amount"]
    match = _AMOUNT.fullmatch(amount)
    if match is None:
        raise UsageError(
            f"scale: {amount!r} is not a number of workers", "Give 4 to have four, +1 or -1 to change it."
        )
    number = int(match["sign"] + match["number"])
    if match["sign"]:
        return _order(context, lambda client: client.scale(change=number, key=context.params["key"]))
    return _order(context, lambda client: client.scale(workers=number, key=context.params["key"]))


def loglevel(context: click.Context) -> int:
    """Log from this severity on, in all processes: debug, info, warning, error or critical.

    Until the next start, or a reload that changes the setting itself.
    """
    return _order(context, lambda client: client.loglevel(context.params["level"]))


def reopen(context: click.Context) -> int:
    """Open the log files again, behind their rotation (USR1)."""
    return _order(context, lambda client: client.reopen())


def signal(context: click.Context) -> int:
    """Send a signal to the master, or to one worker.

    Master: HUP, TTIN, TTOU, TERM, INT, QUIT, USR1, USR2. Worker: TERM, QUIT, INT, ABRT, KILL, USR1.
    """
    name, worker = context.params["name"], context.params["worker"]
    return _order(context, lambda client: client.signal(name, pid=worker))


def quarantine(context: click.Context) -> int:
    """Put one worker aside: it accepts nothing and stays to be looked at; another takes its place."""
    return _order(context, lambda client: client.quarantine(context.params["pid"]))


def release(context: click.Context) -> int:
    """Let a worker that is in quarantine serve again."""
    return _order(context, lambda client: client.release(context.params["pid"]))


def retire(context: click.Context) -> int:
    """Have one worker finish its requests and end; another takes its place."""
    return _order(context, lambda client: client.retire(context.params["pid"]))


def cancel(context: click.Context) -> int:
    """Cut one request: its client gets an answer 503, or an end if the answer has begun.

    The thread cannot be stopped: the application goes on until it has something to say. If it has not come
    back after ten seconds its worker is replaced. With --request no later request of the thread can be hit.
    """
    params = context.params
    return _order(
        context, lambda client: client.cancel(params["pid"], params["thread"], request=params["request"])
    )


def upgrade(context: click.Context) -> int:
    """Hand over to a new master, of what is on disk, without losing a request (USR2).

    For a new version of wsgitop or of Python, and for settings that a reload cannot change. If the new master
    does not come up, the old one goes on, and the reason is told.
    """
    return _order(context, lambda client: client.upgrade(key=context.params["key"]))


def stop(context: click.Context) -> int:
    """Stop the server (TERM)."""
    return _order(context, lambda client: client.stop(quick=context.params["quick"]))
