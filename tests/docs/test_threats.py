"""Each threat names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import wsgitop

ROOT = Path(__file__).parent.parent.parent
PAGE = Path(wsgitop.__file__).parent / "docs" / "threats.md"
ROWS = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!threat|-)", line)]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(path: Path) -> set[str]:
    """The test functions of a file."""
    found = ast.walk(ast.parse(path.read_text()))
    return {
        node.name
        for node in found
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_there_are_rows() -> None:
    assert len(ROWS) > 25
    assert len({row.split("|")[1] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_a_threat_names_tests_that_are_there(row: str) -> None:
    cells = row.strip("|").split("|")
    assert len(cells) == 3 and all(cell.strip() for cell in cells)
    named = NAMED.findall(cells[2])
    assert ", ".join(f"`{path}::{name}`" for path, name in named) == cells[2].strip()
    for path, name in named:
        assert name in names_in(ROOT / path), f"{path} has no {name}"
