"""What a config file gives as a hook, checked when the file is loaded rather than when the hook is due."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from wsgitop.errors import ConfigError
from wsgitop.settings.hooks import FEWEST, HOOKS

Hook = Callable[..., Any]


def as_hook(name: str, value: object, chdir: str) -> Hook:
    """The callable that ``value`` is, or names as ``MODULE.OBJECT``; it takes all arguments of the hook.

    ``chdir`` is where such a module may lie. Raises ConfigError, and what the import of that module raises.
    """
    if isinstance(value, str):
        value = _import(name, value, chdir)
    if not callable(value):
        raise ConfigError(
            f"hook {name}: {value!r:.80} cannot be called", f"Define it as {_definition(name)}."
        )
    _refuse_what_would_not_run(name, value)
    parameters = HOOKS[name]
    for count in range(len(parameters), FEWEST.get(name, len(parameters)) - 1, -1):
        if _takes(value, count):
            return value if count == len(parameters) else _shorter(value, count)
    raise ConfigError(
        f"hook {name}: it is called with {len(parameters)} argument{'s' * (len(parameters) > 1)} "
        f"({', '.join(parameters)}) and cannot be: its signature is {_signature(value)}",
        f"Define it as {_definition(name)}.",
    )


def _definition(name: str) -> str:
    return f"def {name}({', '.join(HOOKS[name])})"


def _import(name: str, text: str, chdir: str) -> object:
    module_name, dot, attribute = text.rpartition(".")
    if not dot or not module_name:
        raise ConfigError(
            f"hook {name}: {text!r} names no function", "Give the function itself, or MODULE.FUNCTION."
        )
    if chdir not in sys.path:
        sys.path.insert(0, chdir)
    module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigError(
            f"hook {name}: the module {module_name} has no {attribute!r}",
            "Check the name in the config file.",
        ) from None


def _refuse_what_would_not_run(name: str, value: Hook) -> None:
    """To call a coroutine or generator function runs none of it, and nobody would notice."""
    inner = value
    while isinstance(inner, functools.partial):
        inner = inner.func
    called = getattr(inner, "__call__", inner)  # noqa: B004 - of an object whose class defines it
    if any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (inner, called)):
        raise ConfigError(
            f"hook {name}: it is async, and hooks are not awaited", f"Write {_definition(name)}."
        )
    if inspect.isgeneratorfunction(inner) or inspect.isgeneratorfunction(called):
        raise ConfigError(
            f"hook {name}: it is a generator, and hooks are only called", "Leave out the yield."
        )


def _takes(value: Hook, count: int) -> bool:
    """It can be called with so many arguments. gunicorn counts parameters, and so refuses ``*args``."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return True  # written in C, and says nothing about it
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _signature(value: Hook) -> str:
    return str(inspect.signature(value))


def _shorter(value: Hook, count: int) -> Hook:
    def hook(*arguments: object) -> object:
        return value(*arguments[:count])

    return functools.update_wrapper(hook, value, functools.WRAPPER_ASSIGNMENTS, ())
