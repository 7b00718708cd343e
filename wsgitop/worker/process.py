"""A worker process, from the fork to the exit status."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Final, NoReturn

import setproctitle

from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, ChannelClosed, ChannelFull
from wsgitop.errors import AppImportError, WsgitopError
from wsgitop.logs import logging_config
from wsgitop.logs.error_log import LOGGER
from wsgitop.scoreboard import layout as at
from wsgitop.worker.access_writers import open_access_log
from wsgitop.worker.boot import WorkerBoot
from wsgitop.worker.hooks import HOOK_LIMIT_S, HURRIED_S
from wsgitop.worker.loop import Engine
from wsgitop.worker.migration import Exchange
from wsgitop.worker.module_files import Teller, TellerThread, tell_sources
from wsgitop.worker.seat import Seat
from wsgitop.worker.siblings import Siblings
from wsgitop.worker.slow_requests import SlowRequests
from wsgitop.worker.watchdog import Watchdog
from wsgitop.wsgi.loading import describe, load_app, trimmed_traceback
from wsgitop.wsgi.types import WSGIApplication

GRACEFUL: Final = frozenset((signal.SIGTERM,))
QUICK: Final = frozenset((signal.SIGINT, signal.SIGQUIT))
FOR_THE_MASTER: Final = frozenset((signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU))
IGNORED: Final = frozenset((signal.SIGUSR1, signal.SIGWINCH))
"""USR1 reaches workers as a message with the new file; WINCH is the terminal's."""
TOLD_BY: Final = "it was told to by "
"""Begins what the master is told when a signal is why a worker goes; the master's ledger looks for it."""
HANDLED: Final = GRACEFUL | QUICK | FOR_THE_MASTER | IGNORED


def run(boot: WorkerBoot) -> int:
    """Be a worker until it is retired; returns the exit status (4: the application cannot be imported, 3: not
    loaded).

    To be called in the main thread of a process that has no other thread.
    """
    return _Worker(boot).run()


