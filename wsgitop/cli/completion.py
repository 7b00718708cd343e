"""``wsgitop completion``: what a shell needs to complete our commands and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from wsgitop.cli.group import Command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_WSGITOP_COMPLETE"
"""By it the shell's script asks us for completions; see click's documentation on shell completion."""
EPILOG = """
Examples:
  bash   eval "$(wsgitop completion bash)"          in ~/.bashrc
  zsh    eval "$(wsgitop completion zsh)"           in ~/.zshrc
  fish   wsgitop completion fish | source           in ~/.config/fish/config.fish
"""


def completion(context: click.Context) -> int:
    """Print the script that completes wsgitop's commands in a shell: bash, zsh or fish."""
    kind = get_completion_class(context.params["shell"])
    assert kind is not None, "click knows these shells"
    from wsgitop.cli.main import cli

    click.echo(kind(cli, {}, "wsgitop", VARIABLE).source())
    return 0


command = Command(
    "completion",
    completion,
    params=[click.Argument(["shell"], type=click.Choice(SHELLS), metavar="SHELL")],
    epilog=EPILOG,
)
