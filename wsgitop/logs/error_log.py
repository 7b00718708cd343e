"""The error log as zygotes and workers write it: lines on standard error, which is a pipe to the master.

The master owns the files; what arrives on the pipe goes to the log (and, later, to the ledger) as it is. The
format is gunicorn's, so that what parses its log parses ours.
"""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("wsgitop.error")
FORMAT = "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S %z"


def configure(level: str) -> None:
    """Send this process's log to standard error. ``level`` as in the setting ``loglevel``. May be called
    again.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, DATE_FORMAT))
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())
