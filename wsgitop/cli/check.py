"""``wsgitop check``: would it start?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from wsgitop.cli.group import Command
from wsgitop.cli.options import given, server_options
from wsgitop.errors import AppImportError, ConfigError
from wsgitop.snapshot import printable

EPILOG = """
Examples:
  wsgitop check mysite.wsgi:application && systemctl reload mysite
"""
CANNOT_IMPORT = 4


def check(context: click.Context) -> int:
    """Load the settings and the application as a worker would, without serving.

    Prints OK, or what is wrong in one line. Exit status 1: the configuration, 4: the application.
    """
    return check_application(given(context))


def check_application(values: Mapping[str, Any]) -> int:
    """Check what these options ask for; the exit status. Raises ConfigError, AppImportError."""
    from wsgitop.cli.child import TookTooLong, ask
    from wsgitop.cli.configure import configure
    from wsgitop.settings.hidden import shown_app

    configuration = configure(values, os.environ)
    settings = configuration.resolved.settings
    for note in configuration.notes:
        click.echo(f"wsgitop: {printable(note)}", err=True)
    question = msgspec.json.encode({"settings": settings, "chdir": configuration.directory}).decode()
    app = shown_app(settings.wsgi_app)
    try:
        answer = ask("wsgitop.zygote.check", [question], deadline_s=settings.boot_timeout)
    except TookTooLong:
        raise AppImportError(
            f"{app} was not loaded within {settings.boot_timeout:g} s", "--boot-timeout allows for more."
        ) from None
    value = answer.value
    if value is None:
        how = f"signal {-answer.status}" if answer.status < 0 else f"status {answer.status}"
        words = "".join(f": {line}" for line in answer.output.strip().splitlines()[-1:])
        raise AppImportError(
            f"{app} ended the process that loaded it, with {how}{words}", traceback=answer.output
        )
    sys.stderr.write(answer.output)
    if not value.get("ok"):
        cause, remedy = str(value.get("error", "")), str(value.get("remedy", ""))
        if value.get("exit_status") == CANNOT_IMPORT:
            raise AppImportError(cause, remedy, traceback=str(value.get("traceback", "")))
        raise ConfigError(cause, remedy)
    click.echo(f"OK  {app} is a {printable(str(value['callable']))}, loaded in {value['elapsed_s']:.2f} s")
    return 0


command = Command("check", check, params=server_options(), epilog=EPILOG)
