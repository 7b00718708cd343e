"""The page on the death ledger names every cause, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import wsgitop
from wsgitop.snapshot import DeathCause


def test_causes() -> None:
    text = (Path(wsgitop.__file__).parent / "docs" / "deaths.md").read_text()
    assert re.findall(r"^\| `([a-z ]+)` \|", text, re.MULTILINE) == list(get_args(DeathCause))
