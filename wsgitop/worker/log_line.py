"""A line of the access log: the format compiled into one function that makes the bytes of a line.

The function is generated as source text, once. Only names and expressions of this module get into that text;
what a user has written into the format (literals, names of headers) is either quoted by ``repr`` or handed
over as a constant.

Text from outside must not forge a line or a field, nor steer the terminal of a reader, so whatever is not
printable ASCII is escaped, and so are quotes and backslashes. To look at each text costs more than to make
the line, and nearly all are harmless. So the line is first made as if they were, and checked as a whole: what
of it is not plain must be exactly what the format's own literals have put there. Only if there is more, it is
made again with each text escaped.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from wsgitop.http.head import Request
from wsgitop.settings.log_format import JSON, Directive, parse_format
from wsgitop.wsgi.environ import PROTOCOLS
from wsgitop.wsgi.proxies import environ_key
from wsgitop.wsgi.response import Response

Line = Callable[[Request, Response, Mapping[str, object], str, int], bytes]
"""Of request, response, environ, client ('' on a unix socket) and nanoseconds, a line with its end."""

_PLAIN: Final = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NUMBER_BYTES: Final = 24  # what a number or a time takes at most, and a little more


_ESCAPES: Final = str.maketrans(
    {chr(code): f"\\x{code:02x}" for code in range(0x100) if code not in _PLAIN} | {'"': '\\"', "\\": "\\\\"}
)


def quoted(text: str) -> str:
    """Printable ASCII as it is, quotes and backslashes with a backslash, everything else of latin-1 as \\xNN,
    which is one byte as it came.
    """
    return text.translate(_ESCAPES)


def json_quoted(text: str) -> str:
    """The inside of a JSON string, in ASCII."""
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f")


class _Style(NamedTuple):
    """How texts are escaped. ``longest`` is what a character of latin-1 takes at most."""

    quote: Callable[[str], str]
    space: str
    longest: int


_TEXT_STYLE: Final = _Style(quoted, "\\x20", 4)
_JSON_STYLE: Final = _Style(json_quoted, "\\u0020", 6)


class _Atom(NamedTuple):
    """``source`` is an expression. ``outside``: a text that is not ours, to be escaped. ``no_space``: one
    that has no quotes around it in the formats of this world.
    """

    source: str
    outside: bool = False
    no_space: bool = False


_ATOMS: Final = {
    "h": _Atom('client or "-"', outside=True),
    "u": _Atom('user(fields) or "-" if "HTTP_AUTHORIZATION" in fields else "-"', outside=True, no_space=True),
    "t": _Atom("shown[1]"),
    "r": _Atom('f"{asked.method} {asked.target} {PROTOCOLS[asked.minor]}"', outside=True),
    "s": _Atom("response.status"),
    "m": _Atom("asked.method", outside=True),
    "U": _Atom("asked.path", outside=True),
    "q": _Atom("asked.query", outside=True),
    "H": _Atom("PROTOCOLS[asked.minor]"),
    "b": _Atom("response.body_bytes"),
    "B": _Atom("response.body_bytes"),
    "f": _Atom('fields.get("HTTP_REFERER", "-")', outside=True),
    "a": _Atom('fields.get("HTTP_USER_AGENT", "-")', outside=True),
    "T": _Atom("elapsed_ns // 1000000000"),
    "M": _Atom("elapsed_ns // 1000000"),
    "D": _Atom("elapsed_ns // 1000"),
    "L": _Atom('f"{elapsed_ns // 1000 / 1e6:.6f}"'),
    "i": _Atom('fields.get(NAME, "-")', outside=True),
    "o": _Atom("response_header(response.headers, NAME)", outside=True),
    "e": _Atom("variable(environ, NAME)", outside=True),
}

_TARGET: Final = _Atom("asked.target", outside=True)

_JSON_FIELDS: Final = {
    "time": _Atom('"%s.%03dZ" % (shown[2], now % 1 * 1000)'),
    "client": _Atom("client", outside=True),
    "user": _Atom('user(fields) if "HTTP_AUTHORIZATION" in fields else ""', outside=True),
    "method": _Atom("asked.method", outside=True),
    "path": _Atom('asked.target.partition("?")[0]', outside=True),
    "query": _Atom("asked.query", outside=True),
    "protocol": _Atom("PROTOCOLS[asked.minor]"),
    "host": _Atom('fields.get("HTTP_HOST", "")', outside=True),
    "status": _Atom("response.status"),
    "received_bytes": _Atom("request.received_bytes"),
    "sent_bytes": _Atom("response.sent_bytes"),
    "body_bytes": _Atom("response.body_bytes"),
    "elapsed_s": _ATOMS["L"],
    "referer": _Atom('fields.get("HTTP_REFERER", "")', outside=True),
    "user_agent": _Atom('fields.get("HTTP_USER_AGENT", "")', outside=True),
    "forwarded_for": _Atom('fields.get("HTTP_X_FORWARDED_FOR", "")', outside=True),
}
JSON_FIELDS: Final = (*_JSON_FIELDS, "pid")
"""Names of the fields of a JSON line, in order."""
_JSON_NUMBERS: Final = frozenset(("status", "received_bytes", "sent_bytes", "body_bytes", "elapsed_s"))


class _Slot(NamedTuple):
    """A place in the line for an atom's value."""

    atom: _Atom
    part: Directive | None = None


