"""Who else may connect: the setting, its names, and what a peer may do by it."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from wsgitop.control.allow import look_up, wanted_allow_list
from wsgitop.control.peers import Peer
from wsgitop.errors import ConfigError
from wsgitop.settings.allowed import Allowed, parse_allowed
from wsgitop.settings.load import Layer, resolve
from wsgitop.settings.table import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice", Allowed("user", "alice", "operator")),
        ("alice:viewer", Allowed("user", "alice", "viewer")),
        ("alice:operator", Allowed("user", "alice", "operator")),
        ("@ops", Allowed("group", "ops", "operator")),
        (" @ops:viewer ", Allowed("group", "ops", "viewer")),
        ("1000:viewer", Allowed("user", "1000", "viewer")),
        ("@1000", Allowed("group", "1000", "operator")),
        ("a.b-c_d@example.org", Allowed("user", "a.b-c_d@example.org", "operator")),
    ],
)
def test_entries(text: str, expected: Allowed) -> None:
    assert parse_allowed(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ":viewer", "@", "@@ops", "alice:", "alice:admin", "alice:viewer:operator", "al ice", "-alice",
     "al\x1bice", "al\u202eice", "../x", "*", "x" * 300],
)  # fmt: skip
def test_what_is_no_entry(text: str) -> None:
    if text == "*":  # a name like any other, which nobody has
        with pytest.raises(ConfigError, match="no user"):
            look_up((text,))
        return
    with pytest.raises(ConfigError) as fault:
        resolve([Layer("wsgitop.conf.py", {"control_allow": [text]})])
    assert "control_allow" in fault.value.cause and fault.value.remedy
    assert fault.value.cause.isprintable() or "\n" not in fault.value.cause


def test_a_list_that_is_too_long() -> None:
    with pytest.raises(ConfigError, match="entries"):
        look_up(("alice",) * 1000)


def test_names_are_looked_up() -> None:
    me, mine = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    allow = look_up((f"{me.pw_name}:viewer", f"@{mine.gr_name}", "4321"))
    assert allow is not None
    assert allow.users == {me.pw_uid: "viewer", 4321: "operator"}
    assert allow.groups == {mine.gr_gid: "operator"}
    assert allow.text == f"{me.pw_name} as viewer, @{mine.gr_name} as operator, 4321 as operator"


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("no-such-user-here", "no user 'no-such-user-here'", "useradd"),
        ("@no-such-group-here", "no group 'no-such-group-here'", "groupadd"),
        ("4294967295", "is no id", "up to 4294967294"),
        ("@99999999999", "is no id", "up to"),
    ],
)
def test_names_that_nobody_has(text: str, cause: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=cause) as fault:
        look_up((text,))
    assert remedy in fault.value.remedy


def test_a_group_that_was_taken_for_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_name: str) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwnam", nobody)
    name = grp.getgrgid(0).gr_name
    with pytest.raises(ConfigError) as fault:
        look_up((name,))
    assert f"@{name}" in fault.value.remedy


@pytest.mark.parametrize(("kind", "mark"), [("overflowuid", ""), ("overflowgid", "@")])
def test_whom_the_kernel_cannot_name_is_never_allowed(kind: str, mark: str) -> None:
    number = Path("/proc/sys/kernel", kind).read_text().strip()
    with pytest.raises(ConfigError, match="cannot name"):
        look_up((f"{mark}{number}",))


def test_without_a_control_socket_nobody_can_be_let_in() -> None:
    with pytest.raises(ConfigError, match="no control socket"):
        wanted_allow_list(Settings(control_allow=("1000",), no_control_socket=True))
    assert wanted_allow_list(Settings(no_control_socket=True)) is None


@pytest.mark.parametrize(
    ("uid", "groups", "role"),
    [
        (10, (), "operator"),
        (11, (), "viewer"),
        (12, (), None),
        (12, (20,), "operator"),
        (12, (21,), "viewer"),
        (12, (22, 21), "viewer"),
        (12, (21, 20), "operator"),
        (11, (20,), "operator"),  # the best of all that fit
        (10, (21,), "operator"),
        (20, (), None),  # a group's number is not a user's
        (12, (10,), None),
        (13, (), "operator"),  # named twice
    ],
)
def test_the_role_of_a_peer(uid: int, groups: tuple[int, ...], role: str | None) -> None:
    allow = look_up(("10", "11:viewer", "@20", "@21:viewer", "13:viewer", "13", "13:viewer"))
    assert allow is not None
    assert allow.role_of(Peer(1, uid, frozenset(groups))) == role
