"""Log lines to syslog: error log and access log, as messages of RFC 3164 in gunicorn's form.

Who runs this: any thread may call the ``write_`` methods; one thread of its own connects and sends, because
the name of a server may take seconds to look up, and a connection may hang. The queue is bounded. While the
server does not answer lines wait in it, so that its restart loses none; what does not fit is lost and
counted. It is said once that a server is gone, and once that it is back.

A message is a line: ``<PRIORITY>TAG: [PID] TEXT``. There is no time and no host in it, as in gunicorn's; the
receiver adds them.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wsgitop.logs.lines import entries

QUEUE_LIMIT_BYTES = 1024 * 1024
MESSAGE_LIMIT_BYTES = 8000
"""A longer line is cut: rsyslog takes 8 KiB."""
RETRY_S = 2.0
CONNECT_S = 2.0
SEND_S = 1.0
QUIET_S = 60.0
"""The error log says at most so often that the server is gone."""
PROOF_S = 0.1
"""How long a first datagram may take to come back as refused; nothing else tells that nobody listens."""

_SEVERITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "": 5, "INFO": 6, "DEBUG": 7}
"""What an application prints has no level: a notice."""

Address = str | tuple[str, int]


class Syslog:
    """A syslog server. ``address`` is a path or host and port, ``kinds`` are the kinds of socket to try, in
    order; ``say`` takes a logging level and a line about the server itself.
    """

    def __init__(
        self,
        address: Address,
        kinds: Sequence[socket.SocketKind],
        *,
        facility: int,
        error_tag: str,
        access_tag: str,
        say: Callable[[int, str], None],
    ) -> None:
        self._address = address
        self._kinds = tuple(kinds)
        self._facility = facility
        self._tags = error_tag.encode(), access_tag.encode()
        self._say = say
        self._queue: deque[tuple[bool, bytes]] = deque()
        self._bytes = 0
        self._lost = 0
        self._closing = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="wsgitop-syslog", daemon=True)
        # Below: the thread's own.
        self._sock: socket.socket | None = None
        self._complained = False
        self._quiet_until_s = 0.0

    # -- for any thread ------------------------------------------------

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def write_error(self, data: bytes) -> None:
        """Queue lines of the error log."""
        self._put(False, data)

    def write_access(self, data: bytes) -> None:
        """Queue lines of the access log."""
        self._put(True, data)

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what is queued, within ``timeout_s`` and if the server takes it, and end."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _put(self, access: bool, data: bytes) -> None:
        with self._change:
            if self._bytes + len(data) > QUEUE_LIMIT_BYTES:
                self._lost += data.count(b"\n")
                return
            self._queue.append((access, data))
            self._bytes += len(data)
            self._change.notify()

    # -- the thread ------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._queue and not self._closing:
                    self._change.wait()
                if not self._queue:
                    break
                access, data = self._queue[0]
            messages = deque(self._access(data) if access else self._errors(data))
            while messages:
                if self._send(messages[0]):
                    messages.popleft()
                elif not self._rest():
                    self._disconnect()
                    return
            with self._change:
                self._queue.popleft()
                self._bytes -= len(data)
        self._disconnect()

    def _rest(self) -> bool:
        """The server is gone: wait before the next try. False: there is none, the end has come."""
        limit_s = time.monotonic() + RETRY_S
        with self._change:
            while not self._closing and (left_s := limit_s - time.monotonic()) > 0:
                self._change.wait(left_s)
            return not self._closing

    def _errors(self, data: bytes) -> Iterator[bytes]:
        for level, pid, text in entries(data):
            yield self._message(
                _SEVERITIES[level], self._tags[0], b"[%s] " % pid.encode() if pid else b"", text
            )

    def _access(self, data: bytes) -> Iterator[bytes]:
        for line in data.split(b"\n"):
            if line:
                yield self._message(_SEVERITIES["INFO"], self._tags[1], b"", line)

    def _message(self, severity: int, tag: bytes, process: bytes, text: bytes) -> bytes:
        message = b"<%d>%s: %s%s" % (self._facility << 3 | severity, tag, process, text)
        return message[:MESSAGE_LIMIT_BYTES].replace(b"\0", b"\\0")

    # -- the connection ------------------------------------------------

    def _send(self, message: bytes) -> bool:
        """Send one message. False: the server is not there, and the message is still to be sent."""
        try:
            if self._sock is None or not self._goes_on(self._sock, message):
                self._disconnect()  # it was started again, perhaps: that is no news
                self._sock = self._reach(message)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                with self._change:
                    self._lost += 1
                return True
            self._fail(error)
            return False
        if self._complained:
            self._be_glad()
        return True

    def _goes_on(self, sock: socket.socket, message: bytes) -> bool:
        """Send over the connection that there is. False: it is there no more. Raises OSError for a
        message that is too long, or a server that does not read.
        """
        try:
            if sock.type == socket.SOCK_STREAM:
                # Without this look what is sent after the other side has closed would vanish.
                poll = select.poll()
                poll.register(sock, select.POLLRDHUP)
                if poll.poll(0):
                    return False
            _put(sock, message)
        except OSError as error:
            if error.errno == errno.EMSGSIZE or isinstance(error, TimeoutError):
                raise
            return False
        return True

    def _reach(self, message: bytes) -> socket.socket:
        """Connect to the first address that takes the message, and send it there. Raises OSError."""
        failure = OSError(errno.EADDRNOTAVAIL, "no address")
        for family, kind, address in self._targets():
            sock = socket.socket(family, kind)
            try:
                sock.settimeout(CONNECT_S)
                sock.connect(address)
                sock.settimeout(SEND_S)
                _put(sock, message)
                _prove(sock)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def _targets(self) -> list[tuple[int, int, Any]]:
        if isinstance(self._address, str):
            return [(socket.AF_UNIX, kind, self._address) for kind in self._kinds]
        host, port = self._address
        found = [socket.getaddrinfo(host, port, type=kind) for kind in self._kinds]
        return [(entry[0], entry[1], entry[4]) for entries_ in found for entry in entries_]

    def _disconnect(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _fail(self, error: OSError) -> None:
        self._disconnect()
        now_s = time.monotonic()
        # A server that accepts and does not read is there and gone again each time.
        if not self._complained and now_s >= self._quiet_until_s:
            self._complained = True
            self._quiet_until_s = now_s + QUIET_S
            self._say(logging.WARNING, f"syslog at {self._shown()} takes no lines: {error.strerror or error}")

    def _be_glad(self) -> None:
        self._complained = False
        with self._change:
            lost, self._lost = self._lost, 0
        self._say(logging.WARNING, f"syslog at {self._shown()} takes lines again; lines lost: {lost}")

    def _shown(self) -> str:
        return self._address if isinstance(self._address, str) else f"{self._address[0]}:{self._address[1]}"


def _put(sock: socket.socket, message: bytes) -> None:
    if sock.type == socket.SOCK_STREAM:
        # gunicorn ends messages with a zero byte; receivers of streams wait for a newline (RFC 6587).
        sock.sendall(message + b"\n")
    else:
        sock.send(message)


def _prove(sock: socket.socket) -> None:
    """A datagram to where nobody listens is refused a moment later. Raises OSError then."""
    if sock.type != socket.SOCK_DGRAM or sock.family == socket.AF_UNIX:
        return
    poll = select.poll()
    poll.register(sock, select.POLLERR)
    if poll.poll(PROOF_S * 1000):
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        raise OSError(number, "nobody listens there")
