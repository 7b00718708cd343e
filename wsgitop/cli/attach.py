"""``wsgitop attach``: the interface on a server that is running."""

from __future__ import annotations

import gc

import click

from wsgitop.cli.group import Command
from wsgitop.cli.interface_options import interface_options
from wsgitop.cli.targets import remote_command_option

EPILOG = """
Examples:
  wsgitop attach                      the only server of yours, or a choice
  wsgitop attach mysite.wsgi          by the name of its application
  wsgitop attach 4242                 by its master's pid
  wsgitop attach /run/site/control.sock
  wsgitop attach ssh://deploy@web-3   the only server of deploy on another machine
  wsgitop attach ssh://deploy@web-3:2222/run/site/control.sock
  wsgitop attach "exec:kubectl exec -i shop-0 -- wsgitop relay"
"""


def attach(context: click.Context) -> int:
    """Open the interface on a running server.

    TARGET is the path of a control socket, a master's pid, or the name of an application. Without it, the
    servers of this user are found: the only one is taken, of several you choose. Leaving the interface leaves
    the server as it is.

    On another machine it is ssh://[USER@]HOST[:PORT], with /PID, /APPLICATION or /PATH/OF/THE/SOCKET behind
    it if several run there. ssh reads your configuration and checks the host's key as always. exec:COMMAND
    runs any command that runs `wsgitop relay` elsewhere; no shell sees it.
    """
    # Nothing of what is imported now is garbage, and to look for it would take a tenth of the start. The
    # interface allows it again.
    gc.disable()
    try:
        return _attach(context)
    finally:
        gc.enable()


def _attach(context: click.Context) -> int:
    from wsgitop.cli.interface import show, show_remote
    from wsgitop.cli.targets import choose, found_at, whereabouts
    from wsgitop.client import Client, find
    from wsgitop.transport.target import is_remote
    from wsgitop.tui.terminal import require_terminal

    require_terminal()
    named, remote_command = context.params["target"], context.params["remote_command"]
    if named is not None and (remote_command or is_remote(named)):
        show_remote(
            named,
            remote_command=remote_command,
            mouse=not context.params["no_mouse"],
            theme=context.params["theme"],
        )
        return 0
    target = choose() if context.params["target"] is None else find(context.params["target"])
    known = found_at(target)
    with Client(target):
        # That it answers is found out here, where the reason can be told; the interface would wait for it to
        # come back.
        pass
    show(
        target,
        owns_server=False,
        mouse=not context.params["no_mouse"],
        theme=context.params["theme"],
        whereabouts=lambda: whereabouts(target, known),
    )
    return 0


command = Command(
    "attach",
    attach,
    params=[
        click.Argument(["target"], metavar="[TARGET]", required=False),
        remote_command_option(),
        *interface_options(),
    ],
    epilog=EPILOG,
)
