"""The new master's side of an upgrade: what it inherits, and when it is the master.

Who runs this: the loop of a master that another one has started (``upgrade.py`` is that one's side). Until it
takes over it is a guest: it serves from the same sockets, but the control socket, the pid file, the files of
unix sockets and the tether are the old master's, and if it ends before, nothing of those is touched.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Coroutine, Mapping

from wsgitop import __version__
from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, ChannelClosed, ChannelFull
from wsgitop.control.claim import Claim
from wsgitop.errors import ConfigError, ProtocolError, UpgradeError, WorkerBootError
from wsgitop.master import handover as h
from wsgitop.master.listeners import Listener, is_file, open_listener, wanted_addresses
from wsgitop.master.supervisor import Supervisor
from wsgitop.settings.addresses import Address, parse_address
from wsgitop.settings.table import Settings
from wsgitop.transport.launcher import Tether

STOP_AND_START = "Stop the server and start it again."
PATIENCE_S = 10.0
"""For the first message, which was sent before this process was started."""


class Predecessor:
    """The master whose place this one is to take."""

    def __init__(self, channel: Channel[h.FromOld], handover: h.Handover, descriptors: list[int]) -> None:
        self._channel = channel
        self.handover = handover
        self._stderr_fd, sending, receiving, *rest = descriptors
        self._exchange: tuple[socket.socket, socket.socket] | None = None
        ends = socket.socket(fileno=sending), socket.socket(fileno=receiving)
        if handover.protocol == m.PROTOCOL:
            self._exchange = ends
        else:
            for end in ends:
                end.close()
        count = len(handover.listeners)
        self._sockets = dict(enumerate(rest[:count]))
        rest = rest[count:]
        self._control_fds = rest[: handover.control.descriptors] if handover.control is not None else []
        rest = rest[len(self._control_fds) :]
        self._tether_fd = rest.pop(0) if handover.tether else -1
        self._monitors: dict[h.Monitor, tuple[h.ListenerRecord, int]] = {}
        for monitor in h.MONITORS:
            record: h.ListenerRecord | None = getattr(handover, monitor)
            if record is not None:
                self._monitors[monitor] = record, rest.pop(0)
        self._taken: tuple[int, ...] = ()
        self._guests: list[tuple[Listener, tuple[int, int]]] = []
        self._claimed = False
        self._took: set[h.Monitor] = set()
        self.last_word = h.TakeOver()
        """With what the old master has handed over; nothing if it is gone without a word."""

    @classmethod
    def from_environment(cls) -> Predecessor | None:
        """The master that has started this one; None if none has. Raises UpgradeError.

        To be called once, before any other process is started.
        """
        text = os.environ.pop(h.VARIABLE, "")
        if not text.isdecimal():
            return None
        try:
            sock = socket.socket(fileno=int(text))
        except OSError:
            return None  # the variable was inherited, the descriptor was not
        sock.set_inheritable(False)
        channel: Channel[h.FromOld] = Channel(sock, h.FromOld, blocking=False)
        select.select([sock], [], [], PATIENCE_S)
        try:
            received = channel.receive()
        except (ChannelClosed, ProtocolError) as error:
            raise UpgradeError(f"the old master's message cannot be read: {error}", STOP_AND_START) from None
        if received is None or not isinstance(received[0], h.Handover):
            raise UpgradeError("the old master has not said what to take over", STOP_AND_START)
        message, descriptors = received[0], received[1]
        if message.version != h.VERSION:
            raise UpgradeError(
                f"wsgitop {__version__} cannot take over from a master as old, or as new, as process "
                f"{message.pid}",
                STOP_AND_START,
            )
        return cls(channel, message, descriptors)

    # -- what is inherited ------------------------------------------------

    def wanted(self, configured: int) -> int:
        """How many workers to have: the number that was set by TTIN or TTOU stays, unless the configured one
        has changed.
        """
        handover = self.handover
        return handover.wanted if handover.wanted and handover.configured == configured else configured

    def listeners(self, settings: Settings) -> list[Listener]:
        """The listeners that the settings name: those of the old master where it has them, with who waits
        there, and new ones. Raises BindError, ConfigError.
        """
        found: list[Listener] = []
        records = self.handover.listeners
        try:
            if any(record.activated for record in records):
                found = [self._adopt(index) for index in range(len(records))]
            else:
                for address, v6_only in wanted_addresses(settings):
                    found.append(self._inherited(address, v6_only) or self._open(address, v6_only, settings))
        except BaseException:
            for listener in found:
                listener.close()
            raise
        self._taken = tuple(index for index in range(len(records)) if index not in self._sockets)
        for fd in self._sockets.values():
            os.close(fd)
        self._sockets = {}
        return found

    def monitor_listeners(self, wanted: Mapping[h.Monitor, str]) -> dict[h.Monitor, Listener]:
        """The listeners for what the master answers by itself, of those addresses that are ``wanted`` where
        they are. The old master answers there until this one takes over.
        """
        found: dict[h.Monitor, Listener] = {}
        monitors, self._monitors = self._monitors, {}
        for monitor, (record, fd) in monitors.items():
            mine = next((each for each, address in wanted.items() if address == record.given), None)
            path = parse_address(record.address).path
            if mine is None or (record.inode is not None and not is_file(path, record.inode)):
                os.close(fd)
            else:
                self._took.add(monitor)
                found[mine] = self._adopted(record, fd)
        return found

    def _inherited(self, address: Address, v6_only: bool) -> Listener | None:
        for index in self._sockets:
            record = self.handover.listeners[index]
            if (record.given, record.v6_only) != (str(address), v6_only):
                continue
            # A unix socket whose file was removed is of no use to anybody: it is made anew.
            if record.inode is None or is_file(address.path, record.inode):
                return self._adopt(index)
        return None

    def _open(self, address: Address, v6_only: bool, settings: Settings) -> Listener:
        if address.kind == "fd":
            raise ConfigError(
                f"bind: {address} cannot be added by an upgrade: descriptors are handed over at the start",
                "Stop the server and start it with it.",
            )
        return open_listener(address, settings, v6_only=v6_only)

    def _adopt(self, index: int) -> Listener:
        return self._adopted(self.handover.listeners[index], self._sockets.pop(index))

    def _adopted(self, record: h.ListenerRecord, fd: int) -> Listener:
        listener = Listener(
            parse_address(record.address),
            socket.socket(fileno=fd),
            record.backlog,
            given=record.given,
            v6_only=record.v6_only,
        )
        if record.inode is not None:
            self._guests.append((listener, record.inode))
        return listener

    @property
    def has_lent_control(self) -> bool:
        """The control socket here is the old master's."""
        return self._claimed

    def exchange(self) -> tuple[socket.socket, socket.socket] | None:
        """The pair over which workers pass connections to each other; None if the old one's workers are of
        another kind.
        """
        return self._exchange

    def claim(self, settings: Settings) -> Claim | None:
        """The control socket, if the settings want it where it is."""
        record = self.handover.control
        if record is None:
            return None
        if settings.no_control_socket or settings.control_socket != record.setting:
            for fd in self._control_fds:
                os.close(fd)
            return None
        self._claimed = True
        return Claim(record.deed, self._control_fds)

    # -- taking over ------------------------------------------------

    def fileno(self) -> int:
        """For the event loop."""
        return self._channel.fileno()

    def serving(self) -> None:
        """Tell the old master that the workers are ready."""
        exchange = self._exchange is not None
        message = h.Serving(
            os.getpid(), __version__, self._taken, self._claimed, exchange,
            health="health" in self._took, metrics="metrics" in self._took,
        )  # fmt: skip
        try:
            self._channel.send(message)
        except (ChannelClosed, ChannelFull):
            return  # the end of the channel is read next, and says it

    def is_over(self) -> bool:
        """Whether this is the master now: the old one has said so, or is gone."""
        try:
            received = self._channel.receive()
        except (ChannelClosed, ProtocolError):
            return True
        if received is None or not isinstance(received[0], h.TakeOver):
            return False
        self.last_word = received[0]
        return True

    def take_over(self) -> Tether | None:
        """Make what is inherited this process's own, and close the channel. The tether, if there is one."""
        self._channel.close()
        for listener, inode in self._guests:
            listener.inode = inode
            if listener.socket.fileno() < 0:  # a reload has left it out meanwhile
                listener.close()
        fd, self._tether_fd = self._tether_fd, -1
        return Tether(socket.socket(fileno=fd)) if fd >= 0 else None

    def restore_stderr(self) -> None:
        """Until the workers were ready, the old master read what this process wrote to standard error."""
        if self._stderr_fd >= 0:
            os.dup2(self._stderr_fd, 2)
            os.close(self._stderr_fd)
            self._stderr_fd = -1


