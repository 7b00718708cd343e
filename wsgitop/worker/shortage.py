"""That the worker has no descriptors left for more connections, said once, and once that it is over.

Run by the leader alone.
"""

from __future__ import annotations

import errno
import resource
import time
from typing import Final

from wsgitop.logs.error_log import LOGGER

SHORT_OF: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
CALM_S: Final = 5.0
"""It is over when nothing has failed for so long: with each client that leaves, one more fits in."""
REMINDER_S: Final = 60.0


class Shortage:
    """``what`` fails: it stands behind "Cannot"."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began_s = 0.0
        self._last_s = 0.0
        self._said_s = 0.0
        self.lasts = False

    def failed(self, error: OSError) -> None:
        """It failed for want of room."""
        self._last_s = now_s = time.monotonic()
        if not self.lasts:
            self.lasts = True
            self._began_s = now_s
        elif now_s < self._said_s + REMINDER_S:
            return
        self._said_s = now_s
        LOGGER.error("Cannot %s: %s; connections wait. %s", self._what, error.strerror, _remedy(error.errno))

    def worked(self) -> None:
        """It worked. To be called while it :attr:`lasts`, else there is nothing to say."""
        if self.lasts and time.monotonic() > self._last_s + CALM_S:
            self.lasts = False
            LOGGER.warning(
                "Can %s again; the shortage lasted %.1f s", self._what, self._last_s - self._began_s
            )


def _remedy(number: int | None) -> str:
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"A process may have {limit} open: raise that (ulimit -n), or lower --worker-connections"
    if number == errno.ENFILE:
        return "The whole system may have no more open: raise fs.file-max (sysctl)"
    return "The kernel is short of memory"
