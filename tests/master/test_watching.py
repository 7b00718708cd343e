"""--reload: what counts as a change of the application's code, with each way to learn of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from wsgitop.master import file_news, watching
from wsgitop.master.events import EventLog
from wsgitop.master.file_news import Inotify, NoNews, open_news
from wsgitop.master.watching import FileWatch, _Watcher, describe
from wsgitop.settings.table import Settings
from wsgitop.worker.module_files import module_files, traceback_files

ENGINES = ("inotify", "watchfiles", "poll")


class Told:
    """A watcher of the files in a directory, and what it has told."""

    def __init__(self, engine: str, home: Path) -> None:
        self.home = home
        self.changes: list[list[str]] = []
        self.watcher = _Watcher(open_news(engine), self.changes.append)
        self.looks = 0
        look = self.watcher._look

        def counted() -> set[str]:
            found = look()
            self.looks += 1
            return found

        self.watcher._look = counted  # type: ignore[method-assign] # to know that it has looked
        self.watcher.start()

    def watch(self, *names: str, directories: tuple[str, ...] = (), hopes: bool = True) -> None:
        """Watch these, and wait until they have been looked at."""
        self.watcher.watch(
            frozenset(str(self.home / name) for name in names),
            frozenset(str(self.home / name) for name in directories),
            hopes=hopes,
        )
        self.looked()

    def looked(self) -> None:
        """Wait for two more looks: the first may have begun before."""
        wanted = self.looks + 2
        self.watcher._wake()
        eventually(lambda: self.watcher._wake() or self.looks >= wanted, 10, what="a look")

    def names(self) -> set[str]:
        return {str(Path(name).relative_to(self.home)) for change in self.changes for name in change}

    def close(self) -> None:
        self.watcher.stop()
        self.watcher.join(10)
        assert not self.watcher.is_alive()


@pytest.fixture(params=ENGINES)
def told(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    # With news a look once in ten seconds would be too late for these tests: so the news must have come.
    monkeypatch.setattr(watching, "INTERVAL_S", 0.05 if request.param == "poll" else 30.0)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    found = Told(request.param, tmp_path)
    found.watch("a.py", "b.py")
    yield found
    found.close()
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("wsgitop-watch")], 10)


def replace(path: Path) -> None:
    """As most editors save."""
    new = path.with_name(path.name + "~")
    new.write_text("x = 2\n")
    new.rename(path)


def delete_and_create(path: Path) -> None:
    path.unlink()
    path.write_text("x = 22\n")


def touch(path: Path) -> None:
    """Only its times change, and to others than it has."""
    os.utime(path, (2_000_000_000, 2_000_000_000))


@pytest.mark.parametrize(
    "save",
    [lambda path: path.write_text("x = 222\n"), replace, delete_and_create, Path.unlink, touch],
    ids=["in place", "replaced", "deleted and created", "deleted", "touched"],
)
def test_ways_to_save(told: Told, save: Callable[[Path], object]) -> None:
    save(told.home / "a.py")
    eventually(lambda: told.changes, what="the change")
    assert told.names() == {"a.py"}


def test_what_others_write_beside_is_no_change(told: Told) -> None:
    (told.home / ".a.py.swp").write_text("swap")
    (told.home / "db.sqlite3").write_text("data")
    (told.home / "__pycache__").mkdir()
    (told.home / "__pycache__" / "a.cpython-313.pyc").write_bytes(b"code")
    (told.home / "c.py").write_text("a module that nobody imports")
    told.looked()
    assert told.changes == []


def test_many_at_once_are_one_change(told: Told) -> None:
    for name in ("a.py", "b.py"):
        (told.home / name).write_text("x = 22222\n")
    eventually(lambda: told.names() == {"a.py", "b.py"})
    assert len(told.changes) == 1


def test_a_file_that_appears_where_code_is_broken(told: Told) -> None:
    told.watch("a.py", directories=("",))
    (told.home / "notes.txt").write_text("no code")
    told.looked()
    assert told.changes == []
    (told.home / "missing.py").write_text("x = 1\n")
    eventually(lambda: told.changes)
    assert told.names() == {"."}


def test_a_file_that_appears_before_the_code_is_known_to_be_broken(told: Told) -> None:
    told.watch("a.py", directories=("",), hopes=False)
    told.home.joinpath("another.py").write_text("x = 1\n")
    told.looked()
    assert told.changes == []
    told.watcher.watch(*told.watcher._wanted[:2], hopes=True)
    eventually(lambda: told.changes)
    told.watch("a.py", directories=("",), hopes=False)
    told.changes.clear()
    told.home.joinpath("third.py").write_text("x = 1\n")
    told.looked()
    assert told.changes == []


def test_a_directory_that_comes_back(told: Told) -> None:
    """As with a deploy that removes the tree and makes it anew."""
    package = told.home / "shop"
    package.mkdir()
    (package / "views.py").write_text("x = 1\n")
    told.watch("a.py", "shop/views.py")
    shutil.rmtree(package)
    # watchfiles needs a moment to begin with another directory; the look each second is for that.
    eventually(lambda: told.watcher._wake() or told.names() == {"shop/views.py"})
    gone = len(told.changes)
    package.mkdir()
    (package / "views.py").write_text("x = 2\n")
    told.looked()
    eventually(lambda: len(told.changes) > gone, what=f"more than {told.changes}")


def test_a_link_is_watched_by_what_it_leads_to(told: Told) -> None:
    (told.home / "v1.py").write_text("x = 1\n")
    (told.home / "v2.py").write_text("x = 22\n")
    link = told.home / "current.py"
    link.symlink_to("v1.py")
    told.watch("current.py")
    (told.home / "new").symlink_to("v2.py")
    (told.home / "new").rename(link)
    eventually(lambda: told.names() == {"current.py"})


def test_a_kernel_that_has_no_watch_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fs.inotify.max_user_watches: what cannot be watched is found by looking."""
    monkeypatch.setattr(watching, "INTERVAL_S", 0.05)
    monkeypatch.setattr(Inotify, "watch", lambda *_: None)
    (tmp_path / "a.py").write_text("x = 1\n")
    told = Told("inotify", tmp_path)
    told.watch("a.py")
    (tmp_path / "a.py").write_text("x = 22\n")
    eventually(lambda: told.changes)
    told.close()


