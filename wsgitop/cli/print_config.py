"""The settings as text, each with where it comes from."""

from __future__ import annotations

from wsgitop.settings.load import Resolved
from wsgitop.settings.table import TABLE
from wsgitop.snapshot import printable


def settings_text(resolved: Resolved) -> str:
    """One line for each setting: name, value, and in brackets the source if it is not the default."""
    lines = []
    for name in TABLE:
        source = resolved.sources.get(name, "")
        value = printable(repr(getattr(resolved.settings, name)))
        lines.append(f"{name} = {value}" + (f"  (from {printable(source)})" if source else ""))
    return "\n".join(lines) + "\n"
