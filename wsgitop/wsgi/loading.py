"""From ``MODULE:CALLABLE`` to the application. Runs in zygotes and workers, and in ``wsgitop check``; never
in the master.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from wsgitop.errors import AppImportError
from wsgitop.settings.hidden import shown_app
from wsgitop.wsgi.types import WSGIApplication

DEFAULT_NAME: Final = "application"
_PATCHERS: Final = (("gevent", "gevent.monkey"), ("eventlet", "eventlet.patcher"))


def load_app(spec: str) -> WSGIApplication:
    """Import the application that ``spec`` names: ``MODULE``, ``MODULE:NAME`` or ``MODULE:FACTORY(literal,
    key=literal)``.

    NAME defaults to ``application`` and may have dots. Raises AppImportError, which tells a module that is
    not there from one that is and fails. SystemExit raised by the module is such a failure; KeyboardInterrupt
    passes.
    """
    module_name, expression = _split(spec)
    module = _import(spec, module_name)
    _refuse_patched_process()
    return _resolve(spec, module_name, module, expression)


def _split(spec: str) -> tuple[str, ast.expr]:
    module_name, colon, name = spec.partition(":")
    if not module_name or (colon and not name):
        raise AppImportError(
            f"{shown_app(spec)!r} names no application",
            "Write MODULE:CALLABLE, for example mysite.wsgi:application.",
        )
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise AppImportError(
            f"{module_name!r} is a path, not a module",
            f"Write the module's dotted name, for example {dotted}:{name or DEFAULT_NAME}.",
        )
    try:
        return module_name, ast.parse(name or DEFAULT_NAME, mode="eval").body
    except SyntaxError:
        raise AppImportError(
            f"{shown_app(spec)!r} is neither a name nor a call",
            "Write MODULE:NAME or MODULE:FACTORY('argument').",
        ) from None


def _import(spec: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise AppImportError(
                f"No module named {error.name!r}, which the application {shown_app(spec)!r} needs",
                f"Looked in {_search_path()}. Start in the project's directory, or use --chdir.",
            ) from None
        raise _failed(
            f"The module {module_name!r} imports {error.name!r}, which is not installed",
            error,
            f"Install {error.name!r}, or mend the import.",
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(
            f"The module {module_name!r} cannot be imported: {describe(error)}",
            error,
            "Mend the module; --debug shows where it fails.",
        ) from error


def _failed(cause: str, error: BaseException, remedy: str) -> AppImportError:
    return AppImportError(cause, remedy, traceback=trimmed_traceback(error))


def _resolve(spec: str, module_name: str, module: Any, expression: ast.expr) -> WSGIApplication:
    call = expression if isinstance(expression, ast.Call) else None
    name = _dotted(call.func if call else expression, spec)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AppImportError(
                f"The module {module_name!r} has no {name!r}", _suggest(module_name, module)
            ) from None
    if call is not None:
        found = _call_factory(name, found, call)
    if found is None:
        raise AppImportError(
            f"{shown_app(spec)!r} is None",
            "The application must be a callable that takes environ and start_response.",
        )
    if not callable(found):
        raise AppImportError(
            f"{shown_app(spec)!r} is not callable: it is of type {type(found).__name__}",
            _suggest(module_name, module),
        )
    return found  # type: ignore[no-any-return] # callable is all that can be known of it


def _dotted(node: ast.expr, spec: str) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise AppImportError(
            f"{shown_app(spec)!r} is neither a name nor a call of one",
            "Write MODULE:NAME or MODULE:FACTORY('argument').",
        )
    return ".".join([node.id, *reversed(parts)])


def _call_factory(name: str, factory: Any, call: ast.Call) -> Any:
    try:
        args = [ast.literal_eval(argument) for argument in call.args]
        keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
        if len(keywords) != len(call.keywords):
            raise ValueError("** is not a literal")
    except ValueError:
        raise AppImportError(
            f"The arguments of {name!r} are not literals", "Use strings, numbers, lists, True, False or None."
        ) from None
    if not callable(factory):
        raise AppImportError(
            f"{name!r} is not callable, so it cannot be a factory", f"Write it without parentheses: {name}."
        )
    try:
        inspect.signature(factory).bind(*args, **keywords)
    except TypeError as error:
        raise AppImportError(
            f"The factory {name!r} does not take these arguments: {error}", "Change the arguments."
        ) from None
    except ValueError:
        pass  # built-in callables have no signature; calling tells
    try:
        return factory(*args, **keywords)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(
            f"The factory {name!r} failed: {describe(error)}",
            error,
            "Mend the factory; --debug shows where it fails.",
        ) from error


def _suggest(module_name: str, module: Any) -> str:
    names = [
        name
        for name in ("application", "app", "wsgi_app", "create_app", "make_app")
        if callable(getattr(module, name, None))
    ]
    if not names:
        return f"Name the callable: {module_name}:NAME."
    return (
        "Did you mean "
        + " or ".join(
            f"{module_name}:{name}{'()' if name.endswith('_app') and name != 'wsgi_app' else ''}"
            for name in names
        )
        + "?"
    )


def _search_path() -> str:
    shown = [entry or str(Path.cwd()) for entry in sys.path[:2]]
    return ", ".join(shown) + (" and the installed packages" if len(sys.path) > 2 else "")


def _refuse_patched_process() -> None:
    """The loop polls and blocks in system calls; in a process whose sockets and threads are greenlets it
    would never run.
    """
    for library, module_name in _PATCHERS:
        module = sys.modules.get(module_name)
        if module is None:
            continue
        query = getattr(module, "is_module_patched" if library == "gevent" else "is_monkey_patched", None)
        if query is not None and query("socket"):
            raise AppImportError(
                f"The application patches the standard library with {library}; wsgitop serves with threads",
                f"Remove {library}'s monkey patching, and use --threads for concurrency.",
            )


def describe(error: BaseException) -> str:
    """An exception in one line: its type and message."""
    return traceback.format_exception_only(error)[-1].strip()


def trimmed_traceback(error: BaseException) -> str:
    """The traceback without the frames of the import machinery and of this module, as text."""
    shown = traceback.TracebackException.from_exception(error)
    _trim(shown, set())
    return "".join(shown.format())


def _trim(shown: traceback.TracebackException, seen: set[int]) -> None:
    if id(shown) in seen:
        return
    seen.add(id(shown))
    frames = [
        frame
        for frame in shown.stack
        if not frame.filename.startswith("<frozen importlib")
        and frame.filename not in (__file__, importlib.__file__)
    ]
    shown.stack = traceback.StackSummary.from_list(frames)
    for inner in (shown.__cause__, shown.__context__):
        if inner is not None:
            _trim(inner, seen)
