"""gunicorn's own list of settings: each one is the same here, or explained."""

from __future__ import annotations

import pytest

from wsgitop.settings import compat
from wsgitop.settings.differences import DIFFERENCES
from wsgitop.settings.differences import GUNICORN as NAMES
from wsgitop.settings.load import Layer, resolve
from wsgitop.settings.table import TABLE

config = pytest.importorskip("gunicorn.config", reason="gunicorn is not installed")

pytestmark = pytest.mark.foreign

GUNICORN = {setting.name: setting for setting in config.KNOWN_SETTINGS}


@pytest.mark.parametrize("name", sorted(GUNICORN))
def test_every_setting_of_gunicorn_is_the_same_here_or_explained(name: str) -> None:
    assert (name in TABLE) + (name in compat.FOREIGN) + (name in compat.ALIASES) == 1
    flags = GUNICORN[name].cli or []
    ours = (
        TABLE[name].flags if name in TABLE else compat.FOREIGN[name].flags if name in compat.FOREIGN else None
    )
    if ours is not None and name not in ("check_config", "print_config"):  # these two are commands of `serve`
        assert set(ours) == set(flags)


@pytest.mark.parametrize("name", sorted(set(GUNICORN) - set(TABLE) - set(compat.HOOKS)))
def test_what_gunicorn_does_by_default_is_passed_over(name: str) -> None:
    default = GUNICORN[name].default
    if name == "control_socket":
        return
    resolved = resolve([Layer("gunicorn.conf.py", {name: default})])
    assert resolved.notes == ()


def test_every_foreign_setting_and_alias_is_one_of_gunicorns() -> None:
    assert set(compat.FOREIGN) | set(compat.ALIASES) <= set(GUNICORN)
    assert not set(compat.FOREIGN) & set(TABLE)


def test_the_names_are_all_there() -> None:
    assert set(GUNICORN) == NAMES


@pytest.mark.parametrize("name", sorted(set(GUNICORN) & set(TABLE)))
def test_another_default_is_documented(name: str) -> None:
    theirs, ours = GUNICORN[name].default, TABLE[name].default
    same = list(theirs) == list(ours) if isinstance(ours, tuple) else theirs == ours
    nothing = ours in ("", ()) and theirs in (None, "", [])
    directory = name in ("chdir", "user", "group")  # theirs is that of the process that asks
    assert same or nothing or directory or name in DIFFERENCES
