"""Secrets in what people read of the settings: found by the names that they go by, and hidden. Pure.

A value is hidden rather than shown when in doubt: whatever has a name like "password" or "token", and the
credentials of a URL.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "(hidden)"
_SECRET: Final = re.compile(
    r"pass(wd|word|phrase)?|pwd|secret|token|api[-_]?key|private[-_]?key|credential|auth(orization)?|cookie"
    r"|dsn|session",
    re.IGNORECASE,
)
_NAME: Final = rf"(?P<name>[\w.-]*(?:{_SECRET.pattern})[\w.-]*[\"']?)"
_SCHEME: Final = r"(?:(?:basic|bearer|digest|negotiate|token|apikey)\s+)?"
"""Of an Authorization field: a first word, behind which the secret comes (RFC 9110, section 11.4)."""
_VALUE: Final = rf"(?:b?'(?:\\.|[^'\\])*'|b?\"(?:\\.|[^\"\\])*\"|(?:b?[\"'])?{_SCHEME}[^\s,;&)'\"]+)"
_ASSIGNED: Final = re.compile(rf"{_NAME}(?P<sign>\s*[=:]\s*){_VALUE}", re.IGNORECASE)
_PASSED: Final = re.compile(rf"{_NAME}(?P<sign>\s*=\s*){_VALUE}", re.IGNORECASE)
"""As above without the colon, which parts a module from its callable."""
_CREDENTIALS: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s'\"]*@", re.IGNORECASE)
"""Up to the last @: a password may have one, and a slash."""


def sounds_secret(name: str) -> bool:
    """Whether what goes by this name is hidden."""
    return _SECRET.search(name) is not None


def hide(text: str) -> str:
    """A text without credentials of URLs and without what is assigned to a name that sounds secret."""
    return _hide(text, _ASSIGNED)


def shown_app(app: str) -> str:
    """The application's name, ``MODULE:CALLABLE``, without the secrets that a call has as arguments."""
    module, _, expression = app.partition(":")
    try:
        call = ast.parse(expression, mode="eval").body
        if not isinstance(call, ast.Call):
            return _hide(app, _PASSED)
        given = [_argument("", each) for each in call.args]
        given += [_argument(each.arg or "", each.value) for each in call.keywords]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return _hide(app, _PASSED)  # no call that could be made
    if not any(HIDDEN in each for each in given):
        return app
    return f"{module}:{ast.unparse(call.func)}({', '.join(given)})"


def _argument(name: str, node: ast.expr) -> str:
    value = HIDDEN if sounds_secret(name) else _literal(ast.literal_eval(node))
    return f"{name}={value}" if name else value


def _literal(value: Any) -> str:
    """As repr(), but for what is hidden."""
    if isinstance(value, Mapping):
        pairs = (
            f"{key!r}: {HIDDEN if sounds_secret(str(key)) else _literal(entry)}"
            for key, entry in value.items()
        )
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple | set):
        return f"[{', '.join(map(_literal, value))}]"
    return hide(repr(value))


def _hide(text: str, assigned: re.Pattern[str]) -> str:
    text = _CREDENTIALS.sub(rf"\g<scheme>{HIDDEN}@", text)
    return assigned.sub(rf"\g<name>\g<sign>{HIDDEN}", text)
