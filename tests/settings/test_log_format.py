"""The format of the access log, read."""

from __future__ import annotations

import pytest

from wsgitop.errors import ConfigError
from wsgitop.settings.load import Layer, resolve
from wsgitop.settings.log_format import Directive, parse_format


def test_literals_and_directives() -> None:
    assert parse_format('a%%b"%(h)s" %({X-Y}i)-20.5r%(D)08d%%') == (
        'a%b"', Directive("h"), '" ', Directive("i", "X-Y", 5, "repr", "%-20s"), Directive("D", spec="%08d"),
        "%",
    )  # fmt: skip
    assert parse_format("") == ()


@pytest.mark.parametrize("text", ["json", "%(h)s", "%({a b}e)s", "plain"])
def test_formats_that_can_be(text: str) -> None:
    assert resolve([Layer("c.py", {"access_log_format": text})]).settings.access_log_format == text


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("%(z)s", "unknown atom %(z)s"),
        ("%({x}z)s", "unknown atom %({x}z)s"),
        ("%()s", "unknown atom %()s"),
        ("ab%", "a lone % at 2"),
        ("%s", "a lone % at 0"),
        ("%(h)", "a lone % at 0"),
        ("%(h)c", "a lone % at 0"),
        ("%(L)d", "%(L)d asks for a number, and that is none"),
        ("%({x}i)d", "%({x}i)d asks for a number, and that is none"),
        ("%(h)99999999999s", "%(h)99999999999s is too wide"),
        ("%(D).8193d", "%(D).8193d is too wide"),
    ],
)
def test_a_refusal_comes_with_the_settings_and_names_the_place(text: str, cause: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve([Layer("c.py", {"access_log_format": text})])
    assert refusal.value.cause == f"access_log_format: {cause} (from c.py)"
    assert refusal.value.remedy
