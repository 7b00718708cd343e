"""``wsgitop run``: a server of one's own, and the interface on it."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import click

from wsgitop.cli.group import Command, debug_wanted
from wsgitop.cli.interface_options import interface_options
from wsgitop.cli.options import as_arguments, given, server_options
from wsgitop.cli.serve import require_linux
from wsgitop.errors import UsageError, WsgitopError

EPILOG = """
Examples:
  wsgitop run mysite.wsgi:application
  wsgitop run --bind 0:8000 --workers 4 mysite.wsgi:application
"""
STOP_GRACE_S = 5.0
"""Beyond --graceful-timeout, before the server is told to be quick."""
BOOT_GRACE_S = 40.0
"""Beyond --boot-timeout: for the config file and the workers."""
_CAUSE = re.compile(r"^wsgitop: (?P<cause>.+)\n(?:  (?P<remedy>\S.*)\n)?", re.MULTILINE)


def run(context: click.Context) -> int:
    """Serve the WSGI application APP and open the interface.

    The server runs in a session of its own and stops when the interface does, unless you choose to leave it
    running. Options are those of `wsgitop serve`. What the server prints goes to a log file that is named at
    the end.
    """
    from wsgitop.cli.configure import configure
    from wsgitop.tui.terminal import require_terminal

    require_linux()
    values = given(context)
    if "daemon" in values:
        raise UsageError(
            "`wsgitop run` shows the server; --daemon hides it",
            "Use `wsgitop serve --daemon`, then `wsgitop attach`; or leave the server running when you quit.",
        )
    require_terminal()
    settings = configure(values, os.environ).resolved.settings
    if settings.no_control_socket:
        raise UsageError(
            "the interface needs the control socket", "Leave out --no-control-socket, or use `wsgitop serve`."
        )
    from wsgitop.cli.interface import show
    from wsgitop.settings.hidden import shown_app
    from wsgitop.transport.launcher import launch

    log_path = new_log(settings.proc_name or settings.wsgi_app.partition(":")[0])
    click.echo(f"Starting {shown_app(settings.wsgi_app)} …", err=True)
    with launch(as_arguments(values), log_path=log_path) as server:
        try:
            target = server.wait_until_serving(settings.boot_timeout + BOOT_GRACE_S)
        except WsgitopError as error:
            raise _clearer(error, log_path) from None
        choice = show(
            target,
            owns_server=True,
            log_path=str(log_path),
            mouse=not context.params["no_mouse"],
            theme=context.params["theme"],
            server_ended=lambda: server.poll() is not None,
        )
        if choice == "leave" and server.poll() is None:
            server.leave_running()
            click.echo(
                f"The server runs on: `wsgitop attach {server.pid}` shows it again. Its log is {log_path}"
            )
            return 0
        ended_before = server.poll() is not None
        if not ended_before:
            click.echo("Stopping the server …", err=True)
        status = server.stop(settings.graceful_timeout + STOP_GRACE_S)
        click.echo(f"The server {_how_it_ended(status, ended_before)}. Its log is {log_path}")
        return status if status >= 0 else 128 - status


def new_log(name: str) -> Path:
    """A new log file's path in this user's state directory (XDG Base Directory), which is made.

    Raises UsageError.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    directory = base / "wsgitop"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the log directory {directory} cannot be made: {error.strerror}", "Set XDG_STATE_HOME."
        ) from None
    part = re.sub(r"[^\w.-]+", "_", name)[:48]
    return directory / f"{part}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


def _how_it_ended(status: int, by_itself: bool) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}" if by_itself or status else "has stopped"


def _clearer(error: WsgitopError, log_path: Path) -> WsgitopError:
    """The cause as the server put it, instead of the end of its log; all of it if --debug asks."""
    if debug_wanted():
        return error
    try:
        text = log_path.read_text(errors="replace")
    except OSError:
        return error
    found = list(_CAUSE.finditer(text))
    if not found:
        return error
    remedy = found[-1]["remedy"] or ""
    return type(error)(found[-1]["cause"], f"{remedy} Its log is {log_path}".strip())


command = Command(
    "run",
    run,
    params=[
        *server_options(),
        *interface_options(),
    ],
    epilog=EPILOG,
)
