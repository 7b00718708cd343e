"""``wsgitop relay``: the far end of a remote connection."""

from __future__ import annotations

import click

from wsgitop.cli.group import Command

EPILOG = """
Examples:
  wsgitop attach ssh://deploy@web-3                              runs `wsgitop relay` at web-3
  wsgitop attach "exec:docker exec -i shop wsgitop relay"
  wsgitop ctl -s "exec:kubectl exec -i shop-0 -- wsgitop relay" status

Exit status: 0 when either side has ended, 2 usage, 3 cannot connect, 4 refused.
"""


def relay(context: click.Context) -> int:
    """Carry the control protocol of a running server over standard input and output.

    This is what ssh:// and exec: targets run at the far end; there is seldom a reason to call it by hand.
    TARGET is the path of a control socket, a master's pid, or the name of an application; without it the only
    running server of this user is taken. It writes nothing of its own to standard output.
    """
    from wsgitop.cli.targets import choose
    from wsgitop.client import find
    from wsgitop.transport.relay import pump
    from wsgitop.transport.unix import connect

    target = context.params["target"]
    # It never asks: its standard streams belong to the program at the other end.
    with connect(choose(may_ask=False) if target is None else find(target)) as sock:
        pump(sock)
    return 0


command = Command(
    "relay",
    relay,
    params=[click.Argument(["target"], metavar="[TARGET]", required=False)],
    epilog=EPILOG,
)
