"""The feed: connects, asks for the past, listens, and never gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from textual.message import Message

from tests.tui.fake import FakeServer, FakeSource
from wsgitop.control.messages import Hello
from wsgitop.errors import Refused
from wsgitop.tui import source as module
from wsgitop.tui.source import Feed, Happened, LinkLost, LinkUp, Pictured, Remembered, Source


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)


class Inbox:
    """Collects what is posted, and waits for it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._more = asyncio.Event()

    def post(self, message: Message) -> None:
        self.messages.append(message)
        self._more.set()

    def of(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.messages if isinstance(message, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def feeding(
    server: FakeServer, factory: Callable[[], Source] | None = None
) -> AsyncIterator[tuple[Feed, Inbox]]:
    inbox = Inbox()
    feed = Feed(factory or server.source, inbox.post)
    task = asyncio.create_task(feed.run())
    try:
        yield feed, inbox
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_the_first_picture_comes_before_the_past() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with feeding(server) as (feed, inbox):
            await inbox.until(lambda: bool(inbox.of(Happened)))
            assert [type(message) for message in inbox.messages] == [LinkUp, Pictured, Remembered, Happened]
            assert feed.source is not None
            server.push()
            await inbox.until(lambda: len(inbox.of(Pictured)) == 2)
            assert len(inbox.of(Remembered)) == 1, "asked once for each connection"

    asyncio.run(scenario())


def test_a_lost_server_is_tried_again_and_may_be_another_one() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with feeding(server) as (feed, inbox):
            await inbox.until(lambda: bool(inbox.of(Happened)))
            server.cut()
            await inbox.until(lambda: len(inbox.of(LinkLost)) >= 3)
            assert feed.source is None
            reasons = [message.reason for message in inbox.of(LinkLost) if isinstance(message, LinkLost)]
            assert reasons[0] == "the master closed the connection"
            assert reasons[1] == "no master listens at unix:/run/shop.sock"
            server.come_back(pid=5151)
            await inbox.until(lambda: len(inbox.of(LinkUp)) == 2)
            back = inbox.of(LinkUp)[-1]
            assert isinstance(back, LinkUp)
            assert back.hello.pid == 5151

    asyncio.run(scenario())


def test_another_rate_renews_the_subscription_and_not_the_connection() -> None:
    async def scenario() -> None:
        server = FakeServer()
        async with feeding(server) as (feed, inbox):
            await inbox.until(lambda: bool(inbox.of(Happened)))
            feed.set_interval(5.0)
            await inbox.until(lambda: len(inbox.of(Remembered)) == 2)
            assert server.intervals == [1.0, 5.0]
            assert server.connections == 1
            assert not inbox.of(LinkLost)
            feed.set_interval(5.0)
            server.push()
            await inbox.until(lambda: len(inbox.of(Remembered)) == 3)
            assert server.intervals == [1.0, 5.0]

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [Refused("not your server"), OSError("broken pipe"), TimeoutError()])
def test_no_fault_of_the_link_ends_the_feed(error: Exception) -> None:
    class Failing(FakeSource):
        async def connect(self) -> Hello:
            raise error

        async def close(self) -> None:
            raise OSError("already closed")

    async def scenario() -> None:
        server = FakeServer()
        attempts = iter([Failing(server), Failing(server)])
        async with feeding(server, lambda: next(attempts, server.source())) as (_, inbox):
            await inbox.until(lambda: bool(inbox.of(LinkUp)))
            assert len(inbox.of(LinkLost)) == 2

    asyncio.run(scenario())


def test_only_the_newest_of_what_waits_is_drawn() -> None:
    server = FakeServer()
    first, second = Pictured(server.picture()), Pictured(server.picture())
    assert first.can_replace(second)
    assert LinkLost("a").can_replace(LinkLost("b"))
    assert not first.can_replace(LinkLost("a"))
    assert not Happened(()).can_replace(Happened(())), "no event may be skipped"
