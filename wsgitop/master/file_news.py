"""How the kernel tells that something has happened to files: inotify(7), or the package watchfiles.

Who runs this: the thread of watching.py. News only say that it is time to look; what has changed is found by
looking, so that lost or needless ones do no harm. inotify is used through the C library, without a package:
directories are watched rather than files, because editors replace a file by renaming another over it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from typing import Any, Protocol

_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
# Modified, given other times (touch), closed after writing, moved from and to, created, deleted.
_MASK = 0x002 | 0x004 | 0x008 | 0x040 | 0x080 | 0x100 | 0x200
_EVENT = struct.Struct("iIII")
_OVERFLOW = 0x4000


class NoNews(Exception):
    """This machine cannot tell; the text says why."""


class FileNews(Protocol):
    """Readable when something has happened; ``concerns`` then reads it, and tells whether it may matter."""

    def fileno(self) -> int: ...

    def watch(self, files: frozenset[str], directories: frozenset[str]) -> None: ...

    def concerns(self) -> bool: ...

    def close(self) -> None: ...


def open_news(engine: str) -> FileNews | None:
    """News by this engine (the setting reload_engine); None for poll, which does without. Raises NoNews."""
    if engine == "poll":
        return None
    return WatchfilesNews() if engine == "watchfiles" else Inotify()


class Inotify:
    """inotify(7) on the directories of the files."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self._fd < 0:
            raise NoNews(f"inotify is not to be had: {os.strerror(ctypes.get_errno())}")
        self._watched: dict[str, int] = {}
        self._names: frozenset[bytes] = frozenset()
        self._wanted: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    def fileno(self) -> int:
        """For poll."""
        return self._fd

    def watch(self, files: frozenset[str], directories: frozenset[str]) -> None:
        """These files, and new modules in these directories. What cannot be watched is found by looking."""
        if (files, directories) == self._wanted:
            return
        self._wanted = files, directories
        parts = [os.path.split(name) for name in files]
        self._names = frozenset(os.fsencode(name) for _, name in parts)
        wanted = {directory for directory, _ in parts} | directories
        for directory in wanted - self._watched.keys():
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
            if number >= 0:
                self._watched[directory] = number
        for directory in self._watched.keys() - wanted:
            self._libc.inotify_rm_watch(self._fd, self._watched.pop(directory))

    def concerns(self) -> bool:
        """Whether one of the files is meant: a log or a database may be written to in the same directory."""
        try:
            data = os.read(self._fd, 64 * 1024)
        except BlockingIOError:
            return False
        found, at = False, 0
        while at + _EVENT.size <= len(data):
            _, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + length].rstrip(b"\0")
            at += length
            found = found or name in self._names or name.endswith(b".py") or bool(mask & _OVERFLOW)
        return found

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


class WatchfilesNews:
    """The package watchfiles, which also knows what to do where the kernel tells nothing (WATCHFILES_*). Its
    own thread waits for it and writes to a pipe.
    """

    def __init__(self) -> None:
        try:
            import watchfiles
        except ImportError:
            raise NoNews("the package watchfiles is not installed (pip install wsgitop[reload])") from None
        self._watch: Any = watchfiles.watch
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._directories: frozenset[str] = frozenset()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        """For poll."""
        return self._reader

    def watch(self, files: frozenset[str], directories: frozenset[str]) -> None:
        """These files, and new modules in these directories."""
        wanted = frozenset(os.path.dirname(name) for name in files) | directories  # noqa: PTH120
        wanted = frozenset(name for name in wanted if os.path.isdir(name))  # noqa: PTH112
        if wanted == self._directories:
            return
        self._directories = wanted
        self._stop.set()
        self._stop = threading.Event()
        threading.Thread(
            target=self._wait, args=(wanted, self._stop), name="wsgitop-watchfiles", daemon=True
        ).start()

    def _wait(self, directories: frozenset[str], stop: threading.Event) -> None:
        changes = self._watch(
            *directories, stop_event=stop, recursive=False, debounce=50, step=20, rust_timeout=500,
            raise_interrupt=False, watch_filter=None,
        )  # fmt: skip
        for _ in changes:
            with self._lock, contextlib.suppress(BlockingIOError):  # full: it has been told already
                if not self._closed:
                    os.write(self._writer, b".")

    def concerns(self) -> bool:
        """It was asked for these directories only."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        return True

    def close(self) -> None:
        """End the thread, within its timeout."""
        self._stop.set()
        with self._lock:
            self._closed = True
            os.close(self._reader)
            os.close(self._writer)
