"""One end of a channel: whole messages with descriptors over a SEQPACKET socket.

The master uses it non-blocking under ``loop.add_reader`` (asyncio has no transport for SEQPACKET); zygotes
and workers read it when it is readable. A peer that is gone shows as :class:`ChannelClosed`, on reading and
on writing.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from wsgitop.channel.messages import MESSAGE_LIMIT_BYTES, Message
from wsgitop.errors import ProtocolError

MAX_DESCRIPTORS = 250
_ENCODER = msgspec.msgpack.Encoder()

T = TypeVar("T")


class ChannelClosed(Exception):
    """The other side is gone."""


class ChannelFull(Exception):
    """The other side does not read; the message was not sent."""


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair of SEQPACKET sockets, not inheritable."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel(Generic[T]):
    """Sends any message and receives messages of the union ``incoming``."""

    def __init__(self, sock: socket.socket, incoming: object, *, blocking: bool) -> None:
        sock.setblocking(blocking)
        self.socket = sock
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(incoming)

    def fileno(self) -> int:
        """For select and epoll."""
        return self.socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message. Raises ChannelClosed, ChannelFull (only when non-blocking)."""
        data = _ENCODER.encode(message)
        if len(data) > MESSAGE_LIMIT_BYTES:
            raise ProtocolError(
                f"message {type(message).__name__} has {len(data)} bytes, more than a channel carries"
            )
        ancillary = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        try:
            self.socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise ChannelFull from None
        except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError, OSError) as error:
            raise ChannelClosed(str(error)) from None

    def receive(self) -> tuple[T, list[int]] | None:
        """One message and its descriptors (close-on-exec, owned by the caller); None: nothing there
        (non-blocking only).

        Raises ChannelClosed at end-of-file, ProtocolError for what is no message of ours.
        """
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(
                MESSAGE_LIMIT_BYTES + 1, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise ChannelClosed(str(error)) from None
        descriptors = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        if not data:
            raise ChannelClosed("end of file")
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError("a message on a channel was cut")
            return self._decoder.decode(data), list(descriptors)
        except (msgspec.MsgspecError, ProtocolError) as error:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            if isinstance(error, ProtocolError):
                raise
            raise ProtocolError(f"unreadable message on a channel: {error}") from None

    def close(self) -> None:
        """Close this end; the other sees end-of-file."""
        self.socket.close()
