"""``wsgitop serve``: the server without the interface."""

from __future__ import annotations

import os
import sys

import click

from wsgitop.cli.group import Command
from wsgitop.cli.options import given, server_options
from wsgitop.errors import UsageError
from wsgitop.settings.table import Settings

EPILOG = """
Examples:
  wsgitop serve mysite.wsgi:application
  wsgitop serve --bind 0:8000 --workers auto mysite.wsgi:application
  wsgitop serve -b unix:/run/site.sock -w 4 --threads 8 --preload shop:app
"""


def serve(context: click.Context) -> int:
    """Serve the WSGI application APP, given as MODULE:CALLABLE.

    Settings come from the command line, from WSGITOP_CMD_ARGS and GUNICORN_CMD_ARGS, and from a config file;
    the flags are gunicorn's. Signals: HUP loads the code again, TTIN and TTOU change the number of workers,
    TERM stops.
    """
    values = given(context)
    if context.params["check_config"]:
        from wsgitop.cli.check import check_application

        return check_application(values)
    from wsgitop.cli.configure import configure

    configuration = configure(values, os.environ, need_app=not context.params["print_config"])
    if context.params["print_config"]:
        from wsgitop.cli.print_config import settings_text

        click.echo(settings_text(configuration.resolved), nl=False)
        return 0
    require_linux()
    from wsgitop.master import handover
    from wsgitop.transport import launcher

    notes = list(configuration.notes)
    in_background = configuration.resolved.settings.daemon
    if handover.VARIABLE in os.environ:
        in_background = False  # the old master is already where this one is to be
    elif in_background and launcher.VARIABLE in os.environ:
        notes.append("daemon: has no effect: this server was started by `wsgitop run` or `wsgitop demo`")
        in_background = False
    if in_background:
        status = _daemonise(configuration.resolved.settings, notes)
        if status is not None:
            return status
    from wsgitop.master.main import serve as serve_application

    return serve_application(
        configuration.resolved,
        layers=configuration.layers,
        directory=configuration.directory,
        notes=notes,
        in_background=in_background,
    )


def _daemonise(settings: Settings, notes: list[str]) -> int | None:
    """Go into the background. In the launcher: its exit status."""
    from wsgitop.master.daemon import NOWHERE, NOWHERE_REMEDY, go_into_background

    if os.environ.get("NOTIFY_SOCKET"):
        notes.append("daemon: systemd watches this service, so leave it out, with Type=notify in its unit")
    status = go_into_background()
    if status == 0 and settings.errorlog == "-":
        click.echo(f"wsgitop: {NOWHERE}\n  {NOWHERE_REMEDY}", err=True)
    return status


def require_linux() -> None:
    """Raise UsageError where the server cannot run."""
    if not sys.platform.startswith("linux"):
        raise UsageError(
            f"the server runs on Linux only, and this is {sys.platform}",
            "`wsgitop attach` and `wsgitop ctl` work here; run the server on Linux or in a container.",
        )


command = Command(
    "serve",
    serve,
    params=[
        *server_options(),
        click.Option(["--check-config"], is_flag=True, help="Load everything, say what is wrong, and exit."),
        click.Option(
            ["--print-config"], is_flag=True, help="Print all settings and where each comes from, and exit."
        ),
    ],
    epilog=EPILOG,
)
