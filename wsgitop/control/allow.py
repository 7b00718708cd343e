"""The allow list of the socket for other users: --control-allow with its names looked up, and what a peer may
do by it.

Names are looked up once, at the start: whom the list means does not change under a running server, and no
client waits for a directory service. Groups are those that the kernel knows the peer to have been in when it
connected.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from wsgitop.control.messages import Role
from wsgitop.control.peers import Peer
from wsgitop.errors import ConfigError
from wsgitop.settings.allowed import Allowed, parse_all
from wsgitop.settings.identity import LARGEST_ID
from wsgitop.settings.table import Settings

_NOBODY = 65534


class AllowList(NamedTuple):
    """What user ids and group ids may do. ``text`` is for people."""

    users: Mapping[int, Role]
    groups: Mapping[int, Role]
    text: str = ""

    def role_of(self, peer: Peer) -> Role | None:
        """The best role of all entries that fit; None: none does."""
        fitting = {self.users.get(peer.uid), *(self.groups.get(gid) for gid in peer.groups)}
        return "operator" if "operator" in fitting else "viewer" if "viewer" in fitting else None


def wanted_allow_list(settings: Settings) -> AllowList | None:
    """The list that the settings name; None: nobody. Raises ConfigError."""
    if settings.control_allow and settings.no_control_socket:
        raise ConfigError(
            "control_allow: there is no control socket to let others connect to",
            "Leave out --no-control-socket, or --control-allow.",
        )
    return look_up(settings.control_allow)


def look_up(entries: tuple[str, ...]) -> AllowList | None:
    """The list with its names looked up; None: it is empty. Raises ConfigError."""
    allowed = parse_all(entries)
    if not allowed:
        return None
    users = _best((_user(entry.name), entry) for entry in allowed if entry.kind == "user")
    groups = _best((_group(entry.name), entry) for entry in allowed if entry.kind == "group")
    words = (f"{'@' * (entry.kind == 'group')}{entry.name} as {entry.role}" for entry in allowed)
    return AllowList(users, groups, ", ".join(words))


def _best(found: Iterable[tuple[int, Allowed]]) -> dict[int, Role]:
    roles: dict[int, Role] = {}
    for number, entry in found:
        if roles.get(number) != "operator":
            roles[number] = entry.role
    return roles


def _user(name: str) -> int:
    if name.isdecimal():
        return _number(name, "user")
    try:
        return _known(pwd.getpwnam(name).pw_uid, name, "user")
    except KeyError:
        remedy = "Create it (useradd NAME), or name another one."
        if _is_group(name):
            remedy = f"There is a group of that name: write @{name}."
        raise ConfigError(f"control_allow: there is no user {name!r} on this machine", remedy) from None


def _group(name: str) -> int:
    if name.isdecimal():
        return _number(name, "group")
    try:
        return _known(grp.getgrnam(name).gr_gid, name, "group")
    except KeyError:
        raise ConfigError(
            f"control_allow: there is no group {name!r} on this machine",
            "Create it (groupadd NAME), or name another one.",
        ) from None


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _number(text: str, what: str) -> int:
    number = int(text) if len(text) <= 10 else LARGEST_ID + 1
    if number > LARGEST_ID:
        raise ConfigError(f"control_allow: {text[:40]} is no id", f"Ids go up to {LARGEST_ID}.")
    return _known(number, text, what)


def _known(number: int, name: str, what: str) -> int:
    """Processes of another user namespace whose ids mean nothing here all seem to have one id, nobody's
    (user_namespaces(7)): to allow that would be to allow anybody in any container.
    """
    if number == _overflow_id("overflowuid" if what == "user" else "overflowgid"):
        raise ConfigError(
            f"control_allow: {what} {name} is what the kernel calls everybody whom it cannot name",
            f"Name a {what} that is somebody's own.",
        )
    return number


def _overflow_id(name: str) -> int:
    try:
        return int(Path("/proc/sys/kernel", name).read_text())
    except (OSError, ValueError):
        return _NOBODY
