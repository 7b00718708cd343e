"""An application whose code changes: ``version:application`` with a ``release.py`` that a test writes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.server import APPS

APP = "version:application"


def write_release(directory: Path, source: str) -> None:
    """Make ``directory`` a release of the application: ``source`` is the text of its ``release.py``."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(APPS / "version.py", directory)
    (directory / "release.py").write_text(source)


def write_version(directory: Path, version: int) -> None:
    """A release that answers ``version``."""
    write_release(directory, f"VERSION = {version}\n")
