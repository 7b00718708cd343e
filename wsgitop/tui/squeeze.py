"""The same picture in fewer bytes: colours are named only where they change.

Rich writes every piece of text with all its colours before it and a reset behind it, some forty bytes for a
figure of five. Over a slow line that is most of what a tick costs. Pure functions over what goes to the
terminal; what is not of Rich's making is left as it is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

SGR = re.compile("\x1b\\[([0-9;]*)m")
MOVES_ONLY = re.compile("(?:\x1b\\[\\d+;\\d+H|\n)*")
"""Draws nothing, so the colours do not matter."""
RESET = "\x1b[0m"


class Pen(NamedTuple):
    """How text is written: codes of SGR, '' for none. Source: ECMA-48, 8.3.117."""

    attributes: str = ""
    foreground: str = ""
    background: str = ""


PLAIN = Pen()


def squeezed(text: str) -> str:
    """What shows the same, from a terminal with a plain pen to one with a plain pen."""
    out: list[str] = []
    pen = wanted = PLAIN
    begin = 0
    for found in SGR.finditer(text):
        chunk = text[begin : found.start()]
        if chunk:
            pen = _put(out, chunk, pen, wanted)
        begin = found.end()
        codes = found[1]
        if codes in ("", "0"):
            wanted = PLAIN
        else:
            asked = parsed(codes)
            if asked is None or wanted != PLAIN:  # not Rich's way: each of its pieces begins with a plain pen
                return text
            wanted = asked
    if begin < len(text):
        pen = _put(out, text[begin:], pen, wanted)
    if wanted != PLAIN:
        return text
    if pen != PLAIN:
        out.append(RESET)
    return "".join(out)


def _put(out: list[str], chunk: str, pen: Pen, wanted: Pen) -> Pen:
    """Write ``chunk``; the pen it leaves behind."""
    if pen != wanted and not MOVES_ONLY.fullmatch(chunk):
        out.append(change(pen, wanted))
        pen = wanted
    out.append(chunk)
    return pen


@lru_cache(4096)
def parsed(codes: str) -> Pen | None:
    """The pen that ``codes`` ask for; None if they ask for something else as well."""
    attributes, foreground, background = [], "", ""
    words = iter(codes.split(";"))
    for word in words:
        if word in ("38", "48"):
            kind = next(words, "")
            color = [word, kind, *(next(words, "") for _ in range(3 if kind == "2" else 1))]
            if kind not in ("2", "5") or "" in color:
                return None
            if word == "38":
                foreground = ";".join(color)
            else:
                background = ";".join(color)
            continue
        number = int(word or "0")
        if 1 <= number <= 9:
            attributes.append(word)
        elif 30 <= number <= 37 or 90 <= number <= 97:
            foreground = word
        elif 40 <= number <= 47 or 100 <= number <= 107:
            background = word
        elif number not in (39, 49):  # the terminal's own colours, which a plain pen has
            return None
    return Pen(";".join(attributes), foreground, background)


@lru_cache(4096)
def change(pen: Pen, wanted: Pen) -> str:
    """What turns one pen into the other."""
    lighter = pen.attributes in ("1", "2") and not wanted.attributes  # bold or dim ends: 22
    if (pen.attributes not in ("", wanted.attributes) and not lighter) or wanted == PLAIN:
        return "\x1b[" + ";".join(filter(None, ("0", *wanted))) + "m"
    codes = []
    if wanted.attributes != pen.attributes:
        codes.append(wanted.attributes or "22")
    if wanted.foreground != pen.foreground:
        codes.append(wanted.foreground or "39")
    if wanted.background != pen.background:
        codes.append(wanted.background or "49")
    return f"\x1b[{';'.join(codes)}m"
