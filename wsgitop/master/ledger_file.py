"""The ledger's file: read at the start, written by a thread, one for each server.

    <state directory>/deaths-<app>-<bind>-<hash>.jsonl    a head, then one death a line, oldest first

Who runs this: :func:`open_ledger` before the loop; :meth:`LedgerFile.keep` the master's loop; writing is the
business of one thread, because a disk that hangs may block it for as long as it likes. The file is replaced
as a whole by rename(2), so that whoever looks finds the old one or the new one. No fsync: what a loss of
power takes is one death of many, and the next start sets a file that it cannot read aside.

Two masters may have the same file for a while (an upgrade, --reuse-port): what the other has written since is
taken over into the next version.

A state directory that cannot be used is no reason not to serve: the ledger is then kept in memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import msgspec

from wsgitop.master.events import LOGGER
from wsgitop.master.ledger import KEPT, Ledger, clean, thin
from wsgitop.settings.hidden import shown_app
from wsgitop.settings.table import Settings
from wsgitop.snapshot import Death

FORMAT = 1
FILE_LIMIT_BYTES = 32 * 1024 * 1024
"""More than KEPT deaths can be; a larger file is not ours."""
SET_ASIDE = ".set-aside"
NEW = ".new"
PAUSE_S = 0.2
"""Between two versions: many workers that end together are one."""
LOCK_TRIES, LOCK_PAUSE_S = 50, 0.02
_QUIET = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""What is ordinary in a container, where nobody has asked for a state directory."""
_UNFIT = re.compile(r"[^A-Za-z0-9.]+")
Mark = tuple[int, int, int]


class Head(msgspec.Struct, frozen=True):
    """The first line: whose file it is."""

    wsgitop_deaths: int
    app: str
    bind: str


class Unusable(Exception):
    """The state directory cannot be used. ``quiet``: it is no surprise."""

    def __init__(self, why: str, *, quiet: bool = False) -> None:
        self.quiet = quiet
        super().__init__(why)


