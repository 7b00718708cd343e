"""An application whose code changes: ``version:application`` with a ``release.py`` that a test writes."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

from tests.support.server import APPS

APP = "version:application"
_TIMES_S = itertools.count(1_600_000_000)


def write_release(directory: Path, source: str) -> None:
    """Make ``directory`` a release of the application: ``source`` is the text of its ``release.py``."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(APPS / "version.py", directory)
    module = directory / "release.py"
    module.write_text(source)
    # Bytecode files know their source by its size and its time in whole seconds: no two texts share a time.
    os.utime(module, (next(_TIMES_S),) * 2)


def write_version(directory: Path, version: int) -> None:
    """A release that answers ``version``."""
    write_release(directory, f"VERSION = {version}\n")
