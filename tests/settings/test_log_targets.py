"""Addresses of syslog and statsd, in gunicorn's forms."""

from __future__ import annotations

import pytest

from wsgitop.errors import ConfigError
from wsgitop.settings.load import Layer, resolve
from wsgitop.settings.log_targets import FACILITIES, Target, parse_statsd_host, parse_syslog_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp://localhost:514", Target("inet", ("dgram",), "localhost", 514)),
        ("udp://", Target("inet", ("dgram",), "localhost", 514)),
        ("tcp://Logs.example:601", Target("inet", ("stream",), "logs.example", 601)),
        ("udp://[2001:DB8::1]:99", Target("inet", ("dgram",), "2001:db8::1", 99)),
        ("tcp://[::1]", Target("inet", ("stream",), "::1", 514)),
        ("unix:///dev/log", Target("unix", ("dgram", "stream"), path="/dev/log")),
        ("unix:///dev/log#dgram", Target("unix", ("dgram",), path="/dev/log")),
        ("unix:///dev/log#stream", Target("unix", ("stream", "dgram"), path="/dev/log")),
    ],
)
def test_syslog(text: str, expected: Target) -> None:
    assert parse_syslog_address(text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [("h:1", "h:1"), ("[::1]:1", "[::1]:1"), ("unix:///s", "unix:///s"), ("unix:s", "unix://s")],
)
def test_statsd(text: str, shown: str) -> None:
    assert str(parse_statsd_host(text)) == shown


def test_no_statsd() -> None:
    assert parse_statsd_host(" ") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("syslog_addr", "localhost:514"),
        ("syslog_addr", "unix://"),
        ("syslog_addr", "unix:///dev/log#tcp"),
        ("syslog_addr", "udp://h:port"),
        ("syslog_addr", "udp://::1"),
        ("syslog_addr", "udp://h:70000"),
        ("syslog_addr", "udp://[::1"),
        ("syslog_facility", "local8"),
        ("statsd_host", ":8125"),
        ("statsd_host", "unix://"),
        ("statsd_host", "h:0"),
        ("dogstatsd_tags", "a:b|c"),
        ("dogstatsd_tags", "a:b\n"),
        ("logconfig_dict", ["a"]),
    ],
)
def test_what_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: .*from c.py") as refusal:
        resolve([Layer("c.py", {name: value})])
    assert refusal.value.remedy or name == "logconfig_dict"


def test_facilities_are_those_of_the_standard_library() -> None:
    from logging.handlers import SysLogHandler

    theirs = SysLogHandler.facility_names | {"security": 4}  # an old name for auth; as in gunicorn
    assert {name: theirs[name] for name in FACILITIES} == FACILITIES
