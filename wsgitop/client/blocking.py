"""The client for code without asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from wsgitop.client.asynchronous import AsyncClient
from wsgitop.control import messages as m
from wsgitop.snapshot import Death, Event, Second, Snapshot, WorkerSnapshot


class Client:
    """As AsyncClient, for code without asyncio. Not to be used inside a running event loop."""

    def __init__(self, target: str, *, remote_command: str = "", interactive: bool = False) -> None:
        self._client = AsyncClient(target, remote_command=remote_command, interactive=interactive)
        self._runner = asyncio.Runner()
        self._closed = False

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> m.Hello:
        """As AsyncClient.connect."""
        return self._runner.run(self._client.connect())

    def close(self) -> None:
        """Close the connection. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._runner.run(self._client.close())
        self._runner.close()

    def status(self) -> Snapshot:
        """As AsyncClient.status."""
        return self._runner.run(self._client.status())

    def workers(self) -> tuple[WorkerSnapshot, ...]:
        """As AsyncClient.workers."""
        return self._runner.run(self._client.workers())

    def history(self, seconds: int) -> tuple[Second, ...]:
        """As AsyncClient.history."""
        return self._runner.run(self._client.history(seconds))

    def events(self, after: int = 0, limit: int = 100) -> tuple[Event, ...]:
        """As AsyncClient.events."""
        return self._runner.run(self._client.events(after, limit))

    def deaths(self, after: int = 0, limit: int = 20, *, pid: int | None = None) -> tuple[Death, ...]:
        """As AsyncClient.deaths."""
        return self._runner.run(self._client.deaths(after, limit, pid=pid))

    def settings(self, *, changed: bool = False) -> tuple[m.SettingShown, ...]:
        """As AsyncClient.settings."""
        return self._runner.run(self._client.settings(changed=changed))

    def log(self, lines: int = 100, *, access: bool = False) -> tuple[str, ...]:
        """As AsyncClient.log."""
        return self._runner.run(self._client.log(lines, access=access))

    def requests(self, limit: int = 100) -> m.RequestsResult:
        """As AsyncClient.requests."""
        return self._runner.run(self._client.requests(limit))

    def histogram(self, pid: int, started_at: float | None = None) -> m.HistogramResult:
        """As AsyncClient.histogram."""
        return self._runner.run(self._client.histogram(pid, started_at))

    def metrics(self) -> str:
        """As AsyncClient.metrics."""
        return self._runner.run(self._client.metrics())

    def subscribe(self, interval_s: float) -> Iterator[Snapshot | Event]:
        """As AsyncClient.subscribe."""
        for item in self.news(m.SubscribeArguments(interval_s)):
            if not isinstance(item, m.LogLine):
                yield item

    def news(self, arguments: m.SubscribeArguments) -> Iterator[Snapshot | Event | m.LogLine]:
        """As AsyncClient.news."""
        news = self._client.news(arguments)

        async def following() -> Snapshot | Event | m.LogLine | None:
            return await anext(news, None)

        while (item := self._runner.run(following())) is not None:
            yield item

    def reload(self, *, key: str = "") -> m.Outcome:
        """As AsyncClient.reload."""
        return self._runner.run(self._client.reload(key=key))

    def reload_watched(self, told: Callable[[Event], None], *, key: str = "") -> m.Outcome:
        """As AsyncClient.reload_watched."""
        return self._runner.run(self._client.reload_watched(told, key=key))

    def scale(self, *, workers: int | None = None, change: int | None = None, key: str = "") -> m.Outcome:
        """As AsyncClient.scale."""
        return self._runner.run(self._client.scale(workers=workers, change=change, key=key))

    def signal(self, name: str, *, pid: int | None = None, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.signal."""
        return self._runner.run(self._client.signal(name, pid=pid, started_at=started_at))

    def quarantine(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.quarantine."""
        return self._runner.run(self._client.quarantine(pid, started_at))

    def release(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.release."""
        return self._runner.run(self._client.release(pid, started_at))

    def retire(self, pid: int, started_at: float | None = None) -> m.Outcome:
        """As AsyncClient.retire."""
        return self._runner.run(self._client.retire(pid, started_at))

    def stack(self, pid: int, *, thread: int | None = None, started_at: float | None = None) -> m.StackResult:
        """As AsyncClient.stack."""
        return self._runner.run(self._client.stack(pid, thread=thread, started_at=started_at))

    def cancel(
        self,
        pid: int,
        thread: int,
        *,
        request: int | None = None,
        started_at: float | None = None,
        key: str = "",
    ) -> m.Cancelled:
        """As AsyncClient.cancel."""
        call = self._client.cancel(pid, thread, request=request, started_at=started_at, key=key)
        return self._runner.run(call)

    def loglevel(self, level: str) -> m.Outcome:
        """As AsyncClient.loglevel."""
        return self._runner.run(self._client.loglevel(level))

    def reopen(self) -> m.Outcome:
        """As AsyncClient.reopen."""
        return self._runner.run(self._client.reopen())

    def upgrade(self, *, key: str = "") -> m.Outcome:
        """As AsyncClient.upgrade."""
        return self._runner.run(self._client.upgrade(key=key))

    def stop(self, *, quick: bool = False) -> m.Outcome:
        """As AsyncClient.stop."""
        return self._runner.run(self._client.stop(quick=quick))
