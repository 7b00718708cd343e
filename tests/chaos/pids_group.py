"""A control group that limits how many processes and threads a server has: so forks fail, for root, too."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup/pids")


class PidsGroup:
    """A group below the one that this process is in, with ``pid`` and all that it starts. ``reason`` says why
    there is none.
    """

    def __init__(self, pid: int) -> None:
        self._directory: Path | None = None
        self.reason = ""
        own = re.search(r"^\d+:pids:(.*)$", Path("/proc/self/cgroup").read_text(), re.M)
        if own is None:
            self.reason = (
                "only root can make forks fail, by a control group of pids (version 1), and there is none"
            )
            return
        directory = _ROOT / own[1].lstrip("/") / f"wsgitop-chaos-{os.getpid()}-{pid}"
        try:
            directory.mkdir()
            (directory / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            with suppress(OSError):
                directory.rmdir()
            self.reason = f"only root can make forks fail, by a control group of pids: {error}"
            return
        self._directory = directory

    def freeze(self) -> None:
        """No more than there are now."""
        assert self._directory is not None
        (self._directory / "pids.max").write_text((self._directory / "pids.current").read_text())

    def free(self) -> None:
        """As many as they like."""
        assert self._directory is not None
        (self._directory / "pids.max").write_text("max")

    def close(self) -> None:
        """Remove it; everybody in it must have ended."""
        if self._directory is not None:
            self._directory.rmdir()
            self._directory = None
