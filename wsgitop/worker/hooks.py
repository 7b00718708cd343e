"""Hooks in a worker: of its boot (post_fork, post_worker_init), of a request, of its end.

Who runs what: the first two run in the main thread while the worker boots, so --boot-timeout bounds them, and
their failure is the boot's. Those of a request run in the thread that serves it, within --timeout. Those of
the end run in the main thread if that is what ends the worker, otherwise the watchdog has a thread run each
and waits for it: the main thread may be within the application, and nobody knows when it comes back.

No hook is run by :class:`NoHooks`, which has nothing to decide; a worker with hooks has :class:`WorkerHooks`.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from wsgitop.errors import HookError
from wsgitop.http.head import Request
from wsgitop.logs.error_log import LOGGER
from wsgitop.worker.access_log import AccessWriter
from wsgitop.worker.hook_objects import HookRequest, HookResponse, HookServer, HookWorker
from wsgitop.worker.seat import Seat
from wsgitop.worker.service import Service, end_fork
from wsgitop.wsgi.loading import describe, trimmed_traceback
from wsgitop.wsgi.response import Response
from wsgitop.wsgi.types import WSGIApplication, WSGIEnvironment

HOOK_LIMIT_S: Final = 10.0
"""How long a hook may take that nothing else bounds."""
HURRIED_S: Final = 1.5
"""How long the hooks of a worker may take that must end now: less than the master waits before SIGKILL."""

_monotonic: Final = time.monotonic


class HookOverdue(BaseException):
    """Raised within a hook that has run for longer than it may. No Exception, because hooks catch those."""


@contextmanager
def deadline(limit_s: float) -> Iterator[None]:
    """Raise HookOverdue in the body after ``limit_s`` seconds. In a main thread only: it takes SIGALRM.

    That interrupts Python code and system calls, so a hook that hangs is usually ended with the traceback of
    where it hung. What it does not get out of is for others to end.
    """
    armed = True

    def overdue(_number: int, _frame: FrameType | None) -> None:
        if armed:
            raise HookOverdue(f"it takes longer than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before if before is not None else signal.SIG_DFL)


def run_hook(name: str, hook: Callable[..., Any], *arguments: object, limit_s: float) -> None:
    """Call a hook in a main thread, with a deadline. Raises HookError, whatever the hook raises."""
    try:
        with deadline(limit_s):
            call_hook(name, hook, *arguments)
    except HookOverdue as error:  # just when the hook had come back
        raise failure(name, error) from None


def call_hook(name: str, hook: Callable[..., Any], *arguments: object) -> None:
    """Call a hook. Raises HookError, whatever the hook raises, SystemExit included.

    A process that it has forked and that comes back from it ends here: it must not go on as a second zygote
    or worker on the same channel.
    """
    pid = os.getpid()
    try:
        hook(*arguments)
    except BaseException as error:  # noqa: BLE001 - it is the user's code, and costs no more than its own work
        if os.getpid() != pid:
            end_fork(error)
        raise failure(name, error) from None
    if os.getpid() != pid:
        end_fork(None)


def failure(name: str, error: BaseException) -> HookError:
    """What a hook's exception is to the server."""
    words = str(error) if isinstance(error, HookOverdue) else describe(error)
    return HookError(f"hook {name} failed: {words}", traceback=trimmed_traceback(error))


class NoHooks:
    """The hooks of a worker whose config file has none."""

    aborts = False
    """There is a hook for SIGABRT."""
    service: Callable[..., Service] = Service
    """Makes what serves requests."""

    def forked(self) -> None:
        """The process has begun. Raises HookError."""

    def initialised(self) -> None:
        """The application is loaded. Raises HookError."""

    def serve(
        self,
        app: WSGIApplication,
        seats: tuple[Seat, ...],
        access_log: AccessWriter | None,
        leave: Callable[[], None],
    ) -> None:
        """With these it will serve; ``leave`` makes it retire, from any thread."""

    def interrupted(self) -> None:
        """SIGINT, SIGQUIT or its like from the master: it ends at once."""

    def aborted(self) -> None:
        """SIGABRT."""

    def retiring(self) -> None:
        """It finishes and goes."""

    def end(self, limit_s: float) -> None:
        """The process ends now; called again, it waits for the first call to come to its end."""


