"""The options of serve, run and check, made from the settings table, so that each setting is declared once.

Values stay text here: what they mean, and what is wrong with them, is for settings.load to say, in the same
words for every source. gunicorn's flags that are no settings here are accepted as well, hidden from the help,
and judged there too.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from wsgitop.errors import ConfigError
from wsgitop.settings.compat import FOREIGN, Foreign
from wsgitop.settings.load import Layer
from wsgitop.settings.table import TABLE, Setting

COMMAND_LINE = "command line"
ARGUMENT_VARIABLES = ("GUNICORN_CMD_ARGS", "WSGITOP_CMD_ARGS")
"""Variables that hold options, the weaker one first."""
_TURNS_ON = "true"
_TURNS_OFF = "false"


class SettingOption(click.Option):
    """An option that stands for a setting.

    ``section`` groups it in the help, ``setting`` is the setting's name.
    """

    def __init__(self, *args: Any, section: str = "", setting: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.setting = setting


def server_options() -> list[click.Parameter]:
    """The argument APP and an option for every setting that has flags."""
    parameters: list[click.Parameter] = [click.Argument(["wsgi_app"], metavar="APP", required=False)]
    parameters.extend(_option(setting) for setting in TABLE.values() if setting.flags)
    parameters.extend(_foreign_option(row) for row in FOREIGN.values() if row.flags)
    return parameters


def _option(setting: Setting) -> click.Option:
    declarations = [*setting.flags, setting.name]
    text = setting.help
    if setting.kind == "switch":
        return SettingOption(
            declarations,
            is_flag=True,
            default=False,
            help=text,
            section=setting.section,
            setting=setting.name,
        )
    default = _shown_default(setting)
    return SettingOption(
        declarations,
        multiple=setting.kind == "list",
        metavar=setting.metavar,
        help=f"{text} Default: {default}." if default else text,
        section=setting.section,
        setting=setting.name,
    )


def _shown_default(setting: Setting) -> str:
    if setting.kind == "list":
        return ", ".join(setting.default)
    if setting.kind == "mode":
        return f"{setting.default:#o}" if setting.default else "0"
    if isinstance(setting.default, float):
        return f"{setting.default:g}"
    text = str(setting.default)
    return "" if len(text) > 40 else text


def _foreign_option(row: Foreign) -> click.Option:
    declarations = [*row.flags, row.name]
    if row.takes in ("switch", "off"):
        return SettingOption(declarations, is_flag=True, default=False, hidden=True, setting=row.name)
    if row.takes == "optional":
        return SettingOption(declarations, is_flag=False, flag_value="auto", hidden=True, setting=row.name)
    return SettingOption(declarations, multiple=row.takes == "list", hidden=True, setting=row.name)


def given(context: click.Context) -> dict[str, Any]:
    """The settings that were given on this command line, by name, as text or lists of text."""
    values: dict[str, Any] = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, SettingOption):
            values[parameter.setting] = _plain(parameter, context.params[name])
        elif name == "wsgi_app" and context.params[name]:
            values[name] = context.params[name]
    return values


def _plain(option: SettingOption, value: Any) -> Any:
    if option.is_flag:
        row = FOREIGN.get(option.setting)
        return _TURNS_OFF if row is not None and row.takes == "off" else _TURNS_ON
    return list(value) if option.multiple else value


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """The command line that gives ``values``, as :func:`given` found them: options first, then APP."""
    arguments: list[str] = []
    for name, value in values.items():
        flags = TABLE[name].flags if name in TABLE else FOREIGN[name].flags
        switch = TABLE[name].kind == "switch" if name in TABLE else FOREIGN[name].takes in ("switch", "off")
        if not flags:
            continue
        flag = next((flag for flag in flags if flag.startswith("--")), flags[0])
        if switch:
            arguments.append(flag)
        else:
            arguments.extend(f"{flag}={item}" for item in (value if isinstance(value, list) else [value]))
    if "wsgi_app" in values:
        arguments += ["--", values["wsgi_app"]]
    return arguments


def environment_layers(environ: Mapping[str, str]) -> list[Layer]:
    """Options given by GUNICORN_CMD_ARGS and WSGITOP_CMD_ARGS, split as a shell does. Raises ConfigError."""
    layers = []
    for variable in ARGUMENT_VARIABLES:
        text = environ.get(variable, "").strip()
        if text:
            layers.append(Layer(variable, _parse(text, variable), "environment"))
    return layers


def _parse(text: str, variable: str) -> dict[str, Any]:
    command = click.Command("serve", params=server_options(), add_help_option=False)
    try:
        with command.make_context(variable, shlex.split(text)) as context:
            return given(context)
    except click.UsageError as error:
        raise ConfigError(f"{variable}: {error.format_message()}") from None
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}: {text!r}", "Quote it as for a shell.") from None
