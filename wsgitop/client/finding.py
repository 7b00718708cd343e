"""From what a user writes to a control socket of this machine."""

from __future__ import annotations

from collections.abc import Mapping

from wsgitop.control.runtime_dir import Found, discover
from wsgitop.errors import CannotConnect, ControlSocketError, UsageError
from wsgitop.snapshot import printable
from wsgitop.transport.target import Target, parse_target

FORMS_HERE = "Give the path of its control socket, its master's pid, or the name of its application."


def find(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The path of the control socket that a target names. Raises UsageError, CannotConnect."""
    target = parse_target(text)
    if not isinstance(target, Target):
        raise UsageError("only a server of this machine can be meant here", FORMS_HERE)
    if target.kind == "path":
        return target.value
    masters = running(environ)
    if target.kind == "pid":
        fitting = [master for master in masters if master.pid == int(target.value)]
    else:
        fitting = [master for master in masters if target.value in _names(master)]
    if len(fitting) == 1:
        return fitting[0].control
    if fitting:
        raise CannotConnect(
            f"{len(fitting)} running servers are called {text!r}: {_listed(fitting)}", "Name one by its pid."
        )
    what = (
        f"no master of yours has pid {target.value}"
        if target.kind == "pid"
        else f"no running server is called {text!r}"
    )
    raise CannotConnect(what, f"Running: {_listed(masters)}." if masters else "None of yours is running.")


def running(environ: Mapping[str, str] | None = None) -> list[Found]:
    """This user's running masters. Raises CannotConnect if the runtime directory cannot be believed."""
    try:
        return discover(environ)
    except ControlSocketError as error:
        raise CannotConnect(error.cause, error.remedy) from None
    except OSError as error:
        raise CannotConnect(f"the runtime directory cannot be read: {error.strerror}") from None


def _names(master: Found) -> tuple[str, ...]:
    return (master.name, master.app, master.app.partition(":")[0])


def _listed(masters: list[Found]) -> str:
    return ", ".join(f"{master.pid} ({printable(master.name, 60)})" for master in masters)
