"""``python -m tests.screenshots``: the pictures in screenshots/, made from a live server under load.

The demo's site and visitors run for a while, a reload and a change of scale happen, then the real interface
is drawn without a terminal at each size. PNG files need rsvg-convert (Debian: librsvg2-bin, fonts-firacode).
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.server import free_port
from wsgitop.client import AsyncClient
from wsgitop.demo.load import visitors
from wsgitop.transport.launcher import launch
from wsgitop.tui.app import WsgitopApp
from wsgitop.tui.terminal import look_for

DIRECTORY = Path(__file__).parent.parent / "screenshots"
SIZES = ((80, 24), (120, 40), (200, 60))
SITE = "wsgitop.demo.site:application"


async def draw(target: str, columns: int, lines: int) -> str:
    """The overview as SVG, after it has shown a few pictures."""
    environment = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
    app = WsgitopApp(
        lambda: AsyncClient(target), target_label="demo", owns_server=True, look=look_for(environment)
    )
    async with app.run_test(size=(columns, lines)) as pilot:
        await asyncio.sleep(4.2)  # pictures come once a second; two make a rate
        await pilot.pause()
        return app.export_screenshot(title="wsgitop demo")


async def drive(target: str, seconds: float) -> None:
    """Let the site live, with something to tell in its events."""
    client = AsyncClient(target)
    await client.connect()
    await asyncio.sleep(seconds / 2)
    await client.scale(workers=5)
    await asyncio.sleep(seconds / 4)
    await client.reload()
    await asyncio.sleep(seconds / 4)
    await client.close()


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=64, help="how long the site lives before (default 64)"
    )
    options = parser.parse_args()
    DIRECTORY.mkdir(exist_ok=True)
    port = free_port()
    words = ["--bind", f"127.0.0.1:{port}", "--workers", "4", "--threads", "2", "--name", "demo", SITE]
    with (
        tempfile.TemporaryDirectory(prefix="wsgitop-pictures-") as directory,
        launch(words, log_path=Path(directory, "server.log")) as server,
    ):
        target = server.wait_until_serving()
        with visitors(port):
            asyncio.run(drive(target, options.seconds))
            for columns, lines in SIZES:
                path = DIRECTORY / f"overview-{columns}x{lines}.svg"
                path.write_text(asyncio.run(draw(target, columns, lines)))
                print(path)
                if shutil.which("rsvg-convert"):
                    subprocess.run(["rsvg-convert", "-o", path.with_suffix(".png"), path], check=True)
                    print(path.with_suffix(".png"))


if __name__ == "__main__":
    main()
