"""The settings reference is what the tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsgitop
from wsgitop.settings import compat
from wsgitop.settings.differences import DIFFERENCES, GUNICORN
from wsgitop.settings.hooks import HOOKS
from wsgitop.settings.reference import render
from wsgitop.settings.table import TABLE

PAGE = Path(wsgitop.__file__).parent / "docs" / "settings.md"
README = Path(wsgitop.__file__).parent.parent / "README.md"


def test_the_page_is_current() -> None:
    command = "python -m wsgitop.settings.reference > wsgitop/docs/settings.md"
    assert PAGE.read_text() == render(), f"run: {command}"


@pytest.mark.parametrize("name", TABLE)
def test_every_setting_is_on_it(name: str) -> None:
    before, _, after = render().partition(f"\n### {name}\n\n")
    assert before and after
    text = after.partition("\n### ")[0]
    assert TABLE[name].help in text
    assert all(f"`{flag}" in text for flag in TABLE[name].flags)
    assert ("- Not in gunicorn\n" in text) == (name not in GUNICORN)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_on_it(name: str) -> None:
    assert f"\n- `{name}({', '.join(HOOKS[name])})`\n" in render()


FOREIGN = [row for row in compat.FOREIGN.values() if row.name not in HOOKS]


@pytest.mark.parametrize("row", FOREIGN, ids=lambda row: row.name)
def test_every_foreign_setting_is_on_it_with_its_reason(row: compat.Foreign) -> None:
    (line,) = [line for line in render().splitlines() if line.startswith(f"| `{row.name}` |")]
    assert row.reason.replace("|", "\\|") in line
    assert row.remedy in line


def test_differences_are_of_settings_of_both() -> None:
    assert set(DIFFERENCES) <= set(TABLE) & GUNICORN


def test_readme_leads_to_it() -> None:
    if README.exists():  # a checkout, not an installed package
        assert "(wsgitop/docs/settings.md)" in README.read_text()
