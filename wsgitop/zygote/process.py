"""The zygote: a fresh interpreter per generation that loads the code and forks workers on request.

Who runs this: one single-threaded process, started by the master by exec. It owns nothing but copies of the
descriptors that it hands to workers. It reads one message at a time from its channel, in a blocking loop:
there is nothing else to wait for. Why it forks twice: the worker's parent becomes the master, which is the
nearest subreaper and so the only one that reaps. Why not fork from the master: a master that never loads user
code cannot be broken by it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import msgspec
from setproctitle import setproctitle

from wsgitop import __version__
from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, ChannelClosed
from wsgitop.errors import AppImportError, HookError, WsgitopError
from wsgitop.logs import error_log, logging_config
from wsgitop.scoreboard.board import Board
from wsgitop.settings.addresses import Address, parse_address
from wsgitop.settings.table import Settings
from wsgitop.worker.boot import WorkerBoot
from wsgitop.worker.hook_objects import HookWorker
from wsgitop.worker.module_files import Teller
from wsgitop.worker.process import run
from wsgitop.wsgi.loading import load_app
from wsgitop.wsgi.types import WSGIApplication
from wsgitop.zygote import logging_setup
from wsgitop.zygote.config_file import load as load_config_file
from wsgitop.zygote.environment import apply, enter_directory
from wsgitop.zygote.hooks import ZygoteHooks
from wsgitop.zygote.leftovers import remove_leftovers
from wsgitop.zygote.privileges import drop

CHANNEL_FD = 3
"""Where the master puts the zygote's end of the channel."""

