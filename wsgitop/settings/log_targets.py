"""Where log lines and figures are sent: the addresses of syslog and statsd as gunicorn takes them, parsed
once into plain data. No sockets here.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from wsgitop.errors import ConfigError

SYSLOG_PORT = 514
STATSD_PORT = 8125

FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "security": 4, "syslog": 5, "lpr": 6, "news": 7,
    "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18, "local3": 19,
    "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
"""Names of RFC 3164's facilities, and their numbers."""

_SYSLOG_REMEDY = "Write udp://HOST:PORT, tcp://HOST:PORT or unix://PATH."
_STATSD_REMEDY = "Write HOST:PORT or unix://PATH."
_TAGS = re.compile(r"[^\s|#\x00-\x1f\x7f]*")


class Target(msgspec.Struct, frozen=True):
    """Where to send. ``kinds`` are to be tried in this order; ``path`` is for unix sockets, else ``host`` and
    ``port`` count.
    """

    family: Literal["inet", "unix"]
    kinds: tuple[Literal["dgram", "stream"], ...]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.family == "unix":
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_syslog_address(text: str) -> Target:
    """``udp://HOST:PORT``, ``tcp://HOST:PORT``, ``unix://PATH``, ``unix://PATH#dgram``,
    ``unix://PATH#stream``; host and port may be left out. Raises ConfigError.

    As in gunicorn a unix socket of no certain kind is tried as both, datagrams first.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme not in ("udp", "tcp", "unix"):
        raise ConfigError(f"syslog_addr: {text!r} is no address of syslog", _SYSLOG_REMEDY)
    if scheme == "unix":
        path, _, kind = rest.partition("#")
        if not path or kind not in ("", "dgram", "stream"):
            raise ConfigError(f"syslog_addr: {text!r} is no unix socket", "Write unix://PATH#dgram.")
        if kind == "dgram":
            return Target("unix", ("dgram",), path=path)
        return Target("unix", ("stream", "dgram") if kind else ("dgram", "stream"), path=path)
    host, port = _host_and_port("syslog_addr", rest, SYSLOG_PORT, _SYSLOG_REMEDY)
    return Target("inet", ("dgram" if scheme == "udp" else "stream",), host or "localhost", port)


def parse_statsd_host(text: str) -> Target | None:
    """``HOST:PORT``, ``HOST`` or ``unix://PATH``; None for the empty text. Raises ConfigError."""
    value = text.strip()
    if not value:
        return None
    if value.startswith("unix:"):
        path = value.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ConfigError(f"statsd_host: {text!r} names no path", _STATSD_REMEDY)
        return Target("unix", ("dgram",), path=path)
    host, port = _host_and_port("statsd_host", value.removeprefix("udp://"), STATSD_PORT, _STATSD_REMEDY)
    if not host:
        raise ConfigError(f"statsd_host: {text!r} names no host", _STATSD_REMEDY)
    return Target("inet", ("dgram",), host, port)


def check_facility(name: str) -> None:
    """Raises ConfigError for what is no facility of syslog."""
    if name.lower() not in FACILITIES:
        raise ConfigError(
            f"syslog_facility: {name!r} is unknown", f"It is one of {', '.join(sorted(FACILITIES))}."
        )


def check_tags(tags: str) -> None:
    """Raises ConfigError for what would break a line to statsd."""
    if not _TAGS.fullmatch(tags) or not tags.isprintable():
        raise ConfigError(
            f"dogstatsd_tags: {tags!r} cannot be sent", "Write NAME:VALUE,NAME:VALUE without spaces, # and |."
        )


def _host_and_port(name: str, text: str, default: int, remedy: str) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{name}: {text!r} is no IPv6 address", "Write [ADDRESS]:PORT.")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        raise ConfigError(f"{name}: {text!r} is ambiguous", "Write an IPv6 address in brackets.")
    else:
        host, _, port = text.partition(":")
    if not port:
        return host.lower(), default
    if port.isascii() and port.isdecimal() and 0 < int(port) <= 65535:
        return host.lower(), int(port)
    raise ConfigError(f"{name}: {text!r} has no usable port: {port!r}", remedy)
