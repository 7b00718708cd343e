r"""The cases of the front door: what a client sends, and what it gets. They are data: a bug report becomes
one more of them.

``cases/`` has the table by subject, ``cves/`` one file for each hole that other servers had. In a file

    = name                begins a case
    | value               stands for {} in the name, the bytes and the outcomes; several of them make as many
                          cases
    GET / HTTP/1.1\r\n    the bytes that are sent, lines joined, with the escapes \r \n \t \\ and \xNN
    *1000 text            the same, a thousand times
    -> GET /path body     what comes of it: a request that gets to the application, target and body as sent;
    + HTTP_X=value        what its environ says,
    - HTTP_X              and what it must not have
    -> 400                a refusal; nothing behind it is answered
    # …                   a comment; what begins like one of these is written with an escape

A case without an outcome is not complete, and nothing is wrong so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([rnt\\]))")
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}


class Outcome(NamedTuple):
    """What comes of a message: ``line`` is "POST /target body" or a status; the rest is about its environ."""

    line: str
    environ: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()


class Case(NamedTuple):
    """``name`` begins with the file's."""

    name: str
    data: bytes
    outcomes: tuple[Outcome, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The outcomes in short."""
        return tuple(outcome.line for outcome in self.outcomes)


def unescape(text: str) -> str:
    """Resolve the escapes; a character stands for the byte of its number."""
    assert "\\" not in _ESCAPE.sub("", text), text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _PLAIN[match[2]], text)


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a file."""
    blocks: list[list[str]] = []
    for line in path.read_text(encoding="ascii").split("\n"):
        if line.startswith("= "):
            blocks.append([line])
        elif line and not line.startswith("# "):
            blocks[-1].append(line)
    for first, *rest in blocks:
        values = [line[2:] for line in rest if line.startswith("| ") or line == "|"]
        lines = [line for line in rest if not line.startswith("|")]
        assert bool(values) == ("{}" in "".join(lines)), first
        for value in values or [""]:
            filled = [line.replace("{}", value) for line in lines]
            yield _case(f"{path.stem}: {first[2:].replace('{}', value)}", filled)


def _case(name: str, lines: list[str]) -> Case:
    data: list[str] = []
    outcomes: list[Outcome] = []
    for line in lines:
        if line.startswith("-> "):
            outcomes.append(Outcome(unescape(line[3:])))
        elif line.startswith("+ "):
            key, _, value = line[2:].partition("=")
            last = outcomes[-1]
            outcomes[-1] = last._replace(environ=(*last.environ, (key, unescape(value))))
        elif line.startswith("- "):
            last = outcomes[-1]
            outcomes[-1] = last._replace(absent=(*last.absent, line[2:]))
        else:
            assert not outcomes, f"{name}: {line} stands behind an outcome"
            repeated = re.fullmatch(r"\*(\d+) (.*)", line)
            data.append(unescape(repeated[2]) * int(repeated[1]) if repeated else unescape(line))
    return Case(name, "".join(data).encode("latin-1"), tuple(outcomes))


def _read_all(directory: str) -> tuple[Case, ...]:
    return tuple(case for path in sorted((HERE / directory).glob("*.http")) for case in read_cases(path))


TABLE = _read_all("cases")
CVES = _read_all("cves")
ALL = TABLE + CVES
