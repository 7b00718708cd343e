"""What is set up before the application is imported: directory, environment variables, sys.path, umask."""

from __future__ import annotations

import os
import sys

from wsgitop.errors import ConfigError
from wsgitop.settings.table import Settings


def enter_directory(chdir: str) -> None:
    """Change to the application's directory. ``chdir`` is unresolved, so a symbolic link is followed anew.

    PWD is set to it, as a shell would, so that a config file sees the link's name. Raises ConfigError.
    """
    try:
        os.chdir(chdir)
    except OSError as error:
        raise ConfigError(f"cannot change to directory {chdir}: {error.strerror}", "Check --chdir.") from None
    os.environ["PWD"] = chdir


def apply(settings: Settings, chdir: str) -> None:
    """Set environment variables, umask and ``sys.path`` (as gunicorn: pythonpath, then the directory)."""
    for pair in settings.raw_env:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(
                f"--env {pair!r} is not NAME=VALUE",
                "Write for example --env DJANGO_SETTINGS_MODULE=site.settings.",
            )
        os.environ[name] = value
    if chdir in sys.path:
        sys.path.remove(chdir)
    sys.path.insert(0, chdir)
    # In gunicorn's order: the last one comes first.
    for directory in [part.strip() for part in settings.pythonpath.split(",") if part.strip()]:
        path = os.path.abspath(directory)  # noqa: PTH100 - resolve() follows links
        if path not in sys.path:
            sys.path.insert(0, path)
    if settings.umask:
        # 0, the default, is gunicorn's for unix sockets. It says nothing about the application's files, which
        # everybody could write to then.
        os.umask(settings.umask)