def compile_line(text: str, limit_bytes: int = 0) -> Line:
    """The function for a format. With ``limit_bytes`` texts are shortened so that no line is longer than that
    (a lower limit than 2,000 may not be reached). Raises ConfigError.
    """
    parts, style = _json_parts() if text == JSON else _text_parts(text)
    return _generate(parts, style, limit_bytes)


def _json_parts() -> tuple[list[str | _Slot], _Style]:
    parts: list[str | _Slot] = []
    before = "{"
    for name, atom in _JSON_FIELDS.items():
        mark = "" if name in _JSON_NUMBERS else '"'
        parts += [f'{before}"{name}":{mark}', _Slot(atom)]
        before = f"{mark},"
    return [*parts, f'{before}"pid":{os.getpid()}}}\n'], _JSON_STYLE


def _text_parts(text: str) -> tuple[list[str | _Slot], _Style]:
    # Formats that spell a JSON object are in use; an \xNN in it would be no JSON.
    style = _JSON_STYLE if text.lstrip().startswith("{") else _TEXT_STYLE
    found = ["", *parse_format(text.encode("utf-8", "backslashreplace").decode() + "\n")]
    parts: list[str | _Slot] = []
    for before, part, after in zip(found[:-1], found[1:], [*found[2:], ""], strict=True):
        parts += _slots(part, before, after) if isinstance(part, Directive) else [part]
    return parts, style


def _slots(part: Directive, before: str | Directive, after: str | Directive) -> list[str | _Slot]:
    if part.atom == "r" and part.plain:
        # In three, so that they are not put together twice.
        return [_Slot(_ATOMS["m"]), " ", _Slot(_TARGET), " ", _Slot(_ATOMS["H"])]
    if part.atom in ("l", "p"):
        text = "-" if part.atom == "l" else f"<{os.getpid()}>"
        return [text if part.plain else _Slot(_Atom(repr(text)), part)]
    atom = _ATOMS[part.atom]
    # A field that spaces separate from the next must have none: "%(m)s %(U)s %(H)s".
    begins = isinstance(before, str) and (not before or before[-1].isspace())
    if begins and isinstance(after, str) and after[:1] == " " and part.atom != "h":
        atom = atom._replace(no_space=atom.outside)
    return [_Slot(atom, part)]


def _generate(parts: list[str | _Slot], style: _Style, limit_bytes: int) -> Line:
    literals = "".join(part for part in parts if isinstance(part, str))
    constants: dict[str, object] = {
        "PROTOCOLS": PROTOCOLS,
        "PLAIN": _PLAIN,
        "EXPECTED": literals.encode().translate(None, _PLAIN),
        "SPACE": style.space,
        "clip": clip,
        "clock": _Clock(),
        "quote": style.quote,
        "response_header": response_header,
        "time": time.time,
        "user": user,
        "variable": variable,
    }
    clip_length = _clip_length(parts, style, limit_bytes) if limit_bytes else 0
    take, escape, pieces = [], [], []
    doubts = ["data.translate(None, PLAIN) != EXPECTED"]
    for number, part in enumerate(parts):
        if isinstance(part, str):
            pieces.append(repr(part))
            continue
        value = f"v{number}"
        take.append(f"{value} = {_source(part, number, clip_length, constants)}")
        if part.atom.outside:
            spaces = '.replace(" ", SPACE)' if part.atom.no_space else ""
            escape.append(f"{value} = quote({value}){spaces}")
            if spaces:
                doubts.append(f'" " in {value}')
        if part.part is not None and part.part.spec:
            constants[f"SPEC{number}"] = part.part.spec
            shown = f"w{number}"
            form = f"{shown} = SPEC{number} % ({value},)"
            take.append(form)
            escape.append(form)
            value = shown
        pieces.append(f'f"{{{value}}}"')
    make = f"data = ({' '.join(pieces)}).encode()"
    body = [
        "now = time()",
        "shown = clock.shown",
        "if not 0.0 <= now - shown[0] < 1.0:",
        "    shown = clock.turn(now)",
        "fields = request.fields",
        "asked = request.line",
        *take,
        make,
        f"if {' or '.join(doubts)}:",
        *(f"    {line}" for line in [*escape, make]),
        "return data",
    ]
    text = "\n    ".join(["def line(request, response, environ, client, elapsed_ns):", *body])
    exec(compile(text, "<access log format>", "exec"), constants)
    line: Line = constants["line"]  # type: ignore[assignment]
    return line