def test_without_news_there_is_one_line_and_polling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "INTERVAL_S", 0.05)

    def none(_engine: str) -> None:
        raise NoNews("inotify is not to be had: Too many open files")

    monkeypatch.setattr(watching, "open_news", none)
    file = tmp_path / "shop.py"
    file.write_text("x = 1\n")

    async def watch() -> list[str]:
        events, heard = EventLog(), asyncio.get_running_loop().create_future()
        watch = FileWatch(asyncio.get_running_loop(), events, heard.set_result)
        watch.follow(Settings(reload=True), home=str(tmp_path), config="")
        watch.add(1, [str(file)])
        thread = watch._thread
        assert thread is not None
        await asyncio.to_thread(eventually, lambda: str(file) in thread._seen)
        file.write_text("x = 22\n")
        assert await asyncio.wait_for(heard, 10) == "file changed: shop.py"
        watch.close()
        await asyncio.to_thread(thread.join, 10)
        return [event.text for event in events.after(0, 10) if event.severity == "warning"]

    (line,) = asyncio.run(watch())
    assert "Too many open files; files are looked at every" in line


def test_watchfiles_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    with pytest.raises(NoNews, match=r"pip install wsgitop\[reload\]"):
        file_news.open_news("watchfiles")


def test_no_descriptor_stays() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for engine in ENGINES:
        told = Told(engine, Path("/"))
        told.close()
    eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


def test_in_words() -> None:
    assert describe(["/site/shop/views.py"], "/site") == "file changed: shop/views.py"
    assert describe(["/site/"], "/site") == "there are new modules"
    assert describe(["/site/shop/"], "/site") == "there are new modules in shop/"
    assert describe(["/etc/x", "/site/y"], "/site/") == "file changed: /etc/x and 1 more"


def test_which_files_are_the_applications() -> None:
    found = module_files()
    assert __file__ in found and pytest.__file__ in found
    assert os.__file__ not in found and watching.__file__ not in found
    lines = (f'"{__file__}", line 3', '"<string>", line 1', f'"{os.__file__}", line 9')
    trace = "".join(f"  File {line}\n    x = = 1\n" for line in lines)
    assert traceback_files(trace) == {__file__}
