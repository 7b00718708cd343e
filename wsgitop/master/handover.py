"""What a master and the one that is to take its place say to each other, and what goes along.

Over one SEQPACKET pair, as with zygotes and workers, but these messages must be understood by another version
of wsgitop: fields may be added, with defaults, and their meaning never changes. :data:`VERSION` is raised
when that is not enough; a new master that does not know the version does not start.

    old -> new  Handover   before the new one even runs: all that it may inherit
    new -> old  Serving    its workers are ready; what of it it has taken
    old -> new  TakeOver   you are the master now
    end-of-file            the other one is gone; for the new one this means the same as TakeOver
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from wsgitop.channel.messages import Message
from wsgitop.control.claim import Deed
from wsgitop.control.orders import KeptOrder

VERSION = 1
VARIABLE = "WSGITOP_HANDOVER_FD"
"""Environment variable with the number of the new master's end."""

Monitor = Literal["health", "metrics"]
MONITORS: Final[dict[Monitor, str]] = {"health": "health checks", "metrics": "requests for metrics"}
"""Where the master itself answers, in the order in which the descriptors are handed over, and what."""


class ListenerRecord(msgspec.Struct, frozen=True):
    """A listening socket: ``address`` is what it is bound to, ``given`` what it was asked for as, ``inode``
    device and inode of a unix socket's file that is this server's to remove. ``activated``: nobody asked for
    it by --bind; whoever started the server had made it.
    """

    address: str
    given: str
    v6_only: bool
    backlog: int
    inode: tuple[int, int] | None = None
    activated: bool = False


class ControlRecord(msgspec.Struct, frozen=True):
    """The control socket. ``setting`` is what was configured, as the new master compares it with its own;
    ``descriptors`` how many belong to ``deed``.
    """

    setting: str
    deed: Deed
    descriptors: int


class Handover(Message, frozen=True):
    """All that the new master may inherit. Descriptors: standard error, the two ends over which workers pass
    connections to each other (sending, receiving), one per listener, those of the control socket, the
    tether, the listener of health checks, that of metrics.

    ``protocol`` is channel.messages.PROTOCOL: workers of another may not understand each other.
    ``configured`` is what the old one's configuration says about the number of workers, ``wanted`` how many
    it is to have. ``automatic``: a new master that does not come up completely gives up by itself.
    """

    version: int
    pid: int
    protocol: int
    configured: int
    wanted: int
    automatic: bool
    in_background: bool
    listeners: tuple[ListenerRecord, ...]
    control: ControlRecord | None = None
    tether: bool = False
    health: ListenerRecord | None = None
    metrics: ListenerRecord | None = None


class Serving(Message, frozen=True):
    """The new master's workers are ready. ``listeners`` are the indices of those that it has taken over;
    ``control``, ``exchange``, ``health`` and ``metrics`` whether it has taken those.
    """

    pid: int
    version: str
    listeners: tuple[int, ...]
    control: bool
    exchange: bool
    health: bool = False
    metrics: bool = False


class TakeOver(Message, frozen=True):
    """You are the master now: pid file, control socket, tether are yours. I finish what is in flight.

    ``actor`` is who wanted it; ``orders`` are those that had keys and must not be carried out again.
    """

    actor: str = ""
    orders: tuple[KeptOrder, ...] = ()


FromOld = Handover | TakeOver
FromNew = Serving
