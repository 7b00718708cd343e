"""``python -m tests.screenshots``: the pictures in screenshots/, made from a live server under load.

tests/apps/shop is served to the demo's visitors; somebody scales it, a view hangs, one crashes, it is loaded
again, once with broken code. Meanwhile the real interface is drawn without a terminal. PNG files need
rsvg-convert (Debian: librsvg2-bin, fonts-firacode). Takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import APPS, free_port
from wsgitop.client import AsyncClient
from wsgitop.demo.load import visitors
from wsgitop.errors import ActionFailed
from wsgitop.transport.launcher import launch
from wsgitop.tui.app import WsgitopApp, pages
from wsgitop.tui.arrange import identity
from wsgitop.tui.terminal import look_for

DIRECTORY = Path(__file__).parent.parent / "screenshots"
SIZES = ((80, 24), (120, 40), (200, 60))
WORKERS = 8
TIMEOUT_S = 30
LOADS_S = 1.5
PICTURES_S = 4.2
"""Pictures come once a second; two make a rate, and pages ask at the same pace."""
DEADLINE_S = 30.0
ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}

Act = Callable[[WsgitopApp], Awaitable[None]]


async def nothing(app: WsgitopApp) -> None:
    """The overview as it opens."""


def page(subject: str, *keys: str) -> Act:
    """Open a page, press keys on it, and let it ask."""

    async def act(app: WsgitopApp) -> None:
        app.action_open(subject)
        await asyncio.sleep(PICTURES_S / 2)
        for key in keys:
            app.simulate_key(key)
            await asyncio.sleep(PICTURES_S / 4)

    return act


async def stuck_worker(app: WsgitopApp) -> None:
    """The page of the worker whose request is the oldest, with that request's stack."""
    assert app.model.snapshot is not None
    _, worker, thread = max(
        (request.elapsed_s, worker.pid, request.thread)
        for worker in app.model.snapshot.workers
        for request in worker.in_flight
    )
    found = next(one for one in app.model.snapshot.workers if one.pid == worker)
    app.open_worker(identity(found), thread)
    await asyncio.sleep(PICTURES_S)


@dataclass(frozen=True)
class Scene:
    """A picture. ``subject`` is the page it needs; it is left out where there is none."""

    name: str
    act: Act = nothing
    subject: str = ""
    size: tuple[int, int] = (120, 40)
    light: bool = False


WHILE_IT_HANGS = (
    *(Scene(f"overview-{columns}x{lines}", size=(columns, lines)) for columns, lines in SIZES),
    Scene("worker", stuck_worker, "worker"),
    Scene("requests", page("requests"), "requests"),
)
AFTERWARDS = (
    Scene("light", light=True),
    Scene("deaths", page("deaths"), "deaths"),
    Scene("log", page("log", "a", "a"), "log"),  # not the error log, not the access log: both
    Scene("events", page("events"), "events"),
)
RELOAD, FAILED = Scene("reload", subject="reload"), Scene("reload-failed", subject="reload")


class Studio:
    """Draws scenes of one server, and counts what it has drawn."""

    def __init__(self, target: str) -> None:
        self.target = target

    @contextlib.asynccontextmanager
    async def opened(self, scene: Scene) -> AsyncIterator[WsgitopApp]:
        """The interface, once it has shown a few pictures."""
        environment = ENVIRONMENT | ({"COLORFGBG": "0;15"} if scene.light else {})
        app = WsgitopApp(
            lambda: AsyncClient(self.target),
            target_label=self.target,
            owns_server=False,
            look=look_for(environment),
        )
        async with app.run_test(size=scene.size) as pilot:
            await asyncio.sleep(PICTURES_S)
            yield app
            await pilot.pause()
            self._write(scene, app.export_screenshot(title="wsgitop attach shop"))

    async def draw(self, *scenes: Scene) -> None:
        """One after the other."""
        for scene in scenes:
            if not scene.subject or scene.subject in pages():
                async with self.opened(scene) as app:
                    await scene.act(app)

    @staticmethod
    def _write(scene: Scene, svg: str) -> None:
        path = DIRECTORY / f"{scene.name}.svg"
        path.write_text(svg)
        print(path, flush=True)
        if shutil.which("rsvg-convert"):
            subprocess.run(["rsvg-convert", "-o", path.with_suffix(".png"), path], check=True)
            print(path.with_suffix(".png"), flush=True)


def ask(port: int, path: str) -> None:
    """A request whose answer nobody waits for."""

    def get() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()

    threading.Thread(target=get, daemon=True).start()


async def reload_until_seen(studio: Studio, client: AsyncClient) -> None:
    """A reload, drawn while some of the workers are new and some are not."""
    async with studio.opened(RELOAD) as app:
        app.action_open("reload")
        reload = asyncio.create_task(client.reload())
        async with asyncio.timeout(DEADLINE_S):
            while True:
                snapshot = app.model.snapshot
                newest = max((g.number for g in snapshot.generations), default=0) if snapshot else 0
                new = [w for w in (snapshot.workers if snapshot else ()) if w.generation == newest > 1]
                if sum(worker.state in ("idle", "busy") for worker in new) >= WORKERS // 3:
                    break
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
    await reload


async def fail_to_reload(studio: Studio, client: AsyncClient, project: Path) -> None:
    """Code that cannot be imported, and what is said of it."""
    views = project / "shop" / "views.py"
    views.write_text(views.read_text().replace("import sold_in", "import sold_in, returned_in"))
    with contextlib.suppress(ActionFailed):
        await client.reload()
    async with studio.opened(FAILED) as app:
        await page("reload")(app)


async def film(studio: Studio, port: int, project: Path, seconds: float) -> None:
    """The life of the site, and its pictures."""
    client = AsyncClient(studio.target)
    await client.connect()
    await asyncio.sleep(seconds / 4)
    await client.scale(workers=WORKERS)
    ask(port, "/thumbnails/lamp.png")
    await asyncio.sleep(4)  # it takes its worker along, and what else that serves
    ask(port, "/reports/2025-10")  # hangs until the time limit ends it
    await asyncio.sleep(max(seconds * 3 / 4, TIMEOUT_S + 8.0))
    ask(port, "/reports/2025-11")
    await asyncio.sleep(1)
    await studio.draw(*WHILE_IT_HANGS)
    await studio.draw(*AFTERWARDS)
    if "reload" in pages():
        await reload_until_seen(studio, client)
        await fail_to_reload(studio, client, project)
    await client.close()


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long the site lives before the first (default 60)"
    )
    options = parser.parse_args()
    DIRECTORY.mkdir(exist_ok=True)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="wsgitop-pictures-") as directory:
        project = Path(directory, "srv")
        shutil.copytree(APPS / "shop", project / "shop", ignore=shutil.ignore_patterns("__pycache__"))
        words = [
            *("--bind", f"127.0.0.1:{port}", "--name", "shop", "--timeout", str(TIMEOUT_S)),
            *("--workers", str(WORKERS - 2), "--threads", "2", "--access-logfile", os.devnull),
            *(
                "--chdir",
                str(project),
                "--state-dir",
                directory,
                "--control-socket",
                f"{directory}/shop.sock",
            ),
            "shop.wsgi:application",
        ]
        environment = {**os.environ, "SHOP_LOADS_S": str(LOADS_S), "PYTHONDONTWRITEBYTECODE": "1"}
        with launch(words, log_path=Path(directory, "server.log"), env=environment) as server:
            target = server.wait_until_serving()
            with visitors(port):
                asyncio.run(film(Studio(target), port, project, options.seconds))


if __name__ == "__main__":
    main()
