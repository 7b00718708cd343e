"""Host names in the addresses of a reload: looked up beside the loop, within a time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.master.test_rollout import configure
from tests.master.world import Make
from wsgitop.errors import BindError
from wsgitop.master import lookup, zygotes
from wsgitop.master.listeners import is_name
from wsgitop.master.lookup import Outcome, look_up
from wsgitop.settings.addresses import parse_address

NAME = parse_address("site.example:0")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The system's resolver does not answer before this is set."""
    answers, real = threading.Event(), socket.getaddrinfo

    def hang(host: str, *rest: Any) -> Any:
        if host == NAME.host and not rest[-1] & socket.AI_NUMERICHOST:
            answers.wait(20)
            return real("127.0.0.1", *rest)
        return real(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield answers
    answers.set()


def ask(until: Callable[[list[Outcome]], object]) -> list[Outcome]:
    """Look it up in a loop that has something else to do; until so."""
    outcomes: list[Outcome] = []

    async def main() -> None:
        look_up(asyncio.get_running_loop(), [NAME], outcomes.append)
        async with asyncio.timeout(10):
            while not until(outcomes):
                await asyncio.sleep(0.001)

    asyncio.run(main())
    return outcomes


def test_a_resolver_that_hangs_does_not_hold_up_the_loop(resolver: threading.Event) -> None:
    turns = 0

    def until(outcomes: list[Outcome]) -> bool:
        nonlocal turns
        turns += 1
        if turns == 20:
            assert not outcomes
            resolver.set()
        return bool(outcomes)

    assert ask(until) == [{NAME: ("127.0.0.1", 0)}]
    assert turns >= 20


@pytest.mark.usefixtures("resolver")
def test_it_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "LIMIT_S", 0.05)
    (outcome,) = ask(bool)
    assert isinstance(outcome, BindError)
    assert outcome.cause == "cannot listen on site.example:0: the name was not resolved within 0.05 s"
    assert "number" in outcome.remedy


def test_an_answer_that_comes_too_late_is_not_heard(
    resolver: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "LIMIT_S", 0.05)

    def until(outcomes: list[Outcome]) -> bool:
        if outcomes:
            resolver.set()
        return bool(outcomes) and not [t for t in threading.enumerate() if t.name == "wsgitop-lookup"]

    assert len(ask(until)) == 1


def test_a_name_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (outcome,) = ask(bool)
    assert isinstance(outcome, BindError) and "Name or service not known" in outcome.cause


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("127.0.0.1:80", False), ("0:80", False), ("8000", False), ("[::1]:80", False), ("unix:/s", False),
        ("[fe80::1%1]:80", False), ("fd://3", False), ("localhost:80", True), ("[localhost]:80", True),
        ("a..b:80", True),
    ],
)  # fmt: skip
def test_what_needs_to_be_looked_up(text: str, named: bool) -> None:
    assert is_name(parse_address(text)) is named


# -- in a reload


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Outcome], None]]:
    """Where the answers to what is looked up go."""
    asked: list[Callable[[Outcome], None]] = []
    monkeypatch.setattr(zygotes, "look_up", lambda loop, addresses, then: asked.append(then))
    return asked


def test_a_reload_waits_for_the_address(make: Make, questions: list[Callable[[Outcome], None]]) -> None:
    world = make(2).start()
    configure(world, bind=[str(NAME)])
    world.supervisor.reload("test")
    world.advance(3)
    assert world.ready() == [1, 1] and not world.reloads, "the rest goes on"
    (answer,) = questions
    answer({NAME: ("127.0.0.1", 0)})
    world.advance_until(world.converged, 60)
    assert world.reloads == {2: ""} and world.ready() == [2, 2]


def test_a_reload_fails_if_there_is_none(make: Make, questions: list[Callable[[Outcome], None]]) -> None:
    world = make(2).start()
    configure(world, bind=[str(NAME)])
    world.supervisor.reload("test")
    world.advance(3)
    questions[0](BindError("cannot listen on site.example:0: not resolved", "Mend it."))
    world.advance_until(world.converged, 60)
    assert "not resolved" in world.reloads[2] and world.ready() == [1, 1]


def test_an_answer_for_a_reload_that_is_superseded(
    make: Make, questions: list[Callable[[Outcome], None]]
) -> None:
    world = make(2).start()
    configure(world, bind=[str(NAME)])
    for _ in range(2):
        world.supervisor.reload("test")
        world.advance(1)
    early, late = questions
    early({NAME: ("127.0.0.1", 0)})
    late({NAME: ("127.0.0.1", 0)})
    world.advance_until(world.converged, 60)
    assert world.ready() == [3, 3] and "superseded" in world.reloads[2]
