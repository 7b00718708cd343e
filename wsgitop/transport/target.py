"""What a user writes to name a server: a socket's path, a pid, a name, or a way to another machine.

Pure text; finding and connecting is the client's business. A target may come from a file or a link, so all of
it is taken as hostile: nothing of an ``ssh://`` target can become an option of ssh, and its parts hold no
character that a shell would act on (ssh hands host and user to the shell where the user's own configuration
has a ProxyCommand). Source of the form: RFC 3986, section 3, as curl, git and ssh itself read it.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from wsgitop.errors import UsageError

FORMS = (
    "Give the path of a control socket, a master's pid, the name of its application, "
    "ssh://[USER@]HOST[:PORT], or exec:COMMAND."
)
SSH_FORM = "The form is ssh://[USER@]HOST[:PORT][/PATH/OF/THE/SOCKET], with an IPv6 address in brackets."
EXEC_FORM = "For example: exec:docker exec -i shop wsgitop relay"
_TCP = re.compile(r"(tcp|https?)://.*|\[[0-9a-fA-F:.]*\]:[0-9]+|[\w.-]*:[0-9]+")
_HOST = re.compile(r"[\w.][\w.-]{0,252}")
_USER = re.compile(r"[\w.+][\w.+@-]{0,127}")
_ZONE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Target(NamedTuple):
    """A server of this machine: ``value`` is an absolute or relative path, the digits of a pid, or a name."""

    kind: Literal["path", "pid", "name"]
    value: str


class SshTarget(NamedTuple):
    """A server of another machine. ``user`` '' and ``port`` 0: what ssh takes; ``server``: the socket's
    absolute path there, a pid or a name, '' for the only one.
    """

    host: str
    user: str = ""
    port: int = 0
    server: str = ""


class ExecTarget(NamedTuple):
    """A command that speaks the control protocol over its standard input and output."""

    words: tuple[str, ...]


def parse_target(text: str) -> Target | SshTarget | ExecTarget:
    """``PATH``, ``unix:PATH``, ``PID``, ``NAME``, ``ssh://…`` or ``exec:COMMAND``. Raises UsageError."""
    value = text.strip()
    if not value or "\0" in value:
        raise UsageError("the target is empty", FORMS)
    if value.startswith("ssh://"):
        return _ssh_target(value.removeprefix("ssh://"))
    if value.startswith("exec:"):
        return _exec_target(value.removeprefix("exec:"))
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path:
            raise UsageError(f"{text!r} names no path", FORMS)
        return Target("path", path)
    if _TCP.fullmatch(value):
        raise UsageError(
            f"{value} is a network address: there is no control over plain TCP, which knows no user",
            "Use ssh://HOST instead.",
        )
    if value.isascii() and value.isdecimal():
        return Target("pid", value)
    if "/" in value or value.endswith(".sock"):
        return Target("path", value)
    return Target("name", value)


def is_remote(text: str) -> bool:
    """Whether a target is reached through another program."""
    return text.strip().startswith(("ssh://", "exec:"))


def _exec_target(command: str) -> ExecTarget:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"the command of an exec: target cannot be read: {error}", EXEC_FORM) from None
    if not words or not words[0]:
        raise UsageError("exec: without a command", EXEC_FORM)
    return ExecTarget(tuple(words))


def _ssh_target(rest: str) -> SshTarget:
    # What is wrong is told without the text itself: it may hold a password.
    if "?" in rest or "#" in rest:
        raise UsageError("an ssh target has no query and no fragment", "Write ? as %3F and # as %23.")
    authority, _, path = rest.partition("/")
    user, at, place = authority.rpartition("@")
    if ":" in user:
        raise UsageError(
            "an ssh target holds no password: whoever lists the processes would read it",
            "Use a key or an agent; from a terminal, ssh asks for the password itself.",
        )
    user = _decoded(user)
    if at and not _USER.fullmatch(user):
        raise UsageError(
            "the user of the ssh target has characters that a user's name has not", f"{SSH_FORM} Or set User "
            "in your ssh configuration."
        )  # fmt: skip
    host, port = _place(place)
    return SshTarget(host, user, port, _server(_decoded(path)))


def _place(place: str) -> tuple[str, int]:
    """Host and port."""
    if place.startswith("["):
        address, bracket, behind = place[1:].partition("]")
        host = _decoded(address)
        if not bracket or not _is_ipv6(host) or (behind and not behind.startswith(":")):
            raise UsageError("the ssh target has no IPv6 address in its brackets", SSH_FORM)
        colon, port = behind[:1], behind[1:]
    else:
        host, colon, port = place.partition(":")
        host = _decoded(host)
        if ":" in port:
            raise UsageError("the ssh target has several colons behind its host", SSH_FORM)
        if not host:
            raise UsageError("the ssh target names no host", SSH_FORM)
        if not _HOST.fullmatch(host):
            raise UsageError("the host of the ssh target has characters that a host's name has not", SSH_FORM)
    if not colon:
        return host, 0
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise UsageError("the port of the ssh target is no number from 1 to 65535", SSH_FORM)
    return host, int(port)


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    if percent and not _ZONE.fullmatch(zone):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def _server(path: str) -> str:
    """From the path of an ssh target to what the relay is asked for."""
    if not path.isprintable():
        raise UsageError("the path of the ssh target has control characters", SSH_FORM)
    path = path.lstrip("/")
    # As here, one word names a server by its pid or by its application.
    return f"/{path}" if "/" in path or path.endswith(".sock") else path


def _decoded(text: str) -> str:
    """Without percent-encoding. Raises UsageError."""
    try:
        if _BAD_ESCAPE.search(text):
            raise ValueError
        return unquote_to_bytes(text).decode()
    except ValueError:
        raise UsageError("the ssh target has a % that begins no encoded character", SSH_FORM) from None