def state_directory(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Where state is kept: --state-dir, what systemd gives (StateDirectory=), $XDG_STATE_HOME, /var/lib for
    root, else below the home directory. Source: systemd.exec(5), XDG Base Directory Specification.

    Raises Unusable if there is no home directory.
    """
    if settings.state_dir:
        return Path(settings.state_dir).absolute()
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given.startswith("/"):
        return Path(given)
    home = environ.get("XDG_STATE_HOME", "")
    if home.startswith("/"):
        return Path(home) / "wsgitop"
    if os.geteuid() == 0:
        return Path("/var/lib/wsgitop")
    try:
        return Path.home() / ".local" / "state" / "wsgitop"
    except RuntimeError:
        raise Unusable("there is no home directory", quiet=True) from None


def file_name(app: str, bind: str) -> str:
    """The name of a server's file. The hash tells those apart whose names look alike when cut to fit."""
    mark = hashlib.sha256(f"{app}\0{bind}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"deaths-{_fit(shown_app(app))}-{_fit(bind)}-{mark}.jsonl"


def _fit(text: str) -> str:
    return _UNFIT.sub("_", text).strip("._")[:60]


def open_ledger(settings: Settings, environ: Mapping[str, str]) -> tuple[Ledger, LedgerFile | None]:
    """The ledger with what is known from earlier, and the file behind it; None if it is in memory only."""
    try:
        directory = state_directory(settings, environ)
        _prepare(directory)
    except Unusable as fault:
        text = f"the death ledger is kept in memory only: {fault} (see --state-dir)"
        LOGGER.log(logging.INFO if fault.quiet and not settings.state_dir else logging.WARNING, "%s", text)
        return Ledger(), None
    file = LedgerFile(directory, settings.wsgi_app, settings.bind[0] if settings.bind else "")
    return Ledger(file.load(), file.keep), file


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise Unusable(f"{directory} cannot be made: {error.strerror}", quiet=error.errno in _QUIET) from None
    if not stat.S_ISDIR(status.st_mode):
        raise Unusable(f"{directory} is no directory")
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise Unusable(f"{directory} can be written by others: it must belong to this user, mode 0700")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Unusable(f"{directory} cannot be written", quiet=True)


class LedgerFile:
    """One server's file."""

    def __init__(self, directory: Path, app: str, bind: str) -> None:
        self.path = directory / file_name(app, bind)
        self._head = Head(FORMAT, shown_app(app), bind)
        self._entries: list[Death] = []  # the thread's, once it has been started
        self._queue: list[Death] = []
        self._mark: Mark | None = None  # of the version that was read or written last
        self._failing = False
        self._closing = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="wsgitop-ledger", daemon=True)

    def load(self) -> tuple[Death, ...]:
        """What the file holds, and begin to write. A file that cannot be read, or not wholly, is set
        aside.
        """
        found, fault = self._read()
        if fault:
            self._set_aside(fault)
        self._entries.extend(_numbered(found))
        self._thread.start()
        return tuple(self._entries)

    def keep(self, death: Death) -> None:
        """Write a death, soon; never waits for the disk."""
        with self._change:
            self._queue.append(death)
            thin(self._queue)  # the disk may hang
            self._change.notify()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, within ``timeout_s``, and end. May be called again."""
        with self._change:
            self._closing = True
            self._change.notify()
        self._thread.join(timeout_s)

    # -- in the thread

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._queue or self._closing)
                if not self._closing:
                    self._change.wait_for(lambda: self._closing, PAUSE_S)
                news = list(self._queue)
                self._queue.clear()
            if not news:
                return
            self._write(news)

    def _write(self, news: list[Death]) -> None:
        # First of all: whatever fails below, they are tried again with the next one.
        self._entries.extend(news)
        thin(self._entries)
        try:
            with self._alone():
                self._merge()
                thin(self._entries)
                lines = [msgspec.json.encode(self._head), *map(msgspec.json.encode, self._entries), b""]
                self._replace(b"\n".join(lines))
        except OSError as error:
            if not self._failing:
                self._failing = True
                LOGGER.warning(
                    "the death ledger %s cannot be written (%s): it goes on in memory, and the next death is "
                    "the next try",
                    self.path, error.strerror,
                )  # fmt: skip
        else:
            self._failing = False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While another master has the same file: between a look at it and the rename nothing may come. The
        lock is given up when the directory is closed. One that is held for long is not waited for: its holder
        may be stopped.
        """
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for _ in range(LOCK_TRIES):
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(LOCK_PAUSE_S)
                except OSError:
                    break  # a file system without locks
            yield
        finally:
            os.close(fd)

    def _replace(self, data: bytes) -> None:
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}{NEW}")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            with open(os.open(new, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
                file.flush()
                self._mark = _mark(os.fstat(file.fileno()))
            new.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise

    def _merge(self) -> None:
        """Take over what another master has written since."""
        try:
            if _mark(self.path.stat(follow_symlinks=False)) == self._mark:
                return
        except FileNotFoundError:
            return
        found, fault = self._read()
        if fault:
            self._set_aside(fault)
        known = {_identity(death) for death in self._entries}
        strangers = [death for death in found if _identity(death) not in known]
        if strangers:
            self._entries = sorted([*self._entries, *strangers], key=lambda death: death.at)

    # -- reading

    def _read(self) -> tuple[list[Death], str]:
        """The deaths that can be read, and what is wrong with the file ('' for nothing)."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                status = os.fstat(fd)
                self._mark = _mark(status)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                    return [], "it is no file of this user"
                data = file.read(FILE_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return [], ""
        except OSError as error:
            return [], error.strerror or str(error)
        return self._parse(data) if len(data) <= FILE_LIMIT_BYTES else ([], "it is too large")

    def _parse(self, data: bytes) -> tuple[list[Death], str]:
        head, *lines = data.split(b"\n")
        try:
            whose = msgspec.json.decode(head, type=Head)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return [], "it is no death ledger"
        if whose != self._head:
            return [], f"it is of another server ({whose.app} at {whose.bind}) or of another version"
        return _decode(lines)

    def _set_aside(self, fault: str) -> None:
        aside = self.path.with_name(self.path.name + SET_ASIDE)
        try:
            self.path.replace(aside)
            where = f"it is kept as {aside}"
        except OSError as error:
            where = f"it cannot be set aside either: {error.strerror}"
        self._mark = None
        LOGGER.warning("the death ledger %s cannot be read wholly: %s; %s", self.path, fault, where)


def _decode(lines: list[bytes]) -> tuple[list[Death], str]:
    found: list[Death] = []
    bad = 0
    for line in lines:
        if line:
            try:
                found.append(clean(msgspec.json.decode(line, type=Death)))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                bad += 1
    return found[-KEPT:], f"{bad} of {len(found) + bad} entries are damaged" if bad else ""


def _numbered(deaths: list[Death]) -> list[Death]:
    """In order of time, with numbers that grow. Two masters of the same server may have used the same."""
    ordered = sorted(deaths, key=lambda death: death.at)
    if all(a.sequence < b.sequence for a, b in pairwise(ordered)):
        return ordered
    first = max(death.sequence for death in ordered) - len(ordered) + 1
    return [
        msgspec.structs.replace(death, sequence=max(1, first) + index) for index, death in enumerate(ordered)
    ]


def _identity(death: Death) -> tuple[float, int, int]:
    return death.at, death.pid, death.master


def _mark(status: os.stat_result) -> Mark:
    return status.st_ino, status.st_size, status.st_mtime_ns
