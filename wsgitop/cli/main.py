"""The command ``wsgitop``: finds the subcommand and turns every fault into one clear line and an exit
status."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import traceback
from collections.abc import Sequence

import click

from wsgitop import __version__
from wsgitop.cli.group import Entry, LazyGroup, debug_wanted
from wsgitop.errors import ActionFailed, WsgitopError
from wsgitop.snapshot import printable

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

OUTPUT_LOST = frozenset({errno.ENOSPC, errno.EIO, errno.EBADF})
"""What writing to a full disk, a lost terminal or a closed descriptor gives."""

SERVE = "Serve"
WATCH = "Watch and drive"
TRY = "Try and check"

ENTRIES = (
    Entry("serve", "wsgitop.cli.serve", SERVE, "Serve an application, without the interface."),
    Entry("run", "wsgitop.cli.run", SERVE, "Serve an application and open the interface."),
    Entry("attach", "wsgitop.cli.attach", WATCH, "Open the interface on a running server."),
    Entry("ctl", "wsgitop.cli.ctl.main", WATCH, "Ask a running server or give it orders, for scripts."),
    Entry(
        "relay",
        "wsgitop.cli.relay",
        WATCH,
        "Carry the control protocol over standard input and output.",
        hidden=True,
    ),
    Entry("check", "wsgitop.cli.check", TRY, "Load an application and say whether it could be served."),
    Entry("demo", "wsgitop.cli.demo", TRY, "Serve a small built-in site under load and open the interface."),
    Entry(
        "completion",
        "wsgitop.cli.completion",
        TRY,
        "Print what a shell needs to complete commands and flags.",
    ),
)

EPILOG = """
Examples:
  wsgitop demo                                             see it live, with a built-in site
  wsgitop run --bind 0:8000 mysite.wsgi:application        serve and watch
  wsgitop serve --bind 0:8000 -w 4 mysite.wsgi:application serve, then from anywhere:
  wsgitop attach                                           watch what is running
  wsgitop ctl reload                                       new code, no request lost

Exit status: 0 done, 1 failed, 2 usage, 3 cannot connect (or no worker came up), 4 refused (or no such
application).
"""

HELP = """A WSGI server you can see into and drive.

A master and its workers serve a Django, Flask or other WSGI application, and show what every worker is doing
while it does it. Flags and signals are gunicorn's.
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
    params=[
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. No traceback gets out unless --debug asks for it."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        # Who was to read it has gone (`| head`).
        _give_up_output()
        return 1
    except OSError as error:
        if error.errno not in OUTPUT_LOST or error.filename is not None:
            raise
        _give_up_output(f"the output cannot be written: {error.strerror}")
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    try:
        outcome = cli.main(args=arguments, prog_name="wsgitop", standalone_mode=False)
        if sys.stdout is not None:  # None: it was closed before the start (`>&-`)
            sys.stdout.flush()
    except WsgitopError as error:
        return _report(error)
    except click.ClickException as error:
        return _report_usage(error)
    except click.exceptions.Exit as request:
        return request.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return outcome if isinstance(outcome, int) else 0


def _give_up_output(why: str = "") -> None:
    """Let what is still unwritten go nowhere: the interpreter must not stumble over it while it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if why:
        with contextlib.suppress(OSError):
            _say(why)
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _report(error: WsgitopError) -> int:
    _say(error.cause, error.remedy)
    if isinstance(error, ActionFailed) and error.detail:
        # What went wrong on the server, which has no other way to whoever gave the order.
        _write(error.detail)
    if debug_wanted():
        _write(getattr(error, "traceback", ""))
        traceback.print_exc()
    return error.exit_status


def _report_usage(error: click.ClickException) -> int:
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.option_name is not None:
        message = f"no such option: {error.option_name}"
        near = _visible(error.possibilities or (), error.ctx)
        if near:
            message += f" (did you mean {' or '.join(near)}?)"
    context = error.ctx if isinstance(error, click.UsageError) else None
    _say(message, f"Try `{context.command_path} --help`." if context is not None else "")
    return error.exit_code


def _visible(names: Sequence[str], context: click.Context | None) -> list[str]:
    """Those of the flags ``names`` that the help shows: gunicorn's others are accepted, not recommended."""
    if context is None:
        return sorted(names)
    hidden = {
        flag
        for parameter in context.command.params
        if isinstance(parameter, click.Option) and parameter.hidden
        for flag in parameter.opts
    }
    return sorted(set(names) - hidden)


def _say(cause: str, remedy: str = "") -> None:
    _write(f"wsgitop: {cause}" + (f"\n  {remedy}" if remedy else ""))


def _write(text: str) -> None:
    if text:
        click.echo("\n".join(printable(line) for line in text.rstrip().splitlines()), err=True)
