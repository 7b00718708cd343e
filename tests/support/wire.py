"""Two network namespaces and a wire between them that is slow, loses packets, or is cut, as a test likes.

The ends are tun devices (tuntap of the kernel's documentation), each moved into its namespace; a thread
carries the packets from one to the other. Not veth and tc's netem, because that is a module that many kernels
come without. For root only.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

IP = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")
ADDRESSES = ("198.18.77.1", "198.18.77.2")
"""Of the range that is for tests of networks (RFC 2544)."""

_TUNSETIFF = 0x400454CA
_IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
_PACKET_BYTES = 65536


def why_not() -> str:
    """Why there can be no wire here, '' if there can."""
    if IP is None:
        return "needs ip"
    if os.getuid() != 0:
        return "only root can make network namespaces"
    name = f"wsgitop-probe-{os.getpid()}"
    made = subprocess.run([IP, "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run([IP, "netns", "del", name], check=False)
    return "" if made and Path("/dev/net/tun").exists() else "needs network namespaces and tun devices"


class Wire:
    """``delay_s`` and ``loss`` (0 to 1) hold for each direction; ``is_cut`` loses everything."""

    def __init__(self, *, delay_s: float = 0.0, loss: float = 0.0) -> None:
        self.delay_s = delay_s
        self.loss = loss
        self.is_cut = False
        self.lost = 0
        self._chance = random.Random(77)
        tag = os.getpid() % 100_000
        self._names = tuple(f"wsgitop-{tag}-{end}" for end in "ab")
        self._devices = tuple(f"wt{tag}{end}" for end in "ab")
        self._fds: list[int] = []
        self._end = os.pipe()
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> Self:
        try:
            for name, device, own, other in zip(
                self._names, self._devices, ADDRESSES, reversed(ADDRESSES), strict=True
            ):
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                self._fds.append(fd)
                fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN_WITHOUT_HEADER))
                _ip("netns", "add", name)
                _ip("link", "set", device, "netns", name)
                _ip("-n", name, "addr", "add", own, "peer", other, "dev", device)
                for interface in ("lo", device):
                    _ip("-n", name, "link", "set", interface, "up")
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._end[1])
        self._thread.join(5)
        self._remove()

    def inside(self, end: int) -> list[str]:
        """The words that run a command at one end, 0 or 1."""
        assert IP is not None
        return [IP, "netns", "exec", self._names[end]]

    def _remove(self) -> None:
        for fd in self._fds:
            os.close(fd)
        for name in self._names:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)
        os.close(self._end[0])

    def _carry(self) -> None:
        poller = select.poll()
        for fd in (*self._fds, self._end[0]):
            poller.register(fd, select.POLLIN)
        under_way: list[tuple[float, int, int, bytes]] = []
        number = itertools.count()
        while True:
            wait_s = under_way[0][0] - time.monotonic() if under_way else None
            for fd, _ in poller.poll(None if wait_s is None else max(wait_s * 1000, 0)):
                if fd == self._end[0]:
                    return
                packet = os.read(fd, _PACKET_BYTES)
                if self.is_cut or self._chance.random() < self.loss:
                    self.lost += 1
                    continue
                other = self._fds[1 - self._fds.index(fd)]
                heapq.heappush(under_way, (time.monotonic() + self.delay_s, next(number), other, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, other, packet = heapq.heappop(under_way)
                with contextlib.suppress(BlockingIOError):
                    os.write(other, packet)


def _ip(*words: str) -> None:
    assert IP is not None
    subprocess.run([IP, *words], check=True, capture_output=True, timeout=10)
