"""The settings in force as people write them, with what is secret in them hidden. Pure.

What is hidden is said in ``settings.hidden``; of ``raw_env`` that is every value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wsgitop.control.messages import SettingShown
from wsgitop.settings.hidden import HIDDEN, hide, shown_app, sounds_secret
from wsgitop.settings.table import TABLE, Settings
from wsgitop.snapshot import printable

VALUE_LIMIT: Final = 2000


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
            f"{key}: {HIDDEN if sounds_secret(str(key)) else _plain('', entry)}"
            for key, entry in value.items()
        )
    if isinstance(value, str):
        return shown_app(value) if name == "wsgi_app" else hide(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
