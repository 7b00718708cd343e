"""Commands that are imported only when they are called, and help that reads well.

``wsgitop --help`` must be quick, so the root knows its commands by a table of names, modules and one-line
helps.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import click

DEBUG_VARIABLE = "WSGITOP_DEBUG"
OTHER = "Other"
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""What all commands have in common."""


class Entry(NamedTuple):
    """One subcommand: ``module`` has the click command as ``command``."""

    name: str
    module: str
    section: str
    help: str
    hidden: bool = False
    """Not in the list of commands: no command for people."""


def debug_wanted() -> bool:
    """Whether faults are to be shown with their traceback."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _remember_debug(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        # The environment, so that processes started from here show tracebacks as well.
        os.environ[DEBUG_VARIABLE] = "1"


def debug_option() -> click.Option:
    """--debug, accepted before and after the subcommand."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember_debug,
        help="Show tracebacks of faults.",
    )


@click.pass_context
def _help_when_alone(context: click.Context, /, **_params: object) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


class _PlainEpilog(click.Command):
    """Help with options grouped by section, and examples as they were written."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            # An argument is named in the usage line and explained in the text; newer click would list it here
            # too.
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "") or OTHER, []).append(record)
        only = len(sections) == 1
        for title in sorted(sections, key=lambda title: title == OTHER):
            with formatter.section("Options" if only else title):
                formatter.write_dl(sections[title])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write(f"\n{self.epilog.strip()}\n")


class Command(_PlainEpilog):
    """A command of ours. ``run`` takes the context and returns the exit status; its docstring is the help."""

    def __init__(
        self,
        name: str,
        run: Callable[[click.Context], int],
        *,
        params: list[click.Parameter] | None = None,
        epilog: str = "",
        ignore_unknown_options: bool = False,
    ) -> None:
        self.run = run
        super().__init__(
            name,
            params=[*(params or []), debug_option()],
            help=inspect.getdoc(run),
            epilog=epilog,
            context_settings={**CONTEXT, "ignore_unknown_options": ignore_unknown_options},
        )

    def invoke(self, ctx: click.Context) -> int:
        """Run it.

        The context carries the parameters: an option for every setting would make a long signature.
        """
        return self.run(ctx)


class Group(_PlainEpilog, click.Group):
    """A group of our commands. Called without one, it shows its help."""

    def __init__(
        self,
        name: str,
        *,
        help: str,  # noqa: A002 - click's word
        commands: tuple[click.Command, ...] = (),
        params: list[click.Parameter] | None = None,
        epilog: str = "",
    ) -> None:
        super().__init__(
            name,
            help=help,
            commands=commands,
            params=[*(params or []), debug_option()],
            epilog=epilog,
            invoke_without_command=True,
            callback=_help_when_alone,
            context_settings=CONTEXT,
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands first: they are what a group is about."""
        self.format_commands(ctx, formatter)
        _PlainEpilog.format_options(self, ctx, formatter)


class LazyGroup(Group):
    """A group whose commands are imported when they are needed."""

    def __init__(self, name: str, *, entries: tuple[Entry, ...], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.entries = {entry.name: entry for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(entry.module).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.command is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By section, from the table: nothing is imported."""
        shown = [entry for entry in self.entries.values() if not entry.hidden]
        width = max(len(entry.name) for entry in shown)
        for section in dict.fromkeys(entry.section for entry in shown):
            rows = [(e.name.ljust(width), e.help) for e in shown if e.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)
