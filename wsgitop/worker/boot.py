"""What a worker is given when it begins: the hand-over from the zygote that forked it."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass, field

from wsgitop.scoreboard.board import Board
from wsgitop.settings.addresses import Address
from wsgitop.settings.table import Settings
from wsgitop.worker.hooks import NoHooks
from wsgitop.wsgi.types import WSGIApplication


@dataclass(frozen=True, slots=True)
class WorkerBoot:
    """Everything a worker process needs. It owns the sockets and descriptors from here on.

    ``row`` is its row of ``board``; ``app`` is the application if the zygote has preloaded it. ``exchange``
    is where connections are passed from worker to worker (sending, receiving), None for a worker without
    siblings. ``access_log_fd`` is -1 for no access log. ``channel`` is a SEQPACKET socket to the master:
    end-of-file on it means that the master is gone. ``access_pipe_fd`` takes the access log's lines for
    syslog, -1 for none; ``access_logger`` takes them instead of both, if the user's configuration says so.
    """

    worker: int
    slot: int
    row: int
    generation: int
    settings: Settings
    board: Board
    channel: socket.socket
    listeners: tuple[tuple[Address, socket.socket], ...]
    exchange: tuple[socket.socket, socket.socket] | None
    access_log_fd: int
    app: WSGIApplication | None
    access_pipe_fd: int = -1
    access_logger: logging.Logger | None = None
    hooks: NoHooks = field(default_factory=NoHooks)
