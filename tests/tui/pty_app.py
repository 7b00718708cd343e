"""The interface in a real terminal over a scripted server: ``python -m tests.tui.pty_app [WORKERS] [own]``.

Prints the result when it is left, so that a test can read it from the restored screen.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

from tests.tui.fake import EPOCH, Clock, FakeServer, FakeSource
from wsgitop.errors import TerminalError
from wsgitop.snapshot import Event, Snapshot
from wsgitop.tui.app import run_interface


class TickingSource(FakeSource):
    """A picture at every interval, in real time."""

    async def subscribe(self, interval_s: float) -> AsyncIterator[Snapshot | Event]:
        started = time.monotonic()
        while True:
            self.server.clock.now = EPOCH + time.monotonic() - started
            yield self.server.picture()
            await asyncio.sleep(interval_s)


def main() -> None:
    numbers = [argument for argument in sys.argv[1:] if argument.isdigit()]
    server = FakeServer(Clock(), number=int(numbers[0]) if numbers else 8)
    try:
        result = run_interface(
            lambda: TickingSource(server), target_label="unix:/run/shop.sock", owns_server="own" in sys.argv
        )
    except TerminalError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    print(f"RESULT {result.choice} {result.by_signal}")


if __name__ == "__main__":
    main()
