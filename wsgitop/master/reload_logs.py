"""The log files over reloads and rotation: others are opened for a new generation, in force when it serves.

Who runs this: the loop of the master. The descriptor of the access log that the master hands to everybody
keeps its number for life; what changes is the file behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from wsgitop.errors import ConfigError
from wsgitop.logs.sink import Sink, open_log
from wsgitop.master.events import LOGGER, EventLog
from wsgitop.master.sampler import Sampler
from wsgitop.settings.table import Settings


class AccessLog(NamedTuple):
    """The access log in force, as the master holds it. ``path`` as in the settings; the number of ``fd``
    stays; from byte ``new_from`` on the file has what was written since it is in force.
    """

    path: str
    fd: int
    new_from: int = 0


class ReloadLogs:
    """The log files in force. ``access_log_fd`` is the master's copy of the access log."""

    def __init__(
        self, settings: Settings, access_log_fd: int, *, sink: Sink, sampler: Sampler, events: EventLog
    ) -> None:
        self._settings = settings
        self._access_log_fd = access_log_fd
        self._sink = sink
        self._sampler = sampler
        self._events = events
        self._new_from = _size(access_log_fd)
        self._begun: dict[tuple[int, int], int] = {}
        """How long files were when they were opened for a generation that is not in force yet."""
        self.on_error_log: Callable[[], None] = lambda: None
        """Called when the error log has been opened again, or is another one."""

    @property
    def access_log(self) -> AccessLog:
        """The access log in force."""
        return AccessLog(self._settings.accesslog, self._access_log_fd, self._new_from)

    @contextmanager
    def prepared(self, settings: Settings) -> Iterator[int]:
        """The descriptor of the access log for a generation with these settings. Raises ConfigError when one
        of its logs cannot be opened.
        """
        if settings.errorlog != self._settings.errorlog:
            os.close(open_log(settings.errorlog, 2))
        if settings.accesslog == self._settings.accesslog:
            yield self._access_log_fd
            return
        descriptor = _open_access_log(settings)
        self._begun[_identity(descriptor)] = _size(descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def reopened(self, generations: Mapping[int, Settings]) -> Iterator[dict[int, int]]:
        """Open the log files again, after rotation: the descriptor of the access log for each of these
        generations. One whose settings are not in force yet, or not any more, has its own; if that cannot be
        opened it is told, and the generation is left out. Raises ConfigError if a log that is in force cannot
        be opened; then nothing has changed.
        """
        access_log_fd = _open_access_log(self._settings)
        try:
            self._sink.reopen()
            self.on_error_log()
            if _identity(access_log_fd) != _identity(self._access_log_fd):
                self._new_from = _size(access_log_fd)
            os.dup2(access_log_fd, self._access_log_fd, inheritable=False)
        finally:
            os.close(access_log_fd)
        opened: dict[str, int] = {self._settings.accesslog: self._access_log_fd}
        try:
            for settings in generations.values():
                if settings.accesslog not in opened:
                    try:
                        opened[settings.accesslog] = fresh = _open_access_log(settings)
                        self._begun.setdefault(_identity(fresh), _size(fresh))
                    except ConfigError as error:
                        self._events.add("error", "reopen", f"the old log file stays open: {error.cause}")
            yield {
                number: opened[settings.accesslog]
                for number, settings in generations.items()
                if settings.accesslog in opened
            }
        finally:
            for descriptor in opened.values():
                if descriptor != self._access_log_fd:
                    os.close(descriptor)

    def accept(self, settings: Settings) -> None:
        """A generation with these settings serves."""
        before, self._settings = self._settings, settings
        if settings.loglevel != before.loglevel:
            LOGGER.setLevel(settings.loglevel.upper())
        try:
            if settings.accesslog != before.accesslog:
                descriptor = _open_access_log(settings)
                self._new_from = self._begun.get(_identity(descriptor), _size(descriptor))
                self._begun.clear()
                os.dup2(descriptor, self._access_log_fd, inheritable=False)
                os.close(descriptor)
                self._events.add("info", "reopen", f"access log: {settings.accesslog or 'none'}")
            if settings.errorlog != before.errorlog:
                self._switch_error_log(settings.errorlog)
        except ConfigError as error:  # it could be opened a moment ago
            self._events.add("error", "reopen", f"the old log files stay open: {error.cause}")

    def _switch_error_log(self, path: str) -> None:
        self._events.add("info", "reopen", f"the error log goes on in {path}")
        before, self._sink.path = self._sink.path, path
        try:
            self._sink.reopen()
        except ConfigError:
            self._sink.path = before
            raise
        self.on_error_log()
        self._sampler.log = "" if path == "-" else str(Path(path).absolute())
        self._events.add("info", "reopen", f"the error log was {before} before")


def _open_access_log(settings: Settings) -> int:
    return open_log(settings.accesslog or os.devnull, 1)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _size(fd: int) -> int:
    return os.fstat(fd).st_size
