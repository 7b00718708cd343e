"""The page for those who come from gunicorn has a row for each hook, with its arguments."""

from __future__ import annotations

import re
from importlib.resources import files

from wsgitop.settings.hooks import HOOKS

PAGE = files("wsgitop").joinpath("docs", "from-gunicorn.md").read_text()


def test_every_hook_has_a_row() -> None:
    rows = dict(re.findall(r"^\| `(\w+)\(([\w, ]+)\)` \|", PAGE, re.MULTILINE))
    assert set(rows) == set(HOOKS)
    assert {name: len(words.split(", ")) for name, words in rows.items()} == {
        name: len(parameters) for name, parameters in HOOKS.items()
    }
