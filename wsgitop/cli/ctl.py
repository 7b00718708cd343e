"""``wsgitop ctl``: questions and orders for a running server. Tables for people, --json for programs."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable

import click
import msgspec

from wsgitop.cli import obituaries, scripting, tables
from wsgitop.cli.group import Command, Group
from wsgitop.cli.targets import choose, may_ask_at_terminal, only_one, remote_command_option
from wsgitop.client import AsyncClient, Client
from wsgitop.control.checks import LEVELS
from wsgitop.control.messages import MetricsResult, Outcome
from wsgitop.errors import UsageError
from wsgitop.snapshot import HIDDEN_CATEGORIES, Event, Snapshot, printable

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
RELOAD_STEPS = frozenset(
    {"reload", "loaded", "ready", "serving", "retired", "died", "listening", "back", "config", "superseded"}
)
"""Kinds of events that a terminal shows while it waits for a reload."""
_AMOUNT = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9]{1,6})")


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


def _target(context: click.Context) -> str | None:
    """The server that was named, before or behind the subcommand."""
    parent = context.parent.params if context.parent is not None else {}
    target = context.params["server"]
    if target is None:
        target = parent.get("server")
    # An empty one is a fault, not the only server: a script's variable may be unset.
    return None if target is None else str(target)


def _remote_command(context: click.Context) -> str:
    parent = context.parent.params if context.parent is not None else {}
    return str(context.params["remote_command"] or parent.get("remote_command", ""))


def _make_client(context: click.Context) -> AsyncClient:
    """A client that is not connected yet. Raises CannotConnect if there is not just one such server."""
    target = _target(context)
    return AsyncClient(only_one() if target is None else target, remote_command=_remote_command(context))


def _connect(context: click.Context) -> Client:
    target = _target(context)
    return Client(
        choose() if target is None else target,
        remote_command=_remote_command(context),
        interactive=may_ask_at_terminal(),
    )


def _as_json(context: click.Context) -> bool:
    parent = context.parent.params if context.parent is not None else {}
    return bool(context.params["as_json"] or parent.get("as_json"))


def _print_json(value: object, *, lines: bool = False) -> None:
    encoded = msgspec.json.encode(value)
    text = (encoded if lines else msgspec.json.format(encoded, indent=2)).decode()
    # Only control characters below 0x20 are escaped by then, and a terminal may be what reads it.
    click.echo("".join(map(json_escaped, text)) if "\x7f" in text or not text.isascii() else text)


def json_escaped(character: str) -> str:
    """A character of a JSON text, as an escape if it could steer a terminal."""
    if character == "\n" or unicodedata.category(character) not in HIDDEN_CATEGORIES:
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def _order(context: click.Context, give: Callable[[Client], Outcome]) -> int:
    with _connect(context) as client:
        outcome = give(client)
    if _as_json(context):
        _print_json(outcome)
    else:
        click.echo(f"{printable(outcome.text, 500)} ({outcome.elapsed_s:.1f} s)")
    return 0


def status(context: click.Context) -> int:
    """The whole picture at this moment."""
    with _connect(context) as client:
        snapshot = client.status()
    if _as_json(context):
        _print_json(snapshot)
    else:
        click.echo(tables.status_text(snapshot), nl=False)
    return 0


def workers(context: click.Context) -> int:
    """The workers and what each is serving."""
    with _connect(context) as client:
        found = client.workers()
    if _as_json(context):
        _print_json(found)
    else:
        click.echo(tables.workers_text(found))
    return 0


def requests(context: click.Context) -> int:
    """The requests in flight, the oldest first, and those that took longest in the last 15 minutes."""
    with _connect(context) as client:
        found = client.requests(context.params["limit"])
    if _as_json(context):
        _print_json(found)
    else:
        click.echo(tables.requests_text(found))
    return 0


def stack(context: click.Context) -> int:
    """Where the threads of a worker are at this moment; calls of the application are marked by >.

    A worker whose interpreter does not answer, because C code holds it, is shown by faulthandler.
    """
    with _connect(context) as client:
        found = client.stack(context.params["pid"], thread=context.params["thread"])
    if _as_json(context):
        _print_json(found)
    else:
        click.echo(tables.stack_text(found))
    return 0


def events(context: click.Context) -> int:
    """What happened lately, and who caused it."""
    with _connect(context) as client:
        found = client.events(context.params["after"], context.params["limit"])
    if _as_json(context):
        _print_json(found)
    else:
        click.echo(tables.events_text(found), nl=False)
    return 0


def deaths(context: click.Context) -> int:
    """How workers and zygotes have ended, and why; before the last restart, too.

    With --pid all about one: what it was serving, its memory over time, its stack and its last lines.
    """
    pid = context.params["pid"]
    with _connect(context) as client:
        found = client.deaths(limit=context.params["number"], pid=pid)
    if pid is not None and not found:
        raise UsageError(f"the ledger has no process {pid}", "See `wsgitop ctl deaths 200`.")
    if _as_json(context):
        _print_json(found)
    elif pid is not None:
        click.echo("\n\n\n".join(obituaries.death_text(death) for death in found))
    else:
        click.echo(obituaries.deaths_text(found))
    return 0


def metrics(context: click.Context) -> int:
    """The figures as OpenMetrics text, for Prometheus."""
    with _connect(context) as client:
        text = client.metrics()
    if _as_json(context):
        _print_json(MetricsResult(text))
    else:
        click.echo("\n".join(printable(line) for line in text.split("\n")), nl=False)
    return 0


def watch(context: click.Context) -> int:
    """Print a line for every snapshot and every event, until stopped."""
    left = context.params["count"]
    with _connect(context) as client:
        for news in client.subscribe(context.params["interval"]):
            is_snapshot = isinstance(news, Snapshot)
            if _as_json(context):
                _print_json({"snapshot" if is_snapshot else "event": news}, lines=True)
            else:
                click.echo(
                    tables.snapshot_line(news) if isinstance(news, Snapshot) else tables.event_line(news)
                )
            if is_snapshot and left:
                left -= 1
                if not left:
                    break
    return 0


def reload(context: click.Context) -> int:
    """Load the code again and replace the workers one by one (HUP)."""
    if _as_json(context) or not sys.stderr.isatty():
        return _order(context, lambda client: client.reload(key=context.params["key"]))
    return _order(context, lambda client: client.reload_watched(_tell_step, key=context.params["key"]))


def _tell_step(event: Event) -> None:
    if event.kind in RELOAD_STEPS:
        click.echo(f"  {printable(event.text, 500)}", err=True)


def scale(context: click.Context) -> int:
    """Set the number of workers (4), or change it (+1, -1)."""
    amount = context.params["amount"]
    match = _AMOUNT.fullmatch(amount)
    if match is None:
        raise UsageError(
            f"scale: {amount!r} is not a number of workers", "Give 4 to have four, +1 or -1 to change it."
        )
    number = int(match["sign"] + match["number"])
    if match["sign"]:
        return _order(context, lambda client: client.scale(change=number, key=context.params["key"]))
    return _order(context, lambda client: client.scale(workers=number, key=context.params["key"]))


def loglevel(context: click.Context) -> int:
    """Log from this severity on, in all processes: debug, info, warning, error or critical.

    Until the next start, or a reload that changes the setting itself.
    """
    return _order(context, lambda client: client.loglevel(context.params["level"]))


def reopen(context: click.Context) -> int:
    """Open the log files again, behind their rotation (USR1)."""
    return _order(context, lambda client: client.reopen())


def settings(context: click.Context) -> int:
    """The settings in force, and where each value comes from; secrets in them are hidden.

    With NAME all about one.
    """
    name = context.params["name"]
    with _connect(context) as client:
        found = client.settings(changed=context.params["changed"] and name is None)
    if name is not None:
        found = (scripting.find_setting(found, name),)
    if _as_json(context):
        _print_json(found if name is None else found[0])
    else:
        click.echo(scripting.settings_text(found) if name is None else scripting.setting_text(found[0]))
    return 0


def history(context: click.Context) -> int:
    """A line for each of the last seconds, at most 900."""
    with _connect(context) as client:
        found = client.history(context.params["seconds"])
    if _as_json(context):
        _print_json(found)
    else:
        click.echo(scripting.history_text(found))
    return 0


def log(context: click.Context) -> int:
    """The last lines of the error log or, with --access, of the access log; -f follows it."""
    chosen = {
        "access": context.params["access"],
        "past_lines": context.params["lines"],
        "level": context.params["level"],
    }
    with _connect(context) as client:
        if context.params["follow"]:
            scripting.follow_log(client, **chosen)
        else:
            scripting.print_log(client, **chosen)
    return 0


def top(context: click.Context) -> int:
    """The picture again and again, as plain text: for terminals that can do no more, and for screen readers.

    Where the output is no terminal, one picture follows the other.
    """
    with _connect(context) as client:
        scripting.show_top(client, context.params["interval"], context.params["count"])
    return 0


def wait(context: click.Context) -> int:
    """Wait until the server is as wanted; status 1 when the time is over before that.

    Without a condition --ready is meant. A server that is not there yet is waited for, too.
    """
    params = context.params
    ready = params["ready"] or (params["generation"] is None and params["workers"] is None)
    snapshot = scripting.wait_for(
        lambda: _make_client(context),
        lambda seen: scripting.unmet(
            seen, ready=ready, generation=params["generation"], workers=params["workers"]
        ),
        params["timeout"],
    )
    if _as_json(context):
        _print_json(snapshot)
    else:
        serving = sum(worker.state in ("idle", "busy") for worker in snapshot.workers)
        click.echo(f"generation {snapshot.master.generation} serves with {serving} workers")
    return 0


def signal(context: click.Context) -> int:
    """Send a signal to the master, or to one worker.

    Master: HUP, TTIN, TTOU, TERM, INT, QUIT, USR1, USR2. Worker: TERM, QUIT, INT, ABRT, KILL, USR1.
    """
    name, worker = context.params["name"], context.params["worker"]
    return _order(context, lambda client: client.signal(name, pid=worker))


def quarantine(context: click.Context) -> int:
    """Put one worker aside: it accepts nothing and stays to be looked at; another takes its place."""
    return _order(context, lambda client: client.quarantine(context.params["pid"]))


def release(context: click.Context) -> int:
    """Let a worker that is in quarantine serve again."""
    return _order(context, lambda client: client.release(context.params["pid"]))


def retire(context: click.Context) -> int:
    """Have one worker finish its requests and end; another takes its place."""
    return _order(context, lambda client: client.retire(context.params["pid"]))


def cancel(context: click.Context) -> int:
    """Cut one request: its client gets an answer 503, or an end if the answer has begun.

    The thread cannot be stopped: the application goes on until it has something to say. If it has not come
    back after ten seconds its worker is replaced. With --request no later request of the thread can be hit.
    """
    params = context.params
    return _order(
        context, lambda client: client.cancel(params["pid"], params["thread"], request=params["request"])
    )


def upgrade(context: click.Context) -> int:
    """Hand over to a new master, of what is on disk, without losing a request (USR2).

    For a new version of wsgitop or of Python, and for settings that a reload cannot change. If the new master
    does not come up, the old one goes on, and the reason is told.
    """
    return _order(context, lambda client: client.upgrade(key=context.params["key"]))


def stop(context: click.Context) -> int:
    """Stop the server (TERM)."""
    return _order(context, lambda client: client.stop(quick=context.params["quick"]))


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