class WorkerHooks(NoHooks):
    """The hooks of one worker, which also sees to it that each of the end is run once."""

    def __init__(
        self, hooks: Mapping[str, Callable[..., Any]], server: HookServer, worker: HookWorker
    ) -> None:
        self._hooks = hooks
        self._server = server
        self.worker = worker
        self.aborts = "worker_abort" in hooks
        self._begun = False
        self._interrupted = False
        self._ended = False
        self._ends_by = 0.0
        self._ending = threading.Lock()
        if "pre_request" in hooks or "post_request" in hooks:
            self.service = functools.partial(
                HookedService,
                before=hooks.get("pre_request"),
                after=hooks.get("post_request"),
                worker=worker,
            )

    def forked(self) -> None:
        self._begun = True
        self.worker.pid = os.getpid()
        self._boot("post_fork", self._server, self.worker)

    def initialised(self) -> None:
        self._boot("post_worker_init", self.worker)
        if not self.worker.alive:
            # As a failed boot, because those are not repeated without a pause.
            raise HookError("a hook has set worker.alive to False before the worker could serve")
        self.worker.booted = True

    def serve(
        self,
        app: WSGIApplication,
        seats: tuple[Seat, ...],
        access_log: AccessWriter | None,
        leave: Callable[[], None],
    ) -> None:
        self.worker.app.callable = app
        self.worker.log.serve(access_log)
        self.worker.serve(seats, leave)

    def interrupted(self) -> None:
        self.worker.goes()
        if self._begun and not self._interrupted:
            self._interrupted = True
            self._finish("worker_int", self.worker, limit_s=self._hurry())

    def aborted(self) -> None:
        self.worker.goes()
        self.worker.aborted = True
        self._finish("worker_abort", self.worker, limit_s=self._hurry())

    def retiring(self) -> None:
        self.worker.goes()

    def end(self, limit_s: float) -> None:
        self.worker.goes()
        if not self._begun:
            return
        if self._ends_by:  # what was run before has used some of the time
            limit_s = max(0.1, self._ends_by - _monotonic())
        if not self._ending.acquire(blocking=False):
            if threading.current_thread() is not threading.main_thread():
                # The main thread is at it. In the main thread, this is a signal that came meanwhile.
                self._ending.acquire(timeout=limit_s)
            return
        try:
            if not self._ended:
                self._ended = True
                self._finish("worker_exit", self._server, self.worker, limit_s=limit_s)
        finally:
            self._ending.release()

    def _hurry(self) -> float:
        """Time for what is run when the process must end now."""
        now_s = _monotonic()
        self._ends_by = self._ends_by or now_s + HURRIED_S
        return max(0.1, self._ends_by - now_s)

    def _boot(self, name: str, *arguments: object) -> None:
        hook = self._hooks.get(name)
        if hook is not None:
            call_hook(name, hook, *arguments)

    def _finish(self, name: str, *arguments: object, limit_s: float) -> None:
        """Run a hook of the end; a failure is logged and nothing more."""
        hook = self._hooks.get(name)
        if hook is None:
            return
        try:
            if threading.current_thread() is threading.main_thread():
                run_hook(name, hook, *arguments, limit_s=limit_s)
            else:
                _run_aside(name, hook, *arguments, limit_s=limit_s)
        except HookError as error:
            LOGGER.error("%s\n%s", error.cause, error.traceback.rstrip())


def _run_aside(name: str, hook: Callable[..., Any], *arguments: object, limit_s: float) -> None:
    """Run a hook in a thread of its own and wait for it. Raises HookError."""
    failed: list[HookError] = []

    def run() -> None:
        try:
            call_hook(name, hook, *arguments)
        except HookError as error:
            failed.append(error)

    thread = threading.Thread(target=run, name=f"wsgitop-{name}", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        frame = sys._current_frames().get(thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        raise HookError(f"hook {name} failed: it takes longer than {limit_s:.1f} s", traceback=stack)
    if failed:
        raise failed[0]


class HookedService(Service):
    """Serves requests with a hook before or behind each; a worker without such hooks has none of this."""

    def __init__(
        self,
        *,
        before: Callable[..., Any] | None,
        after: Callable[..., Any] | None,
        worker: HookWorker,
        **service: Any,
    ) -> None:
        super().__init__(**service)
        self._before = before
        self._after = after
        self._worker = worker

    def _call(self, request: Request, response: Response, environ: WSGIEnvironment) -> bool:
        req = HookRequest(request, environ)
        try:
            if self._before is not None:
                self._before(self._worker, req)
                req.apply(environ)
        except BaseException as error:  # noqa: BLE001 - it costs its request only, as the application's do
            if self._forked:
                end_fork(error)
            response.since_s = 0.0
            response.failed = True
            whole = self._answer_failure(request, response, error)
        else:
            if self._forked:
                end_fork(None)
            # The watchdog may have answered meanwhile: then the application need not be asked any more.
            whole = not response.cut and super()._call(request, response, environ)
        if self._after is not None and not self._forked:
            response.since_s = _monotonic()
            try:
                self._after(self._worker, req, environ, HookResponse(response))
            except BaseException as error:  # noqa: BLE001 - the response stands
                if self._forked:
                    end_fork(error)
                LOGGER.error("Exception in the hook post_request", exc_info=error)
            response.since_s = 0.0
        return whole
