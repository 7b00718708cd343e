"""The control server: clients, their calls and their subscriptions. Runs in the master's event loop.

It owns the connections and nothing of the server behind them, which it knows as a :class:`Backend`. Methods
are reached through the table in control.methods and by nothing else. Actions that take time run as tasks of
the server, not of the connection: an order that was given is carried out though its giver may be gone.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from wsgitop import __version__
from wsgitop.control import messages as m
from wsgitop.control.claim import Claim, claim
from wsgitop.control.codec import (
    CallFault,
    decode_arguments,
    decode_request,
    encode_error,
    encode_event,
    encode_result,
    encode_snapshot,
    size,
)
from wsgitop.control.connection import Connection, Limits, Subscription, Turns
from wsgitop.control.faults import Busy, TargetGone, as_error
from wsgitop.control.methods import METHODS, Method
from wsgitop.control.runtime_dir import Found
from wsgitop.errors import WsgitopError
from wsgitop.logs.error_log import LOGGER
from wsgitop.snapshot import Death, Event, Second, Snapshot

__all__ = ["Backend", "Busy", "ControlServer", "Limits", "TargetGone", "role_of_uid"]

SHORTEST_INTERVAL_S = 0.25
LONGEST_INTERVAL_S = 10.0
MOST_EVENTS = 1000
MOST_SECONDS = 900
EVENT_BACKLOG_BYTES = 64 * 1024
"""A subscriber with more than this unread gets its events later, from the backend's memory."""
_SIGNAL_NAME = re.compile(r"[A-Z][A-Z0-9]{1,11}")

Kept = TypeVar("Kept", Event, Death)


class Backend(Protocol):
    """What the control server needs from the master.

    The actions return when they are done. They raise ActionFailed, Refused, or TargetGone and Busy of
    control.faults. ``actor`` is who gave the order, as events name it: "alice (pid 4242)".
    """

    def snapshot(self) -> Snapshot:
        """The picture at this moment."""

    def events(self, after: int, limit: int) -> Sequence[Event]:
        """Events with a sequence above ``after``, oldest first, at most ``limit`` of the newest."""

    def deaths(self, after: int, limit: int) -> Sequence[Death]:
        """As :meth:`events`, from the death ledger."""

    def history(self, seconds: int) -> Sequence[Second]:
        """The last ``seconds`` seconds, oldest first."""

    async def reload(self, actor: str) -> m.Outcome:
        """Load the code again and replace the workers."""

    async def scale(self, arguments: m.ScaleArguments, actor: str) -> m.Outcome:
        """Change the number of workers. Exactly one of the two fields is set."""

    async def quarantine(self, arguments: m.WorkerArguments, actor: str) -> m.Outcome:
        """Raises ActionFailed and TargetGone, as the next two."""

    async def release(self, arguments: m.WorkerArguments, actor: str) -> m.Outcome: ...

    async def retire(self, arguments: m.WorkerArguments, actor: str) -> m.Outcome: ...

    async def signal(self, arguments: m.SignalArguments, actor: str) -> m.Outcome:
        """Send a signal.

        With ``pid``, ``started_at`` is set; which names are meant is the backend's business.
        """

    async def upgrade(self, actor: str) -> m.Outcome:
        """Hand over to a new master."""

    async def stop(self, arguments: m.StopArguments, actor: str) -> m.Outcome:
        """Stop the server. The answer goes out before :meth:`ControlServer.close` has ended."""


def role_of_uid(uid: int) -> m.Role | None:
    """Whoever runs the server, and root, may do everything; nobody else anything."""
    return "operator" if uid in (os.geteuid(), 0) else None


