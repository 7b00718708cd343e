"""What the control server needs from the master: a :class:`Backend`.

The control server knows nothing else of the server behind it, so its tests put plain data there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from wsgitop.control import messages as m
from wsgitop.snapshot import Death, Event, Second, Severity, Snapshot


class Backend(Protocol):
    """Questions are answered at once. Actions return when they are done; they raise ActionFailed, Refused, or
    TargetGone and Busy of control.faults. ``actor`` is who gave the order, as events name it:
    "alice (pid 4242)".
    """

    def snapshot(self) -> Snapshot:
        """The picture at this moment."""

    def events(self, after: int, limit: int) -> Sequence[Event]:
        """Events with a sequence above ``after``, oldest first, at most ``limit`` of the newest."""

    def deaths(self, after: int, limit: int) -> Sequence[Death]:
        """As :meth:`events`, from the death ledger."""

    def history(self, seconds: int) -> Sequence[Second]:
        """The last ``seconds`` seconds, oldest first."""

    def requests(self, limit: int) -> m.RequestsResult:
        """The requests in flight, oldest first, and the slowest of late; at most ``limit`` of each."""

    def histogram(self, arguments: m.HistogramArguments) -> m.HistogramResult:
        """How long the requests of one worker took lately. Raises TargetGone."""

    def metrics(self) -> str:
        """The figures as OpenMetrics text."""

    def settings(self) -> Sequence[m.SettingShown]:
        """Every setting in force, secrets hidden."""

    def follow_logs(self, error_log: bool, access_log: bool) -> None:
        """Which logs somebody follows from now on: their lines go to
        :meth:`~wsgitop.control.publisher.Publisher.lines`. Raises ActionFailed if the access log cannot be
        followed.
        """

    def past_lines(self, log: Literal["error", "access"], count: int) -> Sequence[str]:
        """The last ``count`` lines of a log, as far as they are remembered. Those who follow it have been
        sent all of these when this returns, and none comes again.
        """

    def note(self, severity: Severity, kind: str, text: str, actor: str) -> None:
        """Record an event."""

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

    async def stack(self, arguments: m.StackArguments, actor: str) -> m.StackResult:
        """Where the threads of a worker are."""

    async def cancel(self, arguments: m.CancelArguments, actor: str) -> m.Cancelled:
        """Cut one request."""

    async def loglevel(self, arguments: m.LogLevelArguments, actor: str) -> m.Outcome:
        """Log from this severity on, in all processes."""

    async def reopen(self, actor: str) -> m.Outcome:
        """Open the log files again, behind their rotation."""

    async def upgrade(self, actor: str) -> m.Outcome:
        """Hand over to a new master."""

    async def stop(self, arguments: m.StopArguments, actor: str) -> m.Outcome:
        """Stop the server. The answer goes out before the control server has closed."""
