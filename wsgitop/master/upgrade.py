"""USR2: another master, of the code that is on disk now, with the same sockets; the old master's side.

Who runs this: the loop of the master. The new one is exec'ed, inherits (``handover.py``), and says when its
workers are ready. Until then, and for as long as nobody tells this master to stop, nothing here changes: a
new one that does not come up, or is ended, costs nothing. Stopping while a new one waits hands over to it,
whoever orders it: a signal, or the automatic upgrade as soon as the new one serves. This master's workers
then retire as in a reload, and their connections move to the new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from enum import Enum

import psutil

from wsgitop import __version__
from wsgitop.channel import messages as m
from wsgitop.control.server import ControlServer
from wsgitop.errors import ActionFailed, WsgitopError
from wsgitop.master import handover as h
from wsgitop.master.configuration import Configuration
from wsgitop.master.listeners import Listener
from wsgitop.master.processes import CHANNEL_FD, Output, Peer, child_ends, close_all, describe_status
from wsgitop.master.supervisor import Supervisor
from wsgitop.settings.addresses import parse_address

GRACE_S = 35.0
"""Beyond twice --boot-timeout (its zygote, its workers): for the interpreter and the config file."""
END_GRACE_S = 5.0
"""For a new master that has given up, or has been told to."""
ENDS_WITH_CHILD = frozenset(
    {"tini", "docker-init", "dumb-init", "catatonit", "sh", "bash", "dash", "ash", "busybox", "s6-svscan"}
)
"""Programs that, as a container's first process, end when the process that they have started ends."""
_ACTIVATION = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_CAUSE = re.compile(r"^wsgitop: (?P<cause>.+)$")
_BOOTSTRAP = """\
import os, sys
directory, *command = sys.argv[1:]
try:
    os.chdir(directory)
except OSError as error:
    sys.exit(f"wsgitop: {directory}, where this server was started: {error.strerror}")
os.environ["PWD"] = directory
if os.environ.get("WATCHDOG_PID") == str(os.getppid()):
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(command[0], command)
"""
"""Between the old master and the new one, which is to begin in the directory as it is named, with links
followed anew: posix_spawn cannot change it.
"""


class Phase(Enum):
    IDLE = "idle"
    STARTING = "starting"
    WAITING = "waiting"  # the new master serves, and this one does, too
    DONE = "done"  # handed over


