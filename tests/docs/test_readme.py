"""What README says exists: its commands parse, its files are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from wsgitop.cli.main import cli

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^    (wsgitop .+)$", README, re.MULTILINE)))


def test_exactly_two_lines_do_all_the_setup() -> None:
    lines = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert [line.rpartition("&& ")[2] for line in lines] == [".venv/bin/wsgitop demo", ".venv/bin/pytest"]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    name, *words = shlex.split(line)[1:]
    context = cli.make_context("wsgitop", [name])
    command = cli.get_command(context, name)
    assert command is not None, name
    command.make_context(name, words, parent=context)


def test_every_command_is_in_readme() -> None:
    for name in cli.list_commands(cli.make_context("wsgitop", [])):
        assert f"`wsgitop {name}" in README
