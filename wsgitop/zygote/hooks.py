"""Hooks in a zygote: on_starting and pre_fork by itself, the others of the server when the master says so.

Who runs this: the zygote's one thread, between two messages. The master never imports user code, so what
gunicorn runs in its master runs here, in the zygote of the current generation. A thread of its own for each
hook is not an option: a process that forks workers must not have threads.

A hook that hangs is ended by an exception after its time (see ``deadline``). The master is told when a hook
begins and for how long it may run; if it hears nothing then, it replaces the zygote: forks must not wait for
ever. Its workers serve on meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from wsgitop.channel import messages as m
from wsgitop.channel.channel import ChannelClosed
from wsgitop.errors import HookError
from wsgitop.logs.error_log import LOGGER
from wsgitop.settings.addresses import Address
from wsgitop.settings.table import Settings
from wsgitop.worker.hook_objects import HookListener, HookServer, HookWorker, make_config
from wsgitop.worker.hooks import HOOK_LIMIT_S, NoHooks, WorkerHooks, run_hook
from wsgitop.zygote.config_file import ConfigFile

START_SHARE = 0.9
START_MARGIN_S = 0.5
"""What of --boot-timeout on_starting may use up, as a share of it and before its end: then the master gives
the zygote up, and nobody learns where the hook hung.
"""


class ZygoteHooks:
    """The hooks of one generation. ``send`` tells the master."""

    def __init__(self, send: Callable[[m.Message], None]) -> None:
        self._send = send
        self._began_s = time.monotonic()
        self._hooks: Mapping[str, Callable[..., Any]] = MappingProxyType({})
        self._file_values: Mapping[str, Any] = MappingProxyType({})
        self._server: HookServer | None = None
        self._forked: dict[int, HookWorker] = {}

    def load(self, config: ConfigFile) -> None:
        """These are in the config file."""
        self._hooks = config.hooks
        self._file_values = config.values

    def prepare(
        self, settings: Settings, listeners: tuple[tuple[Address, Any], ...], message: m.Prepare
    ) -> None:
        """Settings and listeners are known; run on_starting if the server starts. Raises HookError."""
        if not self._hooks:
            return
        cfg = make_config(settings, self._file_values, self._hooks)
        self._server = HookServer(
            os.getppid(), cfg, [HookListener(address, sock) for address, sock in listeners]
        )
        self._show(message.server)
        if not message.starting:
            return
        if "nworkers_changed" in self._hooks:
            self._run("nworkers_changed", self._server, message.server.num_workers, None)
        if "on_starting" in self._hooks:
            limit_s = min(settings.boot_timeout * START_SHARE, settings.boot_timeout - START_MARGIN_S)
            limit_s = max(0.1, limit_s - (time.monotonic() - self._began_s))
            self._tell(m.HookBegun("on_starting", limit_s))
            self._call("on_starting", self._server, limit_s=limit_s)
            self._tell(m.HookDone("on_starting"))

    def close_listeners(self) -> None:
        """They are closed: the server stops."""
        if self._server is not None:
            self._server.LISTENERS = []

    def run(self, message: m.RunHook) -> None:
        """Run what the master asks for, and say when it is done."""
        server = self._server
        if server is None or message.name not in self._hooks:
            self._tell(m.HookDone(message.name))
            return
        self._show(message.server)
        match message.name:
            case "nworkers_changed":
                self._run(message.name, server, message.server.num_workers, message.before)
            case "child_exit":
                assert message.worker is not None, "child_exit is about a worker"
                self._run(message.name, server, self._dead(server, message.worker))
            case _:
                self._run(message.name, server)

    def pre_fork(self, message: m.Fork) -> HookWorker | None:
        """A worker is about to be forked; None if no hook would see it."""
        server = self._server
        if server is None:
            return None
        if message.server is not None:
            self._show(message.server)
        worker = HookWorker(message.worker, server)
        if "pre_fork" in self._hooks:
            self._run("pre_fork", server, worker)
        return worker

    def forked(self, worker: HookWorker | None, pid: int) -> None:
        """In the zygote: the worker runs as ``pid``. What pre_fork stored on it is there in child_exit."""
        if worker is not None:
            worker.pid = pid
            self._forked[pid] = worker

    def for_worker(self, worker: HookWorker | None) -> NoHooks:
        """In the worker."""
        if worker is None or self._server is None:
            return NoHooks()
        return WorkerHooks(self._hooks, self._server, worker)

    def _show(self, state: m.ServerState) -> None:
        """Bring ``server`` up to date."""
        server = self._server
        assert server is not None
        server.num_workers = state.num_workers
        newest = max((age for _, age in state.workers), default=0)
        living = dict(state.workers)
        if "child_exit" not in self._hooks:
            self._forked = {
                pid: worker for pid, worker in self._forked.items() if pid in living or worker.age > newest
            }
        # Those that the master had not heard of yet when it sent this, and those that it knows.
        workers = {pid: worker for pid, worker in self._forked.items() if worker.age > newest}
        workers |= {pid: self._forked.get(pid) or self._other(server, pid, age) for pid, age in state.workers}
        server.WORKERS = workers

    def _other(self, server: HookServer, pid: int, age: int) -> HookWorker:
        """A worker that another zygote has forked."""
        worker = HookWorker(age, server)
        worker.pid = pid
        return worker

    def _dead(self, server: HookServer, dead: m.DeadWorker) -> HookWorker:
        server.WORKERS.pop(dead.pid, None)
        worker = self._forked.pop(dead.pid, None) or self._other(server, dead.pid, dead.age)
        worker.died(dead.requests)
        return worker

    def _tell(self, message: m.Message) -> None:
        with contextlib.suppress(ChannelClosed):  # the master is gone, as the next look at the channel shows
            self._send(message)

    def _run(self, name: str, *arguments: object) -> None:
        self._tell(m.HookBegun(name, HOOK_LIMIT_S))
        try:
            self._call(name, *arguments, limit_s=HOOK_LIMIT_S)
        except HookError as error:
            self._tell(m.HookDone(name, m.clip(error.cause), m.clip(error.traceback)))
        else:
            self._tell(m.HookDone(name))

    def _call(self, name: str, *arguments: object, limit_s: float) -> None:
        """Raises HookError."""
        before = set(threading.enumerate())
        run_hook(name, self._hooks[name], *arguments, limit_s=limit_s)
        started = [thread.name for thread in threading.enumerate() if thread not in before]
        if started:
            LOGGER.warning(
                "The hook %s has started threads (%s): they run in this generation's zygote, not in its "
                "workers, and end with the next reload",
                name,
                ", ".join(started),
            )
