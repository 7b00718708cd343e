"""Becoming the workers' user, for good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import wsgitop
from wsgitop.errors import ConfigError
from wsgitop.settings.identity import Identity
from wsgitop.settings.table import Settings
from wsgitop.zygote.privileges import take_on

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")

DROP = """
import os, sys, msgspec
from wsgitop.errors import ConfigError
from wsgitop.settings.table import Settings
from wsgitop.zygote.privileges import drop
try:
    drop(msgspec.json.decode(sys.argv[1], type=Settings))
except ConfigError as error:
    print(error.cause)
else:
    print(*os.getresuid(), *os.getresgid(), sorted(os.getgroups()), os.environ.get("HOME"))
"""
"""In a process of its own: what it gives away does not come back."""


def dropped(settings: Settings) -> str:
    text = msgspec.json.encode(settings).decode()
    return subprocess.run(
        [sys.executable, "-c", DROP, text],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env={"PYTHONPATH": str(Path(wsgitop.__file__).parents[1]), "HOME": "/root"},
    ).stdout.strip()


@only_root
def test_everything_is_given_away() -> None:
    assert dropped(Settings(user="nobody", group="daemon")) == "65534 65534 65534 1 1 1 [1] /root"


@only_root
def test_a_group_alone() -> None:
    assert dropped(Settings(group="daemon")) == "0 0 0 1 1 1 [1] /root"


@only_root
def test_a_directory_for_uploads_that_the_user_cannot_write_to(tmp_path: Path) -> None:
    text = dropped(Settings(user="nobody", worker_tmp_dir=str(tmp_path)))
    assert text == f"worker_tmp_dir: {tmp_path} is not there for nobody to write to"


def test_a_kernel_that_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_groups: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(ConfigError, match="cannot become user web, group 5: Operation not permitted"):
        take_on(Identity(4, 5, "web", (5,)))


def test_a_way_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a capability that survives the change of the user."""
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *_ids: None)
    monkeypatch.setattr(os, "getresuid", lambda: (4, 4, 4))
    monkeypatch.setattr(os, "getresgid", lambda: (5, 5, 5))
    monkeypatch.setattr(os, "getgroups", lambda: [5])
    with pytest.raises(ConfigError, match="could take its old rights back"):
        take_on(Identity(4, 5, "web", (5,)))
