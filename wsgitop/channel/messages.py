"""What master, zygote and workers say to each other, one message per SEQPACKET datagram, msgpack by msgspec.

A struct's tag is its name. Descriptors travel beside a message; the docstring says which, in order.
The first message on a zygote's channel is its ``ZygoteHello``: a zygote of another protocol is refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

PROTOCOL = 4
"""Raised with any change of these structs or of the scoreboard's layout."""

MESSAGE_LIMIT_BYTES = 160 * 1024
"""Below the default SO_SNDBUF, so that one message always fits; long texts are cut to TEXT_LIMIT before."""
TEXT_LIMIT = 64 * 1024

Pid = Annotated[int, msgspec.Meta(gt=1, le=1 << 22)]
"""A process other than init; the kernel's PID_MAX_LIMIT."""
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
End = Literal["finished", "raised", "disconnected"]


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of all messages."""


# -- zygote -> master
# ---------------------------------------------------------------------------------------------------


class ZygoteHello(Message, frozen=True):
    """First of all: who I am."""

    protocol: int
    version: str
    pid: Pid


class ConfigLoaded(Message, frozen=True):
    """The values of the Python config file (JSON object as text), and which it was ('' for none). ``hooks``
    are the names of those that it defines.
    """

    path: str
    values_json: str
    notes: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()


class ZygoteReady(Message, frozen=True):
    """I can fork. With --preload the application is loaded: ``threads`` names those it started, which forks
    will lack.
    """

    preloaded: bool
    threads: tuple[str, ...] = ()


class ZygoteFailed(Message, frozen=True):
    """I cannot serve: ``stage`` is 'config', 'hook' (on_starting), 'privileges' or 'app'. ``import_error`` as
    in :class:`BootFailed`.
    """

    stage: str
    error: str
    traceback: str
    import_error: bool = False


class Forked(Message, frozen=True):
    """Worker ``worker`` runs as process ``pid``."""

    worker: int
    pid: Pid


class ForkFailed(Message, frozen=True):
    worker: int
    error: str


class HookBegun(Message, frozen=True):
    """I run this hook now, and give it up after ``limit_s`` seconds if it lets me."""

    name: str
    limit_s: float


class HookDone(Message, frozen=True):
    """It has returned, or ``error`` says in one line how it failed."""

    name: str
    error: str = ""
    traceback: str = ""


# -- master -> zygote
# ---------------------------------------------------------------------------------------------------


class ServerState(msgspec.Struct, frozen=True):
    """What hooks see of the server: how many workers it is to have, and (pid, age) of those that it has."""

    num_workers: int
    workers: tuple[tuple[Pid, int], ...] = ()


class DeadWorker(msgspec.Struct, frozen=True):
    """What the hook child_exit sees of a worker. ``requests`` is how many it has answered."""

    pid: Pid
    age: int
    requests: int


class LoadConfig(Message, frozen=True):
    """Change to ``chdir`` (unresolved, so that symbolic links are followed anew) and read ``config`` ('' for
    none).
    """

    generation: int
    chdir: str
    config: str


class Prepare(Message, frozen=True):
    """Final settings (JSON of settings.table.Settings). Descriptors: scoreboard, access log, the
    two ends over which workers pass connections to each other (sending, receiving), then one per listener.

    ``chdir`` is where the application is loaded from. Preload it if asked, then answer :class:`ZygoteReady`
    or :class:`ZygoteFailed`. ``access_log`` says whether that descriptor is to be written to (it is /dev/null
    otherwise); ``access_pipe`` that there is one more, last of all, which takes the access log's lines as
    well. ``starting``: the server starts, so run the hook on_starting first.
    """

    generation: int
    settings_json: str
    chdir: str
    board_rows: int
    board_threads: int
    access_log: bool
    addresses: tuple[str, ...]
    control_socket: str = ""
    access_pipe: bool = False
    server: ServerState = ServerState(0)
    starting: bool = False


class Fork(Message, frozen=True):
    """Fork a worker. Descriptors: its channel, its stderr. ``worker`` is the worker's number, never used
    again.
    """

    worker: int
    slot: int
    row: int
    server: ServerState | None = None
    """For the hooks; None if there is none that would look at it."""


class RunHook(Message, frozen=True):
    """Run this hook of the server, if you have it. ``worker`` is child_exit's, ``before`` the number of
    workers that nworkers_changed is told of as the old one.
    """

    name: str
    server: ServerState
    worker: DeadWorker | None = None
    before: int | None = None


class CloseListeners(Message, frozen=True):
    """The server stops. You stay for its last hooks, but a listener accepts as long as anybody has a copy."""


class EndZygote(Message, frozen=True):
    """Exit now; your workers stay."""


# -- worker -> master
# ---------------------------------------------------------------------------------------------------


class WorkerReady(Message, frozen=True):
    """I accept connections."""

    pid: Pid


class BootFailed(Message, frozen=True):
    """I end because the application cannot be loaded. ``import_error``: it is the import that failed (exit
    status 4, else 3).
    """

    error: str
    traceback: str
    import_error: bool


class Retiring(Message, frozen=True):
    """I stop accepting and end when my requests are done. ``reason`` is for people."""

    reason: str


class RequestTimeout(Message, frozen=True):
    """One app call exceeded --timeout. ``stack`` is the Python stack of that very thread; ``answered``: 504
    went out.
    """

    thread: int
    method: str
    path: str
    elapsed_s: float
    stack: str
    answered: bool


class ModuleFiles(Message, frozen=True):
    """With --reload: code of this generation comes from these files, besides those told before. Sent by
    zygotes as well.
    """

    files: tuple[str, ...]


class SourceFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that code was loaded from, and its modification time and size by then."""

    name: str
    mtime_ns: int
    size: int


