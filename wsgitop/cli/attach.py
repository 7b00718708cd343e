"""``wsgitop attach``: the interface on a server that is running."""

from __future__ import annotations

import click

from wsgitop.cli.group import Command

EPILOG = """
Examples:
  wsgitop attach                      the only server of yours, or a choice
  wsgitop attach mysite.wsgi          by the name of its application
  wsgitop attach 4242                 by its master's pid
  wsgitop attach /run/site/control.sock
"""


def attach(context: click.Context) -> int:
    """Open the interface on a running server.

    TARGET is the path of a control socket, a master's pid, or the name of an application. Without it, the
    servers of this user are found: the only one is taken, of several you choose. Leaving the interface leaves
    the server as it is.
    """
    from wsgitop.cli.interface import show
    from wsgitop.cli.targets import choose, found_at, whereabouts
    from wsgitop.client import Client, find
    from wsgitop.tui.terminal import require_terminal

    require_terminal()
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
        whereabouts=lambda: whereabouts(target, known),
    )
    return 0


command = Command(
    "attach",
    attach,
    params=[
        click.Argument(["target"], metavar="[TARGET]", required=False),
        click.Option(["--no-mouse"], is_flag=True, help="Leave the mouse to the terminal."),
    ],
    epilog=EPILOG,
)
