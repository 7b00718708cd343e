"""Orders: what changes the server, answered when it is done.

They run as tasks of the server, not of the connection: an order that was given is carried out though its
giver may be gone. Each leaves an event of kind ``order`` that says who wanted what and what came of it, and
one that had a key can be given again for a while: it is carried out once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from wsgitop.control import messages as m
from wsgitop.control.backend import Backend
from wsgitop.control.codec import CallFault, encode_error, encode_result
from wsgitop.control.connection import Connection, Limits
from wsgitop.control.faults import as_error
from wsgitop.control.methods import METHODS, Method
from wsgitop.errors import WsgitopError
from wsgitop.logs.error_log import LOGGER
from wsgitop.snapshot import Severity

REFUSED_EVERY_S = 60.0
"""How often it is recorded that a user gives the same order, which he may not give."""
KEY_LIFE_S = 600.0
"""How long an order that had a key is remembered behind its end."""
KEYS_PER_UID = 512
"""Orders of one user that are remembered; its oldest give way, never another's."""

KEPT_BYTES = 64 * 1024
"""Of orders that a new master gets to know."""

INTERNAL = m.ErrorObject(m.INTERNAL_ERROR, "internal error; the server's log says more")
ENDED = m.ErrorObject(m.ACTION_FAILED, "the server ended before this was done")


class Verdict(NamedTuple):
    """What came of an order: a result, or an error."""

    result: object = None
    error: m.ErrorObject | None = None

    def frame(self, call_id: int | str | None) -> bytes:
        """The answer to a call."""
        if self.error is None:
            return encode_result(call_id, self.result)
        data = self.error.data or m.ErrorData()
        return encode_error(
            call_id, self.error.code, self.error.message, remedy=data.remedy, detail=data.detail
        )


class KeptOrder(msgspec.Struct, frozen=True):
    """An order that had a key and is done, for the master that takes this one's place. Arguments, result and
    error are JSON; ``error`` is '' if it went well.
    """

    uid: int
    key: str
    method: str
    arguments: str
    result: str = ""
    error: str = ""
    age_s: float = 0.0


class _Remembered(NamedTuple):
    """An order that had a key: what it was, its verdict, and when it was given (of the loop's clock)."""

    method: str
    arguments: Any
    task: asyncio.Future[Verdict]
    given_at: float


