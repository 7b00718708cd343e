"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.server import Server


@pytest.fixture(scope="session", autouse=True)
def no_state_of_this_user() -> Iterator[None]:
    """Whatever a test starts in whatever way, it leaves the state directory of who runs the tests alone."""
    before = os.environ.get("XDG_STATE_HOME")
    with tempfile.TemporaryDirectory(prefix="wsgitop-state-") as directory:
        os.environ["XDG_STATE_HOME"] = directory
        yield
    del os.environ["XDG_STATE_HOME"]
    if before is not None:
        os.environ["XDG_STATE_HOME"] = before


class StartServer(Protocol):
    """Starts a server and waits until it serves, unless told otherwise. Arguments as for :class:`Server`."""

    def __call__(self, app: str, *args: str, wait: bool = True, **options: object) -> Server: ...


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start servers that end with the test; it fails if one leaves a process behind."""
    with ExitStack() as stack:

        def start(app: str, *args: str, wait: bool = True, **options: object) -> Server:
            server = stack.enter_context(Server(app, *args, **options))  # type: ignore[arg-type]
            return server.wait_until_serving() if wait else server

        yield start


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A runtime directory with a path short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="wsgitop-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that other users may pass through, as they may not through that of the tests."""
    path = Path(tempfile.mkdtemp(prefix="wsgitop-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
