"""Figures in statsd's words, and their way to a real socket."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.server import free_port
from tests.support.waiting import eventually
from wsgitop.master.events import LOGGER
from wsgitop.master.statistics import Growth
from wsgitop.master.statsd import DATAGRAM_BYTES, Statsd, datagrams, figures, prefix_of
from wsgitop.scoreboard import layout as at
from wsgitop.scoreboard.histogram import bounds_us, bucket
from wsgitop.settings.log_targets import Target, parse_statsd_host


@pytest.fixture
def said() -> Iterator[list[str]]:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    yield messages
    LOGGER.removeHandler(handler)


def target(text: str) -> Target:
    found = parse_statsd_host(text)
    assert found is not None
    return found


def test_a_quiet_second() -> None:
    assert list(figures(Growth(), {"error": 0}, 3, None)) == ["gunicorn.workers:3|g"]


def test_a_busy_second() -> None:
    growth = Growth(requests=4, classes=[0, 3, 0, 1, 0])
    growth.buckets[bucket(1000)] = 3
    growth.buckets[bucket(2_000_000)] = 1
    assert list(figures(growth, {"critical": 0, "exception": 2}, 1, 5)) == [
        "gunicorn.requests:4|c",
        "gunicorn.request.status.2xx:3|c",
        "gunicorn.request.status.4xx:1|c",
        "gunicorn.request.duration:0.990968|ms|@0.3333333333333333",
        "gunicorn.request.duration:2029.5|ms",
        "gunicorn.log.exception:2|c",
        "gunicorn.workers:1|g",
        "gunicorn.backlog:5|g",
    ]


@given(st.dictionaries(st.integers(0, at.BUCKETS - 1), st.integers(1, 10**9), max_size=at.BUCKETS))
def test_rates_give_back_each_count_and_values_each_bucket(counts: dict[int, int]) -> None:
    growth = Growth(requests=sum(counts.values()))
    for index, count in counts.items():
        growth.buckets[index] = count
    found = {}
    for line in figures(growth, {}, 1, None):
        sample = re.fullmatch(r"gunicorn\.request\.duration:([^|]+)\|ms(?:\|@(.+))?", line)
        if sample is not None:
            found[float(sample[1]) * 1000] = round(1 / float(sample[2] or 1))
    told = sorted(found.items())
    assert [count for _, count in told] == [counts[index] for index in sorted(counts)]
    for (value_us, _), index in zip(told, sorted(counts), strict=True):
        low, high = bounds_us(index)
        assert low * 0.99999 <= value_us <= high * 1.00001


@given(st.lists(st.text("abc", min_size=1, max_size=2000), max_size=30))
def test_datagrams_are_full_and_bounded(lines: list[str]) -> None:
    parts = list(datagrams(lines))
    assert b"\n".join(parts).decode().split("\n") == (lines or [""])
    assert all(len(part) <= DATAGRAM_BYTES or b"\n" not in part for part in parts)


@pytest.mark.parametrize(
    ("text", "expected"), [("", ""), ("a", "a."), ("a.b..", "a.b."), ("a:b|c d\n", "abcd."), ("..", "")]
)
def test_prefix(text: str, expected: str) -> None:
    assert prefix_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.org", ("example.org", 8125)),
        ("127.0.0.1:9125", ("127.0.0.1", 9125)),
        ("[::1]:9", ("::1", 9)),
        ("udp://h:1", ("h", 1)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    found = target(text)
    assert (found.host, found.port) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_gone_is_named_once(said: list[str], host: str) -> None:
    port = free_port()
    statsd = Statsd(target(f"{host}:{port}"))
    eventually(lambda: statsd._addresses, what="the address")

    def refused() -> bool:
        statsd.send([b"a:1|c"])
        return bool(said)

    eventually(refused, what="a complaint")
    for _ in range(5):
        statsd.send([b"a:1|c"])
    assert said == [f"statsd at {host}:{port} takes no figures: Connection refused"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
        server.settimeout(5)

        def back() -> bool:
            statsd.send([b"b:1|c", b"c:1|c"])
            return len(said) == 2

        eventually(back)
        assert said[1].endswith("takes figures again")
        assert server.recv(100) == b"b:1|c"
    statsd.close()


def test_a_name_that_nobody_knows_costs_nothing(said: list[str]) -> None:
    statsd = Statsd(target("no-such-host.invalid"))

    def complained() -> bool:
        statsd.send([b"a:1|c"])
        return bool(said)

    eventually(complained, what="a complaint")
    statsd.send([b"a:1|c"])
    assert len(said) == 1
    assert said[0].startswith("statsd at no-such-host.invalid:8125 takes no figures: ")
    statsd.close()


def test_unix_socket_that_does_not_read_and_one_that_comes_later(said: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "statsd")
    statsd = Statsd(target(f"unix://{path}"))
    statsd.send([b"a:1|c"])
    assert said == [f"statsd at unix://{path} takes no figures: No such file or directory"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        for _ in range(1000):  # never blocks
            statsd.send([b"b:1|c"])
        assert len(said) == 2
        assert server.recv(100) == b"b:1|c"
    statsd.close()


def test_a_name_with_two_addresses_of_which_one_is_served() -> None:
    statsd = Statsd(target("127.0.0.1:1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        port = server.getsockname()[1]
        statsd._addresses = [(socket.AF_INET, ("127.0.0.2", port)), (socket.AF_INET, ("127.0.0.1", port))]
        for _ in range(3):
            statsd.send([b"a:1|c"])
        assert server.recv(100) == b"a:1|c"
    statsd.close()
