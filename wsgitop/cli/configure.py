"""From a command line to settings: which config file there is, what it says, and all layers resolved."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wsgitop.cli.child import TookTooLong, ask
from wsgitop.cli.options import COMMAND_LINE, environment_layers
from wsgitop.errors import ConfigError, UsageError
from wsgitop.settings.load import (
    PYPROJECT,
    Layer,
    Resolved,
    find_config,
    platform_layers,
    read_toml,
    resolve,
)

PROBE_DEADLINE_S = 30.0
FILE_PREFIX = "file:"
MODULE_PREFIX = "python:"


class ConfigFileError(ConfigError):
    """The Python config file failed. ``traceback`` is its text."""

    def __init__(self, cause: str, remedy: str = "", *, traceback: str = "") -> None:
        self.traceback = traceback
        super().__init__(cause, remedy)


class Configuration(NamedTuple):
    """All that ``serve`` hands to the master.

    ``layers`` allow to resolve again with another file; ``directory`` is where the command was started, its
    links unresolved; ``notes`` are lines for the log.
    """

    resolved: Resolved
    layers: tuple[Layer, ...]
    directory: str
    notes: tuple[str, ...]


def configure(
    given: Mapping[str, Any], environ: Mapping[str, str], *, need_app: bool = True
) -> Configuration:
    """Resolve everything. ``given`` is what the command line says. Raises ConfigError, UsageError.

    ``settings.config`` of the outcome names the file that was read: absolute but unresolved, so that a link
    in it is followed anew at every reload; ``python:MODULE`` stays as it is; '' for none.
    """
    directory = launch_directory(environ)
    command_line = Layer(COMMAND_LINE, dict(given), "command line")
    stronger = [*environment_layers(environ), command_line]
    config, chosen_by = _config_path(stronger, directory)
    chdir = next((layer.values["chdir"] for layer in reversed(stronger) if layer.values.get("chdir")), "")
    if chdir and not (directory / chdir).is_dir():
        raise ConfigError(
            f"chdir: {chdir!r} is not a directory", "Give the directory that holds the application."
        )
    file_layers, notes = _read_config(config, str(directory / chdir))
    if chosen_by is not None:
        chosen_by.values["config"] = config
    elif config:
        # Not among the values of the file itself: those are replaced when the file is read again.
        stronger.insert(0, Layer("working directory", {"config": config}, "environment"))
    layers = (*platform_layers(environ), *file_layers, *stronger)
    resolved = resolve(layers)
    if need_app and not resolved.settings.wsgi_app:
        raise UsageError(
            "no application is named", "Give it as MODULE:CALLABLE, for example mysite.wsgi:application."
        )
    return Configuration(resolved, layers, str(directory), (*notes, *resolved.notes))


def launch_directory(environ: Mapping[str, str]) -> Path:
    """The working directory as the user wrote it: $PWD keeps the links that getcwd(3) resolves, if it is
    true."""
    try:
        current = Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working directory does not exist any more", "Change to another one.") from None
    except OSError as error:
        raise ConfigError(f"the working directory cannot be used: {error.strerror}") from None
    written = Path(environ.get("PWD", ""))
    with contextlib.suppress(OSError):
        if written.is_absolute() and written.samefile(current):
            return written
    return current


def _config_path(stronger: list[Layer], directory: Path) -> tuple[str, Layer | None]:
    chosen = next((layer for layer in reversed(stronger) if layer.values.get("config")), None)
    if chosen is None:
        return find_config(directory), None
    text = str(chosen.values["config"])
    if text.startswith(MODULE_PREFIX):
        return text, chosen
    path = directory / text.removeprefix(FILE_PREFIX)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise ConfigError(
            f"config: {str(path)!r} {what} (from {_source(chosen)})", "Name a Python or TOML file."
        )
    if not os.access(path, os.R_OK):
        raise ConfigError(f"config: {str(path)!r} cannot be read: permission denied (from {_source(chosen)})")
    return str(path), chosen


def _source(layer: Layer) -> str:
    return "--config" if layer.kind == "command line" else layer.source


def _read_config(config: str, chdir: str) -> tuple[list[Layer], tuple[str, ...]]:
    if not config:
        return [], ()
    if config.endswith(".toml") or Path(config).name == PYPROJECT:
        return [Layer(config, read_toml(Path(config)))], ()
    values, notes = run_probe(config, chdir)
    return [Layer(config, values)], notes


def run_probe(
    path: str, chdir: str, *, deadline_s: float = PROBE_DEADLINE_S
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Have another process load the Python config file ``path``; its values and notes. Raises ConfigError.

    Another process, because the file is the user's code: it may start threads, call sys.exit or hang, and
    what it imports must not stay in the process that becomes the master.
    """
    try:
        answer = ask("wsgitop.zygote.probe", [path, chdir], deadline_s=deadline_s)
    except TookTooLong:
        raise ConfigError(
            f"config: {path!r} was not loaded within {deadline_s:g} s", "It must not wait for anything."
        ) from None
    value = answer.value
    if value is None:
        words = answer.output.strip().splitlines()[-1:] or [f"its process ended with status {answer.status}"]
        raise ConfigFileError(f"config: {path!r} cannot be loaded: {words[0]}", traceback=answer.output)
    if "error" in value:
        raise ConfigFileError(
            str(value["error"]), str(value.get("remedy", "")), traceback=str(value.get("traceback", ""))
        )
    sys.stderr.write(answer.output)
    return dict(value.get("values", {})), tuple(str(note) for note in value.get("notes", ()))
