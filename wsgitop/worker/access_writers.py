"""Where a worker's access log goes: to a file, to syslog by way of the master, or to the user's own handlers.

The first is :class:`AccessLog` and nothing around it, since its cost is paid for each request. Run by
whatever thread serves the request.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Final

from wsgitop.errors import ConfigError
from wsgitop.http.head import Request
from wsgitop.logs.error_log import LOGGER
from wsgitop.settings.log_format import JSON
from wsgitop.worker.access_log import QUIET_S, AccessLog, AccessWriter
from wsgitop.worker.boot import WorkerBoot
from wsgitop.worker.log_line import Line, compile_line
from wsgitop.wsgi.response import Response

ATOMS: Final = tuple("hlutrsmUqHbBfaTDMLp")
"""gunicorn's atoms, those with a name in them left out."""
_NUMBERS: Final = frozenset("BTDM")


def open_access_log(boot: WorkerBoot) -> AccessWriter | None:
    """The access log that the settings ask for, None for none. Raises ConfigError."""
    text = boot.settings.access_log_format
    if boot.access_logger is not None:
        return LoggerLog(boot.access_logger, text)
    file = AccessLog(boot.access_log_fd, text) if boot.access_log_fd >= 0 else None
    if boot.access_pipe_fd < 0:
        return file
    # As gunicorn's lines to syslog; one that is JSON says by itself who it is from.
    is_json = text == JSON or text.lstrip().startswith("{")
    return PipedLog(file, AccessLog(boot.access_pipe_fd, text if is_json else f"[{os.getpid()}] {text}"))


class PipedLog:
    """An access log whose lines go to the master as well."""

    def __init__(self, file: AccessLog | None, pipe: AccessLog) -> None:
        self._file = file
        self._pipe = pipe

    def write(
        self,
        request: Request,
        response: Response,
        environ: Mapping[str, object],
        client: str,
        elapsed_ns: int,
    ) -> None:
        """One line for a finished request."""
        if self._file is not None:
            self._file.write(request, response, environ, client, elapsed_ns)
        self._pipe.write(request, response, environ, client, elapsed_ns)

    def reopen(self, fd: int) -> None:
        """Go on with another file; ``fd`` is taken over."""
        if self._file is None:
            os.close(fd)
        else:
            self._file.reopen(fd)

    def close(self) -> None:
        """Let go of the descriptors, in a process that the application forked."""
        if self._file is not None:
            self._file.close()
        self._pipe.close()


class LoggerLog:
    """An access log that is a logger of the user's configuration. Its handlers may wait as long as they like,
    and the request waits with them.
    """

    def __init__(self, logger: logging.Logger, text: str) -> None:
        self._logger = logger
        self._line = compile_line(text)
        self._atoms: dict[str, Line | None] = {}
        self._quiet_until_s = 0.0

    def write(
        self,
        request: Request,
        response: Response,
        environ: Mapping[str, object],
        client: str,
        elapsed_ns: int,
    ) -> None:
        """One record for a finished request. Its ``args`` are a mapping of gunicorn's atoms, for formatters
        that look there.
        """
        logger = self._logger
        if not logger.isEnabledFor(logging.INFO):
            return
        try:
            about = request, response, environ, client, elapsed_ns
            # The line stands in the place of the format, so the record's message is the line again.
            text = self._line(*about)[:-1].decode().replace("%", "%%")
            atoms = Atoms(self._atoms, about)
            logger.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, text, (atoms,), None))
        except Exception as error:  # noqa: BLE001 - a filter or handler of the user's may raise anything; it costs the line
            now_s = time.monotonic()
            if now_s >= self._quiet_until_s:
                self._quiet_until_s = now_s + QUIET_S
                LOGGER.error("Logger %s fails: %r; lines of the access log are lost", logger.name, error)

    def reopen(self, fd: int) -> None:
        """The files of the handlers are reopened elsewhere; this one is not written to."""
        os.close(fd)

    def close(self) -> None:
        """A process that the application forked shares the handlers with its parent, as with gunicorn."""


class Atoms(Mapping[str, str | int]):
    """gunicorn's atoms for one request, each made when it is asked for; what is none is ``-``.

    ``lines`` keeps what makes them from one request to the next.
    """

    def __init__(
        self,
        lines: dict[str, Line | None],
        about: tuple[Request, Response, Mapping[str, object], str, int],
    ) -> None:
        self._lines = lines
        self._about = about

    def __getitem__(self, name: str) -> str | int:
        if name not in self._lines:
            try:
                self._lines[name] = compile_line(f"%({name})s")
            except ConfigError:
                self._lines[name] = None
        line = self._lines[name]
        if line is None:
            return "-"
        text = line(*self._about)[:-1].decode()
        return int(text) if name in _NUMBERS else text

    def __iter__(self) -> Iterator[str]:
        return iter(ATOMS)

    def __len__(self) -> int:
        return len(ATOMS)
