"""Bind addresses: the forms gunicorn takes, parsed once into plain data. No sockets here."""

from __future__ import annotations

from typing import Literal

import msgspec

from wsgitop.errors import ConfigError

DEFAULT_PORT = 8000


class Address(msgspec.Struct, frozen=True):
    """Where to listen. ``kind`` says which fields count: tcp and tcp6 ``host`` and ``port``, unix ``path``,
    fd ``fd``.
    """

    kind: Literal["tcp", "tcp6", "unix", "fd"]
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    def __str__(self) -> str:
        match self.kind:
            case "tcp":
                return f"{self.host}:{self.port}"
            case "tcp6":
                return f"[{self.host}]:{self.port}"
            case "unix":
                return f"unix:{self.path}"
            case "fd":
                return f"fd://{self.fd}"


def parse_address(text: str) -> Address:
    """``HOST:PORT``, ``HOST``, ``:PORT``, ``PORT``, ``[IPV6]:PORT``, ``unix:PATH``, ``fd://N``; host 0 means
    0.0.0.0.

    Raises ConfigError.
    """
    value = text.strip()
    if not value:
        raise ConfigError("bind: the address is empty", "Give HOST:PORT, [IPV6]:PORT or unix:PATH.")
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path:
            raise ConfigError(
                f"bind: {text!r} names no path", "Write unix:PATH, for example unix:/run/site.sock."
            )
        return Address("unix", path=path)
    if value.startswith("fd://"):
        number = value.removeprefix("fd://")
        if not number.isdecimal():
            raise ConfigError(f"bind: {text!r} names no descriptor", "Write fd://N with a number.")
        return Address("fd", fd=int(number))
    value = value.removeprefix("tcp://")
    if value.startswith("["):
        host, bracket, rest = value[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(
                f"bind: {text!r} is no IPv6 address", "Write [ADDRESS]:PORT, for example [::1]:8000."
            )
        return Address("tcp6", host=host or "::", port=_port(rest.removeprefix(":"), text))
    if value.count(":") > 1:
        raise ConfigError(
            f"bind: {text!r} is ambiguous", f"Write an IPv6 address in brackets: [{value}]:{DEFAULT_PORT}."
        )
    host, colon, port = value.partition(":")
    if not colon and host.isdecimal() and host != "0":
        return Address("tcp", host="127.0.0.1", port=_port(host, text))
    return Address("tcp", host="0.0.0.0" if host in ("0", "") else host, port=_port(port, text))


def _port(text: str, whole: str) -> int:
    if not text:
        return DEFAULT_PORT
    if text.isascii() and text.isdecimal() and 0 <= int(text) <= 65535:
        return int(text)
    raise ConfigError(f"bind: {whole!r} has no usable port: {text!r}", "A port is a number from 0 to 65535.")
