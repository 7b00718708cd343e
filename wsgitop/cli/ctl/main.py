"""``wsgitop ctl``: questions and orders for a running server, their arguments and options."""

from __future__ import annotations

from collections.abc import Callable

import click

from wsgitop.cli.ctl.orders import (
    cancel,
    loglevel,
    quarantine,
    release,
    reload,
    reopen,
    retire,
    scale,
    signal,
    stop,
    upgrade,
)
from wsgitop.cli.ctl.questions import (
    deaths,
    events,
    history,
    log,
    metrics,
    requests,
    settings,
    stack,
    status,
    top,
    wait,
    watch,
    workers,
)
from wsgitop.cli.group import Command, Group
from wsgitop.cli.targets import remote_command_option
from wsgitop.control.checks import LEVELS

HELP = """Ask a running server or give it orders.

Without --server the only running server of this user is taken. Orders are answered when they are done: a
reload when the last old worker is gone. A reload that fails leaves the old code serving, says why, and ends
with status 1.
"""


EPILOG = """
Examples:
  wsgitop ctl status
  wsgitop ctl status --json | jq .totals.rps
  wsgitop ctl deaths 5
  wsgitop ctl log -f --level warning
  wsgitop ctl top
  wsgitop ctl reload && echo deployed
  wsgitop ctl reload --key deploy-1234
  wsgitop ctl wait --ready --timeout 30
  wsgitop ctl scale +2
  wsgitop ctl signal TERM --worker 4251
  wsgitop ctl stack 4251
  wsgitop ctl cancel 4251 0
  wsgitop ctl -s /run/site/control.sock stop
  wsgitop ctl -s ssh://deploy@web-3 reload
  wsgitop ctl -s "exec:docker exec -i shop wsgitop relay" status

Exit status: 0 done, 1 the action failed, 2 usage, 3 cannot connect, 4 refused.
"""


def _common() -> list[click.Parameter]:
    """Accepted before and after the subcommand."""
    return [
        click.Option(
            ["-s", "--server"],
            metavar="TARGET",
            help="Path of the control socket, master's pid, application's name, ssh://[USER@]HOST, or "
            "exec:COMMAND.",
        ),
        remote_command_option(),
        click.Option(["as_json", "--json"], is_flag=True, help="Print JSON."),
    ]


def _command(run: Callable[[click.Context], int], *params: click.Parameter, signed: bool = False) -> Command:
    # ``scale -1``: what looks like an option and is none of ours is the argument.
    return Command(run.__name__, run, params=[*params, *_common()], ignore_unknown_options=signed)


def _key() -> click.Option:
    return click.Option(
        ["--key"],
        metavar="KEY",
        default="",
        help="Given again with the same key within ten minutes, as after a lost connection, the order is "
        "carried out once.",
    )


def _interval() -> click.Option:
    return click.Option(
        ["--interval"],
        type=click.FloatRange(0.25, 10),
        default=1.0,
        metavar="SECONDS",
        help="Time between snapshots, 0.25 to 10. Default: 1.",
    )


command = Group(
    "ctl",
    help=HELP,
    commands=(
        _command(status),
        _command(workers),
        _command(
            requests,
            click.Option(
                ["--limit"],
                type=click.IntRange(1, 500),
                default=100,
                metavar="N",
                help="At most N of each. Default: 100.",
            ),
        ),
        _command(
            stack,
            click.Argument(["pid"], type=click.IntRange(1), metavar="PID"),
            click.Option(["--thread"], type=click.IntRange(0), metavar="N", help="Only this thread."),
        ),
        _command(
            events,
            click.Option(
                ["--after"], type=click.IntRange(0), default=0, metavar="N", help="Only those after event N."
            ),
            click.Option(
                ["--limit"],
                type=click.IntRange(1, 1000),
                default=50,
                metavar="N",
                help="At most N. Default: 50.",
            ),
        ),
        _command(
            deaths,
            click.Argument(["number"], type=click.IntRange(1, 1000), default=20, metavar="[N]"),
            click.Option(["--pid"], type=click.IntRange(1), metavar="PID", help="All about this process."),
        ),
        _command(metrics),
        _command(
            watch,
            _interval(),
            click.Option(["--count"], type=click.IntRange(1), metavar="N", help="End after N snapshots."),
        ),
        _command(
            wait,
            click.Option(
                ["--ready"], is_flag=True, help="All workers that are wanted serve; no reload runs."
            ),
            click.Option(
                ["--generation"],
                type=click.IntRange(1),
                metavar="N",
                help="Generation N or a newer one serves.",
            ),
            click.Option(["--workers"], type=click.IntRange(0), metavar="N", help="N workers serve."),
            click.Option(
                ["--timeout"],
                type=click.FloatRange(0),
                default=60.0,
                metavar="SECONDS",
                help="Give up after this time; 0: never. Default: 60.",
            ),
        ),
        _command(
            top,
            _interval(),
            click.Option(["--count"], type=click.IntRange(1), metavar="N", help="End after N pictures."),
        ),
        _command(
            log,
            click.Option(["--follow", "-f"], is_flag=True, help="Go on with the lines that come."),
            click.Option(["--access"], is_flag=True, help="The access log, not the error log."),
            click.Option(
                ["--lines", "-n"],
                type=click.IntRange(1, 500),
                default=50,
                metavar="N",
                help="At most N of the last lines. Default: 50.",
            ),
            click.Option(
                ["--level"],
                type=click.Choice(LEVELS),
                default="debug",
                metavar="LEVEL",
                help="Only lines of this severity or a higher one.",
            ),
        ),
        _command(
            settings,
            click.Argument(["name"], metavar="[NAME]", required=False),
            click.Option(["--changed"], is_flag=True, help="Only those that are not at their default."),
        ),
        _command(
            history, click.Argument(["seconds"], type=click.IntRange(1, 900), default=60, metavar="[SECONDS]")
        ),
        _command(loglevel, click.Argument(["level"], type=click.Choice(LEVELS), metavar="LEVEL")),
        _command(reopen),
        _command(reload, _key()),
        _command(scale, click.Argument(["amount"], metavar="N|+N|-N"), _key(), signed=True),
        _command(
            signal,
            click.Argument(["name"], metavar="NAME"),
            click.Option(["--worker"], type=click.IntRange(1), metavar="PID", help="The worker it is for."),
        ),
        *(
            _command(about, click.Argument(["pid"], type=click.IntRange(1), metavar="PID"))
            for about in (quarantine, release, retire)
        ),
        _command(
            cancel,
            click.Argument(["pid"], type=click.IntRange(1), metavar="PID"),
            click.Argument(["thread"], type=click.IntRange(0), metavar="THREAD"),
            click.Option(
                ["--request"],
                type=click.IntRange(1),
                metavar="ID",
                help="Only this one, as `ctl requests --json` shows it.",
            ),
        ),
        _command(upgrade, _key()),
        _command(
            stop, click.Option(["--quick"], is_flag=True, help="Do not wait for requests in flight (QUIT).")
        ),
    ),
    params=_common(),
    epilog=EPILOG,
)
