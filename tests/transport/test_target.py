"""What users write to name a server."""

from __future__ import annotations

import pytest

from wsgitop.errors import UsageError
from wsgitop.transport.target import Target, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/run/shop.sock", Target("path", "/run/shop.sock")),
        ("./shop", Target("path", "./shop")),
        ("shop.sock", Target("path", "shop.sock")),
        ("unix:/run/shop.sock", Target("path", "/run/shop.sock")),
        ("unix:///run/shop.sock", Target("path", "/run/shop.sock")),
        ("unix:relative", Target("path", "relative")),
        ("4242", Target("pid", "4242")),
        (" 4242 ", Target("pid", "4242")),
        ("shop", Target("name", "shop")),
        ("shop.wsgi:application", Target("name", "shop.wsgi:application")),
        ("shop.wsgi:create_app()", Target("name", "shop.wsgi:create_app()")),
        ("٤٢", Target("name", "٤٢")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a\0b", "empty"),
        ("unix:", "names no path"),
        ("ssh://alice@host", "not in this version"),
        ("exec:kubectl exec pod -- wsgitop relay", "not in this version"),
        ("tcp://127.0.0.1:9000", "plain TCP"),
        ("http://host/", "plain TCP"),
        ("127.0.0.1:9000", "plain TCP"),
        (":9000", "plain TCP"),
        ("web-3.example:9000", "plain TCP"),
        ("[::1]:9000", "plain TCP"),
    ],
)
def test_targets_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        parse_target(text)
    assert refusal.value.remedy
