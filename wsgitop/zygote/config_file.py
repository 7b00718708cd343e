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

LOGCONFIG = "logconfig_dict"
CLASSES = frozenset({"logger_class", "worker_class"})
"""Settings that take a class or its name."""


class ConfigFile(NamedTuple):
    """What a config file holds: plain values by name, remarks for the log, and hooks by name.

    ``logconfig`` is its logconfig_dict as it is there, with what is not plain in it.
    """

    values: dict[str, Any]
    notes: tuple[str, ...]
    hooks: Mapping[str, Hook] = MappingProxyType({})
    logconfig: Mapping[str, Any] | None = None


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
        elif name in CLASSES and isinstance(value, type):
            values[name] = f"{value.__module__}.{value.__qualname__}"
        elif callable(value):
            continue
        else:
            try:
                # What JSON cannot carry would fail only when the answer is sent.
                values[name] = plain(value) if name == LOGCONFIG else _there_and_back(value)
            except (TypeError, ValueError, OverflowError, RecursionError):
                notes.append(f"{name} holds what no setting takes (it is of type {type(value).__name__})")
    original = namespace.get(LOGCONFIG)
    logconfig = original if LOGCONFIG in values and isinstance(original, dict) else None
    return ConfigFile(values, tuple(notes), hooks, logconfig)


def _there_and_back(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def plain(value: object) -> Any:
    """A value as JSON can carry it, with the names of what it cannot carry.

    Raises TypeError, ValueError, OverflowError or RecursionError.
    """
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_named))


def _named(value: object) -> str:
    # Not its repr: that is the user's code as well, and has another address in it in each process.
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"<{kind.__module__}.{getattr(kind, '__qualname__', '')}>"
