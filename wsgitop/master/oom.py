"""Telling the kernel's out-of-memory killer from somebody with kill -9: both send SIGKILL.

The kernel counts in the control group what it has killed for want of memory (master.cgroup). A death by
SIGKILL that nobody here has ordered is such a kill if the count has grown, once for each unit of growth.
Growth is believed for a while only: a large process takes its time to die, but a kill of some other process
of the group an hour ago says nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from wsgitop.master import cgroup

BELIEVED_S = 10.0
LOOK_S = 1.0
KILLS_KEPT = 100
MIB = 1024 * 1024


class OomWatch:
    """Who runs this: the master's loop, once a second and at deaths. ``count`` gives the kills so far."""

    def __init__(self, count: Callable[[], int | None] = cgroup.oom_kill_count) -> None:
        self._count = count
        self._last = count()
        self._looked_at = 0.0
        self._kills: deque[float] = deque(maxlen=KILLS_KEPT)

    @property
    def known(self) -> bool:
        """The kernel counts kills here."""
        return self._last is not None

    def look(self) -> None:
        """See whether there are new kills, if it has been a while."""
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._look()

    def explains_kill(self) -> bool:
        """Whether a SIGKILL of unknown origin was the kernel's; each kill explains one death."""
        self._look()
        if not self._kills:
            return False
        self._kills.popleft()
        return True

    def _look(self) -> None:
        now = self._looked_at = time.monotonic()
        count = self._count()
        if count is not None and self._last is not None:
            self._kills.extend([now] * min(KILLS_KEPT, count - self._last))
        self._last = count if count is not None else self._last
        while self._kills and now - self._kills[0] > BELIEVED_S:
            self._kills.popleft()


def describe_limit() -> str:
    """What the control group allows and holds, in words; '' if there is no limit that can be read."""
    limit = cgroup.memory_limit_bytes()
    if limit is None:
        return ""
    used = cgroup.memory_current_bytes()
    now = "" if used is None else f", and {used / MIB:,.0f} MiB of that are in use now"
    return f"the limit of its control group is {limit / MIB:,.0f} MiB{now}"
