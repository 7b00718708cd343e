"""Connections on the move between the workers of a server.

All workers of a server, of all generations, share one pair of SEQPACKET sockets: who cannot serve a
connection soon puts it in at one end, as a file descriptor with a :class:`Parcel`, and whichever worker is
free takes it out at the other. Only connections between two messages travel: what they have not read yet
waits in the kernel and travels along, and a parser or a half-written response need not.

The option not taken: a queue for each worker. The sender would have to know which sibling is free a moment
later, and what is left in the queue of one that dies would be lost.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket

import msgspec

UNREAD_LIMIT_BYTES = 32 * 1024
"""What a parcel carries of a request that its worker will not live to see complete."""
_PARCEL_BYTES = UNREAD_LIMIT_BYTES + 1024
_DESCRIPTORS_BYTES = socket.CMSG_SPACE(4)


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """What the next worker must know of a connection. ``server`` and ``client`` as in
    :class:`wsgitop.worker.connection.Peer`, the host of ``server`` in bytes, because the path of a unix
    socket may be any; ``deadline_s`` (CLOCK_MONOTONIC) is when an idle one is closed;
    ``waiting`` says that there is something to read on it, ``first`` that it goes before others then.
    ``unread`` are bytes that were read and not understood yet, empty but for connections of a worker that
    has no thread left.
    """

    server: tuple[bytes, str]
    client: tuple[str, str]
    requests: int
    deadline_s: float
    waiting: bool
    first: bool
    unread: bytes = b""


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Parcel)


class Exchange:
    """Both ends of the pair, as one worker holds them."""

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        sender.setblocking(False)
        receiver.setblocking(False)
        self._sender = sender
        self._receiver = receiver
        self._poll = select.poll()
        self._poll.register(receiver.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """Readable when a connection waits to be taken over."""
        return self._receiver.fileno()

    def pending(self) -> bool:
        """A connection waits that nobody has taken over yet."""
        return bool(self._poll.poll(0))

    def send(self, parcel: Parcel, fd: int) -> bool:
        """Give a connection away; the caller closes its copy. False: no room, it stays here."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        try:
            self._sender.sendmsg([_ENCODER.encode(parcel)], rights, socket.MSG_NOSIGNAL)
        except OSError:  # full, or too many descriptors in flight (unix(7), ETOOMANYREFS)
            return False
        return True

    def receive(self) -> tuple[Parcel, socket.socket] | None:
        """Take a connection over; None: there is none, or somebody else was quicker. Raises OSError if no
        descriptor is free for it.
        """
        while True:
            # Before the message is taken: the kernel closes a descriptor for which there is no number.
            os.close(os.dup(self._receiver.fileno()))
            try:
                data, ancillary, _, _ = self._receiver.recvmsg(
                    _PARCEL_BYTES, _DESCRIPTORS_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return None
            if not data:
                return None  # nobody can send any more
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(payload[: len(payload) // fds.itemsize * fds.itemsize])
            if len(fds) != 1:
                for fd in fds:
                    os.close(fd)
                continue
            try:
                parcel = _DECODER.decode(data)
                return parcel, socket.socket(fileno=fds[0])
            except (msgspec.MsgspecError, OSError):
                with contextlib.suppress(OSError):
                    os.close(fds[0])

    def close(self) -> None:
        """Close this process's copies."""
        self._sender.close()
        self._receiver.close()