class _Worker:
    def __init__(self, boot: WorkerBoot) -> None:
        self._boot = boot
        self._name = f"worker {boot.slot}"
        self._pid = os.getpid()
        self._channel: Channel[m.ToWorker] = Channel(boot.channel, m.ToWorker, blocking=False)
        self._row = boot.board.row(boot.row)
        self._hooks = boot.hooks
        self._slow = SlowRequests(show_query=boot.settings.show_query)
        self._handled = HANDLED | {signal.SIGABRT} if self._hooks.aborts else HANDLED
        self._leave_why = ""
        self._ends = False
        self._leaving = threading.Lock()
        self._watchdog: Watchdog | None = None
        self._signals_in, self._signals_out = socket.socketpair()
        self._signals_in.setblocking(False)
        self._signals_out.setblocking(False)

    def run(self) -> int:
        boot = self._boot
        self._row[at.PID] = os.getpid()
        self._row[at.THREADS] = boot.settings.threads
        self._set_title("booting")
        self._install_signals()
        with contextlib.suppress(
            ValueError, OSError, AttributeError
        ):  # standard error may be no real file in a harness
            faulthandler.enable(all_threads=True)  # SIGABRT, too: the stacks of all threads, then death
            faulthandler.register(signal.SIGRTMIN + 1, all_threads=True)
        LOGGER.info("Booting worker with pid: %d", os.getpid())
        try:
            self._hooks.forked()
            app = boot.app if boot.app is not None else load_app(boot.settings.wsgi_app)
            engine, watchdog = self._assemble(app)
            self._hooks.initialised()
        except WsgitopError as error:
            return self._fail(error, isinstance(error, AppImportError))
        except Exception as error:  # noqa: BLE001 - a worker that cannot start says why, whatever it is
            return self._fail(WsgitopError(describe(error)), False, trimmed_traceback(error))
        self._restore_signals()
        self._serve(engine, watchdog)
        self._tell_slowest()
        self._hooks.end(HOOK_LIMIT_S)
        self._last_words()
        return 0

    def _assemble(self, app: WSGIApplication) -> tuple[Engine, Watchdog]:
        boot = self._boot
        settings = boot.settings
        logging_config.revive()  # the application may have configured logging
        access_log = open_access_log(boot)
        for _, listener in boot.listeners:
            listener.setblocking(False)
        seats = tuple(
            Seat(index, boot.board.thread(boot.row, index), self._slow) for index in range(settings.threads)
        )
        name = f"{self._name} (pid {os.getpid()})"
        engine = Engine(
            app=app,
            settings=settings,
            listeners=boot.listeners,
            seats=seats,
            row=self._row,
            access_log=access_log,
            name=name,
            siblings=Siblings(boot.board, boot.row),
            exchange=Exchange(*boot.exchange) if boot.exchange is not None else None,
            service=self._hooks.service,
        )
        self._hooks.serve(app, seats, access_log, self._leave)
        watchdog = Watchdog(
            engine=engine,
            channel=self._channel,
            row=self._row,
            signals_fd=self._signals_in.fileno(),
            on_signals=self._read_signals,
            on_retire=self._on_retire,
            show_state=self._set_title,
            exit_now=self._exit_now,
            quit_now=self._quit,
        )
        return engine, watchdog

    def _serve(self, engine: Engine, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

        def in_fork() -> None:
            # The application forked, for example by multiprocessing: none of this is the child's. A signal to
            # the child must not show up on the pipe that it shares with the worker, either. And none of this
            # is a fork's of the child, where the numbers of the descriptors may mean other files.
            if self._watchdog is None:
                return
            self._watchdog = None
            signal.set_wakeup_fd(-1)
            for number in self._handled:
                signal.signal(number, signal.SIG_DFL)
            watchdog.forget()
            engine.forget()
            self._signals_in.close()
            self._signals_out.close()

        os.register_at_fork(after_in_child=in_fork)
        self._set_title("")
        self._row[at.READY_NS] = time.monotonic_ns()
        if self._boot.settings.reload:
            TellerThread(Teller(self._channel)).start()
        elif self._boot.slot == 1:  # one of a generation is enough
            with contextlib.suppress(ChannelClosed):  # the watchdog sees that, too
                tell_sources(self._channel)
        watchdog.send(m.WorkerReady(os.getpid()))
        watchdog.start()
        for seat in engine.crew.seats[1:]:
            threading.Thread(
                target=engine.work, args=(seat,), name=f"wsgitop-{seat.index}", daemon=True
            ).start()
        engine.work(engine.crew.seats[0])

    def _tell_slowest(self) -> None:
        """What the watchdog has not told yet, before the process ends."""
        with contextlib.suppress(ChannelClosed, ChannelFull):
            self._slow.tell(self._channel.send)

    def _fail(self, error: WsgitopError, import_error: bool, trace: str = "") -> int:
        trace = trace or getattr(error, "traceback", "")
        try:
            self._channel.socket.setblocking(True)
            if self._boot.settings.reload:
                Teller(self._channel).tell(trace)
            self._channel.send(m.BootFailed(m.clip(str(error)), m.clip(trace), import_error))
        except ChannelClosed:
            # The master, which says it where it belongs, is gone.
            LOGGER.error("Worker failed to boot: %s\n%s", error, trace.rstrip())
        self._ends = True
        self._hooks.end(HOOK_LIMIT_S)
        return 4 if import_error else 3

    def _set_title(self, state: str) -> None:
        settings = self._boot.settings
        name = settings.proc_name or settings.wsgi_app.partition(":")[0]
        title = f"wsgitop: worker {self._boot.slot} gen {self._boot.generation} [{name}]"
        setproctitle.setproctitle(f"{title} {state}" if state else title)

    def _on_retire(self) -> None:
        self._set_title("retiring")
        self._hooks.retiring()

    def _leave(self) -> None:
        """A hook has set ``worker.alive`` to False; in any thread."""
        self._leave_why = "a hook has set worker.alive to False"
        with contextlib.suppress(BlockingIOError):  # so full that the watchdog looks anyway
            self._signals_out.send(bytes((signal.SIGTERM,)))

    def _quit(self) -> NoReturn:
        """End at once, as SIGINT, SIGQUIT and the master's Quit ask for."""
        self._hooks.interrupted()
        self._exit_now(0)

    def _abort(self) -> NoReturn:
        """SIGABRT where there is a hook for it: its handler is in the place of faulthandler's, which would
        have shown the stacks. What holds the GIL keeps this from running; the master knows.
        """
        LOGGER.critical("Worker aborted by SIGABRT (pid: %d)", os.getpid())
        with contextlib.suppress(ValueError, OSError, AttributeError):
            faulthandler.dump_traceback(all_threads=True)
        self._hooks.aborted()
        self._hooks.end(HURRIED_S)
        os.abort()

    def _exit_now(self, status: int) -> NoReturn:
        """End the process although threads are in the application."""
        self._tell_slowest()
        self._hooks.end(HURRIED_S)
        self._last_words()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    def _last_words(self) -> None:
        """To be called by the thread that is about to end the process. The main thread, which is through, and
        the watchdog, which has been told to end at once, can both come here: the second waits for the end
        that the first brings about, what atexit runs included, but not for ever.
        """
        if self._leaving.acquire(timeout=HURRIED_S):
            LOGGER.info("Worker exiting (pid: %d)", os.getpid())

    # -- signals ---------------------------------------------------------------------------------------

    def _install_signals(self) -> None:
        """The handler does nothing: the byte that the interpreter writes to the pipe, even while the main
        thread is in C code, is what the watchdog acts on. Handlers and not SIG_IGN, which processes that the
        application starts inherit.
        """
        for number in self._handled:
            signal.signal(number, self._on_signal)
            signal.siginterrupt(number, False)
        signal.set_wakeup_fd(self._signals_out.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED | {signal.SIGABRT})

    def _restore_signals(self) -> None:
        """Behind the application's import: put back what it has replaced."""
        replaced = [
            signal.Signals(number).name
            for number in sorted(self._handled)
            if signal.getsignal(number) != self._on_signal
        ]
        self._install_signals()
        if replaced:
            LOGGER.warning(
                "The application replaced the handlers of %s; they were put back", ", ".join(replaced)
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._watchdog is not None or self._ends:
            return
        # Still booting: there is nothing to finish, and nobody to read the pipe.
        if number == signal.SIGABRT:
            self._ends = True
            self._abort()
        if number in GRACEFUL | QUICK:
            self._ends = True
            # A fork that the application has made meanwhile has the same handler and nothing to announce.
            if os.getpid() == self._pid:
                with contextlib.suppress(ChannelClosed, ChannelFull):
                    self._channel.send(m.Retiring(TOLD_BY + signal.Signals(number).name))
            if number in QUICK:
                self._hooks.interrupted()
            self._hooks.end(HURRIED_S)
            os._exit(0)

    def _read_signals(self) -> None:
        """In the watchdog."""
        assert self._watchdog is not None
        try:
            numbers = self._signals_in.recv(256)
        except BlockingIOError:
            return
        for number in numbers:
            if number in QUICK:
                self._watchdog.send(m.Retiring(TOLD_BY + signal.Signals(number).name))
                self._quit()
            if number == signal.SIGABRT:
                self._abort()
            if number in GRACEFUL:
                settings = self._boot.settings
                self._watchdog.retire(
                    self._leave_why or TOLD_BY + "SIGTERM",
                    settings.graceful_timeout,
                    settings.keepalive,
                    pass_on=self._watchdog.has_siblings(),
                )
            elif number in FOR_THE_MASTER:
                LOGGER.warning(
                    "%s ignored: it is meant for the master, not for a worker", signal.Signals(number).name
                )
