"""The command ``wsgitop``: finds the subcommand and turns every fault into one clear line and an exit status."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Sequence

import click

from wsgitop import __version__
from wsgitop.cli.group import Entry, LazyGroup, debug_option, debug_wanted
from wsgitop.errors import WsgitopError
from wsgitop.snapshot import printable

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

SERVE = "Serve"
WATCH = "Watch and drive"
TRY = "Try and check"

ENTRIES = (
    Entry("serve", "wsgitop.cli.serve", SERVE, "Serve an application, without the interface."),
    Entry("run", "wsgitop.cli.run", SERVE, "Serve an application and open the interface."),
    Entry("attach", "wsgitop.cli.attach", WATCH, "Open the interface on a running server."),
    Entry("ctl", "wsgitop.cli.ctl", WATCH, "Ask a running server or give it orders, for scripts."),
    Entry("check", "wsgitop.cli.check", TRY, "Load an application and say whether it could be served."),
    Entry("demo", "wsgitop.cli.demo", TRY, "Serve a small built-in site under load and open the interface."),
)

EPILOG = """
Examples:
  wsgitop demo                                             see it live, with a built-in site
  wsgitop run --bind 0:8000 mysite.wsgi:application        serve and watch
  wsgitop serve --bind 0:8000 -w 4 mysite.wsgi:application serve, then from anywhere:
  wsgitop attach                                           watch what is running
  wsgitop ctl reload                                       new code, no request lost

Exit status: 0 done, 1 failed, 2 usage, 3 cannot connect (or no worker came up), 4 refused (or no such application).
"""

HELP = """A WSGI server you can see into and drive.

A master and its workers serve a Django, Flask or other WSGI application, and show what every worker is doing while it
does it. Flags and signals are gunicorn's.
"""


def _show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"wsgitop {__version__} (Python {platform.python_version()}, {sys.platform})")
        context.exit()


cli = LazyGroup(
    "wsgitop",
    entries=ENTRIES,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=False,
    invoke_without_command=True,
    params=[
        debug_option(),
        click.Option(
            ["--version", "-V"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ],
)


@click.pass_context
def _help_when_alone(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli.callback = _help_when_alone


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. Never lets a traceback out unless --debug asks for it."""
    try:
        outcome = cli.main(args=arguments, prog_name="wsgitop", standalone_mode=False)
        sys.stdout.flush()
    except WsgitopError as error:
        return _report(error)
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.UsageError as error:
        hint = f"Try `{error.ctx.command_path} --help`." if error.ctx is not None else ""
        _say(error.format_message(), hint)
        return 2
    except click.ClickException as error:
        _say(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Who was to read it has gone (`| head`). The interpreter must not stumble over it once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return outcome if isinstance(outcome, int) else 0


def _report(error: WsgitopError) -> int:
    if debug_wanted():
        text = getattr(error, "traceback", "") or getattr(error, "detail", "")
        traceback.print_exc()
        if text:
            sys.stderr.write(f"\n{text.rstrip()}\n")
    _say(error.cause, error.remedy)
    return error.exit_status


def _say(cause: str, remedy: str = "") -> None:
    lines = "\n".join(printable(line) for line in cause.splitlines())
    click.echo(f"wsgitop: {lines}" + (f"\n  {printable(remedy)}" if remedy else ""), err=True)
