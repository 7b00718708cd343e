"""The settings in force as people write them, with what is secret in them hidden. Pure.

A value is hidden rather than shown when in doubt: all values of ``raw_env``, whatever has a name like
"password" or "token" wherever it stands in a value, and the credentials of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from wsgitop.control.messages import SettingShown
from wsgitop.settings.table import TABLE, Settings
from wsgitop.snapshot import printable

HIDDEN: Final = "(hidden)"
VALUE_LIMIT: Final = 2000
_SECRET: Final = re.compile(
    r"pass(wd|word|phrase)?|pwd|secret|token|api[-_]?key|private[-_]?key|credential|auth(orization)?|cookie"
    r"|dsn|session",
    re.IGNORECASE,
)
_NAME: Final = rf"(?P<name>[\w.-]*(?:{_SECRET.pattern})[\w.-]*[\"']?)"
_VALUE: Final = r"(?:'[^']*'|\"[^\"]*\"|[^\s,;&)'\"]+)"
_ASSIGNED: Final = re.compile(rf"{_NAME}(?P<sign>\s*[=:]\s*){_VALUE}", re.IGNORECASE)
_PASSED: Final = re.compile(rf"{_NAME}(?P<sign>\s*=\s*){_VALUE}", re.IGNORECASE)
"""As above without the colon, which parts a module from its callable."""
_CREDENTIALS: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)


def shown(settings: Settings, sources: Mapping[str, str]) -> tuple[SettingShown, ...]:
    """Every setting. ``sources`` says for those that are not at their default where the value comes from."""
    return tuple(
        SettingShown(
            name=row.name,
            value=as_text(row.name, getattr(settings, row.name)),
            default=as_text(row.name, row.default),
            source=printable(sources.get(row.name, ""), 300),
            section=row.section,
            help=row.help,
            flags=row.flags,
        )
        for row in TABLE.values()
    )


def as_text(name: str, value: Any) -> str:
    """One value for a screen, secrets hidden, in one line."""
    if name == "raw_env":
        names = (entry.partition("=")[0] for entry in value)
        return printable(", ".join(f"{name}={HIDDEN}" for name in names), VALUE_LIMIT)
    return printable(_plain(name, value), VALUE_LIMIT)


def _plain(name: str, value: Any) -> str:
    if name == "umask":
        return f"0o{value:03o}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ", ".join(_plain("", entry) for entry in value)
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key}: {HIDDEN if _SECRET.search(str(key)) else _plain('', entry)}"
            for key, entry in value.items()
        )
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return hide(text, _PASSED if name == "wsgi_app" else _ASSIGNED) if isinstance(value, str) else text


def hide(text: str, assigned: re.Pattern[str] = _ASSIGNED) -> str:
    """A text without credentials of URLs and without what is assigned to a name that sounds secret."""
    text = _CREDENTIALS.sub(rf"\g<scheme>{HIDDEN}@", text)
    return assigned.sub(rf"\g<name>\g<sign>{HIDDEN}", text)
