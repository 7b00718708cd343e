"""--reload: an application under development, changed, broken and mended while the server runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

SITE = """
from helper import TEXT

def application(environ, start_response):
    if environ["PATH_INFO"] == "/later":
        import later
        body = later.TEXT
    else:
        body = TEXT
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def write(path: Path, text: str) -> None:
    """As an editor does. A text of the same length within the same second would be overlooked by Python,
    which compares these two with the compiled file.
    """
    new = path.with_name(path.name + "~")
    new.write_text(text)
    new.rename(path)


@pytest.fixture(
    params=[pytest.param(("--reload-engine", "inotify"), marks=pytest.mark.every_python),
            ("--reload-engine", "poll"), ("--reload-engine", "watchfiles"), ("--preload",)],
    ids=["inotify", "poll", "watchfiles", "preload"],
)  # fmt: skip
def site(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> tuple[Server, Path]:
    (tmp_path / "site.py").write_text("")
    (tmp_path / "app.py").write_text(SITE)
    (tmp_path / "helper.py").write_text("TEXT = b'one'\n")
    (tmp_path / "later.py").write_text("TEXT = b'later'\n")
    (tmp_path / "template.html").write_text("<p>\n")
    return start_server(
        "app:application", "-w", "2", "--reload", *request.param,
        "--reload-extra-file", "template.html", "--reload-extra-file", "missing.html", cwd=tmp_path,
    ), tmp_path  # fmt: skip


def answers(server: Server, text: bytes) -> None:
    eventually(lambda: {server.get()[1] for _ in range(4)} == {text}, 20, what=f"{text!r} from all workers")
    eventually(lambda: server.status()["master"]["state"] == "serving", 20)


def test_a_day_of_development(site: tuple[Server, Path]) -> None:
    server, home = site
    answers(server, b"one")
    write(home / "helper.py", "TEXT = b'two'  # now\n")
    answers(server, b"two")

    write(home / "helper.py", "TEXT = = b'three'\n")
    eventually(lambda: "SyntaxError" in server.log(), 20, what="the fault")
    assert {server.get()[1] for _ in range(4)} == {b"two"}, "the old code serves on"
    write(home / "helper.py", "TEXT = b'three'\n")
    answers(server, b"three")

    write(home / "app.py", SITE.replace("helper", "another"))  # a module that is not there yet
    eventually(lambda: "No module named 'another'" in server.log(), 20)
    write(home / "another.py", "TEXT = b'four'\n")
    answers(server, b"four")


def test_what_else_is_watched(site: tuple[Server, Path]) -> None:
    server, home = site

    def generation() -> int:
        return int(server.status()["master"]["generation"])

    def reloaded(before: int) -> None:
        eventually(lambda: generation() > before, 20, what="a reload")
        eventually(lambda: server.status()["master"]["state"] == "serving", 20)

    before = generation()
    write(home / "template.html", "<p>new\n")
    reloaded(before)
    before = generation()
    write(home / "missing.html", "<p>here\n")
    reloaded(before)
    assert server.get("/later")[1] == b"later"

    def changes_later() -> bool:
        # That the module is imported is told within a second.
        write(home / "later.py", f"TEXT = b'later'  # {generation()}\n")
        return generation() > before + 1

    eventually(changes_later, 20, what="a reload for a module that was imported by a view")
    eventually(lambda: server.status()["master"]["state"] == "serving", 20)
    before = generation()
    (home / "site.log").write_text("a log in the directory of the code")
    (home / "unused.py").write_text("x = 1\n")
    server.get()
    assert generation() == before
