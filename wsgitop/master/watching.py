"""--reload: watches the files that the application's code comes from, and asks for a reload when one changes.

Who runs this: :class:`FileWatch` belongs to the loop of the master. One thread, which exists with --reload
only, looks at the files, because a directory on a network that hangs must not stop the master. It owns what
it has seen; the loop hands it immutable sets and gets paths back by ``call_soon_threadsafe``. What counts is
the same with every engine, namely another time, size or inode than before; the kernel's news only make it
look at once instead of within INTERVAL_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from wsgitop.master.events import EventLog
from wsgitop.master.file_news import FileNews, NoNews, open_news
from wsgitop.settings.table import Settings

INTERVAL_S = 1.0
QUIET_S = 0.05
"""Editors and version control write several files: a change is told when there is no other for so long."""
QUIET_LIMIT_S = 2.0
FILES_LIMIT = 50_000
RECENT_S = 60.0

_Seen = tuple[int, int, int] | frozenset[str] | None


class FileWatch:
    """``changed`` is called in the loop, with what has changed in words, when a reload is due."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, events: EventLog, changed: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._events = events
        self._changed = changed
        self._files: dict[int, set[str]] = {}
        self._extra: frozenset[str] = frozenset()
        self._engine = ""
        self._home = ""
        self._thread: _Watcher | None = None
        self._hopes = False

    def follow(self, settings: Settings, *, home: str, config: str) -> None:
        """Watch, or do not, as the settings in force say. ``home`` is the application's directory, ``config``
        the config file ('' for none).
        """
        if not settings.reload:
            self.close()
            return
        extra = [name.removeprefix("file:") for name in (*settings.reload_extra_files, config) if name]
        self._home = home
        self._extra = frozenset(os.path.join(home, name) for name in extra)  # noqa: PTH118 - not resolved
        if self._thread is not None and self._engine == settings.reload_engine:
            self._hand_over()
            return
        self.close()
        self._engine = settings.reload_engine
        try:
            news = open_news(self._engine)
        except NoNews as error:
            text = f"--reload: {error}; files are looked at every {INTERVAL_S:g} s instead"
            self._events.add("warning", "reload", text)
            news = None
        self._thread = _Watcher(news, self._tell)
        self._hand_over()
        self._thread.start()
        text = "--reload: code that changes is loaded again; this is for development"
        self._events.add("info", "watching", text)

    def add(self, generation: int, files: Iterable[str]) -> None:
        """Code of ``generation`` comes from these."""
        if self._thread is None:
            return
        self._files.setdefault(generation, set()).update(files)
        self._hand_over()

    def keep(self, *generations: int, hopes: bool) -> None:
        """Watch the files of these generations only. ``hopes``: the newest code is broken, and a file that
        appears may be the one that was missing.
        """
        for number in self._files.keys() - generations:
            del self._files[number]
        self._hopes = hopes
        self._hand_over()

    def close(self) -> None:
        """Watch no more."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
        self._files.clear()

    def _hand_over(self) -> None:
        if self._thread is None:
            return
        files = frozenset().union(self._extra, *self._files.values())
        if len(files) > FILES_LIMIT:
            files = self._extra
        directories = (os.path.dirname(name) for name in files if "-packages/" not in name)  # noqa: PTH120
        self._thread.watch(files, frozenset(directories), hopes=self._hopes)

    def _tell(self, changed: list[str]) -> None:
        """In the thread."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed: the master is ending
            self._loop.call_soon_threadsafe(self._take, changed)

    def _take(self, changed: list[str]) -> None:
        if self._thread is not None:
            self._changed(describe(changed, self._home))


def describe(changed: list[str], home: str) -> str:
    """``file changed: shop/views.py and 2 more``."""
    first = changed[0]
    if home and first.startswith(home.rstrip("/") + "/"):
        first = first[len(home.rstrip("/")) + 1 :]
    if first.endswith("/"):
        return f"there are new modules in {first}"
    if not first:
        return "there are new modules"
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"file changed: {first}{more}"


class _Watcher(threading.Thread):
    """Looks at the files that it was handed, tells which differ from what it saw before."""

    def __init__(self, news: FileNews | None, tell: Callable[[list[str]], None]) -> None:
        super().__init__(name="wsgitop-watch", daemon=True)
        self._news = news
        self._tell = tell
        self._wanted: tuple[frozenset[str], frozenset[str], bool] = (frozenset(), frozenset(), False)
        self._seen: dict[str, _Seen] = {}
        self._grown: dict[str, float] = {}  # directories with other modules than before, and since when
        self._stopping = False
        self._lock = threading.Lock()  # the descriptor is written to by the loop and closed by the thread
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    # -- for the loop ------------------------------------------------

    def watch(self, files: frozenset[str], directories: frozenset[str], *, hopes: bool = False) -> None:
        """From now on these files; if it ``hopes``, new names in these directories as well, those of the last
        RECENT_S included: what is missing may appear while it is being found out that it is.
        """
        if (files, directories, hopes) != self._wanted:
            self._wanted = files, directories, hopes
            self._wake()

    def stop(self) -> None:
        """End soon; does not wait, because a look at a file may hang."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    # -- the thread ------------------------------------------------

    def run(self) -> None:
        """Until it is stopped."""
        try:
            while not self._stopping:
                changed = self._look()
                if changed:
                    self._settle(changed)
                    self._tell(sorted(changed))
                self._sleep()
        finally:
            with self._lock:
                os.close(self._wake_fd)
                self._wake_fd = -1
            if self._news is not None:
                self._news.close()

    def _settle(self, changed: set[str]) -> None:
        limit_s = time.monotonic() + QUIET_LIMIT_S
        while time.monotonic() < limit_s and not self._stopping:
            time.sleep(QUIET_S)
            more = self._look()
            changed |= more
            if not more:
                return

    def _sleep(self) -> None:
        watched = [self._wake_fd]
        if self._news is not None:
            files, directories, _ = self._wanted
            self._news.watch(files, directories)
            watched.append(self._news.fileno())
        deadline_s = time.monotonic() + INTERVAL_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            poller = select.poll()
            for fd in watched:
                poller.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poller.poll(left_s * 1000)}
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
                return
            if ready and self._news is not None and self._news.concerns():
                return

    def _look(self) -> set[str]:
        """What has changed since the last look. What is new to us has not."""
        files, directories, hopes = self._wanted
        seen: dict[str, _Seen] = {name: _stamp(name) for name in files}
        seen |= {name + "/": _listing(name) for name in directories}
        before, self._seen = self._seen, seen
        changed = {name for name, stamp in seen.items() if name in before and before[name] != stamp}
        now_s = time.monotonic()
        self._grown.update((name, now_s) for name in changed if name.endswith("/"))
        files_changed = {name for name in changed if not name.endswith("/")}
        if not hopes:
            return files_changed
        grown = {name for name, at_s in self._grown.items() if now_s - at_s < RECENT_S and name in seen}
        self._grown.clear()
        return files_changed | grown


def _stamp(name: str) -> _Seen:
    try:
        found = os.stat(name)  # noqa: PTH116 - thousands a second
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _listing(name: str) -> _Seen:
    """The modules and packages that a directory may hold."""
    try:
        with os.scandir(name) as entries:
            return frozenset(e.name for e in entries if e.name.endswith(".py") or _may_be_package(e))
    except OSError:
        return None


def _may_be_package(entry: os.DirEntry[str]) -> bool:
    return entry.name.isidentifier() and Path(entry.path, "__init__.py").is_file()
