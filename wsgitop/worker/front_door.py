"""What the server itself says to a client, without the application: refusals, 100 Continue, health checks.

Run by the leader.
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Callable
from typing import Final

from wsgitop.http.faults import Fault
from wsgitop.http.head import Request
from wsgitop.http.response import CONTINUE, render_error, render_health
from wsgitop.logs.error_log import LOGGER
from wsgitop.scoreboard import layout as at
from wsgitop.settings.table import Settings
from wsgitop.worker.connection import Connection, State
from wsgitop.worker.settlement import Settlement
from wsgitop.worker.table import Table
from wsgitop.wsgi.response import ClientGone

_IN: Final = select.EPOLLIN
_DISK_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_monotonic: Final = time.monotonic


class FrontDoor:
    """``date`` renders the Date line of this moment; ``row`` are the process words of the scoreboard."""

    def __init__(
        self,
        *,
        settings: Settings,
        table: Table,
        settlement: Settlement,
        row: memoryview,
        date: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._table = table
        self._settlement = settlement
        self._row = row
        self._date = date
        self._rejected = 0

    # -- what is not complete --------------------------------------------------------------------------

    def await_more(self, connection: Connection) -> None:
        """A request is not complete. Its head has one deadline, from its first byte; its body must make
        progress.
        """
        parser = connection.parser
        if parser.in_body or not connection.partial:
            self._table.set_deadline(connection, _monotonic() + self._settings.header_timeout)
        connection.partial = True
        connection.state = State.READING
        if connection.mask != _IN:
            self._table.watch(connection, _IN)
        if parser.wants_continue:
            try:
                connection.send(CONTINUE)
            except ClientGone:
                self._table.close(connection)

    def end_of_file(self, connection: Connection) -> None:
        """The client has closed its side."""
        if connection.parser.in_message:
            LOGGER.debug("%s left within a request", connection.client.decode() or "A client")
        self._table.close(connection)

    # -- refusals --------------------------------------------------------------------------------------

    def refuse(self, connection: Connection, fault: Fault) -> None:
        """Answer a request that does not get to the application; the connection ends with it."""
        self._rejected += 1
        self._row[at.REJECTED] = self._rejected
        status, reason, head_only = fault
        LOGGER.info(
            "Refused a request from %s: %d %s", connection.client.decode() or "a local client", status, reason
        )
        connection.closing = True
        try:
            connection.send(render_error(status, reason, self._date(), body=not head_only))
        except ClientGone:
            self._table.close(connection)
            return
        self._settlement.conclude(connection, _monotonic())

    def refuse_environ(self, connection: Connection, request: Request | Fault | None, fault: Fault) -> None:
        """Its peer, a proxy perhaps, may not say what it says."""
        self.refuse(connection, fault._replace(head_only=_is_head(connection, request)))

    def refuse_body(self, connection: Connection, request: Request | Fault | None, error: OSError) -> None:
        """The temporary file of a body failed: the disk is full (507), or no descriptor is left, say, which
        passes (503).
        """
        LOGGER.error(
            "Cannot keep the body of a request in %s: %s; see --worker-tmp-dir",
            self._settings.worker_tmp_dir or "the system's temporary directory",
            error,
        )
        status = 507 if error.errno in _DISK_FULL else 503
        fault = Fault(status, "The server cannot keep the body", _is_head(connection, request))
        self.refuse(connection, fault)

    def no_room(self) -> bytes:
        """The answer to a client for whose connection there is no descriptor."""
        return render_error(503, "The server has no room for another client", self._date())

    def no_thread(self) -> Callable[[bool], bytes]:
        """The answer of a worker that has lost all its threads; to a HEAD if it is given True."""
        date = self._date()
        return lambda head_only: render_error(503, "The worker has no thread left.", date, body=not head_only)

    # -- health ----------------------------------------------------------------------------------------

    def asks_for_health(self, request: Request) -> bool:
        """Whether it is for --health-path."""
        return request.path == self._settings.health_path and request.method in ("GET", "HEAD")

    def tell_health(self, connection: Connection, request: Request, *, keeps: bool) -> None:
        """Answer it: it is no request of the application's, so it is neither counted nor logged. ``keeps``:
        the connection may be kept.
        """
        if request.body is not None:
            request.body.close()
        connection.partial = False
        connection.requests += 1
        connection.closing = not keeps or not request.keep_alive or connection.parser.finished
        connection.state = State.ANSWERED
        try:
            connection.send(render_health(self._date(), connection.closing, request.method == "HEAD"))
        except ClientGone:
            self._table.close(connection)
        else:
            self._settlement.settle(connection, _monotonic())


def _is_head(connection: Connection, request: Request | Fault | None) -> bool:
    """What is refused, ``request`` if it is complete, is a HEAD."""
    return request.method == "HEAD" if isinstance(request, Request) else connection.parser.head_only
