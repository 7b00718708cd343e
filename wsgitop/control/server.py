"""The control server: clients, their calls and their subscriptions. Runs in the master's event loop.

It owns the connections and nothing of the server behind them, which it knows as a Backend. Methods are
reached through the table in control.methods and by nothing else: questions are answered by ``answers``,
orders are given by ``orders``, and what subscribers get comes from ``publisher``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence

from wsgitop.control import messages as m
from wsgitop.control.acceptor import Acceptor, TurnedAway
from wsgitop.control.answers import AndThen, Answers
from wsgitop.control.backend import Backend
from wsgitop.control.checks import problem_with
from wsgitop.control.claim import Claim, claim
from wsgitop.control.codec import CallFault, decode_arguments, decode_request, encode_error, encode_result
from wsgitop.control.connection import Connection, Limits
from wsgitop.control.faults import as_error
from wsgitop.control.methods import METHODS
from wsgitop.control.orders import INTERNAL, KeptOrder, Orders, Verdict
from wsgitop.control.peers import Known, Lookups, actor, peer_of, user_name
from wsgitop.control.places import Places
from wsgitop.control.publisher import Publisher
from wsgitop.control.runtime_dir import Found
from wsgitop.control.sharing import Sharing
from wsgitop.control.turns import Turns
from wsgitop.errors import WsgitopError
from wsgitop.logs.error_log import LOGGER
from wsgitop.snapshot import Event

__all__ = ["ControlServer", "Limits", "role_of_uid"]


def role_of_uid(uid: int) -> m.Role | None:
    """Whoever runs the server, and root, may do everything; nobody else anything."""
    return "operator" if uid in (os.geteuid(), 0) else None


class ControlServer:
    """The control socket of a master: :meth:`open` makes it, :meth:`start` serves a backend on it.

    ``app`` and ``name`` are what the server serves and what it is called; ``path`` is where the socket is to
    be, '' for the runtime directory; ``role_of`` tells what a user id may do; ``inherited`` is the claim of a
    master whose place this one takes.

    ``sharing`` is the second socket, for other users; it is opened and closed with this one.
    """

    def __init__(
        self,
        *,
        app: str,
        name: str = "",
        path: str = "",
        limits: Limits | None = None,
        role_of: Callable[[int], m.Role | None] = role_of_uid,
        inherited: Claim | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.path = self._asked = path
        self.limits = limits or Limits()
        self._app = app
        self._name = name or app
        self._role_of = role_of
        self._claim: Claim | None = inherited
        self._sharing = sharing
        # Names are looked up before there are workers: a directory service may take its time to answer.
        self._user_names = {uid: user_name(uid) for uid in (os.geteuid(), 0)}
        self._connections: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._places = Places(
            most=self.limits.clients,
            most_of_others=self.limits.clients_of_others,
            most_per_user=self.limits.clients_per_user,
        )
        self._acceptor: Acceptor | None = None
        self._closing = False
        self._all_lost = asyncio.Event()
        self.publisher = Publisher(self._connections, self._remembered_events)

    def open(self) -> str:
        """Make the socket safely; its path.

        Clients that connect wait for :meth:`start`. Raises ControlSocketError.
        """
        if self._claim is None:
            self._claim = claim(self.path, name=self._name)
        self.path = self._claim.path
        if self._sharing is not None:
            self._sharing.open()
        return self.path

    async def start(self, backend: Backend, *, bind: Sequence[str] = ()) -> None:
        """Serve ``backend`` from now on, and let this master be found.

        ``bind`` is where it listens, for people. Raises ControlSocketError.
        """
        if self._claim is not None and not self._claim.stands():
            self.let_go()
        if self._claim is None:
            self.path = self._asked
            self.open()
        assert self._claim is not None
        self.turns = Turns(share=self.limits.share, burst_s=self.limits.burst_s)
        self._backend = backend
        self._answers = Answers(backend, self._app, self._followers_changed, lambda: self.turns.is_crowded)
        self._orders = Orders(backend, self.limits, self._actor)
        self._lookups = Lookups()
        self._turned_away = TurnedAway(self.limits.turned_away)
        self._acceptor = self._accept(self._claim.sock)
        if self._sharing is not None:
            self._sharing.start(lambda sock: self._accept(sock, shared=True))
        self._claim.announce(Found(os.getpid(), time.time(), self._app, self._name, tuple(bind), self.path))

    def _accept(self, sock: socket.socket, *, shared: bool = False) -> Acceptor:
        return Acceptor(
            sock,
            lambda client: self.admit(client, shared=shared),
            per_s=self.limits.accepts_per_s,
            burst=self.limits.accepts_burst,
        )

    @property
    def held(self) -> Claim | None:
        """The claim, for a successor to inherit; None if there is none any more."""
        return self._claim

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._connections)

    def kept_orders(self, successor: int) -> tuple[KeptOrder, ...]:
        """What a new master, process ``successor``, is to know of the orders that were given here."""
        return self._orders.kept(successor) if self._acceptor is not None else ()

    def adopt_orders(self, kept: Sequence[KeptOrder]) -> None:
        """Remember what the master before has carried out, once this server has started."""
        self._orders.adopt(kept)

    def hand_over(self) -> None:
        """Leave the socket to the master that has inherited it. Who only looks is disconnected, and finds
        that one; who waits for the outcome of an order still gets it.
        """
        self._stop_accepting()
        self.let_go()
        for connection in list(self._connections):
            if not connection.calls_in_flight:
                connection.close()

    def let_go(self) -> None:
        """The socket is another master's: nothing of it is removed at the end."""
        if self._claim is not None:
            self._claim.let_go()
            self._claim = None

    async def close(self, drain_s: float = 1.0) -> None:
        """Accept nobody any more, let answers under way reach their clients within ``drain_s`` seconds,
        and close."""
        self._stop_accepting()
        if self._acceptor is not None:
            await self._orders.end(drain_s)
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            try:
                await asyncio.wait_for(self._all_lost.wait(), drain_s)
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()
                # Aborted connections tell that they are lost in the next turn of the loop.
                await self._all_lost.wait()
        if self._acceptor is not None:
            self.turns.stop()
            self._turned_away.close()
        if self._claim is not None:
            self._claim.close()

    def _stop_accepting(self) -> None:
        self._closing = True
        if self._acceptor is not None:
            self._acceptor.close()
        if self._sharing is not None:
            self._sharing.close()

    def _remembered_events(self, after: int, limit: int) -> Sequence[Event]:
        return self._backend.events(after, limit)

    def _followers_changed(self) -> None:
        self._backend.follow_logs(*self.publisher.followed())

    # -- what connections call

    def admit(self, client: socket.socket, *, shared: bool) -> None:
        """Take a new client in, or tell it why not. ``shared``: it came through the socket for others."""
        peer = peer_of(client)
        is_owner = role_of_uid(peer.uid) is not None
        role = self._role_of(peer.uid)
        if role is None and shared and self._sharing is not None:
            role = self._sharing.role_of(peer)
        if role is None:
            why = f"user id {peer.uid} may not control this server"
        elif self._closing:
            why = "the server is stopping"
        else:
            why = self._places.take(peer.uid, is_owner=is_owner)
        if role is None or why:
            self._turned_away.add(client, encode_error(None, m.REFUSED, why))
            return
        connection = Connection(self, peer, role, is_owner=is_owner)
        self._connections.add(connection)
        self._all_lost.clear()
        task = asyncio.get_running_loop().create_task(self._connect(connection, client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: Connection, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client)
        except Exception as error:  # noqa: BLE001 - whatever it was: nobody may be waited for who is not there
            LOGGER.warning("control: a client could not be taken in: %s", error)
            client.close()
            self.lost(connection)
        if self._closing and not connection.calls_in_flight:
            connection.close()  # it came at the last moment

    def lost(self, connection: Connection) -> None:
        """A client is gone."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._places.give_back(connection.peer.uid, is_owner=connection.is_owner)
        subscription = connection.subscription
        if subscription is not None and (subscription.error_log or subscription.access_log):
            self._followers_changed()
        if not self._connections:
            self._all_lost.set()

    def introduce(self, connection: Connection) -> None:
        """Find out whose orders they will be."""
        self._lookups.ask(connection.peer, connection.introduced)

    def drained(self, connection: Connection) -> None:
        """A client has read everything: what it missed can go out now."""
        self.publisher.catch_up(connection)

    def handle(self, connection: Connection, frame: bytes) -> None:
        """Answer one call, now if it is a question, when it is done if it is an action."""
        try:
            request = decode_request(frame)
            row = METHODS.get(request.method)
            if row is None:
                raise CallFault(m.METHOD_NOT_FOUND, f"no such method: {request.method[:64]!r}", request.id)
            if row.role == "operator" and connection.role != "operator":
                self._orders.refused(connection, row)
                raise CallFault(m.REFUSED, f"{row.name} is for operators, and you are a viewer", request.id)
            arguments = decode_arguments(request, row.arguments)
            problem = problem_with(row.name, arguments)
            if problem:
                raise CallFault(m.INVALID_PARAMS, f"{row.name}: {problem}", request.id)
            if row.name in self._answers.by_method:
                answer = self._answers.by_method[row.name](connection, arguments)
                frames = b""
                if isinstance(answer, AndThen):
                    answer, frames = answer
                connection.send(encode_result(request.id, answer) + frames)
            elif self._closing:
                raise CallFault(m.ACTION_FAILED, "the server is stopping", request.id)
            else:
                self._orders.begin(connection, request.id, row, arguments)
        except CallFault as fault:
            connection.send(encode_error(fault.call_id, fault.error.code, fault.error.message))
        except WsgitopError as fault:
            connection.send(Verdict(error=as_error(fault)).frame(request.id))
        except Exception:  # noqa: BLE001 - a fault in one answer must not end the connection, nor the master
            LOGGER.exception("control: a call could not be answered")
            connection.send(Verdict(error=INTERNAL).frame(request.id))

    def _actor(self, connection: Connection) -> str:
        known = connection.known
        name = known.user or self._user_names.get(connection.peer.uid, "")
        return actor(connection.peer, Known(name, known.ssh_from))