MASTER_SIGNALS = (
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
OOM_SCORE_STEP = 100
"""How much sooner than the master the kernel should kill a zygote or a worker when memory runs out."""


class Zygote:
    """One generation's interpreter. ``serve`` returns only in a worker, with what that worker needs."""

    def __init__(self, channel: Channel[m.ToZygote]) -> None:
        self._channel = channel
        self._environ = dict(os.environ)
        self._generation = 0
        self._settings = Settings()
        self._board: Board | None = None
        self._listeners: tuple[tuple[Address, socket.socket], ...] = ()
        self._access_log_fd = -1
        self._access_pipe_fd = -1
        self._access_logger: logging.Logger | None = None
        self._logconfig: Mapping[str, Any] | None = None
        self._exchange: tuple[socket.socket, socket.socket] | None = None
        self._app: WSGIApplication | None = None
        self._control_socket = ""
        self._hooks = ZygoteHooks(channel.send)

    def serve(self) -> WorkerBoot:
        """Do what the master asks until it is gone or says so (then the process exits)."""
        self._channel.send(m.ZygoteHello(m.PROTOCOL, __version__, os.getpid()))
        while True:
            try:
                received = self._channel.receive()
            except ChannelClosed:
                self._master_is_gone()
            if received is None:
                continue
            message, descriptors = received
            match message:
                case m.LoadConfig():
                    self._load_config(message)
                case m.Prepare():
                    self._prepare(message, descriptors)
                case m.Fork():
                    boot = self._fork(message, descriptors)
                    if boot is not None:
                        return boot
                case m.CloseListeners():
                    self._close_listeners()
                case m.RunHook():
                    self._hooks.run(message)
                case m.Reopen():
                    self._reopen(descriptors)
                case m.SetLogLevel(level):
                    logging_config.set_level(level)
                case m.EndZygote():
                    sys.exit(0)

    def _close_listeners(self) -> None:
        for _, listener in self._listeners:
            listener.close()
        self._hooks.close_listeners()

    def _reopen(self, descriptors: list[int]) -> None:
        logging_config.reopen_files()
        if descriptors and self._access_log_fd >= 0:
            os.dup2(descriptors[0], self._access_log_fd, inheritable=False)
        for descriptor in descriptors:
            os.close(descriptor)

    def _master_is_gone(self) -> NoReturn:
        # The master cannot remove its control socket any more after kill -9; whoever notices first does it.
        if self._control_socket:
            remove_leftovers(self._control_socket, self._environ)
        sys.exit(0)

    def _load_config(self, message: m.LoadConfig) -> None:
        self._generation = message.generation
        setproctitle(f"wsgitop: zygote gen {message.generation} loading")
        try:
            enter_directory(message.chdir)
            if not message.config:
                self._channel.send(m.ConfigLoaded("", "{}"))
                return
            config = load_config_file(message.config, message.chdir)
            self._hooks.load(config)
            self._logconfig = config.logconfig
            values = msgspec.json.encode(config.values).decode()
            self._channel.send(m.ConfigLoaded(message.config, values, config.notes, tuple(config.hooks)))
        except WsgitopError as error:
            self._channel.send(m.ZygoteFailed("config", str(error), ""))
        except BaseException as error:  # noqa: BLE001 - a config file may raise anything, SystemExit included
            cause = "".join(traceback.format_exception_only(error)).strip()
            text = f"config file {message.config} failed: {cause}"
            self._channel.send(m.ZygoteFailed("config", text, m.clip(traceback.format_exc())))

    def _prepare(self, message: m.Prepare, descriptors: list[int]) -> None:
        self._settings = settings = msgspec.json.decode(message.settings_json, type=Settings)
        self._control_socket = message.control_socket
        error_log.configure(settings.loglevel)
        logging_setup.direct_output(settings)
        if message.access_pipe:
            self._access_pipe_fd = descriptors.pop()
        board_fd, access_log_fd, sending_fd, receiving_fd, *listener_fds = descriptors
        self._exchange = socket.socket(fileno=sending_fd), socket.socket(fileno=receiving_fd)
        self._board = Board.attach(board_fd, message.board_rows, message.board_threads)
        self._access_log_fd = access_log_fd if message.access_log else -1
        self._listeners = tuple(
            (parse_address(text), socket.socket(fileno=fd))
            for text, fd in zip(message.addresses, listener_fds, strict=True)
        )
        name = settings.proc_name or settings.wsgi_app.partition(":")[0]
        setproctitle(f"wsgitop: zygote gen {self._generation} [{name}] loading")
        try:
            enter_directory(message.chdir)
            apply(settings, message.chdir)
            self._hooks.prepare(settings, self._listeners, message)
            drop(settings)
            self._access_logger = logging_setup.configure(settings, self._logconfig)
            threads: tuple[str, ...] = ()
            if settings.preload_app:
                self._app = load_app(settings.wsgi_app)
                logging_config.revive()
                threads = tuple(t.name for t in threading.enumerate() if t is not threading.main_thread())
            if settings.reload:
                Teller(self._channel).tell()
        except AppImportError as error:
            if settings.reload:
                Teller(self._channel).tell(error.traceback)
            self._channel.send(m.ZygoteFailed("app", str(error), m.clip(error.traceback), import_error=True))
            return
        except HookError as error:
            self._channel.send(m.ZygoteFailed("hook", m.clip(str(error)), m.clip(error.traceback)))
            return
        except WsgitopError as error:
            self._channel.send(m.ZygoteFailed("config", str(error), ""))
            return
        # What exists now is shared by all workers for as long as nobody writes to it: keep the collector off
        # it.
        gc.collect()
        gc.freeze()
        setproctitle(f"wsgitop: zygote gen {self._generation} [{name}]")
        self._channel.send(m.ZygoteReady(settings.preload_app, threads))

    def _fork(self, message: m.Fork, descriptors: list[int]) -> WorkerBoot | None:
        """Fork a worker twice; returns its boot in the worker, None in the zygote."""
        channel_fd, stderr_fd = descriptors
        worker = self._hooks.pre_fork(message)
        sys.stdout.flush()
        sys.stderr.flush()
        pid_reader, pid_writer = os.pipe()
        try:
            middle = os.fork()
        except OSError as error:
            for descriptor in (channel_fd, stderr_fd, pid_reader, pid_writer):
                os.close(descriptor)
            self._channel.send(m.ForkFailed(message.worker, f"fork failed: {error.strerror}"))
            return None
        if middle == 0:
            try:
                child = os.fork()
            except OSError:
                os._exit(1)
            if child:
                os.write(pid_writer, b"%d" % child)
                os._exit(0)
            os.close(pid_reader)
            os.close(pid_writer)
            return self._become_worker(message, channel_fd, stderr_fd, worker)
        os.close(pid_writer)
        pid_text = os.read(pid_reader, 32)
        for descriptor in (channel_fd, stderr_fd, pid_reader):
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(middle, 0)
        if pid_text:
            self._hooks.forked(worker, int(pid_text))
            self._channel.send(m.Forked(message.worker, int(pid_text)))
        else:
            self._channel.send(m.ForkFailed(message.worker, "fork failed in the intermediate process"))
        return None

    def _become_worker(
        self, message: m.Fork, channel_fd: int, stderr_fd: int, worker: HookWorker | None
    ) -> WorkerBoot:
        self._channel.close()
        os.dup2(stderr_fd, 2)
        os.close(stderr_fd)
        logging_setup.direct_output(self._settings)
        assert self._board is not None, "the master forks only after ZygoteReady"
        return WorkerBoot(
            worker=message.worker,
            slot=message.slot,
            row=message.row,
            generation=self._generation,
            settings=self._settings,
            board=self._board,
            channel=socket.socket(fileno=channel_fd),
            listeners=self._listeners,
            exchange=self._exchange,
            access_log_fd=self._access_log_fd,
            app=self._app,
            access_pipe_fd=self._access_pipe_fd,
            access_logger=self._access_logger,
            hooks=self._hooks.for_worker(worker),
        )


def _meant_for_master(number: int, _frame: FrameType | None) -> None:
    # By handler, not SIG_IGN: children that the application starts would inherit an ignored signal.
    name = signal.Signals(number).name
    os.write(2, f"zygote {os.getpid()} ignores {name}: send it to the master, pid {os.getppid()}\n".encode())


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def main() -> NoReturn:
    """The life of a zygote and, after a fork, of a worker."""
    for number in MASTER_SIGNALS:
        signal.signal(number, _meant_for_master)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _end)
    # The master blocks its signals before it starts threads, and exec hands the mask down.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    faulthandler.enable()
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + OOM_SCORE_STEP)))
    error_log.configure("info")
    os.set_inheritable(CHANNEL_FD, False)
    channel: Channel[m.ToZygote] = Channel(socket.socket(fileno=CHANNEL_FD), m.ToZygote, blocking=True)
    boot = Zygote(channel).serve()
    sys.exit(run(boot))
