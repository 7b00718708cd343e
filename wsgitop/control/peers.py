"""Who is at the other end of a control connection: what the kernel says, and what can be found out about it.

The kernel's word (user id, groups, pid) decides what a client may do. Names and the origin of an ssh session
are for people who read later who did what, and no more: the session's address comes from the environment of
the client's own process, which that user could have written himself. They are looked up in threads: a user
database may be a slow network service, and reading the memory of a process can be held up by that process
(userfaultfd(2)).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import pwd
import queue
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from wsgitop.snapshot import printable

MOST_GROUPS = 256
"""Of a peer. Who is in more is judged by his user id and his first group alone."""
ENVIRONMENT_LIMIT_BYTES = 64 * 1024
NAME_LIMIT = 64
"""Characters of a user's name, and of an address, in what people read."""
PATIENCE_S = 0.2
"""How long a client's first call may wait for its origin."""
MOST_THREADS = 2
MOST_WAITING = 64
LINGER_S = 5.0
"""How long a thread without work waits for more."""
# Of asm-generic/socket.h; Python has no name for it.
_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("3i")
_UNKNOWN_GROUP = 2**32 - 1
_PARENT = re.compile(rb"^PPid:\s*([0-9]+)$", re.MULTILINE)
_UID = re.compile(rb"^Uid:\s*([0-9]+)\s", re.MULTILINE)


class Peer(NamedTuple):
    """Who is at the other end, as the kernel says (unix(7), SO_PEERCRED). Its groups as they were when it
    connected, the first one included.

    ``pid`` 0: in another pid namespace.
    """

    pid: int
    uid: int
    groups: frozenset[int] = frozenset()


class Known(NamedTuple):
    """What was found out about a peer: the user's name, and where its ssh session came from; '' if there is
    no telling.
    """

    user: str = ""
    ssh_from: str = ""


def peer_of(sock: socket.socket) -> Peer:
    """The credentials of the process that connected. Raises OSError."""
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    groups = set(_groups_of(sock))
    if gid != -1:
        groups.add(gid & _UNKNOWN_GROUP)
    return Peer(pid, uid & _UNKNOWN_GROUP, frozenset(groups))


def _groups_of(sock: socket.socket) -> tuple[int, ...]:
    if sys.platform != "linux":
        return ()
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * MOST_GROUPS)
    except OSError:
        return ()  # more than there is room for (ERANGE), or a kernel before 4.13
    return struct.unpack(f"={len(packed) // 4}I", packed)


def actor(peer: Peer, known: Known) -> str:
    """A peer in words, as events and the log name it: "alice (pid 4242, ssh from 198.51.100.7)"."""
    more = [f"pid {peer.pid}"] if peer.pid else []
    if known.ssh_from:
        more.append(f"ssh from {known.ssh_from}")
    name = known.user or f"uid {peer.uid}"
    return f"{name} ({', '.join(more)})" if more else name


# -- what has to be looked up --------------------------------------------------------------------------------


def find_out(peer: Peer) -> Known:
    """Look a peer up. Takes its time; not for the event loop."""
    return Known(user_name(peer.uid), ssh_origin(peer.pid, peer.uid) if peer.pid else "")


def user_name(uid: int) -> str:
    """The name of a user, '' if it has none."""
    try:
        return printable(pwd.getpwuid(uid).pw_name, NAME_LIMIT)
    except (KeyError, OSError):
        return ""


def ssh_origin(pid: int, uid: int) -> str:
    """The address that the ssh session of a process came from, '' for none. Its parent is asked as well: a
    command that sshd has started may have been given a clean environment.

    Only processes of user ``uid`` are looked at, so that nobody's words are taken for another's.
    """
    for _ in range(2):
        try:
            directory_fd = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            # All through one descriptor: the number may be another process's in a moment.
            status = _read(directory_fd, "status", 4096)
            owner, parent = _UID.search(status), _PARENT.search(status)
            if owner is None or int(owner[1]) != uid:
                return ""
            found = _address(_read(directory_fd, "environ", ENVIRONMENT_LIMIT_BYTES))
        except OSError:
            return ""
        finally:
            os.close(directory_fd)
        if found or parent is None or int(parent[1]) <= 1:
            return found
        pid = int(parent[1])
    return ""


def _read(directory_fd: int, name: str, limit: int) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        content = b""
        while len(content) < limit and (more := file.read(limit - len(content))):
            content += more
        return content


def _address(environment: bytes) -> str:
    """The client's address from SSH_CONNECTION, "CLIENT PORT SERVER PORT" (ssh(1))."""
    for pair in environment.split(b"\0"):
        name, _, value = pair.partition(b"=")
        if name == b"SSH_CONNECTION":
            first = value[:256].split(b" ")[0].decode("ascii", "replace")
            try:
                return printable(str(ipaddress.ip_address(first)), NAME_LIMIT)
            except ValueError:
                return ""
    return ""


class Lookups:
    """Looks peers up in threads, at most :data:`MOST_THREADS`, and tells the loop.

    Who is not found out about within :data:`PATIENCE_S` stays unknown; a thread that hangs holds nobody up
    but who comes after it, for that time.
    """

    def __init__(self, look: Callable[[Peer], Known] = find_out) -> None:
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[Peer, asyncio.Future[Known]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._idle = 0

    def ask(self, peer: Peer, tell: Callable[[Known], None]) -> None:
        """Call ``tell``, in the loop and later, with what is known about ``peer``."""
        if self._waiting.qsize() >= MOST_WAITING:
            self._loop.call_soon(tell, Known())
            return
        answer: asyncio.Future[Known] = self._loop.create_future()
        timer = self._loop.call_later(PATIENCE_S, _settle, answer, Known())

        def done(future: asyncio.Future[Known]) -> None:
            timer.cancel()
            tell(future.result())

        answer.add_done_callback(done)
        self._waiting.put((peer, answer))
        with self._lock:
            more = self._waiting.qsize() > self._idle and self._threads < MOST_THREADS
            self._threads += more
        if more:
            # A daemon: the end of the master must not wait for a look-up that hangs.
            try:
                threading.Thread(target=self._run, name="peers", daemon=True).start()
            except RuntimeError:  # no thread can be had now; the next one who comes tries again
                with self._lock:
                    self._threads -= 1
                    nobody_looks = not self._threads
                if nobody_looks:
                    self._give_up()

    def _give_up(self) -> None:
        """Those who wait stay unknown."""
        with contextlib.suppress(queue.Empty):
            while True:
                _settle(self._waiting.get_nowait()[1], Known())

    def _run(self) -> None:
        """In a thread of its own."""
        while True:
            with self._lock:
                self._idle += 1
            try:
                peer, answer = self._waiting.get(timeout=LINGER_S)
            except queue.Empty:
                with self._lock:
                    self._idle -= 1
                    if not self._waiting.empty():
                        continue
                    self._threads -= 1
                return
            with self._lock:
                self._idle -= 1
            if answer.done():
                continue  # nobody waits for it any more
            known = self._look(peer)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the master ends
                self._loop.call_soon_threadsafe(_settle, answer, known)


def _settle(answer: asyncio.Future[Known], known: Known) -> None:
    if not answer.done():
        answer.set_result(known)
