"""The addresses of health checks and metrics that a new master takes over from the old one."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from wsgitop.master.roster import Roster
from wsgitop.master.surroundings import Surroundings
from wsgitop.settings.table import Settings

NAME = "site.example"


class Resolver:
    """The system's resolver, which knows :data:`NAME`. It answers once ``answers`` is set."""

    def __init__(self) -> None:
        self.asked_in: list[threading.Thread] = []
        self.answers = threading.Event()
        self.fails = False
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: str, *rest: Any) -> Any:
        if host != NAME or rest[-1] & socket.AI_NUMERICHOST:
            return self._real(host, *rest)
        self.asked_in.append(threading.current_thread())
        assert self.answers.wait(20)
        if self.fails:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._real("127.0.0.1", *rest)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.answers.set()


@pytest.fixture
def old() -> Iterator[socket.socket]:
    """The old master's listener."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def start(old: socket.socket) -> tuple[Surroundings, asyncio.Task[None]]:
    """A new master's surroundings, on their way to the old one's address."""
    settings = msgspec.structs.replace(Settings(), health_bind=f"{NAME}:{old.getsockname()[1]}")
    surroundings = Surroundings(settings, guest=True)
    supervisor: Any = SimpleNamespace(roster=Roster(1), on_change=[])
    metrics: Any = None
    loop = asyncio.get_running_loop()
    return surroundings, loop.create_task(surroundings.start(supervisor, metrics, loop))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each time that an address is tried."""
    found: list[str] = []
    real = Surroundings._open

    def tried(self: Surroundings, monitor: Any, *rest: Any) -> Any:
        found.append(monitor)
        return real(self, monitor, *rest)

    monkeypatch.setattr(Surroundings, "_open", tried)
    return found


def test_a_name_is_looked_up_once_beside_the_loop(
    resolver: Resolver, old: socket.socket, tries: list[str]
) -> None:
    async def main() -> None:
        surroundings, task = await start(old)
        try:
            await until(lambda: resolver.asked_in)  # and the loop goes on meanwhile
            resolver.answers.set()
            await until(lambda: len(tries) == 3)
            assert not task.done() and not surroundings.listeners
            old.close()
            await asyncio.wait_for(task, 5)
            assert surroundings.listeners["health"].address.host == NAME
        finally:
            surroundings.close()

    asyncio.run(main())
    assert len(resolver.asked_in) == 1 and threading.main_thread() not in resolver.asked_in


@pytest.mark.parametrize("when", ["name", "address"])
def test_nothing_is_opened_once_it_is_closed(
    resolver: Resolver, old: socket.socket, tries: list[str], when: str
) -> None:
    async def main() -> None:
        surroundings, task = await start(old)
        await until(lambda: resolver.asked_in)
        if when == "address":
            resolver.answers.set()
            await until(lambda: tries)
        surroundings.close()
        old.close()
        resolver.answers.set()
        await asyncio.wait_for(task, 5)
        assert not surroundings.listeners

    asyncio.run(main())


def test_a_name_that_is_not_known_any_more_is_told(
    resolver: Resolver, old: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        surroundings, task = await start(old)
        resolver.fails = True
        resolver.answers.set()
        await asyncio.wait_for(task, 5)
        assert not surroundings.listeners
        surroundings.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "no health checks are answered: cannot listen on site.example" in caplog.text
