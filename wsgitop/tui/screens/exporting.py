"""``e``: what is to be written to a file, and writing it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from wsgitop.tui.export import Kind, as_json, write
from wsgitop.tui.screens.menus import ExportMenu, Row

if TYPE_CHECKING:
    from wsgitop.tui.app import WsgitopApp

ROWS = (
    Row("JSON", "j", "All figures that are shown, as ctl status --json has them"),
    Row("SVG", "s", "The screen as a picture, with its colours"),
    Row("text", "t", "The screen as text"),
)


async def export(app: WsgitopApp) -> None:
    """Ask what, write it to the directory the command was started in, and say where it is or why not.

    It is of the moment when the menu opened, when the user saw what he wants to keep.
    """
    view = app.model.view()
    picture = app.export_screenshot()
    text = "".join(f"{line.rstrip()}\n" for line in app.screen_lines())
    nothing = "" if view.snapshot is not None else "there is no picture of the server yet"
    rows = [row._replace(refused=nothing) if row.name == "JSON" else row for row in ROWS]
    name = await app.push_screen_wait(ExportMenu("Write to a file", rows, note=f"In {_here()}"))
    if name is None:
        app.say("info", "nothing written: cancelled")
        return
    kind: Kind = "svg"
    if name == "text":
        kind, picture = "txt", text
    elif name == "JSON" and view.snapshot is not None:
        kind, picture = "json", as_json(view.snapshot)
    try:
        path = await asyncio.to_thread(lambda: write(Path.cwd(), kind, picture, app.wall()))
    except OSError as error:
        why = error.strerror or str(error)
        app.say("error", f"nothing written to {_here()}: {why}; start the interface where you may write")
    else:
        app.say("good", f"written to {path}")


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a directory that is gone"
