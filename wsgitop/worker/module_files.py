"""The files that the application's code comes from: found here, watched by the master for --reload, and
otherwise compared once in a while with what is on disk.

Who runs this: zygote and workers, after loading; in a worker also one thread, once a second, for modules that
are imported later (inside a view). The standard library and this package are left out: they do not change.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import wsgitop
from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, ChannelClosed, ChannelFull

INTERVAL_S: Final = 1.0
FILES_LIMIT: Final = 20_000
SOURCES_LIMIT: Final = 500
"""Files that are compared without --reload: enough to notice a deploy."""
MESSAGE_CHARACTERS: Final = 32 * 1024
_IN_TRACEBACK = re.compile(r'^\s*File "([^"<>]+)", line \d+', re.MULTILINE)
_INSTALLED = ("/site-packages/", "/dist-packages/")


def module_files() -> set[str]:
    """The source files of what is imported, absolute."""
    found = set()
    for module in list(sys.modules.values()):
        # A module may put anything there, or be no module at all.
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and name:
            # Code in a compiled file only still has a source that somebody edits.
            found.add(name.removesuffix("c") if name.endswith(".pyc") else name)
    return {name for name in found if _is_of_the_application(name)}


def traceback_files(trace: str) -> set[str]:
    """The files that a traceback names: the one with the SyntaxError is no module yet."""
    return {name for name in _IN_TRACEBACK.findall(trace) if _is_of_the_application(name)}


def source_files() -> list[m.SourceFile]:
    """The application's own files, installed packages left out, with their stamps; SOURCES_LIMIT of them."""
    own = sorted(name for name in module_files() if not any(part in name for part in _INSTALLED))
    found = []
    for name in own[:SOURCES_LIMIT]:
        with contextlib.suppress(OSError):
            status = os.stat(name)  # noqa: PTH116 - hundreds at a time
            found.append(m.SourceFile(name, status.st_mtime_ns, status.st_size))
    return found


def tell_sources(channel: Channel[m.ToWorker]) -> None:
    """Tell the master of :func:`source_files`. One that is too busy is told in part: it compares what it
    knows. Raises ChannelClosed.
    """
    files = {file.name: file for file in source_files()}
    with contextlib.suppress(ChannelFull):
        for names in _parcels(list(files)):
            channel.send(m.SourceFiles(tuple(files[name] for name in names)))


def _is_of_the_application(name: str) -> bool:
    if not name.startswith("/") or len(name) > MESSAGE_CHARACTERS:
        return False
    if name.startswith(_OURS):
        return False
    return any(part in name for part in _INSTALLED) or not name.startswith(_STANDARD)


_OURS: Final = str(Path(wsgitop.__file__).parent) + "/"
_STANDARD: Final = tuple(
    {f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")} | {f"{sys.base_prefix}/lib/python3"}
)


class Teller:
    """Tells the master of files, each once."""

    def __init__(self, channel: Channel[m.ToWorker] | Channel[m.ToZygote]) -> None:
        self._channel = channel
        self._told: set[str] = set()

    def tell(self, trace: str = "") -> None:
        """Of what is imported by now and has not been told. Raises ChannelClosed."""
        fresh = sorted((module_files() | traceback_files(trace)) - self._told)
        for files in _parcels(fresh[: FILES_LIMIT - len(self._told)]):
            try:
                self._channel.send(m.ModuleFiles(files))
            except ChannelFull:
                return  # next time
            self._told.update(files)


def _parcels(files: list[str]) -> Iterator[tuple[str, ...]]:
    parcel: list[str] = []
    size = 0
    for name in files:
        if size + len(name) > MESSAGE_CHARACTERS:
            yield tuple(parcel)
            parcel, size = [], 0
        parcel.append(name)
        size += len(name)
    if parcel:
        yield tuple(parcel)


class TellerThread(threading.Thread):
    """Goes on telling of what is imported later, until the master is gone."""

    def __init__(self, teller: Teller) -> None:
        super().__init__(name="wsgitop-files", daemon=True)
        self._teller = teller

    def run(self) -> None:
        """Until the process ends, or the master."""
        known = -1
        while True:
            if len(sys.modules) != known:
                known = len(sys.modules)
                try:
                    self._teller.tell()
                except ChannelClosed:
                    return
            time.sleep(INTERVAL_S)
