"""Settings in layers: defaults, variables of the platform, config file, environment, command line; the
later one wins.

Pure but for :func:`read_toml` and :func:`find_config`. A Python config file is never loaded here, because its
code is the user's: another process runs it and hands over plain data. Layers are plain data too, so that the
master can keep them and resolve again with the file as it reads after a reload.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from wsgitop.errors import ConfigError
from wsgitop.settings import compat
from wsgitop.settings.convert import as_settings, convert
from wsgitop.settings.table import TABLE, Settings

LayerKind = Literal["variable", "file", "environment", "command line"]

CONFIG_NAMES = ("wsgitop.conf.py", "gunicorn.conf.py")
PYPROJECT = "pyproject.toml"
NEAR = 0.75
"""How alike two names must be for one to be offered as what was meant (difflib's ratio)."""


class Layer(msgspec.Struct, frozen=True):
    """Some settings and where they came from. Values are as found: text, or plain data from a file.

    ``source`` is what messages say: a path, a variable's name, or "command line".
    """

    source: str
    values: dict[str, Any]
    kind: LayerKind = "file"


class Resolved(NamedTuple):
    """The outcome. ``sources`` tells for each setting that is not at its default which layer it came from.

    ``notes`` are lines for the log: names that are not known, and gunicorn's settings that have no effect
    here.
    """

    settings: Settings
    sources: dict[str, str]
    notes: tuple[str, ...] = ()


def resolve(layers: Sequence[Layer]) -> Resolved:
    """Merge ``layers``, weakest first. A value None counts as not set. Raises ConfigError."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    notes: list[str] = []
    for layer in layers:
        for given_name, raw in layer.values.items():
            name = compat.ALIASES.get(given_name, given_name)
            if raw is None:
                continue
            origin = _origin(layer, given_name)
            if name in TABLE:
                values[name] = convert(TABLE[name], raw, origin)
                sources[name] = layer.source
            elif name in compat.FOREIGN:
                note = compat.judge(compat.FOREIGN[name], raw, origin)
                if note:
                    notes.append(note)
            else:
                notes.extend(_unknown(name, layer))
    if "worker_class" in values:
        note = compat.check_worker_class(values["worker_class"], sources["worker_class"])
        if note:
            notes.append(note)
    return Resolved(as_settings(values), sources, tuple(notes))


def resolve_with_file(layers: Sequence[Layer], file_values: Mapping[str, Any], file_source: str) -> Resolved:
    """Resolve again with other values in the place of the config file. Raises ConfigError."""
    fresh = Layer(file_source, dict(file_values), "file")
    weaker = [layer for layer in layers if layer.kind == "variable"]
    stronger = [layer for layer in layers if layer.kind in ("environment", "command line")]
    return resolve([*weaker, fresh, *stronger])


def _origin(layer: Layer, name: str) -> str:
    if layer.kind != "command line":
        return layer.source
    flags = (
        TABLE[name].flags if name in TABLE else compat.FOREIGN[name].flags if name in compat.FOREIGN else ()
    )
    long_flags = [flag for flag in flags if flag.startswith("--")]
    return long_flags[0] if long_flags else layer.source


def _unknown(name: str, layer: Layer) -> list[str]:
    near = difflib.get_close_matches(name, [*TABLE, *compat.FOREIGN], n=1, cutoff=NEAR)
    if near:
        return [f"{name}: no such setting; did you mean {near[0]}? (from {layer.source})"]
    if layer.source.endswith(".py"):
        # A Python file has variables of its own beside the settings; to name each of them would bury the one
        # that matters.
        return []
    return [f"{name}: no such setting (from {layer.source})"]


def platform_layers(environ: Mapping[str, str]) -> list[Layer]:
    """What a platform says by WEB_CONCURRENCY, PORT and FORWARDED_ALLOW_IPS: defaults, weaker than the
    config file."""
    layers = []
    if workers := environ.get("WEB_CONCURRENCY", "").strip():
        layers.append(Layer("WEB_CONCURRENCY", {"workers": workers}, "variable"))
    if port := environ.get("PORT", "").strip():
        layers.append(Layer("PORT", {"bind": [f"0.0.0.0:{port}"]}, "variable"))
    if proxies := environ.get("FORWARDED_ALLOW_IPS", "").strip():
        layers.append(Layer("FORWARDED_ALLOW_IPS", {"forwarded_allow_ips": proxies}, "variable"))
    return layers


def find_config(directory: Path) -> str:
    """The config file that ``directory`` holds, or ''.

    Raises ConfigError if pyproject.toml cannot be read.
    """
    for name in CONFIG_NAMES:
        if (directory / name).is_file():
            return str(directory / name)
    pyproject = directory / PYPROJECT
    if pyproject.is_file() and read_toml(pyproject):
        return str(pyproject)
    return ""


def read_toml(path: Path) -> dict[str, Any]:
    """Settings of a TOML file: the table ``tool.wsgitop``; in a file that is not a pyproject.toml, else
    its top level.

    Raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config: {str(path)!r} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {str(path)!r} is not valid TOML: {error}") from None
    tool = document.get("tool")
    table = tool.get("wsgitop") if isinstance(tool, dict) else None
    if table is None:
        table = {} if path.name == PYPROJECT else document
    if not isinstance(table, dict):
        raise ConfigError(f"config: tool.wsgitop in {str(path)!r} is not a table")
    return {name.replace("-", "_"): value for name, value in table.items()}
