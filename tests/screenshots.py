"""``python -m tests.screenshots``: the pictures in screenshots/, made from a live server under load.

tests/apps/shop is served to the demo's visitors; somebody scales it, a view hangs, one crashes, it is loaded
again, once with broken code. Meanwhile the real interface is drawn without a terminal. The server runs from
copies below /tmp/shop, because stacks show where files are. PNG files need rsvg-convert (Debian:
librsvg2-bin, fonts-firacode). Takes about three minutes.
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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import wsgitop
from tests.support.server import APPS, PROGRAM, free_port
from tests.support.waiting import eventually
from wsgitop.client import AsyncClient, Client
from wsgitop.demo.load import visitors
from wsgitop.errors import ActionFailed
from wsgitop.tui.app import WsgitopApp, pages
from wsgitop.tui.arrange import Identity, identity
from wsgitop.tui.terminal import look_for

DIRECTORY = Path(__file__).parent.parent / "screenshots"
SIZES = ((80, 24), (120, 40), (200, 60))
HOME = Path(tempfile.gettempdir(), "shop")
CONTROL = HOME / "control.sock"
WORKERS = 12
TIMEOUT_S = 50
LOADS_S = 1.2
PICTURES_S = 4.2
"""Pictures come once a second; two make a rate, and pages ask at the same pace."""
DEADLINE_S = 30.0
ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}

Act = Callable[[WsgitopApp], Awaitable[None]]


async def overview(app: WsgitopApp) -> None:
    """The workers that do most first, the cursor on the one whose request is the oldest."""
    app.model.sort_by("rps")
    worker, _ = oldest(app)
    app.model.select(worker)
    app.show()
    await asyncio.sleep(PICTURES_S / 2)


def oldest(app: WsgitopApp) -> tuple[Identity, int]:
    """Where the oldest request is: its worker, its thread."""
    assert app.model.snapshot is not None
    _, worker, thread = max(
        (request.elapsed_s, identity(worker), request.thread)
        for worker in app.model.snapshot.workers
        for request in worker.in_flight
    )
    return worker, thread


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
    app.open_worker(*oldest(app))
    await asyncio.sleep(PICTURES_S)


@dataclass(frozen=True)
class Scene:
    """A picture. ``subject`` is the page it needs; it is left out where there is none.
    ``after_s``: so long is looked on before."""

    name: str
    act: Act = overview
    subject: str = ""
    size: tuple[int, int] = (120, 40)
    light: bool = False
    after_s: float = PICTURES_S


WHILE_IT_HANGS = (
    *(Scene(f"overview-{columns}x{lines}", size=(columns, lines)) for columns, lines in SIZES),
    Scene("worker", stuck_worker, "worker", after_s=12.0),
    Scene("requests", page("requests"), "requests"),
)
AFTERWARDS = (
    Scene("light", light=True),
    Scene("deaths", page("deaths"), "deaths"),
    Scene("events", page("events"), "events"),
)
LOG = Scene("log", page("log", "a", "a"), "log")  # neither the error log nor the access log: both
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
            await asyncio.sleep(scene.after_s)
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
            # It does not know textLength: the cells are 12.2 wide, Fira Code's letters 20 × 1200/1950.
            spaced = svg.replace("<style>", "<style>text { letter-spacing: -0.1077px }", 1)
            subprocess.run(
                ["rsvg-convert", "-o", path.with_suffix(".png")], input=spaced.encode(), check=True
            )
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


async def fail_to_reload(studio: Studio, client: AsyncClient) -> None:
    """Code that cannot be imported, and what is said of it."""
    views = HOME / "shop" / "views.py"
    views.write_text(views.read_text().replace("import sold_in", "import sold_in, returned_in"))
    with contextlib.suppress(ActionFailed):
        await client.reload()
    async with studio.opened(FAILED) as app:
        await page("reload")(app)


async def film(studio: Studio, port: int, seconds: float) -> None:
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
    # Something to read among the lines of the access log.
    asyncio.get_running_loop().call_later(PICTURES_S * 1.9, ask, port, "/checkout")
    await studio.draw(LOG)
    if "reload" in pages():
        await reload_until_seen(studio, client)
        await fail_to_reload(studio, client)
    await client.close()


@contextlib.contextmanager
def copies() -> Iterator[dict[str, str]]:
    """A place with copies of the shop and of our code; the environment that imports from there."""
    HOME.mkdir(mode=0o700)  # if it is there, it is somebody's
    try:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(APPS / "shop", HOME / "shop", ignore=ignored)
        shutil.copytree(Path(wsgitop.__file__).parent, HOME / "lib" / "wsgitop", ignore=ignored)
        yield os.environ | {"PYTHONPATH": str(HOME / "lib")}
    finally:
        shutil.rmtree(HOME)


@contextlib.contextmanager
def shop(port: int) -> Iterator[None]:
    """The shop, served."""
    words = [
        *("--bind", f"127.0.0.1:{port}", "--name", "shop", "--control-socket", str(CONTROL)),
        *("--workers", str(WORKERS - 2), "--threads", "2", "--timeout", str(TIMEOUT_S)),
        *("--access-logfile", "access.log", "--state-dir", "state", "shop.wsgi:application"),
    ]
    with copies() as environment, (HOME / "error.log").open("wb") as log:
        environment["SHOP_LOADS_S"] = str(LOADS_S)
        server = subprocess.Popen(
            [*PROGRAM, "serve", *words], cwd=HOME, env=environment, stdout=log, stderr=log
        )
        try:
            eventually(lambda: ready_workers() == WORKERS - 2, DEADLINE_S, what="the shop")
            yield
        finally:
            server.terminate()
            server.wait(DEADLINE_S)


def ready_workers() -> int:
    """How many serve."""
    with Client(str(CONTROL)) as client:
        return sum(worker.state != "booting" for worker in client.status().workers)


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long the site lives before the first (default 60)"
    )
    options = parser.parse_args()
    DIRECTORY.mkdir(exist_ok=True)
    port = free_port()
    with shop(port), visitors(port):
        asyncio.run(film(Studio(str(CONTROL)), port, options.seconds))


if __name__ == "__main__":
    main()
