"""The socket for other users over the life of a control server: opened at the start, or once the master
before this one has given up its path, and closed as soon as another is to have it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from wsgitop.control.acceptor import Acceptor
from wsgitop.control.allow import AllowList
from wsgitop.control.messages import Role
from wsgitop.control.peers import Peer
from wsgitop.control.shared_socket import SharedSocket, open_shared
from wsgitop.control.socket_file import PATIENCE_S
from wsgitop.errors import ControlSocketError

TRIES, TRY_S = 100, 0.1
"""How often and how fast a new master tries to open the socket."""


class Sharing:
    """Who else may connect, and where. ``asked`` is the path, '' for the default one of a server whose file
    name is ``name``. ``is_guest``: another master still has it.
    """

    def __init__(self, allow: AllowList, asked: str, name: str, *, is_guest: bool = False) -> None:
        self.allow = allow
        self._asked = asked
        self._name = name
        self._is_guest = is_guest
        self._ended = False
        self._socket: SharedSocket | None = None
        self._accept: Callable[[socket.socket], Acceptor] | None = None
        self._acceptor: Acceptor | None = None

    @property
    def path(self) -> str:
        """Where others connect; '' while they cannot."""
        return "" if self._socket is None else self._socket.path

    def role_of(self, peer: Peer) -> Role | None:
        """What a peer that came this way may do; None: nothing."""
        return self.allow.role_of(peer)

    def open(self) -> None:
        """Open the socket now, unless another master has it. Who connects waits for :meth:`start`. Raises
        ControlSocketError.
        """
        if not self._is_guest and self._socket is None:
            self._open(PATIENCE_S)

    def start(self, accept: Callable[[socket.socket], Acceptor]) -> None:
        """Take connections by ``accept``, as soon as there is a socket."""
        self._accept = accept
        if self._socket is not None:
            self._acceptor = accept(self._socket.sock)

    async def opened(self) -> None:
        """Return when the socket is open, or never will be: try until the other master has closed its own.
        Raises ControlSocketError if it does not.
        """
        for left in reversed(range(TRIES)):
            if self._socket is not None or self._ended:
                return
            try:
                self._open(0.0)  # the loop must not wait for a lock
            except ControlSocketError:
                if not left:
                    raise
                await asyncio.sleep(TRY_S)

    def close(self) -> None:
        """Take no more connections and remove the socket; who is connected stays. May be called again."""
        self._ended = True
        if self._acceptor is not None:
            self._acceptor.close()
        if self._socket is not None:
            self._socket.close()

    def _open(self, patience_s: float) -> None:
        self._socket = open_shared(self._asked, name=self._name, pid=os.getpid(), patience_s=patience_s)
        if self._accept is not None:
            self._acceptor = self._accept(self._socket.sock)
