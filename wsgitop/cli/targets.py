"""Which server is meant when none is named: the only one, or the one that is chosen. Where it is by now."""

from __future__ import annotations

import contextlib
import sys

import click

from wsgitop.client import running
from wsgitop.control.runtime_dir import Found
from wsgitop.errors import CannotConnect
from wsgitop.snapshot import printable


def only_one() -> str:
    """The control socket of the only running server; nobody is asked. Raises CannotConnect."""
    return choose(may_ask=False)


def choose(*, may_ask: bool = True) -> str:
    """The control socket of the only running server, or of the one that the user picks, where there is a
    terminal to ask at and ``may_ask`` allows it.

    Raises CannotConnect.
    """
    masters = running()
    if not masters:
        raise CannotConnect(
            "no server of yours is running",
            "Start one with `wsgitop serve APP` or `wsgitop run APP`, or name its control socket.",
        )
    if len(masters) == 1:
        return masters[0].control
    if not (may_ask and sys.stdin.isatty() and sys.stderr.isatty()):
        listed = "; ".join(_line(master) for master in masters)
        pid = masters[0].pid
        raise CannotConnect(
            f"{len(masters)} servers are running: {listed}",
            f"Name one, for example by its pid: `wsgitop attach {pid}`, `wsgitop ctl -s {pid} status`, "
            f"or ssh://HOST/{pid} from elsewhere.",
        )
    for number, master in enumerate(masters, 1):
        click.echo(f"  {number}  {_line(master)}", err=True)
    chosen: int = click.prompt("Which one", type=click.IntRange(1, len(masters)), default=1, err=True)
    return masters[chosen - 1].control


def remote_command_option() -> click.Option:
    """--remote-command, of the commands that take a target."""
    return click.Option(
        ["--remote-command"],
        metavar="COMMAND",
        default="",
        help="With an ssh:// target: what to run there in place of `wsgitop`, for example "
        "/srv/venv/bin/wsgitop.",
    )


def may_ask_at_terminal() -> bool:
    """Whether ssh may ask for what it needs: somebody is there to answer."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()


def found_at(path: str) -> Found | None:
    """The running server of this user whose control socket is ``path``, None if there is no telling."""
    with contextlib.suppress(CannotConnect):
        return next((master for master in running() if master.control == path), None)
    return None


def whereabouts(path: str, known: Found | None) -> str:
    """The control socket now of the server that was at ``path``, described by ``known``.

    Without --control-socket a server that is started again has another path. What takes its place has its
    name, its application and its addresses, and began later; if that fits several, or none, the path stays.
    """
    if known is None:
        return path
    try:
        masters = running()
    except CannotConnect:
        return path
    if any(master.control == path for master in masters):
        return path
    successors = [
        master
        for master in masters
        if master.started_at > known.started_at
        and (master.name, master.app, master.bind) == (known.name, known.app, known.bind)
    ]
    return successors[0].control if len(successors) == 1 else path


def _line(master: Found) -> str:
    bind = ", ".join(master.bind)
    return printable(f"{master.pid} {master.name}" + (f" at {bind}" if bind else ""), 120)
