"""Running a module of ours in another process that loads the user's code, and reading the one JSON object
it answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import wsgitop


class Answer(NamedTuple):
    """``value`` is the object, None if none came; ``output`` is what else was printed; ``status`` the exit
    status."""

    value: dict[str, Any] | None
    output: str
    status: int


class TookTooLong(Exception):
    """The process did not end in time. It and what it started have been killed."""


_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import wsgitop; del sys.path[0]; "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python_module(name: str) -> list[str]:
    """The command that runs a module of this package, the one that runs here, wherever it is.

    Not ``-m``: it would put the working directory first in sys.path, where a site's own ``types.py`` would
    shadow the standard library.
    """
    return [sys.executable, "-P", "-c", _BOOTSTRAP, str(Path(wsgitop.__file__).parents[1]), name]


def ask(module: str, arguments: list[str], *, deadline_s: float) -> Answer:
    """Run ``module`` and wait for its answer. Raises TookTooLong."""
    process = subprocess.Popen(
        [*python_module(module), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        answer, output = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        raise TookTooLong from None
    finally:
        # Also what the user's code left running there: nothing of it may outlive the question.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return Answer(_last_object(answer), output, process.returncode)


def _last_object(text: str) -> dict[str, Any] | None:
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                return value
    return None