def _source(slot: _Slot, number: int, clip_length: int, constants: dict[str, object]) -> str:
    """The expression for a value; names in it that are this value's alone end in its ``number``."""
    source = slot.atom.source
    part = slot.part
    if part is not None and "NAME" in source:
        constants[f"NAME{number}"] = environ_key(part.name) if part.atom == "i" else part.name
        source = source.replace("NAME", f"NAME{number}")
    if part is not None and part.cut is not None:
        source = f"str({source})[:{part.cut}]"
    if part is not None and part.call != "str":
        source = f"{part.call}({source})"
    if slot.atom.outside and clip_length:
        source = f"clip({source}, {clip_length})"
    return source


def _clip_length(parts: list[str | _Slot], style: _Style, limit_bytes: int) -> int:
    """How many characters of each outside text fit into a line, whatever they are."""
    slots = [part for part in parts if isinstance(part, _Slot)]
    outside = [slot for slot in slots if slot.atom.outside]
    fixed = sum(len(part.encode()) for part in parts if isinstance(part, str)) + _NUMBER_BYTES * len(slots)
    return max(16, (limit_bytes - fixed) // (max(1, len(outside)) * style.longest))


def clip(text: str, length: int) -> str:
    """At most ``length`` characters of a text, with dots where some are missing."""
    return text if len(text) <= length else text[: length - 3] + "..."


class _Clock:
    """The time as it is shown: (the second, local time as the common log format has it, UTC as RFC 3339 has
    it without its fraction), rendered once per second.

    Threads may turn it at the same time: what they share is one tuple.
    """

    __slots__ = ("shown",)

    def __init__(self) -> None:
        self.shown = (-1, "", "")

    def turn(self, now_s: float) -> tuple[int, str, str]:
        """Render another second, and return it."""
        second = int(now_s)
        local = time.localtime(second)
        east = local.tm_gmtoff // 60
        zone = f"{'-' if east < 0 else '+'}{abs(east) // 60:02d}{abs(east) % 60:02d}"
        # Not strftime: an application may have set a locale, and months have one name in a log.
        day = f"{local.tm_mday:02d}/{_MONTHS[local.tm_mon - 1]}/{local.tm_year}"
        text = f"[{day}:{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d} {zone}]"
        self.shown = shown = second, text, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return shown


def user(fields: Mapping[str, str]) -> str:
    """The user name of Basic authentication (RFC 7617), '' if there is none."""
    scheme, _, credentials = fields["HTTP_AUTHORIZATION"].partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        name = base64.b64decode(credentials.strip()).partition(b":")[0]
    except (binascii.Error, ValueError):
        return ""
    return name.decode("latin-1")


def response_header(headers: Iterable[tuple[str, str]], name: str) -> str:
    """The last header of that name among those that the application gave, or -.

    The list is the application's own, which may have put anything into it since.
    """
    wanted = name.lower()
    found: object = "-"
    try:
        for key, value in headers:
            if key.lower() == wanted:
                found = value
    except (AttributeError, TypeError, ValueError):
        return "-"
    return _latin(found) if isinstance(found, str) else "-"


def variable(environ: Mapping[str, object], name: str) -> str:
    """A variable of environ, in whatever case its name is spelled, or -.

    An application may put anything there; what is neither text nor a number is not called upon.
    """
    value = environ.get(name)
    if value is None:
        wanted = name.lower()
        keys = [key for key in list(environ) if isinstance(key, str) and key.lower() == wanted]
        value = environ.get(keys[-1]) if keys else None
    return _latin(str(value)) if isinstance(value, (str, int, float)) else "-"


def _latin(text: str) -> str:
    """As all text of WSGI should be."""
    return text if text.isascii() else text.encode("latin-1", "backslashreplace").decode("latin-1")
