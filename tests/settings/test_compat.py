"""What is done with gunicorn's settings that are none here."""

from __future__ import annotations

import os
from typing import Any

import pytest

from wsgitop.errors import ConfigError
from wsgitop.settings import compat
from wsgitop.settings.load import Layer, resolve


def command_line(**values: Any) -> Layer:
    return Layer("command line", values, "command line")


@pytest.mark.parametrize("row", compat.FOREIGN.values(), ids=lambda row: row.name)
def test_a_foreign_setting_is_noted_or_refused(row: compat.Foreign) -> None:
    layer = Layer("c.py", {row.name: "something"})
    if row.refused:
        with pytest.raises(ConfigError) as refusal:
            resolve([layer])
        assert refusal.value.cause.startswith(f"{row.name}: ")
        assert refusal.value.remedy
    else:
        (note,) = resolve([layer]).notes
        assert note.startswith(f"{row.name}: ")
        assert note.endswith("(from c.py)")


def test_an_alias_sets_what_it_stands_for() -> None:
    assert resolve([Layer("c.py", {"control_socket_disable": True})]).settings.no_control_socket


@pytest.mark.parametrize("value", [os.geteuid(), str(os.geteuid())])
def test_the_user_that_the_process_already_is_needs_no_change(value: object) -> None:
    assert resolve([Layer("c.py", {"user": value})]).notes == ()


@pytest.mark.parametrize("name", ["sync", "gthread", "gunicorn.workers.sync.SyncWorker"])
def test_worker_classes_that_one_engine_serves(name: str) -> None:
    assert resolve([command_line(worker_class=name)]).notes == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gevent", "it uses threads"),
        ("eventlet", "it uses threads"),
        ("tornado", "it uses threads"),
        ("asgi", "WSGI applications only"),
        ("uvicorn.workers.UvicornWorker", "WSGI applications only"),
        ("my.Worker", "there is one engine"),
    ],
)
def test_other_worker_classes_are_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        resolve([command_line(worker_class=name)])
    assert refusal.value.remedy
