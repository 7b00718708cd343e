"""``wsgitop demo``: something to look at, ten seconds after installing."""

from __future__ import annotations

import click

from wsgitop.cli.group import Command

EPILOG = """
Examples:
  wsgitop demo
  wsgitop demo --once                 one picture as text, then everything is stopped again
"""


def demo(context: click.Context) -> int:
    """Serve a small built-in site, send it visitors, and open the interface."""
    from wsgitop.cli.interface import show
    from wsgitop.cli.serve import require_linux
    from wsgitop.cli.tables import status_text
    from wsgitop.demo.main import demo as run_demo

    require_linux()
    once, as_json = context.params["once"], context.params["as_json"]
    if not (once or as_json):
        from wsgitop.tui.terminal import require_terminal

        require_terminal()
    return run_demo(
        once=once or as_json,
        as_json=as_json,
        workers=context.params["workers"],
        port=context.params["port"],
        interface=show,
        render=status_text,
    )


command = Command(
    "demo",
    demo,
    params=[
        click.Option(["--once"], is_flag=True, help="Print one picture and stop."),
        click.Option(["as_json", "--json"], is_flag=True, help="Print one picture as JSON and stop."),
        click.Option(
            ["-w", "--workers"],
            type=click.IntRange(1, 64),
            default=3,
            metavar="N",
            help="Worker processes. Default: 3.",
        ),
        click.Option(
            ["--port"],
            type=click.IntRange(0, 65535),
            default=0,
            metavar="PORT",
            help="Default: one that is free.",
        ),
    ],
    epilog=EPILOG,
)