class ControlServer:
    """The control socket of a master: :meth:`open` makes it, :meth:`start` serves a backend on it.

    ``app`` and ``name`` are what the server serves and what it is called; ``path`` is where the socket is to
    be, '' for the runtime directory; ``role_of`` tells what a user id may do; ``inherited`` is the claim of a
    master whose place this one takes.
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
    ) -> None:
        self.path = self._asked = path
        self.limits = limits or Limits()
        self._app = app
        self._name = name or app
        self._role_of = role_of
        self._claim: Claim | None = inherited
        self._user_names: dict[int, str] = {}
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None
        self._newest_event = 0
        self._closing = False
        self._all_lost = asyncio.Event()

    def open(self) -> str:
        """Make the socket safely; its path.

        Clients that connect wait for :meth:`start`. Raises ControlSocketError.
        """
        if self._claim is None:
            self._claim = claim(self.path, name=self._name)
        self.path = self._claim.path
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
        self.turns = Turns(self.limits)
        self._backend = backend
        self._answers: dict[str, Callable[[Connection, Any], object]] = {
            "hello": self._hello,
            "status": lambda _connection, _arguments: backend.snapshot(),
            "workers": lambda _connection, _arguments: m.WorkersResult(backend.snapshot().workers),
            "events": self._events,
            "deaths": self._deaths,
            "history": self._history,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
        }
        self._actions: dict[str, Callable[[Any, str], Awaitable[m.Outcome]]] = {
            "reload": lambda _arguments, actor: backend.reload(actor),
            "scale": backend.scale,
            "signal": backend.signal,
            "quarantine": backend.quarantine,
            "release": backend.release,
            "retire": backend.retire,
            "upgrade": lambda _arguments, actor: backend.upgrade(actor),
            "stop": backend.stop,
        }
        # Names are looked up before there are clients: a directory service may take its time to answer.
        self._user_names = {uid: _user_name(uid) for uid in (os.geteuid(), 0)}
        loop = asyncio.get_running_loop()
        if sys.version_info >= (3, 13):
            # Removing the socket is the business of runtime_dir, which knows whether the name is still ours.
            self._server = await loop.create_unix_server(
                lambda: Connection(self), sock=self._claim.sock, cleanup_socket=False
            )
        else:
            self._server = await loop.create_unix_server(lambda: Connection(self), sock=self._claim.sock)

        self._claim.announce(Found(os.getpid(), time.time(), self._app, self._name, tuple(bind), self.path))

    @property
    def held(self) -> Claim | None:
        """The claim, for a successor to inherit; None if there is none any more."""
        return self._claim

    def hand_over(self) -> None:
        """Leave the socket to the master that has inherited it. Who only looks is disconnected, and finds
        that one; who waits for the outcome of an order still gets it.
        """
        self._closing = True
        if self._server is not None:
            self._server.close()
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
        self._closing = True
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_s)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_s)
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
        if self._server is not None:
            self.turns.stop()
        if self._claim is not None:
            self._claim.close()

    # -- what the master publishes

    def fastest_interval_s(self) -> float | None:
        """The shortest time between snapshots that a subscriber asked for; None: nobody watches."""
        return min((c.subscription.interval_s for c in self._connections if c.subscription), default=None)

    def publish_snapshot(self, snapshot: Snapshot) -> None:
        """Send ``snapshot`` to the subscribers whose time it is. Encoded once, whatever their number.

        A subscriber that has not read the previous one is passed over, so that it gets the newest when it
        reads again.
        """
        now = asyncio.get_running_loop().time()
        frame = None
        for connection in self._connections:
            subscription = connection.subscription
            if subscription is None or not subscription.is_due(now):
                continue
            subscription.sent(now)
            if connection.unsent_bytes:
                subscription.dropped += 1
                continue
            if subscription.event_cursor < self._newest_event:
                self._catch_up(connection, subscription)
            if frame is None:
                frame = encode_snapshot(snapshot)
            connection.send(frame.for_subscriber(subscription.dropped))

    def publish_event(self, event: Event) -> None:
        """Send ``event`` to all subscribers; to one that does not read, later."""
        self._newest_event = event.sequence
        frame = encode_event(event)
        for connection in self._connections:
            subscription = connection.subscription
            if subscription is None or connection.unsent_bytes > EVENT_BACKLOG_BYTES:
                continue
            if subscription.event_cursor == event.sequence - 1:
                subscription.event_cursor = event.sequence
                connection.send(frame)
            else:
                self._catch_up(connection, subscription)

    def _catch_up(self, connection: Connection, subscription: Subscription) -> None:
        """Send the events a subscriber missed while it did not read, as far as the backend remembers them."""
        for event in self._backend.events(subscription.event_cursor, MOST_EVENTS):
            if connection.unsent_bytes > EVENT_BACKLOG_BYTES:
                break
            subscription.event_cursor = event.sequence
            connection.send(encode_event(event))

    # -- what connections call

    def admit(self, connection: Connection) -> m.Role | None:
        """Take a new client in, or tell it why not."""
        role = self._role_of(connection.peer.uid)
        if role is None:
            connection.send(
                encode_error(None, m.REFUSED, f"user id {connection.peer.uid} may not control this server")
            )
        elif self._closing:
            connection.send(encode_error(None, m.REFUSED, "the server is stopping"))
            role = None
        elif len(self._connections) >= self.limits.clients:
            connection.send(
                encode_error(None, m.REFUSED, f"{self.limits.clients} clients are connected already")
            )
            role = None
            if len(self._connections) >= 2 * self.limits.clients:
                connection.abort()
        # Kept in the books even when turned away: its refusal may still be under way when the server closes.
        self._connections.add(connection)
        self._all_lost.clear()
        return role

    def lost(self, connection: Connection) -> None:
        """A client is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_lost.set()

    def drained(self, connection: Connection) -> None:
        """A client has read everything: what it missed can go out now."""
        if connection.subscription is not None:
            self._catch_up(connection, connection.subscription)

    def handle(self, connection: Connection, frame: bytes) -> None:
        """Answer one call, now if it is a question, when it is done if it is an action."""
        try:
            request = decode_request(frame)
            row = METHODS.get(request.method)
            if row is None:
                raise CallFault(m.METHOD_NOT_FOUND, f"no such method: {request.method[:64]!r}", request.id)
            if row.role == "operator" and connection.role != "operator":
                raise CallFault(m.REFUSED, f"{row.name} is for operators, and you are a viewer", request.id)
            arguments = decode_arguments(request, row.arguments)
            problem = _CHECKS[row.name](arguments) if row.name in _CHECKS else ""
            if problem:
                raise CallFault(m.INVALID_PARAMS, f"{row.name}: {problem}", request.id)
            if row.name in self._actions:
                self._begin(connection, request.id, row, arguments)
            else:
                connection.send(encode_result(request.id, self._answers[row.name](connection, arguments)))
        except CallFault as fault:
            connection.send(encode_error(fault.call_id, fault.error.code, fault.error.message))
        except WsgitopError as fault:
            self._send_fault(connection, request.id, fault)
        except Exception:  # noqa: BLE001 - a fault in one answer must not end the connection, nor the master
            LOGGER.exception("control: a call could not be answered")
            connection.send(
                encode_error(request.id, m.INTERNAL_ERROR, "internal error; the server's log says more")
            )

    # -- actions

    def _begin(self, connection: Connection, call_id: int | str | None, row: Method, arguments: Any) -> None:
        if self._closing:
            raise CallFault(m.ACTION_FAILED, "the server is stopping", call_id)
        if connection.calls_in_flight >= self.limits.calls_in_flight:
            raise CallFault(
                m.BUSY, f"{self.limits.calls_in_flight} calls of yours are under way already", call_id
            )
        connection.calls_in_flight += 1
        action = self._actions[row.name](arguments, self._actor(connection))
        task = asyncio.get_running_loop().create_task(self._act(connection, call_id, action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _act(
        self, connection: Connection, call_id: int | str | None, action: Awaitable[m.Outcome]
    ) -> None:
        try:
            connection.send(encode_result(call_id, await action))
        except asyncio.CancelledError:
            connection.send(encode_error(call_id, m.ACTION_FAILED, "the server ended before this was done"))
            raise
        except WsgitopError as fault:
            self._send_fault(connection, call_id, fault)
        except Exception:  # noqa: BLE001 - whoever gave the order must hear that it failed
            LOGGER.exception("control: an action failed in an unforeseen way")
            connection.send(
                encode_error(call_id, m.INTERNAL_ERROR, "internal error; the server's log says more")
            )
        finally:
            connection.call_finished()

    def _send_fault(self, connection: Connection, call_id: int | str | None, fault: WsgitopError) -> None:
        error = as_error(fault)
        data = error.data or m.ErrorData()
        connection.send(
            encode_error(call_id, error.code, error.message, remedy=data.remedy, detail=data.detail)
        )

    def _actor(self, connection: Connection) -> str:
        name = self._user_names.get(connection.peer.uid) or f"uid {connection.peer.uid}"
        return f"{name} (pid {connection.peer.pid})" if connection.peer.pid else name

    # -- answers

    def _hello(self, connection: Connection, _arguments: m.NoArguments) -> m.Hello:
        offered = tuple(
            row.name for row in METHODS.values() if row.role == "viewer" or connection.role == "operator"
        )
        return m.Hello(m.PROTOCOL, __version__, os.getpid(), connection.role, self._app, offered)

    def _events(self, _connection: Connection, arguments: m.EventsArguments) -> m.EventsResult:
        found = self._backend.events(arguments.after, min(arguments.limit, MOST_EVENTS))
        return m.EventsResult(_newest_that_fit(found))

    def _deaths(self, _connection: Connection, arguments: m.DeathsArguments) -> m.DeathsResult:
        found = self._backend.deaths(arguments.after, min(arguments.limit, MOST_EVENTS))
        return m.DeathsResult(_newest_that_fit(found))

    def _history(self, _connection: Connection, arguments: m.HistoryArguments) -> m.HistoryResult:
        return m.HistoryResult(tuple(self._backend.history(min(arguments.seconds, MOST_SECONDS))))

    def _subscribe(self, connection: Connection, arguments: m.SubscribeArguments) -> m.Subscribed:
        interval_s = min(max(arguments.interval_s, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
        newest = self._backend.events(0, 1)
        cursor = newest[-1].sequence if newest else 0
        now = asyncio.get_running_loop().time()
        connection.subscription = Subscription(interval_s, now, cursor)
        return m.Subscribed(interval_s, self._backend.snapshot())

    def _unsubscribe(self, connection: Connection, _arguments: m.NoArguments) -> m.NoArguments:
        connection.subscription = None
        return m.NoArguments()


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _newest_that_fit(found: Sequence[Kept]) -> tuple[Kept, ...]:
    """As many as one answer may hold: a traceback may be in each."""
    room = m.RESULT_LIMIT_BYTES - 1024
    kept: list[Kept] = []
    for one in reversed(found):
        room -= size(one) + 1
        if room < 0:
            break
        kept.append(one)
    return tuple(reversed(kept))


# -- what the types of the arguments cannot say --------------------------------------------------------------


def _check_scale(arguments: m.ScaleArguments) -> str:
    one = (arguments.workers is None) != (arguments.change is None)
    return "" if one else "give either workers or change"


def _check_signal(arguments: m.SignalArguments) -> str:
    if not _SIGNAL_NAME.fullmatch(arguments.signal):
        return "signal is a name without SIG, such as HUP"
    if arguments.pid is not None and arguments.started_at is None:
        return "a worker is named by pid and started_at, so that no other process can be meant"
    return ""


def _check_events(arguments: m.EventsArguments | m.DeathsArguments) -> str:
    return "" if arguments.limit >= 1 and arguments.after >= 0 else "after is at least 0, limit at least 1"


def _check_history(arguments: m.HistoryArguments) -> str:
    return "" if arguments.seconds >= 1 else "seconds is at least 1"


_CHECKS: dict[str, Callable[[Any], str]] = {
    "scale": _check_scale,
    "signal": _check_signal,
    "events": _check_events,
    "deaths": _check_events,
    "history": _check_history,
}