class SourceFiles(Message, frozen=True):
    """Without --reload: the application's own code comes from these files, as they were when the worker had
    loaded it.
    """

    files: tuple[SourceFile, ...]


class Served(msgspec.Struct, frozen=True, array_like=True):
    """A request that a thread works on. ``request`` is the scoreboard's STARTED_NS: no other one of this
    thread has the same. Text has been escaped, the query is left out; here and below.
    """

    request: Count
    method: str
    path: str
    client: str
    elapsed_ns: Count


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call of a stack, as control.messages.Frame."""

    file: str
    line: Count
    function: str
    code: str
    application: bool


class ThreadCalls(msgspec.Struct, frozen=True, array_like=True):
    """The stack of a thread, the outermost call first. ``thread`` is its seat; None: it serves none."""

    name: str
    calls: tuple[Call, ...]
    thread: Count | None = None
    serves: Served | None = None


class Stacks(Message, frozen=True):
    """Answers :class:`TakeStacks`. ``dropped`` counts calls that were left out, from the middle of stacks."""

    inquiry: Count
    threads: tuple[ThreadCalls, ...]
    dropped: Count = 0


class RequestCancelled(Message, frozen=True):
    """Answers :class:`CancelRequest`. ``cut``: it was found running and its connection was cut; ``answered``:
    with an error answer. What ``end`` means is said in control.messages.Cancelled. The rest is '' and 0 if it
    was over before.
    """

    inquiry: Count
    end: End
    cut: bool = False
    answered: bool = False
    method: str = ""
    path: str = ""
    elapsed_ns: Count = 0


class Finished(msgspec.Struct, frozen=True, array_like=True):
    """A request that took long, and is over or was cut. ``at_ms`` is when, since the epoch; ``status`` 0:
    nothing was answered.
    """

    at_ms: Count
    method: str
    path: str
    client: str
    status: Count
    elapsed_ns: Count
    cut: bool = False


class SlowestFinished(Message, frozen=True):
    """What took longest here lately; nothing is told twice. At most one of these a second."""

    requests: tuple[Finished, ...]


# -- master -> worker
# ---------------------------------------------------------------------------------------------------


class Retire(Message, frozen=True):
    """Close your listeners, finish what is in flight within ``graceful_s`` seconds, exit 0.

    Idle connections are kept for ``idle_s`` at most, as their clients believe; the next request on one is
    answered with ``Connection: close``. 0 when the whole server stops: there is nobody to connect to again.
    ``pass_on``: there are other workers, which take over the connections that are between two requests.
    ``last``: nobody accepts any more, so who waits to be accepted is served now or never.
    """

    graceful_s: float
    idle_s: float = 0.0
    pass_on: bool = False
    last: bool = False


class Quarantine(Message, frozen=True):
    """Accept nothing and give idle connections away, but finish what you have and stay; ``on`` False: serve
    again, and say so by :class:`WorkerReady`.
    """

    on: bool


class Quit(Message, frozen=True):
    """Exit at once; requests in flight are cut."""


class Reopen(Message, frozen=True):
    """Use the new access log. Descriptor: the log. Sent to zygotes as well."""


class SetLogLevel(Message, frozen=True):
    """Log from this severity on (a name as in the setting ``loglevel``). Sent to zygotes as well, for the
    workers that they fork later.
    """

    level: str


class TakeStacks(Message, frozen=True):
    """Show where this thread is, or all of them and those of the application's own; answered by
    :class:`Stacks`. ``inquiry`` comes back with the answer, here and below.
    """

    inquiry: Count
    thread: Count | None = None


class CancelRequest(Message, frozen=True):
    """Cut this one request, if the thread still works on it; answered by :class:`RequestCancelled`, within a
    little more than a second. ``request`` as in :class:`Served`.
    """

    inquiry: Count
    thread: Count
    request: Count


FromZygote = (
    ZygoteHello
    | ConfigLoaded
    | ZygoteReady
    | ZygoteFailed
    | Forked
    | ForkFailed
    | HookBegun
    | HookDone
    | ModuleFiles
)
ToZygote = LoadConfig | Prepare | Fork | RunHook | CloseListeners | EndZygote | Reopen | SetLogLevel
FromWorker = (
    WorkerReady
    | BootFailed
    | Retiring
    | RequestTimeout
    | ModuleFiles
    | SourceFiles
    | Stacks
    | RequestCancelled
    | SlowestFinished
)
ToWorker = Retire | Quarantine | Quit | Reopen | SetLogLevel | TakeStacks | CancelRequest


def clip(text: str, limit: int = TEXT_LIMIT) -> str:
    """The beginning and the end of a text that is too long for a message: both matter in a traceback."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
