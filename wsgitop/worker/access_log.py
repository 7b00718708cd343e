"""The access log: gunicorn's format and atoms, compiled once into a list of functions; one write per line.

Whatever comes from outside is escaped, so that no request can forge a line or a field or steer the terminal
of a reader.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from wsgitop.errors import ConfigError
from wsgitop.http.head import Request
from wsgitop.logs.error_log import LOGGER
from wsgitop.wsgi.environ import PROTOCOLS, header_among, header_of
from wsgitop.wsgi.response import Response


class Entry(NamedTuple):
    """A finished request. ``elapsed_ns`` is from the call of the application to the end of the response.

    ``environ`` serves %({name}e)s only: an application may have changed or emptied it.
    """

    request: Request
    response: Response
    environ: Mapping[str, object]
    client: str
    elapsed_ns: int


Atom = Callable[[Entry], str]

_DIRECTIVE = re.compile(
    r"%\((?:\{(?P<name>[^}]+)\}(?P<kind>[ioe])|(?P<atom>[^)]*))\)(?P<conversion>[sdr])|%%|%"
)
_PLAIN_TEXT = re.compile(r"[ !#-\[\]-~]*")


def quoted(text: str) -> str:
    """Printable ASCII as it is, quotes and backslashes escaped, everything else as \\xNN of its latin-1
    bytes.
    """
    if _PLAIN_TEXT.fullmatch(text):
        return text
    return "".join(
        c if " " <= c <= "~" and c not in '"\\' else "\\" + c if c in '"\\' else f"\\x{b:02x}"
        for b, c in ((byte, chr(byte)) for byte in text.encode("latin-1", "replace"))
    )


def _or_dash(text: str | None) -> str:
    return quoted(text) if text else "-"


def _plain(value: object) -> str:
    """An application may put anything into environ; what is neither text nor a number is not called upon."""
    return _or_dash(str(value)) if isinstance(value, (str, int, float)) else "-"


def _user(entry: Entry) -> str:
    """The user name of Basic authentication (RFC 7617)."""
    scheme, _, credentials = entry.request.fields.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return "-"
    try:
        name = base64.b64decode(credentials.strip(), validate=True).partition(b":")[0]
    except (binascii.Error, ValueError):
        return "-"
    return _or_dash(name.decode("latin-1"))


class _Clock:
    """The local time as the common log format has it, rendered once per second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, entry: Entry) -> str:
        second = int(time.time())
        if second != self._second:
            self._text = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(second))
            self._second = second
        return self._text


_ATOMS: Final[dict[str, Atom]] = {
    "h": lambda e: e.client or "-",
    "l": lambda e: "-",
    "u": _user,
    "r": lambda e: quoted(f"{e.request.method} {e.request.target} {PROTOCOLS[e.request.minor]}"),
    "s": lambda e: str(e.response.status),
    "m": lambda e: e.request.method,
    "U": lambda e: _or_dash(e.request.path),
    "q": lambda e: quoted(e.request.query),
    "H": lambda e: PROTOCOLS[e.request.minor],
    "b": lambda e: str(e.response.body_bytes) if e.response.body_bytes else "-",
    "B": lambda e: str(e.response.body_bytes),
    "f": lambda e: _or_dash(e.request.fields.get("HTTP_REFERER")),
    "a": lambda e: _or_dash(e.request.fields.get("HTTP_USER_AGENT")),
    "T": lambda e: str(e.elapsed_ns // 1_000_000_000),
    "D": lambda e: str(e.elapsed_ns // 1000),
    "M": lambda e: str(e.elapsed_ns // 1_000_000),
    "L": lambda e: f"{e.elapsed_ns / 1e9:.6f}",
    "p": lambda e: f"<{os.getpid()}>",
}


def _named(kind: str, name: str) -> Atom:
    if kind == "i":
        return lambda e: _or_dash(header_of(e.request.fields, name))
    if kind == "o":
        return lambda e: _or_dash(header_among(e.response.headers, name))
    return lambda e: _plain(e.environ.get(name))


def compile_format(text: str) -> tuple[str, tuple[Atom, ...]]:
    """A template for ``%`` with as many ``%s`` as there are functions. Raises ConfigError for an atom that is
    not known.
    """
    atoms: list[Atom] = []
    clock = _Clock()

    def take(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%%"
        if match[0] == "%":
            raise ConfigError(
                f"access_log_format: a lone % at {match.start()}", "Write %% for a percent sign."
            )
        if match["name"]:
            atoms.append(_named(match["kind"], match["name"]))
            return "%s"
        atom = clock if match["atom"] == "t" else _ATOMS.get(match["atom"])
        if atom is None:
            raise ConfigError(
                f"access_log_format: unknown atom %({match['atom']})s",
                f"Known are t, {', '.join(_ATOMS)}, {{name}}i, {{name}}o and {{name}}e.",
            )
        atoms.append(atom)
        return "%s"

    return _DIRECTIVE.sub(take, text), tuple(atoms)


class AccessLog:
    """Writes lines to a descriptor, which :meth:`reopen` replaces under running threads.

    Raises ConfigError.
    """

    def __init__(self, fd: int, text: str) -> None:
        self._fd = fd
        self._template, self._atoms = compile_format(text)
        self._template += "\n"
        self._broken = False

    def write(
        self,
        request: Request,
        response: Response,
        environ: Mapping[str, object],
        client: str,
        elapsed_ns: int,
    ) -> None:
        """One line, with one write, so that lines of several processes do not mix."""
        entry = Entry(request, response, environ, client, elapsed_ns)
        line = self._template % tuple([atom(entry) for atom in self._atoms])
        try:
            os.write(self._fd, line.encode("utf-8", "backslashreplace"))
            self._broken = False
        except OSError as error:
            if not self._broken:
                self._broken = True
                LOGGER.error("Cannot write the access log: %s", error)

    def close(self) -> None:
        """Let go of the descriptor, in a process that the application forked."""
        os.close(self._fd)

    def reopen(self, fd: int) -> None:
        """Go on with another file. ``fd`` is taken over; the number in use stays the same, so no line is lost
        or split.
        """
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
