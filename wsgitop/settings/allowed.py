"""What --control-allow says: who besides the owner may connect to the control socket, and as what. Only text;
names are looked up by ``control/allow.py``.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from wsgitop.errors import ConfigError

FORM = "Write USER or @GROUP, with :viewer behind it for somebody who may only look: @ops, alice:viewer."
MOST_ENTRIES = 256
# As useradd(8) takes them, and what directory services add: capitals, dots, domains. No colon, no control
# characters.
_NAME = re.compile(r"[^\s:@,/\x00-\x1f\x7f-][^\s:,/\x00-\x1f\x7f]{0,254}", re.ASCII)


class Allowed(NamedTuple):
    """One entry. ``name`` is a name or the digits of an id."""

    kind: Literal["user", "group"]
    name: str
    role: Literal["viewer", "operator"]


def parse_allowed(text: str) -> Allowed:
    """``USER`` or ``@GROUP``, with ``:viewer`` or ``:operator`` behind it. Raises ConfigError."""
    name, colon, role = text.strip().partition(":")
    if colon and role not in ("viewer", "operator"):
        raise ConfigError(f"control_allow: {text[:80]!r}: there is no role {role[:40]!r}", FORM)
    is_group = name.startswith("@")
    name = name.removeprefix("@")
    if not name.isprintable() or not _NAME.fullmatch(name):
        raise ConfigError(f"control_allow: {text[:80]!r} names no user and no group", FORM)
    return Allowed("group" if is_group else "user", name, "viewer" if role == "viewer" else "operator")


def parse_all(entries: tuple[str, ...]) -> tuple[Allowed, ...]:
    """All entries. Raises ConfigError."""
    if len(entries) > MOST_ENTRIES:
        raise ConfigError(f"control_allow: {len(entries)} entries", "Name a group, with @ in front of it.")
    return tuple(parse_allowed(entry) for entry in entries)