class Upgrade:
    """Starts the new master and hands over to it.

    ``monitors`` are where this master itself answers; ``tether_fd`` is asked for what leads to the launcher,
    -1 for none; ``relinquish`` is called when the new master has taken over, with whether the control socket
    is its own now; ``environment`` is given to it besides this one's. ``on_hand_over`` are called with the
    new master's pid at that moment.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        supervisor: Supervisor,
        configuration: Configuration,
        listeners: list[Listener],
        control: ControlServer | None,
        in_background: bool,
        monitors: Mapping[h.Monitor, Listener],
        tether_fd: Callable[[], int],
        relinquish: Callable[[bool], None],
        environment: Mapping[str, str],
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._configuration = configuration
        self._listeners = listeners
        self._control = control
        self._in_background = in_background
        self._monitors = monitors
        self._tether_fd = tether_fd
        self._relinquish = relinquish
        self._environment = environment
        self.phase = Phase.IDLE
        self.is_guest = False
        """This master is itself a new one that has not taken over yet."""
        self.pid = 0
        self.on_hand_over: list[Callable[[int], None]] = []
        self._automatic = False
        self._actor = ""
        self._peer: Peer[h.Serving] | None = None
        self._output: Output | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._serving: h.Serving | None = None
        self._lent: list[Listener] = []
        self._outcome: asyncio.Future[str] | None = None
        supervisor.on_child = self.died
        supervisor.on_stop = self._stopping

    # -- orders ------------------------------------------------

    @property
    def heir(self) -> int:
        """The process that this master has handed over to, 0 for none."""
        return self.pid if self.phase is Phase.DONE else 0

    def begin(self, actor: str, *, automatic: bool) -> asyncio.Future[str]:
        """Start a new master. The future has its outcome, when it serves; ActionFailed otherwise.

        ``automatic``: then this one hands over; else that waits for somebody who tells it to stop. Raises
        ActionFailed at once if there cannot be an upgrade now.
        """
        problem, remedy = self._obstacle()
        if problem:
            raise ActionFailed(f"no new master is started: {problem}", remedy)
        self._automatic, self._actor = automatic, actor
        self.phase = Phase.STARTING
        self._outcome = outcome = self._loop.create_future()
        # Nobody may be waiting, if it was a signal.
        outcome.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._supervisor.hooks.before_exec(self._start)
        return outcome

    def on_signal(self, actor: str) -> None:
        """USR2: as in gunicorn, a new master beside this one."""
        try:
            self.begin(actor, automatic=False)
        except ActionFailed as error:
            text = f"USR2: {error.cause}"
            self._supervisor.events.add("warning", "signal", text, actor=actor, detail=error.remedy)

    def _obstacle(self) -> tuple[str, str]:
        """Why there cannot be an upgrade now, and what to do instead; empty: there can."""
        roster = self._supervisor.roster
        init = _name_of_init() if os.getppid() == 1 else ""
        elsewhere = "Start a new container and stop this one; for new code alone, reload."
        obstacles = (
            (os.getpid() == 1, "this one is process 1 of its container, which would end with it", elsewhere),
            (
                init in ENDS_WITH_CHILD,
                f"{init}, the first process of this container, would end with this one",
                elsewhere,
            ),
            (roster.stopping, "the server is stopping", ""),
            (
                self.phase is not Phase.IDLE,
                f"there is one already, process {self.pid or 'to be'}",
                "TERM to that one goes back; TERM to this one completes the change.",
            ),
            (self.is_guest, "this one has not taken over from the old one yet", "Stop the old one first."),
            (not roster.ever_ready, "no worker of this one has been ready yet", "Wait until it serves."),
            (
                roster.rolling or roster.loading() is not None,
                "a reload is under way",
                "Wait until it is done.",
            ),
        )
        return next(((why, remedy) for applies, why, remedy in obstacles if applies), ("", ""))

    def _start(self) -> None:
        if self._supervisor.roster.stopping:  # meanwhile, while the hook pre_exec ran
            self._fail("the server is stopping", "", goes_on=False)
            return
        try:
            self.pid = self._spawn()
        except (OSError, WsgitopError) as error:
            self._fail(f"it could not be started: {error}", "")
            return
        boot_timeout_s = self._configuration.settings.boot_timeout
        self._timer = self._loop.call_later(2 * boot_timeout_s + GRACE_S, self._overdue)
        text = f"a new master, process {self.pid}, is started with the same sockets"
        self._supervisor.events.add("info", "upgrade", text, actor=self._actor)

    def _spawn(self) -> int:
        ours, theirs, output, errors = child_ends()
        environment = {name: value for name, value in os.environ.items() if name not in _ACTIVATION}
        environment.update(self._environment)
        environment[h.VARIABLE] = str(CHANNEL_FD)
        python = sys.executable  # unresolved: a deploy may have changed where a link leads
        bootstrap = ["-I", "-S", "-c", _BOOTSTRAP, self._configuration.directory]
        try:
            pid = os.posix_spawn(
                python,
                [python, *bootstrap, python, *sys.orig_argv[1:]],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, errors, 2),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL_FD),
                ],
                setsigmask=(),
            )
        except OSError:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(errors)
        self._output = Output(self._loop, output, self._supervisor.sink)
        self._peer = Peer(self._loop, ours, h.FromNew, self._receive, self._lost)
        message, descriptors = self._handover()
        self._peer.send(message, descriptors)  # if it is gone already, its death is told
        return pid

    def _handover(self) -> tuple[h.Handover, list[int]]:
        asked = {str(parse_address(text)) for text in self._configuration.settings.bind}
        self._lent = list(self._listeners)
        for listener in self._lent:
            listener.lent = True
        descriptors = [2, *(end.fileno() for end in self._supervisor.exchange)]
        descriptors += [listener.socket.fileno() for listener in self._lent]
        claim = None if self._control is None else self._control.held
        control = None
        if claim is not None:
            descriptors += claim.descriptors()
            setting = self._configuration.settings.control_socket
            control = h.ControlRecord(setting, claim.deed, len(claim.descriptors()))
        tether_fd = self._tether_fd()
        if tether_fd >= 0:
            descriptors.append(tether_fd)
        monitors = {each: self._monitors[each] for each in h.MONITORS if each in self._monitors}
        descriptors += [listener.socket.fileno() for listener in monitors.values()]
        records = tuple(_record(each, activated=each.given not in asked) for each in self._lent)
        message = h.Handover(
            version=h.VERSION,
            pid=os.getpid(),
            protocol=m.PROTOCOL,
            configured=self._configuration.workers,
            wanted=self._supervisor.roster.wanted,
            automatic=self._automatic,
            in_background=self._in_background,
            listeners=records,
            control=control,
            tether=tether_fd >= 0,
            **{monitor: _record(listener) for monitor, listener in monitors.items()},
        )
        return message, descriptors

    # -- what happens to the new master ------------------------------------------------

    def _receive(self, message: h.Serving, descriptors: list[int]) -> None:
        close_all(descriptors)
        if self.phase is not Phase.STARTING:
            return
        self._stop_timer()
        self._serving = message
        self.phase = Phase.WAITING
        what = f"the new master, process {self.pid} (wsgitop {message.version}), serves"
        if self._automatic:
            self._supervisor.events.add("good", "upgrade", what, actor=self._actor)
            # Others wait for the answer, which is given when the last worker here is gone.
            self._supervisor.stop(self._actor, quick=False)
            return
        text = f"{what}, and this one does, too: TERM to this one hands over, TERM to that one goes back"
        self._supervisor.events.add("good", "upgrade", text)
        self._succeed(text)

    def _lost(self, fault: str) -> None:
        """Its channel has ended, and it does so too, or has to."""
        if self.phase in (Phase.STARTING, Phase.WAITING):
            self._loop.call_later(END_GRACE_S, self._kill, self.pid)

    def _overdue(self) -> None:
        self._kill(self.pid)
        limit_s = 2 * self._configuration.settings.boot_timeout + GRACE_S
        self._fail(f"it did not serve within {limit_s:g} s, and was killed", self._last_words())

    def _kill(self, pid: int) -> None:
        if pid and pid == self.pid:  # only the master reaps, so the number is still that process's
            os.kill(pid, signal.SIGKILL)

    def died(self, pid: int, status: int) -> bool:
        """A child has ended; false if it was no new master."""
        if not pid or pid != self.pid:
            return False
        how = describe_status(status)
        if self._peer is not None:
            self._peer.drain()
        phase = self.phase
        words = self._last_words()
        self.pid = 0
        if os.WIFSIGNALED(status) and phase is not Phase.DONE:
            self._end_orphans()
        if phase is Phase.STARTING:
            found = [match["cause"] for line in words.splitlines() if (match := _CAUSE.match(line))]
            self._fail(found[-1] if found else f"it {how} before it served", words)
        elif phase is Phase.WAITING:
            text = f"the new master (pid {pid}) {how}: this one goes on"
            self._supervisor.events.add("warning", "upgrade", text, detail="" if status == 0 else words)
            self._reset()
        else:
            self._close()
        return True

    def _end_orphans(self) -> None:
        """Workers of a new master that was killed are this one's to reap, and they see that their master is
        gone; but for one that still loads the application, which may never end.
        """
        if any(record.pid is None for record in self._supervisor.roster.live()):
            return  # one of this master's own may not be known yet
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                is_worker = " ".join(child.cmdline()).startswith("wsgitop: worker ")
                if is_worker and self._supervisor.workers.by_pid(child.pid) is None:
                    child.terminate()

    def _last_words(self) -> str:
        if self._output is None:
            return ""
        # The last lines may be on their way: the end of a process is told sooner than its pipe is read.
        self._output.read_rest()
        return "\n".join(self._output.last_lines)

    # -- handing over ------------------------------------------------

    def _stopping(self, actor: str) -> str:
        """This master is told to stop. If a new one waits, it takes over: what to say instead of stopping."""
        if self.phase is Phase.STARTING:
            if self.pid:
                os.kill(self.pid, signal.SIGTERM)
            self._fail("the server is stopping", "", goes_on=False)
        if self.phase is not Phase.WAITING or self._serving is None or self._peer is None:
            return ""
        kept = () if self._control is None else self._control.kept_orders(self.pid)
        if not self._peer.send(h.TakeOver(actor, kept)):
            return ""  # it has just ended
        self.phase = Phase.DONE
        for index, listener in enumerate(self._lent):
            if index in self._serving.listeners:
                listener.give_away()  # its file is the new master's to remove
            else:
                listener.take_back()
        self._lent = []
        for monitor, monitored in self._monitors.items():
            if getattr(self._serving, monitor):
                monitored.give_away()
        self._supervisor.succeeded(by_exchange=self._serving.exchange)
        for callback in self.on_hand_over:
            callback(self.pid)
        self._relinquish(self._serving.control)
        self._supervisor.on_finish.append(self._handed_over)
        return f"process {self.pid} is the master now; this one's workers retire"

    def _handed_over(self) -> None:
        assert self._serving is not None
        versions = f"wsgitop {self._serving.version}"
        if self._serving.version != __version__:
            versions = f"wsgitop {__version__} → {self._serving.version}"
        self._succeed(f"process {self._serving.pid} is the master now ({versions})")
        self._close()

    def _fail(self, why: str, detail: str, *, goes_on: bool = True) -> None:
        cause = f"the new master failed: {why}" if goes_on else f"there is no new master: {why}"
        text = f"{cause}; this one goes on" if goes_on else cause
        self._supervisor.events.add("error", "upgrade-failed", text, detail=detail)
        outcome = self._outcome
        self._reset()
        if outcome is not None and not outcome.done():
            remedy = "This one serves on as it was; mend that and upgrade again." if goes_on else ""
            outcome.set_exception(ActionFailed(cause, remedy, detail=detail))

    def _succeed(self, text: str) -> None:
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(text)

    def _reset(self) -> None:
        self._close()
        self.phase = Phase.IDLE
        self._serving = None
        for listener in self._lent:
            listener.take_back()
        self._lent = []

    def _close(self) -> None:
        self._stop_timer()
        if self._peer is not None:
            self._peer.close()
        if self._output is not None:
            self._output.close()
        self._peer = self._output = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _record(listener: Listener, *, activated: bool = False) -> h.ListenerRecord:
    return h.ListenerRecord(
        str(listener.address), listener.given, listener.v6_only, listener.backlog, listener.inode, activated
    )


def _name_of_init() -> str:
    try:
        return psutil.Process(1).name()
    except psutil.Error:
        return ""
