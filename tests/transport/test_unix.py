"""Connecting: what the user reads when nothing answers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from wsgitop.errors import CannotConnect
from wsgitop.transport.unix import connect


def _nothing(path: Path) -> None:
    pass


def _directory(path: Path) -> None:
    path.mkdir()


def _file(path: Path) -> None:
    path.write_text("hello")


def _left_behind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_nothing, "there is no control socket"),
        (_directory, "is not a control socket"),
        (_file, "is not a control socket"),
        (_left_behind, "left behind by one that is gone"),
    ],
)
def test_why_nothing_answers(make: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    assert callable(make)
    make(path)
    with pytest.raises(CannotConnect, match=words):
        connect(str(path))
