"""Deployments by symbolic link: ``current -> releases/7`` becomes ``current -> releases/8``, then HUP."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.release import APP, write_version
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.process


def _point(link: Path, target: str) -> None:
    """Change a link as deployment tools do: make a new one and rename it over the old."""
    fresh = link.with_name("next")
    fresh.symlink_to(target)
    fresh.rename(link)


@pytest.fixture(params=["started in the link", "--chdir", "--pythonpath"])
def server(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> Server:
    for version in (7, 8):
        write_version(tmp_path / "releases" / str(version), version)
    current = tmp_path / "current"
    _point(current, "releases/7")
    match request.param:
        case "--chdir":
            return start_server(APP, "--workers", "2", "--chdir", str(current), cwd=tmp_path)
        case "--pythonpath":
            return start_server(APP, "--workers", "2", "--pythonpath", str(current), cwd=tmp_path)
    # A shell that changed to the link says so in PWD; getcwd(3) alone would name releases/7.
    return start_server(APP, "--workers", "2", cwd=current, env={"PWD": str(current)})


@pytest.mark.every_python
def test_hup_serves_the_release_that_the_link_names_now(server: Server, tmp_path: Path) -> None:
    assert server.get()[1] == b"version 7\n"
    _point(tmp_path / "current", "releases/8")
    server.signal(signal.SIGHUP)
    eventually(lambda: {server.get()[1] for _ in range(10)} == {b"version 8\n"}, what="release 8")


def test_the_old_release_may_be_removed(server: Server, tmp_path: Path) -> None:
    _point(tmp_path / "current", "releases/8")
    shutil.rmtree(tmp_path / "releases" / "7")
    result = server.ctl("reload")
    assert result.returncode == 0, result.stderr
    assert {server.get()[1] for _ in range(10)} == {b"version 8\n"}
