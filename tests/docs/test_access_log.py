"""The page about the access log: nothing is missing, nothing is too much."""

from __future__ import annotations

import re
from importlib.resources import files

from wsgitop.settings.log_format import ATOMS
from wsgitop.worker.log_line import JSON_FIELDS

PAGE = files("wsgitop").joinpath("docs", "access-log.md").read_text()


def test_every_atom_is_explained() -> None:
    rows = re.findall(r"^\| ((?:`%\(\w\)s` ?)+)\|", PAGE, re.MULTILINE)
    assert sorted(re.findall(r"\((\w)\)", " ".join(rows))) == sorted(ATOMS)


def test_every_field_of_json_is_explained_in_order() -> None:
    table = PAGE.partition("| field | |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == JSON_FIELDS
