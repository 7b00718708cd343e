"""``python -m wsgitop.zygote.check JSON``: load an application as a worker would, and say how that went.

The argument is an object with the settings and the directory: ``{"settings": {...}, "chdir": "/srv/site"}``.
One JSON object is printed: ``{"ok": true, "callable": ..., "elapsed_s": ...}`` or ``{"ok": false, "error",
"remedy", "traceback", "exit_status"}``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from wsgitop.errors import AppImportError, WsgitopError
from wsgitop.settings.table import Settings
from wsgitop.wsgi.loading import load_app
from wsgitop.zygote import logging_setup
from wsgitop.zygote.config_file import load
from wsgitop.zygote.environment import apply, enter_directory
from wsgitop.zygote.privileges import ROOT, drop


class CheckArguments(msgspec.Struct):
    settings: Settings
    chdir: str


def main() -> int:
    """Run the check; the exit status."""
    arguments = msgspec.json.decode(sys.argv[1], type=CheckArguments)
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    started = time.monotonic()
    answer: dict[str, Any]
    try:
        directory = os.path.join(arguments.chdir, arguments.settings.chdir)  # noqa: PTH118 - links stay as they are
        enter_directory(directory)
        apply(arguments.settings, directory)
        if os.geteuid() == ROOT:  # others check as who they are: a site's settings may name another user
            drop(arguments.settings)
        logging_setup.configure(arguments.settings, _logconfig(arguments.settings, directory))
        app = load_app(arguments.settings.wsgi_app)
        kind = type(app)
        answer = {
            "ok": True,
            "callable": f"{kind.__module__}.{kind.__qualname__}",
            "elapsed_s": time.monotonic() - started,
        }
        status = 0
    except WsgitopError as error:
        trace = error.traceback if isinstance(error, AppImportError) else ""
        status = error.exit_status
        answer = {
            "ok": False,
            "error": error.cause,
            "remedy": error.remedy,
            "traceback": trace,
            "exit_status": status,
        }
    os.write(answer_fd, msgspec.json.encode(answer) + b"\n")
    return status


def _logconfig(settings: Settings, directory: str) -> Mapping[str, Any] | None:
    """logconfig_dict with the objects in it that the settings have the names of only."""
    if not settings.logconfig_dict or not settings.config or settings.config.endswith(".toml"):
        return None
    return load(settings.config, directory).logconfig


if __name__ == "__main__":
    sys.exit(main())
