"""Which user and groups the settings mean."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from wsgitop.errors import ConfigError
from wsgitop.settings.identity import wanted_identity
from wsgitop.settings.load import Layer, resolve
from wsgitop.settings.table import Settings

NOBODY = pwd.getpwnam("nobody")
UNUSED_ID = 54_321


def settings(**values: object) -> Settings:
    return resolve([Layer("c.py", dict(values))]).settings


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getegid", lambda: 0)


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: NOBODY.pw_gid)


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("user", ["nobody", NOBODY.pw_uid, str(NOBODY.pw_uid)])
def test_a_user_by_name_or_number_has_its_own_group_and_no_other(user: object) -> None:
    identity = wanted_identity(settings(user=user))
    assert identity == (NOBODY.pw_uid, NOBODY.pw_gid, "nobody", (NOBODY.pw_gid,))


@pytest.mark.usefixtures("as_root")
def test_a_group_of_ones_choice() -> None:
    identity = wanted_identity(settings(user=UNUSED_ID, group="daemon"))
    gid = grp.getgrnam("daemon").gr_gid
    assert identity == (UNUSED_ID, gid, str(UNUSED_ID), (gid,))


@pytest.mark.usefixtures("as_root")
def test_all_groups_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 7, 8] if name == "nobody" else [gid])
    identity = wanted_identity(settings(user="nobody", group=9, initgroups=True))
    assert identity is not None and identity.groups == (7, 8, 9)
    unnamed = wanted_identity(settings(user=UNUSED_ID, group=9, initgroups=True))
    assert unnamed is not None and unnamed.groups == (9,), "nothing is known of who has no entry"


@pytest.mark.usefixtures("as_nobody")
@pytest.mark.parametrize(
    "values", [{}, {"user": "nobody"}, {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid}, {"initgroups": True}]
)
def test_who_is_that_user_already_needs_no_change(values: dict[str, object]) -> None:
    assert wanted_identity(settings(**values)) is None


@pytest.mark.usefixtures("as_nobody")
@pytest.mark.parametrize(
    ("values", "what"),
    [({"user": 0}, "user"), ({"user": "root", "group": "nogroup"}, "user"), ({"group": 12345}, "group")],
)
def test_only_root_can_change_it(values: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=f"{what}: only root can start workers as another {what}") as fault:
        wanted_identity(settings(**values))
    assert fault.value.remedy


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"user": "no-such-user"}, "user: there is no user 'no-such-user' on this machine"),
        ({"group": "no-such-group"}, "group: there is no group 'no-such-group' on this machine"),
        ({"user": UNUSED_ID}, f"user: {UNUSED_ID} has no entry in the user database"),
        ({"user": 2**32 - 1, "group": 1}, "user: 4294967295 is no id"),
        ({"user": 1, "group": "9" * 40}, "is no id"),
    ],
)
def test_who_is_not_known(values: dict[str, object], cause: str) -> None:
    with pytest.raises(ConfigError) as fault:
        wanted_identity(settings(**values))
    assert cause in fault.value.cause and fault.value.remedy


@pytest.mark.parametrize("raw", [-1, "-1", True, 1.5, ["nobody"]])
def test_what_is_neither_name_nor_id(raw: object) -> None:
    with pytest.raises(ConfigError, match="is not a name or an id"):
        settings(user=raw)
