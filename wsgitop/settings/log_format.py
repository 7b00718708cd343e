"""The format of the access log, read: gunicorn's syntax and atoms, and the word ``json``.

Pure, and here rather than with the code that writes lines, so that a mistake is refused when the settings are
read and not by each worker that is to start.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from wsgitop.errors import ConfigError

JSON: Final = "json"
"""The format that is a word: one JSON object per line, with fields of our choice."""

ATOMS: Final = tuple("hlutrmUqHsBbfaTMDLp")
"""gunicorn's atoms of one letter; docs/access-log.md says what they are."""
NUMBERS: Final = frozenset("BTMD")
"""Atoms that conversions for numbers may be used with, such as %(D)08d."""

_DIRECTIVE = re.compile(
    r"%\((?:\{(?P<name>[^}]+)\}(?P<kind>[ioe])|(?P<atom>[^)]*))\)"
    r"(?P<flags>[#0\- +]*)(?P<width>[0-9]*)(?:\.(?P<precision>[0-9]*))?(?P<conversion>[sradiuoxXeEfFgG])|%%|%"
)
_CALLS: Final = {"s": "str", "r": "repr", "a": "ascii"}
_MAX_WIDTH: Final = 8192


class Directive(NamedTuple):
    """One %(…)s. ``atom`` is one of :data:`ATOMS`, or i, o, e with the ``name`` of a header or variable.

    ``cut`` is how much is shown of a text (its precision), ``call`` the function to be called with it: str,
    repr or ascii. ``spec`` is for the % operator where that is not all: flags and width and, for a number,
    precision and conversion.
    """

    atom: str
    name: str = ""
    cut: int | None = None
    call: str = "str"
    spec: str = ""

    @property
    def plain(self) -> bool:
        """The value is shown as it is."""
        return self.cut is None and self.call == "str" and not self.spec


def parse_format(text: str) -> tuple[str | Directive, ...]:
    """Literal texts and directives in turn; of two literals none follows the other. Raises ConfigError."""
    parts: list[str | Directive] = []
    literal = ""
    position = 0
    for match in _DIRECTIVE.finditer(text):
        literal += text[position : match.start()]
        position = match.end()
        if match[0] == "%%":
            literal += "%"
            continue
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(_directive(match))
    literal += text[position:]
    if literal:
        parts.append(literal)
    return tuple(parts)


def check_format(text: str) -> None:
    """Raises ConfigError for a format that cannot be."""
    if text != JSON:
        parse_format(text)


def _directive(match: re.Match[str]) -> Directive:
    if match[0] == "%":
        raise ConfigError(
            f"access_log_format: a lone % at {match.start()}",
            "Write %% for a percent sign, and %(…)s for an atom.",
        )
    atom = match["kind"] or match["atom"]
    if not match["kind"] and atom not in ATOMS:
        raise ConfigError(
            f"access_log_format: unknown atom {match[0]}",
            f"Known are {', '.join(ATOMS)}, {{name}}i, {{name}}o and {{name}}e.",
        )
    width, precision, conversion = match["width"], match["precision"], match["conversion"]
    cut = None if precision is None else int(precision[:5] or 0)
    if max(int(width[:5] or 0), cut or 0) > _MAX_WIDTH:
        raise ConfigError(f"access_log_format: {match[0]} is too wide", f"The most is {_MAX_WIDTH}.")
    if conversion in "sra":
        spec = f"%{match['flags']}{width}s" if width else ""
        return Directive(atom, match["name"] or "", cut, _CALLS[conversion], spec)
    if atom not in NUMBERS:
        raise ConfigError(
            f"access_log_format: {match[0]} asks for a number, and that is none",
            "Write s for its last letter.",
        )
    return Directive(atom, spec=match[0].replace(f"({atom})", "", 1))
