"""The watchdog thread: hands the lead over, sees who takes too long, beats, and answers the master.

It runs beside the threads that run the application, so it works while all of them are busy; only code that
keeps the GIL silences it, and then the heartbeat goes stale, which the master sees. It never accepts, reads
or runs the application.

It ticks only while requests come, or while one runs that could be relieved of the lead, by an idle thread or,
connection by connection, by a sibling worker: every half or whole millisecond, or every two if none has been
slow lately. While requests merely run long it ticks a tenth of a second apart, and not at all when nothing
runs: it then sets ``Crew.wake_wanted``, and the next request wakes it. An idle worker causes no wake-ups.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, ChannelClosed, ChannelFull
from wsgitop.errors import ProtocolError
from wsgitop.logs import logging_config
from wsgitop.logs.error_log import LOGGER
from wsgitop.scoreboard import layout as at
from wsgitop.worker.connection import NEVER
from wsgitop.worker.cutting import Cutter
from wsgitop.worker.handover import RELIEF_AFTER_S
from wsgitop.worker.loop import INTERNAL_ERROR_STATUS, Engine
from wsgitop.worker.seat import Seat
from wsgitop.worker.service import escape
from wsgitop.worker.stacks import Stacks

TICK_S: Final = 0.001
CALM_TICK_S: Final = 0.002
CALM_TICKS: Final = 200
"""After so many ticks with new requests and no handover requests are quick here: it looks less often, because
each look costs the thread that serves them a turn of the GIL (1.7 µs of 12 per request, measured).
"""
BEGUN_S: Final = 0.00025
"""A request that has run for longer than this is no quick one: it is looked at again soon, calm or not."""
LONG_TICK_S: Final = 0.005
LONG_TICKS: Final = 50
"""After so many ticks within the same request the next ones may be further apart."""
GIL_WAIT_S: Final = 0.002
"""Coming back so much too late means that a thread computes without a pause: the interpreter lets
another thread have a turn every 5 ms (sys.setswitchinterval).
"""
PATIENCE_S: Final = 0.025
"""Computing for longer than this is worth a second thread, in spite of the GIL."""
TEND_S: Final = 0.02
DOZE_S: Final = 0.1
QUIET_TICKS: Final = 10
"""Ticks without a new request after which it stops ticking."""
FAREWELL_S: Final = 0.3
"""How long answers to requests that were cut may take to arrive before a worker ends whose threads are all
stuck.
"""


class Watchdog(threading.Thread):
    """``exit_now`` ends the process with a status, ``quit_now`` as SIGQUIT does; ``signals_fd`` is readable
    when a signal came, and ``on_signals`` reads it.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        channel: Channel[m.ToWorker],
        row: memoryview,
        signals_fd: int,
        on_signals: Callable[[], None],
        on_retire: Callable[[], None],
        show_state: Callable[[str], None],
        exit_now: Callable[[int], None],
        quit_now: Callable[[], None],
    ) -> None:
        super().__init__(name="wsgitop-watchdog", daemon=True)
        self._engine = engine
        self._crew = engine.crew
        self._channel = channel
        self._row = row
        self._signals_fd = signals_fd
        self._on_signals = on_signals
        self._on_retire = on_retire
        self._show_state = show_state
        self._exit_now = exit_now
        self._quit_now = quit_now
        self._timeout_s = engine.settings.timeout
        self._limit_s = NEVER  # when a retiring worker ends, whatever it is doing
        self._stuck_limit_s = NEVER  # when it ends because all of its threads are stuck
        self._outbox: list[m.Message] = []
        self._master_gone = False
        self._seen_leader: Seat | None = None
        self._seen_serial = -1
        self._siblings = False
        self._relieves = len(engine.crew.seats) > 1
        self._tend_at_s = 0.0
        self._quiet = 0
        self._calm = 0
        self._seen_handovers = 0
        self._computing = False  # the thread that runs a request seems to hold the GIL
        self._waiting = False  # somebody waits whom nobody attends to
        self._vacated_s = 0.0
        self._watches_connections = False
        self._cutter = Cutter(engine, send=self.send, retire=self._give_up)
        self._stacks = Stacks(engine.crew.seats)
        self._slow = engine.crew.seats[0].slow
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._channel_fd = channel.fileno()
        self._watched = [self._wake_fd, self._channel_fd, signals_fd]
        engine.crew.wake_watchdog = self.wake

    # -- for other threads -----------------------------------------------------------------------------

    def wake(self) -> None:
        """There is something to watch."""
        self._crew.wake_wanted = False
        os.eventfd_write(self._wake_fd, 1)

    def send(self, message: m.Message) -> None:
        """Tell the master; from the watchdog's own thread, or before it runs."""
        self._outbox.append(message)
        self._post()

    def has_siblings(self) -> bool:
        """Other workers could take connections over."""
        return self._engine.caretaker.has_siblings()

    def forget(self) -> None:
        """In a process that the application forked."""
        os.close(self._wake_fd)
        self._channel.close()

    # -- the thread ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the process ends."""
        try:
            self._watch()
        except BaseException:  # noqa: BLE001 - logged, and the process ends
            # A worker without its watchdog hands nothing over, cuts nothing and does not hear the master.
            LOGGER.critical("Internal error in the watchdog of %s; it ends", self._engine.name, exc_info=True)
            self._exit_now(INTERNAL_ERROR_STATUS)

    def _watch(self) -> None:
        while True:
            timeout_s = self._pace()
            began_s = time.monotonic()
            # Behind _pace: who it has seen at rest has told of what took long.
            due_s = min(self._cutter.next_s, self._slow.due_s)
            if due_s != NEVER and (timeout_s is None or due_s < began_s + timeout_s):
                timeout_s = max(0.0, due_s - began_s)
            found = self._wait(timeout_s)
            for fd in found:
                if fd == self._wake_fd:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(fd)
                elif fd == self._signals_fd:
                    self._on_signals()
                elif fd == self._channel_fd:
                    self._listen()
            now_s = time.monotonic()
            # When it should have been awake: at the end of its sleep, or when the request began that woke it.
            if found or timeout_s is None:
                leader = self._crew.leader
                response = leader.response if leader is not None else None
                due_s = max(began_s, response.since_s) if response is not None else now_s
            else:
                due_s = began_s + timeout_s
            self._computing = now_s - due_s > GIL_WAIT_S
            self._relieve(now_s)
            if found or now_s >= self._cutter.next_s:
                self._cutter.tend(now_s)
            if now_s >= self._slow.due_s:
                self._slow.tell(self.send)
            if found or now_s >= self._tend_at_s:
                self._tend_at_s = now_s + TEND_S
                self._tend(now_s)

    def _wait(self, timeout_s: float | None) -> list[int]:
        """The descriptors that are readable. select(2), because the others know no less than a
        millisecond.
        """
        try:
            return select.select(self._watched, [], [], timeout_s)[0]
        except ValueError:  # beyond FD_SETSIZE, if the application has opened that many files at import
            poller = select.poll()
            for fd in self._watched:
                poller.register(fd, select.POLLIN)
            return [fd for fd, _ in poller.poll(None if timeout_s is None else timeout_s * 1000)]

    def _pace(self) -> float | None:
        """Seconds until the next tick; None: sleep until woken."""
        crew = self._crew
        leader = crew.leader
        serial = leader.serial if leader is not None else -1
        if leader is not None and (serial != self._seen_serial or leader is not self._seen_leader):
            self._quiet = 0
            self._calm += 1
        else:
            self._quiet += 1
        if crew.handovers != self._seen_handovers:
            self._seen_handovers = crew.handovers
            self._calm = 0
        self._seen_leader, self._seen_serial = leader, serial
        if self._relieves and leader is not None:
            self._watch_connections(False)
            if self._calm > CALM_TICKS and not self._quiet and not self._runs_long(leader):
                return CALM_TICK_S
            if leader.token and (crew.idle or self._siblings):
                # Just begun: look again when it has had its time.
                return RELIEF_AFTER_S if self._quiet < LONG_TICKS else LONG_TICK_S
            if self._quiet < QUIET_TICKS:
                return TICK_S
        return self._pace_at_leisure(leader)

    def _runs_long(self, seat: Seat) -> bool:
        """What it serves is no longer quick."""
        response = seat.response
        since_s = response.since_s if response is not None else 0.0
        return bool(since_s) and time.monotonic() - since_s > BEGUN_S

    def _pace_at_leisure(self, leader: Seat | None) -> float | None:
        """There is no request that somebody could be relieved of."""
        crew = self._crew
        busy = any(seat.response is not None for seat in crew.seats)
        keeps_house = leader is None and busy and self._relieves and not crew.finished
        # While nobody leads and nothing waits, what comes is reason enough to wake up.
        self._watch_connections(keeps_house and not self._waiting)
        if keeps_house and self._waiting:
            return TICK_S if self._quiet < LONG_TICKS else LONG_TICK_S
        # With one thread and no siblings nobody could relieve it.
        if keeps_house or self._outbox or (not self._relieves and (busy or self._quiet < 2)):
            return DOZE_S
        # From here on a request must wake it.
        crew.wake_wanted = True
        leader = crew.leader
        if leader is not None and leader.token and (len(crew.seats) == 1 or crew.idle):
            crew.wake_wanted = False
            return TICK_S
        if busy:
            return DOZE_S
        if self._engine.retiring:
            return max(0.0, min(1.0, self._limit_s - time.monotonic()))
        return None

    def _watch_connections(self, wanted: bool) -> None:
        """Wake up, or not, when the engine's poller has something."""
        if wanted != self._watches_connections:
            self._watches_connections = wanted
            if wanted:
                self._watched.append(self._engine.poller_fd)
            else:
                self._watched.remove(self._engine.poller_fd)

    def _relieve(self, now_s: float) -> None:
        """See to it that others are served while the leader's request takes long.

        A request that waits is left to its thread, and an idle one leads. If it computes instead, a second
        thread would only compete with it for the GIL: then siblings get what waits here, and an idle thread
        leads no sooner than the request has shown that it is a long one.
        """
        crew = self._crew
        leader = crew.leader
        if leader is not None:
            response = leader.response
            if not leader.token or response is None:
                return
            # 0: it is between two calls of the application, for example because it is sending.
            elapsed_s = now_s - response.since_s if response.since_s else 0.0
            if elapsed_s < RELIEF_AFTER_S and (
                leader is not self._seen_leader or leader.serial != self._seen_serial
            ):
                return
            if crew.idle and (not self._computing or elapsed_s > PATIENCE_S):
                crew.hand_over(waits=not self._computing)
                return
            if not self._engine.caretaker.may_pass(elapsed_s):
                return
            crew.vacate()
            self._vacated_s = now_s
        if crew.idle and (not self._computing or now_s - self._vacated_s > PATIENCE_S):
            crew.hand_over(waits=False)
            return
        with crew.lock:
            self._waiting = crew.leader is None and not crew.finished and self._engine.caretaker.keep_house()

    def _tend(self, now_s: float) -> None:
        """What need not be done each tick."""
        crew = self._crew
        self._siblings = self._engine.caretaker.has_siblings()
        self._relieves = len(crew.seats) > 1 or self._siblings
        self._row[at.HANDOVERS] = crew.handovers
        busy = False
        for seat in crew.seats:
            response = seat.response
            if response is None:
                continue
            busy = True
            connection = seat.connection
            if connection is not None:
                connection.push()
            since_s = response.since_s
            if since_s and 0 < self._timeout_s < now_s - since_s and not response.cut:
                self._cutter.time_out(seat, response, now_s - since_s, self._timeout_s)
        if busy:
            self._row[at.HEARTBEAT_NS] = time.monotonic_ns()
        if self._outbox:
            self._post()
        if self._engine.retiring:
            self._check_end(now_s)

    # -- the master ------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            received = self._channel.receive()
        except ChannelClosed:
            self._lose_master()
            return
        except ProtocolError as error:
            LOGGER.error("%s", error.cause)
            return
        if received is None:
            return
        message, descriptors = received
        self._obey(message, descriptors)
        for fd in descriptors:
            os.close(fd)

    def _obey(self, message: m.ToWorker, descriptors: list[int]) -> None:
        """Do what the master says; it takes from ``descriptors`` what is not to be closed."""
        match message:
            case m.Retire(graceful_s, idle_s, pass_on, last):
                self.retire("", graceful_s, idle_s, pass_on=pass_on, last=last)
            case m.Quarantine(on):
                # Who is looked at may take as long as it takes.
                self._timeout_s = 0.0 if on else self._engine.settings.timeout
                self._cutter.stays = on
                self._engine.quarantine(on)
                if not self._engine.retiring:
                    self._show_state("quarantined" if on else "")
                    if not on:
                        self.send(m.WorkerReady(os.getpid()))
            case m.TakeStacks(inquiry, thread):
                self.send(self._stacks.take(inquiry, thread))
            case m.CancelRequest():
                self._cutter.cancel(message)
            case m.SetLogLevel(level):
                logging_config.set_level(level)
            case m.Quit():
                self._quit_now()
            case m.Reopen():
                logging_config.reopen_files()
                if self._engine.access_log is not None and descriptors:
                    self._engine.access_log.reopen(descriptors.pop(0))

    def _lose_master(self) -> None:
        self._watched.remove(self._channel_fd)
        self._master_gone = True
        # What reads standard error is gone, too: a print would raise there.
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, 2)
        if self._engine.settings.capture_output:
            os.dup2(null, 1)
        os.close(null)
        graceful_s = self._engine.settings.graceful_timeout
        self.retire("the master is gone", graceful_s, idle_s=0.0, pass_on=False, last=True)

    def _post(self) -> None:
        while self._outbox and not self._master_gone:
            try:
                self._channel.send(self._outbox[0])
            except ChannelFull:
                return
            except ChannelClosed:
                break
            self._outbox.pop(0)
        self._outbox.clear()

    # -- ending ----------------------------------------------------------------------------------------

    def retire(
        self, reason: str, graceful_s: float, idle_s: float, *, pass_on: bool, last: bool = False
    ) -> None:
        """Finish what is in flight within ``graceful_s`` and end; ``idle_s``, ``pass_on`` and ``last`` as in
        :class:`m.Retire`. ``reason`` is '' if it is the master that wants it.
        """
        self._limit_s = min(self._limit_s, time.monotonic() + graceful_s)
        if self._engine.retiring:
            self._engine.retire(idle_s, pass_on=pass_on, last=last)
            return
        if reason:
            self.send(m.Retiring(reason))
        self._on_retire()
        self._engine.retire(idle_s, pass_on=pass_on, last=last)

    def _give_up(self, reason: str) -> None:
        """A thread is lost, and with it the worker: finish what else is in flight and end."""
        settings = self._engine.settings
        pass_on = self._engine.caretaker.has_siblings()
        self.retire(reason, settings.graceful_timeout, settings.keepalive, pass_on=pass_on)

    def _check_end(self, now_s: float) -> None:
        crew = self._crew
        if now_s >= self._limit_s:
            for seat in crew.seats:
                request = seat.request
                if request is not None:
                    LOGGER.warning(
                        "Cut off by the end of the worker: %s %s",
                        request.method,
                        escape(request.target),
                    )
            self._exit_now(0)
        if crew.finished:
            if crew.seats[0].response is not None:  # the main thread is stuck in a request that was cut
                self._exit_now(0)
        elif all((response := seat.response) is not None and response.cut for seat in crew.seats):
            # Nobody here will serve what else is connected, but the siblings can.
            self._stuck_limit_s = min(self._stuck_limit_s, now_s + FAREWELL_S)
            with crew.lock:
                if crew.leader is not None:
                    self._stuck_limit_s = NEVER
                    return  # a thread has come back in this moment, and leads
                self._engine.caretaker.abandon()
                if now_s >= self._stuck_limit_s:
                    self._engine.refuse_rest()
                    self._exit_now(0)
        else:
            self._stuck_limit_s = (
                NEVER  # a thread has come back; should it get stuck as well, its time is new
            )
