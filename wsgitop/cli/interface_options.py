"""What the commands that open the interface take for it. Apart from the way there, whose imports would make
``--help`` slow.
"""

from __future__ import annotations

import click


def interface_options() -> list[click.Option]:
    """What the commands that open the interface take for it."""
    return [
        click.Option(["--no-mouse"], is_flag=True, help="Leave the mouse to the terminal."),
        click.Option(
            ["--theme"],
            metavar="NAME",
            default="",
            callback=_known_theme,
            help="Colours: dark, light, ansi for the terminal's own sixteen, or a theme of Textual's such as "
            "nord. Default: what suits the terminal.",
        ),
    ]


def _known_theme(_context: click.Context, _option: click.Parameter, name: str) -> str:
    """Found out before anything is started. Raises UsageError."""
    if name:
        from wsgitop.tui.themes import palette_of

        palette_of(name)
    return name
