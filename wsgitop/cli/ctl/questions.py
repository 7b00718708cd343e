"""What ``wsgitop ctl`` asks a server. Tables for people, --json for programs."""

from __future__ import annotations

import click

from wsgitop.cli import obituaries, scripting, tables
from wsgitop.cli.ctl.connecting import as_json, connect, make_client, print_json
from wsgitop.control.messages import MetricsResult
from wsgitop.errors import UsageError
from wsgitop.snapshot import Snapshot, printable


def status(context: click.Context) -> int:
    """The whole picture at this moment."""
    with connect(context) as client:
        snapshot = client.status()
    if as_json(context):
        print_json(snapshot)
    else:
        click.echo(tables.status_text(snapshot), nl=False)
    return 0


def workers(context: click.Context) -> int:
    """The workers and what each is serving."""
    with connect(context) as client:
        found = client.workers()
    if as_json(context):
        print_json(found)
    else:
        click.echo(tables.workers_text(found))
    return 0


def requests(context: click.Context) -> int:
    """The requests in flight, the oldest first, and those that took longest in the last 15 minutes."""
    with connect(context) as client:
        found = client.requests(context.params["limit"])
    if as_json(context):
        print_json(found)
    else:
        click.echo(tables.requests_text(found))
    return 0


def stack(context: click.Context) -> int:
    """Where the threads of a worker are at this moment; calls of the application are marked by >.

    A worker whose interpreter does not answer, because C code holds it, is shown by faulthandler.
    """
    with connect(context) as client:
        found = client.stack(context.params["pid"], thread=context.params["thread"])
    if as_json(context):
        print_json(found)
    else:
        click.echo(tables.stack_text(found))
    return 0


def events(context: click.Context) -> int:
    """What happened lately, and who caused it."""
    with connect(context) as client:
        found = client.events(context.params["after"], context.params["limit"])
    if as_json(context):
        print_json(found)
    else:
        click.echo(tables.events_text(found), nl=False)
    return 0


def deaths(context: click.Context) -> int:
    """How workers and zygotes have ended, and why; before the last restart, too.

    With --pid all about one: what it was serving, its memory over time, its stack and its last lines.
    """
    pid = context.params["pid"]
    with connect(context) as client:
        found = client.deaths(limit=context.params["number"], pid=pid)
    if pid is not None and not found:
        raise UsageError(f"the ledger has no process {pid}", "See `wsgitop ctl deaths 200`.")
    if as_json(context):
        print_json(found)
    elif pid is not None:
        click.echo("\n\n\n".join(obituaries.death_text(death) for death in found))
    else:
        click.echo(obituaries.deaths_text(found))
    return 0


def metrics(context: click.Context) -> int:
    """The figures as OpenMetrics text, for Prometheus."""
    with connect(context) as client:
        text = client.metrics()
    if as_json(context):
        print_json(MetricsResult(text))
    else:
        click.echo("\n".join(printable(line) for line in text.split("\n")), nl=False)
    return 0


def watch(context: click.Context) -> int:
    """Print a line for every snapshot and every event, until stopped."""
    left = context.params["count"]
    with connect(context) as client:
        for news in client.subscribe(context.params["interval"]):
            is_snapshot = isinstance(news, Snapshot)
            if as_json(context):
                print_json({"snapshot" if is_snapshot else "event": news}, lines=True)
            else:
                click.echo(
                    tables.snapshot_line(news) if isinstance(news, Snapshot) else tables.event_line(news)
                )
            if is_snapshot and left:
                left -= 1
                if not left:
                    break
    return 0


def settings(context: click.Context) -> int:
    """The settings in force, and where each value comes from; secrets in them are hidden.

    With NAME all about one.
    """
    name = context.params["name"]
    with connect(context) as client:
        found = client.settings(changed=context.params["changed"] and name is None)
    if name is not None:
        found = (scripting.find_setting(found, name),)
    if as_json(context):
        print_json(found if name is None else found[0])
    else:
        click.echo(scripting.settings_text(found) if name is None else scripting.setting_text(found[0]))
    return 0


def history(context: click.Context) -> int:
    """A line for each of the last seconds, at most 900."""
    with connect(context) as client:
        found = client.history(context.params["seconds"])
    if as_json(context):
        print_json(found)
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
    with connect(context) as client:
        if context.params["follow"]:
            scripting.follow_log(client, **chosen)
        else:
            scripting.print_log(client, **chosen)
    return 0


def top(context: click.Context) -> int:
    """The picture again and again, as plain text: for terminals that can do no more, and for screen readers.

    Where the output is no terminal, one picture follows the other.
    """
    with connect(context) as client:
        scripting.show_top(client, context.params["interval"], context.params["count"])
    return 0


def wait(context: click.Context) -> int:
    """Wait until the server is as wanted; status 1 when the time is over before that.

    Without a condition --ready is meant. A server that is not there yet is waited for, too.
    """
    params = context.params
    ready = params["ready"] or (params["generation"] is None and params["workers"] is None)
    snapshot = scripting.wait_for(
        lambda: make_client(context),
        lambda seen: scripting.unmet(
            seen, ready=ready, generation=params["generation"], workers=params["workers"]
        ),
        params["timeout"],
    )
    if as_json(context):
        print_json(snapshot)
    else:
        serving = sum(worker.state in ("idle", "busy") for worker in snapshot.workers)
        click.echo(f"generation {snapshot.master.generation} serves with {serving} workers")
    return 0
