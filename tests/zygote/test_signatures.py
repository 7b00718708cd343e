"""What may be given as a hook, and what is said about the rest."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgitop.errors import ConfigError
from wsgitop.settings.hooks import HOOKS
from wsgitop.zygote.signatures import as_hook


class Site:
    def method(self, server: object, worker: object) -> str:
        return "method"

    @classmethod
    def of_class(cls, server: object, worker: object) -> str:
        return "of_class"

    @staticmethod
    def static(server: object, worker: object) -> str:
        return "static"

    def __call__(self, server: object, worker: object) -> str:
        return "call"


def named(place: str, server: object, worker: object) -> str:
    return place


def more(server: object, worker: object, extra: int = 3) -> str:
    return f"more {extra}"


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (lambda server, worker: "lambda", "lambda"),
        (lambda *args: f"{len(args)} arguments", "2 arguments"),
        (lambda s, w, /: "positional", "positional"),
        (Site().method, "method"),
        (Site.of_class, "of_class"),
        (Site.static, "static"),
        (Site(), "call"),
        (functools.partial(named, "partial"), "partial"),
        (functools.partial(functools.partial(named), "twice"), "twice"),
        (functools.partial(named, place="x"), None),
        (more, "more 3"),
        (max, 2),
    ],
)
def test_two_arguments(value: Any, answer: object) -> None:
    if answer is None:
        with pytest.raises(ConfigError):
            as_hook("post_fork", value, "/")
    else:
        assert as_hook("post_fork", value, "/")(1, 2) == answer


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_post_request_may_take_fewer(count: int) -> None:
    names = [f"a{number}" for number in range(count)]
    hook = eval(f"lambda {', '.join(names)}: [{', '.join(names)}]")
    if count in (1, 5):
        with pytest.raises(ConfigError, match="worker, req, environ, resp"):
            as_hook("post_request", hook, "/")
    else:
        assert as_hook("post_request", hook, "/")(1, 2, 3, 4) == [1, 2, 3, 4][:count]


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_a_wrong_number_of_arguments_names_hook_and_arguments(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        as_hook(name, lambda: None, "/")
    assert name in raised.value.cause
    assert ", ".join(HOOKS[name]) in raised.value.cause
    assert f"def {name}(" in raised.value.remedy


async def asleep(server: object) -> None:
    pass


def yielding(server: object) -> Iterator[None]:
    yield


class Awaited:
    async def __call__(self, server: object) -> None:
        pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "cannot be called"),
        ([], "cannot be called"),
        ("on_exit", "names no function"),
        (".on_exit", "names no function"),
        ("os.no_such_function", "has no 'no_such_function'"),
        (asleep, "async"),
        (functools.partial(asleep), "async"),
        (Awaited(), "async"),
        (yielding, "generator"),
    ],
)
def test_what_would_not_run(value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        as_hook("on_exit", value, "/")


def test_by_name(tmp_path: Path) -> None:
    (tmp_path / "hooks_by_name.py").write_text("def farewell(server):\n    return 'bye'\n")
    path = list(sys.path)
    try:
        assert as_hook("on_exit", "hooks_by_name.farewell", str(tmp_path))(None) == "bye"
    finally:
        sys.path[:] = path
        sys.modules.pop("hooks_by_name", None)
