"""What a user writes to name a server: a socket's path, a pid, or a name.

Pure text; finding is the client's business.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from wsgitop.errors import UsageError

FORMS = "Give the path of a control socket, a master's pid, or the name of its application."
_TCP = re.compile(r"(tcp|https?)://.*|\[[0-9a-fA-F:.]*\]:[0-9]+|[\w.-]*:[0-9]+")
_LATER = ("ssh://", "exec:")


class Target(NamedTuple):
    """``value`` is an absolute or relative path, the digits of a pid, or a name."""

    kind: Literal["path", "pid", "name"]
    value: str


def parse_target(text: str) -> Target:
    """``PATH``, ``unix:PATH``, ``PID`` or ``NAME``. Raises UsageError."""
    value = text.strip()
    if not value or "\0" in value:
        raise UsageError("the target is empty", FORMS)
    for form in _LATER:
        if value.startswith(form):
            raise UsageError(
                f"{form} targets are not in this version",
                "Run the command on that machine, for example over ssh -t.",
            )
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path:
            raise UsageError(f"{text!r} names no path", FORMS)
        return Target("path", path)
    if _TCP.fullmatch(value):
        raise UsageError(
            f"{value} is a network address: there is no control over plain TCP, which knows no user",
            FORMS,
        )
    if value.isascii() and value.isdecimal():
        return Target("pid", value)
    if "/" in value or value.endswith(".sock"):
        return Target("path", value)
    return Target("name", value)
