"""The settings reference, made from the tables:
``python -m wsgitop.settings.reference > wsgitop/docs/settings.md``.

Pure: :func:`render` gives the page as text, and a test compares it with the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from wsgitop.settings.compat import FOREIGN, Foreign
from wsgitop.settings.convert import allowed
from wsgitop.settings.differences import DIFFERENCES, GUNICORN
from wsgitop.settings.hooks import HOOKS
from wsgitop.settings.table import TABLE, Setting

_HEAD = """# Settings

Made from the tables in `settings/` by `python -m wsgitop.settings.reference`; not to be edited.

A setting is given, from weak to strong, by `WEB_CONCURRENCY`, `PORT` or `FORWARDED_ALLOW_IPS`; by the file
that `--config` names, or the first that exists of `wsgitop.conf.py`, `gunicorn.conf.py` and `[tool.wsgitop]`
in `pyproject.toml`; by `GUNICORN_CMD_ARGS`; by `WSGITOP_CMD_ARGS`; on the command line. What is in force and
where it comes from: `wsgitop serve --print-config`. Names are as in files; in TOML a hyphen may stand for an
underscore.
"""
_HOOKS_HEAD = """
## Hooks

Functions of these names in a Python config file, with these parameters, are called as
[From gunicorn, and back](from-gunicorn.md#hooks) says.

"""
_FOREIGN_HEAD = """
## Settings of gunicorn that have no effect here

A value other than gunicorn's default is remarked upon when the server starts, and the server starts.

"""
_REFUSED_HEAD = """
## Settings of gunicorn that are refused

A value other than gunicorn's default ends the start with status 1.

"""
_UNITS = {"SECONDS": "seconds", "BYTES": "bytes"}


def render() -> str:
    """The page."""
    return "".join(_page())


def _page() -> Iterator[str]:
    yield _HEAD
    sections: dict[str, list[Setting]] = {}
    for setting in TABLE.values():
        sections.setdefault(setting.section, []).append(setting)
    for section, settings in sections.items():
        yield f"\n## {section}\n"
        for setting in settings:
            yield from _setting(setting)
    yield _HOOKS_HEAD
    for name, parameters in HOOKS.items():
        yield f"- `{name}({', '.join(parameters)})`\n"
    yield _FOREIGN_HEAD
    ignored = [row for row in FOREIGN.values() if not row.refused and row.name not in HOOKS]
    yield from _foreign(ignored)
    yield _REFUSED_HEAD
    yield from _foreign([row for row in FOREIGN.values() if row.refused])


def _setting(setting: Setting) -> Iterator[str]:
    yield f"\n### {setting.name}\n\n"
    flags = ", ".join(
        f"`{flag} {setting.metavar}`" if setting.metavar and setting.kind != "switch" else f"`{flag}`"
        for flag in setting.flags
    )
    if setting.name == "wsgi_app":
        flags = "`APP`, behind all flags"
    yield f"- Flags: {flags}\n" if flags else "- In a config file only\n"
    unit = _UNITS.get(setting.metavar, "")
    yield f"- Value: {allowed(setting)}{f', {unit}' if unit else ''}\n"
    yield f"- Default: {_default(setting.default, setting.kind)}\n"
    if setting.name not in GUNICORN:
        yield "- Not in gunicorn\n"
    elif setting.name in DIFFERENCES:
        yield f"- In gunicorn: {DIFFERENCES[setting.name]}\n"
    yield f"\n{setting.help}\n"


def _default(value: Any, kind: str) -> str:
    if value is False:
        return "off"
    if value in ("", (), {}):
        return "none"
    if kind == "mode":
        return f"`{value:#o}`" if value else "`0`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    if isinstance(value, dict):
        return ", ".join(f"`{name}: {item}`" for name, item in value.items())
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _foreign(rows: list[Foreign]) -> Iterator[str]:
    yield "| setting | flags | |\n|---|---|---|\n"
    for row in rows:
        flags = " ".join(f"`{flag}`" for flag in row.flags)
        text = f"{row.reason}. {row.remedy}" if row.remedy else row.reason
        yield f"| `{row.name}` | {flags} | {text.replace('|', chr(92) + '|')} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
