"""Driving the application without a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from textual.pilot import Pilot

from tests.tui.fake import FakeServer
from wsgitop.tui.app import InterfaceResult, WsgitopApp
from wsgitop.tui.theme import DARK, Look

DEADLINE_S = 10.0


@dataclass
class Driver:
    """The application under test, its scripted server, and Textual's pilot."""

    app: WsgitopApp
    server: FakeServer
    pilot: Pilot[InterfaceResult]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        """Wait for something to become true; fails after the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self.pilot.pause()
                await asyncio.sleep(0)
        await self.pilot.pause()

    async def tick(self, seconds: float = 1.0) -> None:
        """Time passes, a new picture comes, and it is on the screen (in the model, when paused)."""
        self.server.clock.pass_s(seconds)
        self.server.push()
        wanted = self.server.sequence
        await self.until(
            lambda: self.app.model.snapshot is not None and self.app.model.snapshot.sequence >= wanted
        )

    @property
    def lines(self) -> list[str]:
        """The screen as text, dialogs included."""
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines) + "\n"

    @property
    def selected_pid(self) -> int:
        worker = self.app.overview.view.selected
        assert worker is not None
        return worker.pid

    def said(self) -> str:
        return " / ".join(saying.text for saying in self.app.model.view().sayings)

    async def dialog(self, name: str) -> None:
        """Wait until a dialog of that class is on top and has its focus."""
        await self.until(lambda: type(self.app.screen).__name__ == name and self.app.screen.focused, name)


@asynccontextmanager
async def driving(
    server: FakeServer | None = None,
    *,
    size: tuple[int, int] = (120, 40),
    look: Look | None = None,
    owns_server: bool = False,
    log_path: str = "",
    server_ended: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Driver]:
    """The application with its first picture on the screen."""
    server = server or FakeServer()
    app = WsgitopApp(
        server.source,
        target_label="unix:/run/shop.sock",
        owns_server=owns_server,
        server_ended=server_ended,
        log_path=log_path,
        look=look or Look(palette=DARK),
        clock=server.clock,
        wall=server.clock,
    )
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, server, pilot)
        if server.up:
            await driver.until(lambda: app.overview.view.snapshot is not None and app.overview.view.events)
        yield driver
