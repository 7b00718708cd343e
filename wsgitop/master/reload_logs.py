"""Other log files in the configuration: opened for a new generation, in force when it serves.

Who runs this: the loop of the master. The descriptor of the access log that the master hands to everybody
keeps its number for life; what changes is the file behind it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsgitop.errors import ConfigError
from wsgitop.logs.sink import Sink, open_log
from wsgitop.master.events import LOGGER, EventLog
from wsgitop.master.sampler import Sampler
from wsgitop.settings.table import Settings


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
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def accept(self, settings: Settings) -> None:
        """A generation with these settings serves."""
        before, self._settings = self._settings, settings
        if settings.loglevel != before.loglevel:
            LOGGER.setLevel(settings.loglevel.upper())
        try:
            if settings.accesslog != before.accesslog:
                descriptor = _open_access_log(settings)
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
        self._sampler.log = "" if path == "-" else str(Path(path).absolute())
        self._events.add("info", "reopen", f"the error log was {before} before")


def _open_access_log(settings: Settings) -> int:
    return open_log(settings.accesslog or os.devnull, 1)
