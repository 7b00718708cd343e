"""The control methods, each declared once: name, arguments, result, role needed, help.

The server dispatches by this table and by nothing else; the command line, the interface's palette and the
reference derive from it. A method that is not a row here cannot be reached.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from wsgitop.control import messages as m
from wsgitop.snapshot import Snapshot


class Method(NamedTuple):
    """One row. ``interrupts`` marks what can break requests in flight: the interface asks first."""

    name: str
    arguments: type[Any]
    result: type[Any]
    role: m.Role
    help: str
    interrupts: bool = False


METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method("hello", m.NoArguments, m.Hello, "viewer", "Who answers here: versions, role, methods."),
        Method("status", m.NoArguments, Snapshot, "viewer", "The whole picture at this moment."),
        Method("workers", m.NoArguments, m.WorkersResult, "viewer", "The workers and what each is serving."),
        Method("events", m.EventsArguments, m.EventsResult, "viewer",
               "What happened lately, and who caused it."),
        Method("deaths", m.DeathsArguments, m.DeathsResult, "viewer",
               "How workers and zygotes have ended, before the last restart, too."),
        Method("history", m.HistoryArguments, m.HistoryResult, "viewer",
               "One sample for each of the last seconds (at most 900)."),
        Method("requests", m.RequestsArguments, m.RequestsResult, "viewer",
               "The requests in flight, the oldest first, and those that took longest lately."),
        Method("histogram", m.HistogramArguments, m.HistogramResult, "viewer",
               "How long the requests of one worker took, of the last ten seconds."),
        Method("settings", m.SettingsArguments, m.SettingsResult, "viewer",
               "The settings in force, and where each value comes from."),
        Method("log", m.LogArguments, m.LogResult, "operator", "The last lines of the error or access log."),
        Method("metrics", m.NoArguments, m.MetricsResult, "viewer",
               "The figures as OpenMetrics text, for Prometheus."),
        Method("subscribe", m.SubscribeArguments, m.Subscribed, "viewer",
               "Send snapshots, events and, to operators, lines of the logs from now on; replaces what was "
               "subscribed to before."),
        Method("unsubscribe", m.NoArguments, m.NoArguments, "viewer", "Send nothing unasked any more."),
        Method("reload", m.OrderArguments, m.Outcome, "operator",
               "Load the code again, replace the workers one by one (HUP); answers when all are replaced."),
        Method("scale", m.ScaleArguments, m.Outcome, "operator",
               "Set the number of workers, or change it (TTIN, TTOU); answers when they serve or are gone."),
        Method("signal", m.SignalArguments, m.Outcome, "operator",
               "Send a signal to the master or to one worker.", interrupts=True),
        Method("quarantine", m.WorkerArguments, m.Outcome, "operator",
               "Put one worker aside, to look at it: it accepts nothing; another takes its place."),
        Method("release", m.WorkerArguments, m.Outcome, "operator",
               "Let a worker that is in quarantine serve again."),
        Method("retire", m.WorkerArguments, m.Outcome, "operator",
               "Have one worker finish its requests and end; another takes its place."),
        Method("stack", m.StackArguments, m.StackResult, "operator",
               "Where the threads of a worker are: their Python stacks, at this moment."),
        Method("cancel", m.CancelArguments, m.Cancelled, "operator",
               "Cut one request that is being served; answers with what became of it, within a second.",
               interrupts=True),
        Method("loglevel", m.LogLevelArguments, m.Outcome, "operator",
               "Log from this severity on, in all processes, until the next start or change of the setting."),
        Method("reopen", m.OrderArguments, m.Outcome, "operator",
               "Open the log files again, behind their rotation (USR1)."),
        Method("upgrade", m.OrderArguments, m.Outcome, "operator",
               "Start a new master from what is on disk, with the same sockets, and hand over to it; answers "
               "when it is the master, or says why this one goes on."),
        Method("stop", m.StopArguments, m.Outcome, "operator",
               "Stop the server (TERM; quick: QUIT).", interrupts=True),
    )
}  # fmt: skip