class Guest:
    """A new master until it takes over: tells the old one when the workers are ready, and waits for its word.

    ``settle`` is called when the workers are ready, with how to get standard error back; ``promote`` when
    this is the master.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        supervisor: Supervisor,
        predecessor: Predecessor,
        *,
        settle: Callable[[Callable[[], None]], None],
        promote: Callable[[Predecessor], Coroutine[None, None, None]],
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._predecessor = predecessor
        self._settle = settle
        self._promote = promote
        self._promotion: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen to the old master."""
        self._loop.add_reader(self._predecessor.fileno(), self._heard)
        self._supervisor.on_change.append(self._look)

    def _look(self) -> None:
        roster = self._supervisor.roster
        if roster.stopping:
            self._supervisor.on_change.remove(self._look)
        elif len(roster.ready()) >= roster.wanted:
            self._supervisor.on_change.remove(self._look)
            self._settle(self._predecessor.restore_stderr)
            self._predecessor.serving()
        elif roster.boot_failures and self._predecessor.handover.automatic:
            # Half a server is no reason to end a whole one.
            self._supervisor.on_change.remove(self._look)
            ready = len(roster.ready())
            self._supervisor.fatal = WorkerBootError(
                f"{ready} of {roster.wanted} workers came up, and another could not boot",
                "The log above tells why.",
            )
            self._loop.call_soon(lambda: self._supervisor.stop("the upgrade", quick=True))

    def _heard(self) -> None:
        if self._supervisor.roster.stopping or not self._predecessor.is_over():
            return
        self._loop.remove_reader(self._predecessor.fileno())
        if self._look in self._supervisor.on_change:  # the old one has ended before the workers were ready
            self._supervisor.on_change.remove(self._look)
            self._settle(self._predecessor.restore_stderr)
        self._promotion = self._loop.create_task(self._promote(self._predecessor))