class Orders:
    """Gives orders to ``backend``. ``actor`` says who a connection is."""

    def __init__(self, backend: Backend, limits: Limits, actor: Callable[[Connection], str]) -> None:
        self._backend = backend
        self._limits = limits
        self._actor = actor
        self._tasks: set[asyncio.Task[Any]] = set()
        self._remembered: dict[int, OrderedDict[str, _Remembered]] = {}
        self._refused_at: dict[tuple[int, str], float] = {}
        self._refused: Counter[tuple[int, str]] = Counter()
        self.by_method: dict[str, Callable[[Any, str], Awaitable[object]]] = {
            "reload": lambda _arguments, actor: backend.reload(actor),
            "scale": backend.scale,
            "signal": backend.signal,
            "quarantine": backend.quarantine,
            "release": backend.release,
            "retire": backend.retire,
            "stack": backend.stack,
            "cancel": backend.cancel,
            "loglevel": backend.loglevel,
            "reopen": lambda _arguments, actor: backend.reopen(actor),
            "upgrade": lambda _arguments, actor: backend.upgrade(actor),
            "stop": backend.stop,
        }

    def begin(self, connection: Connection, call_id: int | str | None, row: Method, arguments: Any) -> None:
        """Carry out an order, or join the one that had the same key, and answer when it is done. Raises
        CallFault if there are too many.
        """
        if connection.calls_in_flight >= self._limits.calls_in_flight:
            raise CallFault(
                m.BUSY, f"{self._limits.calls_in_flight} calls of yours are under way already", call_id
            )
        key = arguments.key if isinstance(arguments, m.OrderArguments) else ""
        task = self._recall(connection.peer.uid, key, call_id, row, arguments)
        if task is None:
            if key and not self._has_room(connection.peer.uid):
                raise CallFault(m.BUSY, f"{KEYS_PER_UID} orders of yours are under way already", call_id)
            task = self._start(self._carry_out(row, arguments, self._actor(connection)))
            if key:
                given_at = asyncio.get_running_loop().time()
                order = _Remembered(row.name, arguments, task, given_at)
                self._remember(connection.peer.uid, key, order, KEY_LIFE_S)
        connection.calls_in_flight += 1
        self._start(self._answer(connection, call_id, task))

    def refused(self, connection: Connection, row: Method) -> None:
        """Record that somebody gave an order who may not; of each user and method once in a while, so that
        nobody can push what others did out of the events, or fill the log.
        """
        what, now = (connection.peer.uid, row.name), asyncio.get_running_loop().time()
        if what in self._refused_at and now - self._refused_at[what] < REFUSED_EVERY_S:
            self._refused[what] += 1
            return
        self._refused_at[what] = now
        more = self._refused.pop(what, 0)
        text = f"{row.name}: refused to a viewer" + (f", and {more} times before" if more else "")
        self._backend.note("warning", "order", text, self._actor(connection))

    async def end(self, drain_s: float) -> None:
        """Let what is under way come to its end within ``drain_s`` seconds, then break it off."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_s)
        # Those that carry out first: who waits for them tells it to the client.
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_s)

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- one order

    async def _carry_out(self, row: Method, arguments: Any, actor: str) -> Verdict:
        try:
            result = await self.by_method[row.name](arguments, actor)
        except asyncio.CancelledError:
            # Cancelled by end(): whoever waits hears of it as of any other failure.
            return Verdict(error=ENDED)
        except WsgitopError as fault:
            error = as_error(fault)
            self._note(row, arguments, actor, "warning", f"failed: {error.message}")
            return Verdict(error=error)
        except Exception:  # noqa: BLE001 - whoever gave the order must hear that it failed
            LOGGER.exception("control: an action failed in an unforeseen way")
            self._note(row, arguments, actor, "error", f"failed: {INTERNAL.message}")
            return Verdict(error=INTERNAL)
        text = result.text if isinstance(result, m.Outcome) else "done"
        self._note(row, arguments, actor, "info", text)
        return Verdict(result)

    async def _answer(
        self, connection: Connection, call_id: int | str | None, task: asyncio.Future[Verdict]
    ) -> None:
        try:
            verdict = await asyncio.shield(task)
        except asyncio.CancelledError:
            verdict = task.result() if task.done() and not task.cancelled() else Verdict(error=ENDED)
        connection.send(verdict.frame(call_id))
        connection.call_finished()

    def _note(self, row: Method, arguments: Any, actor: str, severity: Severity, outcome: str) -> None:
        if isinstance(arguments, m.OrderArguments):  # a look at a stack changes nothing
            self._backend.note(severity, "order", f"{described(row.name, arguments)}: {outcome}", actor)

    # -- keys

    def _recall(
        self, uid: int, key: str, call_id: int | str | None, row: Method, arguments: Any
    ) -> asyncio.Future[Verdict] | None:
        mine = self._remembered.get(uid)
        found = mine.get(key) if mine is not None and key else None
        if found is None:
            return None
        if (found.method, found.arguments) != (row.name, arguments):
            raise CallFault(
                m.INVALID_PARAMS,
                f"{row.name}: the key {key[:40]!r} was given to another order ({found.method}) already",
                call_id,
            )
        return found.task

    def _has_room(self, uid: int) -> bool:
        """Make room for one more order; false if all that are remembered are still under way."""
        mine = self._remembered.get(uid)
        if mine is None or len(mine) < KEYS_PER_UID:
            return True
        oldest = next((key for key, order in mine.items() if order.task.done()), None)
        if oldest is None:
            return False
        del mine[oldest]
        return True

    def _remember(self, uid: int, key: str, order: _Remembered, life_s: float) -> None:
        self._remembered.setdefault(uid, OrderedDict())[key] = order

        def done(_task: asyncio.Future[Verdict]) -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(life_s, self._forget, uid, key, order)

        order.task.add_done_callback(done)

    def _forget(self, uid: int, key: str, order: _Remembered) -> None:
        mine = self._remembered.get(uid)
        if mine is not None and mine.get(key) is order:
            del mine[key]
            if not mine:
                del self._remembered[uid]

    # -- over an upgrade

    def kept(self, successor: int) -> tuple[KeptOrder, ...]:
        """What a new master, process ``successor``, is to know of the orders that had keys, as far as there
        is room. The upgrade that leads to it is one of them, though its last step is still to come.
        """
        now = asyncio.get_running_loop().time()
        found: list[tuple[float, KeptOrder]] = []
        for uid, mine in self._remembered.items():
            for key, order in mine.items():
                if order.task.done() and not order.task.cancelled():
                    verdict = order.task.result()
                elif order.method == "upgrade":
                    text = f"process {successor} is the master now"
                    verdict = Verdict(m.Outcome(text=text, generation=1, workers=0))
                else:
                    continue
                kept = KeptOrder(
                    uid,
                    key,
                    order.method,
                    msgspec.json.encode(order.arguments).decode(),
                    "" if verdict.error else msgspec.json.encode(verdict.result).decode(),
                    msgspec.json.encode(verdict.error).decode() if verdict.error else "",
                    round(now - order.given_at, 1),
                )
                found.append((order.given_at, kept))
        room = KEPT_BYTES
        newest = []
        for _, kept in sorted(found, key=lambda pair: -pair[0]):
            room -= len(msgspec.json.encode(kept))
            if room < 0:
                break
            newest.append(kept)
        return tuple(reversed(newest))

    def adopt(self, kept: Sequence[KeptOrder]) -> None:
        """Remember what another master has carried out."""
        loop = asyncio.get_running_loop()
        for each in kept:
            row = METHODS.get(each.method)
            if row is None or each.age_s >= KEY_LIFE_S:
                continue
            try:
                arguments = msgspec.json.decode(each.arguments, type=row.arguments)
                error = msgspec.json.decode(each.error, type=m.ErrorObject) if each.error else None
            except msgspec.MsgspecError:
                continue  # of another version: the same order would not be given here
            done: asyncio.Future[Verdict] = loop.create_future()
            done.set_result(Verdict(msgspec.Raw(each.result.encode()) if not error else None, error))
            order = _Remembered(each.method, arguments, done, loop.time() - each.age_s)
            if self._has_room(each.uid):
                self._remember(each.uid, each.key, order, KEY_LIFE_S - each.age_s)


def described(method: str, arguments: Any) -> str:
    """An order in one line: its method, and the arguments that are not at their default."""
    fields = msgspec.structs.fields(arguments)
    values = [
        f"{field.name}={value}"
        for field in fields
        if field.name not in ("key", "started_at")
        and (value := getattr(arguments, field.name)) != field.default
    ]
    return " ".join((method, *values))
