"""Why a program that should have reached a server has ended: from its exit status and its last words to a
cause and a next step. Pure.

Statuses: sshd and shells give 127 for a command that is not there and 126 for one that cannot be run; 255 is
ssh's own failure (ssh(1)); 3 and 4 are those of the relay.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence

from wsgitop.errors import CannotConnect, Refused, WsgitopError
from wsgitop.snapshot import printable
from wsgitop.transport.target import ExecTarget, SshTarget

SSH_ITSELF = 255
LINE_LIMIT = 300
_REPORT = re.compile(r"^wsgitop: (?P<cause>[^\r\n]+)\r?\n?(?:  (?P<remedy>\S[^\r\n]*))?", re.MULTILINE)
"""How a command of ours tells a fault."""


def label_of(target: SshTarget | ExecTarget) -> str:
    """How a message names the other side."""
    if isinstance(target, SshTarget):
        return target.host
    return printable(shlex.join(target.words), 60)


def why_lost(target: SshTarget | ExecTarget, status: int | None, said: str, *, greeted: bool) -> WsgitopError:
    """The fault for the end of the program, whose ``status`` is None if it closed its output and did not end.

    ``greeted``: the server had answered before.
    """
    report = _last_report(said)
    if report is not None and status is not None and 0 < status < SSH_ITSELF:
        return _as_reported(label_of(target), status, *report)
    if isinstance(target, SshTarget) and status == SSH_ITSELF:
        return _why_ssh_failed(target, said, greeted=greeted)
    where = label_of(target)
    last = _last_line(said)
    if status is not None and status < 0:
        name = "ssh" if isinstance(target, SshTarget) else f"the command {printable(target.words[0], 60)}"
        return CannotConnect(f"{name} was killed by {_signal_name(-status)}")
    if greeted:
        what = f"the connection to {where} was lost"
        return CannotConnect(
            f"{what}: {last}" if last else what, "The server may have ended; look at its log."
        )
    if status in (126, 127):
        return _no_program(target, last)
    ending = f"it ended with status {status}" if status is not None else "it closed its output"
    return CannotConnect(
        f"no server answers through {where}: " + (last or ending),
        "It must run `wsgitop relay` and leave standard input open (docker exec and kubectl exec: -i)."
        if isinstance(target, ExecTarget)
        else f"See what `ssh {where} wsgitop relay` says.",
    )


def _as_reported(where: str, status: int, cause: str, remedy: str) -> WsgitopError:
    cause = printable(cause, LINE_LIMIT)
    remedy = printable(remedy, LINE_LIMIT)
    if "relay" in cause and "No such command" in cause:
        return CannotConnect(f"the wsgitop at {where} is too old to be reached", "Update it there.")
    kind = Refused if status == Refused.exit_status else CannotConnect
    return kind(f"{where}: {cause}", remedy)


def _no_program(target: SshTarget | ExecTarget, last: str) -> CannotConnect:
    where = label_of(target)
    if isinstance(target, SshTarget):
        return CannotConnect(
            f"wsgitop cannot be run at {where}" + (f": {last}" if last else ""),
            "Name it as it is there: --remote-command /srv/venv/bin/wsgitop.",
        )
    return CannotConnect(f"{where} finds no program: {last}", "Give the path of wsgitop in the command.")


def _why_ssh_failed(target: SshTarget, said: str, *, greeted: bool) -> CannotConnect:
    host, last = target.host, _last_line(said)
    if "IDENTIFICATION HAS CHANGED" in said:
        return CannotConnect(
            f"the host key of {host} is not the one that ssh knows",
            f"Find out why before you trust the new one; `ssh {host}` says where the old one is kept.",
        )
    if "Host key verification failed" in said:
        return CannotConnect(
            f"ssh does not know the host key of {host}", f"Run `ssh {host}` once and compare the key."
        )
    if "Permission denied" in said:
        return CannotConnect(
            f"{host} does not let you in: {last}",
            "Without a terminal ssh asks for no password: use a key and an agent.",
        )
    what = f"the connection to {host} was lost" if greeted else f"ssh does not reach {host}"
    return CannotConnect(f"{what}: {last}" if last else what, f"See what `ssh {host} true` says.")


def _last_report(said: str) -> tuple[str, str] | None:
    found: Sequence[tuple[str, str]] = _REPORT.findall(said)
    return found[-1] if found else None


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return printable(lines[-1], LINE_LIMIT) if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
