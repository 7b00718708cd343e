"""The terminal's end of the interface: writes less, and knows when the terminal does not keep up.

Textual hands what is drawn to a thread, through a queue of thirty pieces. A terminal at the far end of a slow
line would be shown all of them, minutes late, and a key press would wait behind them. So nothing more is
drawn while the last picture still waits; what has changed meanwhile is then drawn once.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

from wsgitop.tui.squeeze import squeezed

FRAME_S = 0.05
"""How long a terminal that keeps up may need for a picture."""


class TerminalDriver(LinuxDriver):
    """Textual's own, with both."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: asyncio.Task[None] | None = None

    def write(self, data: str) -> None:
        super().write(squeezed(data))

    def is_behind(self) -> bool:
        """Whether something waits that the thread has not even begun to write."""
        return self._writer_thread is not None and self._writer_thread._queue.qsize() > 0

    def flush(self) -> None:
        """Textual calls this behind each picture."""
        super().flush()
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        await asyncio.sleep(FRAME_S)
        if self.is_behind():
            with self._app.batch_update():
                while self.is_behind():
                    await asyncio.sleep(FRAME_S)
            self._app.screen.check_idle()

    def stop_application_mode(self) -> None:
        """Give the terminal back, without what is left of the pictures. What goes to the clipboard stays."""
        if self._writer_thread is not None:
            pieces = []
            while self.is_behind():
                with contextlib.suppress(queue.Empty):  # the thread may take it first
                    pieces.append(self._writer_thread._queue.get_nowait())
            for piece in pieces:
                if piece is not None and piece.startswith("\x1b]52"):
                    self._writer_thread.write(piece)
        super().stop_application_mode()
        if self._waiting is not None:
            self._waiting.cancel()
