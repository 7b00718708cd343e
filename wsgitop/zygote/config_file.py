"""Loading a Python config file: executing the user's code and keeping what is plain data.

Runs in a zygote or in the probe, never in the master: the file may import what it likes, print, hang or
crash.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from wsgitop.errors import ConfigError
from wsgitop.settings.hooks import HOOKS, NOT_RUN
from wsgitop.zygote.signatures import Hook, as_hook


class ConfigFile(NamedTuple):
    """What a config file holds: plain values by name, remarks for the log, and hooks by name."""

    values: dict[str, Any]
    notes: tuple[str, ...]
    hooks: Mapping[str, Hook] = MappingProxyType({})


def load(path: str, chdir: str) -> ConfigFile:
    """Execute ``path`` (``FILE``, ``file:FILE`` or ``python:MODULE``) as gunicorn does and collect its names.

    Raises ConfigError when it cannot be read or a hook cannot be called, and whatever the file itself raises.
    """
    if path.startswith("python:"):
        if chdir not in sys.path:
            sys.path.insert(0, chdir)
        namespace = dict(vars(importlib.import_module(path.removeprefix("python:"))))
    else:
        file = Path(chdir, path.removeprefix("file:"))
        try:
            source = file.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"config file {file} cannot be read: {error.strerror}", "Check the path given with -c."
            ) from None
        module = types.ModuleType("__config__")
        module.__file__ = str(file)
        namespace = module.__dict__
        namespace["__builtins__"] = builtins
        sys.modules["__config__"] = module
        exec(compile(source, str(file), "exec"), namespace)
    return _collect(namespace, chdir)


def _collect(namespace: dict[str, Any], chdir: str) -> ConfigFile:
    values: dict[str, Any] = {}
    notes: list[str] = []
    hooks: dict[str, Hook] = {}
    for name, value in namespace.items():
        if name.startswith("_") or isinstance(value, types.ModuleType) or name == "annotations":
            continue
        if name in HOOKS:
            if value is not None:
                hooks[name] = as_hook(name, value, chdir)
        elif name in NOT_RUN and (callable(value) or isinstance(value, str)):
            notes.append(f"the hook {name} is not run by this version")
        elif callable(value):
            continue
        else:
            try:
                # There and back: what JSON cannot carry would fail only when the answer is sent.
                values[name] = msgspec.json.decode(msgspec.json.encode(value))
            except (TypeError, ValueError, OverflowError, RecursionError):
                notes.append(f"{name} holds what no setting takes (it is of type {type(value).__name__})")
    return ConfigFile(values, tuple(notes), hooks)
