"""Which user and groups the workers are to have: the settings user, group and initgroups, looked up.

Only a lookup; nothing is changed here. The master asks it before it opens anything, so that a name that is
not known ends the start, and for whom unix sockets are to be; the zygote asks again and takes the identity
on.
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

from wsgitop.errors import ConfigError
from wsgitop.settings.table import Settings

LARGEST_ID = 2**32 - 2
"""The kernel's ids have 32 bits, and the last means "no change"."""


class Identity(NamedTuple):
    """Ids to take on. ``name`` is the user as people know it; ``groups`` are the supplementary ones."""

    uid: int
    gid: int
    name: str
    groups: tuple[int, ...]

    def __str__(self) -> str:
        return f"user {self.name}, group {self.gid}"


def wanted_identity(settings: Settings) -> Identity | None:
    """Who the workers are to be; None: who this process is already. Raises ConfigError.

    Without a group it is the user's own. Other groups of this process (root's, as a rule) are not kept:
    with initgroups they are those that the user is a member of, otherwise there are none.
    """
    entry = _user(settings.user) if settings.user else None
    uid = os.geteuid() if entry is None else entry.uid
    if settings.group:
        gid = _group(settings.group)
    elif entry is None or uid == os.geteuid():
        gid = os.getegid()
    elif entry.gid is None:
        raise ConfigError(
            f"user: {settings.user} has no entry in the user database, so its group is not known",
            "Name one with --group.",
        )
    else:
        gid = entry.gid
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        what = "user" if uid != os.geteuid() else "group"
        raise ConfigError(
            f"{what}: only root can start workers as another {what}, and this is user id {os.geteuid()}",
            f"Leave --{what} out, or start wsgitop as root.",
        )
    name = entry.name if entry is not None else _name_of(uid)
    groups: tuple[int, ...] = (gid,)
    if settings.initgroups and name:
        groups = tuple(sorted({gid, *os.getgrouplist(name, gid)}))
    return Identity(uid, gid, name or str(uid), groups)


class _User(NamedTuple):
    uid: int
    gid: int | None  # None: the number has no entry
    name: str


def _user(text: str) -> _User:
    """A name or a number. A user may be called by digits only; a number that is an id comes first, as in
    gunicorn.
    """
    if text.isdecimal():
        uid = _number(text, "user")
        try:
            found = pwd.getpwuid(uid)
        except KeyError:
            return _User(uid, None, "")
        return _User(uid, found.pw_gid, found.pw_name)
    try:
        found = pwd.getpwnam(text)
    except KeyError:
        raise ConfigError(
            f"user: there is no user {text!r} on this machine",
            "Create it (useradd --system NAME), or name another one.",
        ) from None
    return _User(found.pw_uid, found.pw_gid, found.pw_name)


def _group(text: str) -> int:
    if text.isdecimal():
        return _number(text, "group")
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ConfigError(
            f"group: there is no group {text!r} on this machine",
            "Create it (groupadd --system NAME), or name another one.",
        ) from None


def _number(text: str, what: str) -> int:
    number = int(text) if len(text) <= 10 else LARGEST_ID + 1
    if number > LARGEST_ID:
        raise ConfigError(f"{what}: {text[:40]} is no id", f"Ids go up to {LARGEST_ID}.")
    return number


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
