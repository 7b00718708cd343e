"""How many connections wait in a listener's queue, as the kernel tells.

TCP: tcpi_unacked of TCP_INFO is the queue of a listening socket, its limit tcpi_sacked behind it (tcp(7),
net/ipv4/tcp.c ``tcp_get_info``). Unix: the RQLEN attribute of a sock_diag(7) answer; None where that is not
to be had.

The master samples both for its screens. A worker asks for its share of what waits, each time that it accepts,
and for TCP alone: sock_diag costs a socket and two system calls more.
"""

from __future__ import annotations

import os
import socket
import struct

_TCP_INFO_QUEUE = struct.Struct("=24xI")
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_UDIAG_SHOW_RQLEN = 0x10
_UNIX_DIAG_RQLEN = 4
_TCP_LISTEN = 10
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_ATTRIBUTE = struct.Struct("=HH")
_LENGTHS = struct.Struct("=II")
_MESSAGE_BYTES = 16
_ANY_COOKIE = 0xFFFFFFFF


def queue_depth(sock: socket.socket) -> int | None:
    """Connections that wait to be accepted on this listening socket; None: the kernel does not tell."""
    try:
        if sock.family == socket.AF_UNIX:
            return _unix_queue(os.fstat(sock.fileno()).st_ino)
        return tcp_queue(sock)
    except (OSError, struct.error):
        return None


def tcp_queue(sock: socket.socket) -> int:
    """The same of a TCP socket. Raises OSError."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_QUEUE.size)
    waiting: int = _TCP_INFO_QUEUE.unpack(info)[0]
    return waiting


def _unix_queue(inode: int) -> int | None:
    body = _REQUEST.pack(
        socket.AF_UNIX,
        0,
        0,
        1 << _TCP_LISTEN,
        inode & 0xFFFFFFFF,
        _UDIAG_SHOW_RQLEN,
        _ANY_COOKIE,
        _ANY_COOKIE,
    )
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
    ) as netlink:
        netlink.settimeout(0.1)
        netlink.send(
            _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body
        )
        answer = netlink.recv(4096)
    return parse_unix_answer(answer)


def parse_unix_answer(answer: bytes) -> int | None:
    """The receive queue's length from a sock_diag answer for a listening unix socket."""
    if len(answer) < _HEADER.size + _MESSAGE_BYTES or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    at = _HEADER.size + _MESSAGE_BYTES
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if length < _ATTRIBUTE.size:
            return None
        if kind == _UNIX_DIAG_RQLEN and at + _ATTRIBUTE.size + _LENGTHS.size <= len(answer):
            waiting: int = _LENGTHS.unpack_from(answer, at + _ATTRIBUTE.size)[0]
            return waiting
        at += (length + 3) & ~3
    return None
