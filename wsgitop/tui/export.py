"""Writing what is seen to a file of one's own: a new one each time, for nobody else to read.

Who runs this: a thread, because a directory may be on a disk that hangs. No Textual here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import msgspec

from wsgitop.snapshot import Snapshot

Kind = Literal["json", "svg", "txt"]
MODE = 0o600
"""Paths and clients of requests are in it."""
SAME_SECOND = 20
"""Files of one second, before it is given up."""


def as_json(snapshot: Snapshot) -> str:
    """A picture of the server as `wsgitop ctl status --json` prints it."""
    return msgspec.json.format(msgspec.json.encode(snapshot), indent=2).decode() + "\n"


def write(directory: Path, kind: Kind, text: str, at: float) -> Path:
    """Write to ``wsgitop-YYYYMMDD-HHMMSS.KIND`` (local time), with a number behind it if there is one
    already; nothing is ever overwritten. Raises OSError; then there is no file either.
    """
    stem = time.strftime("wsgitop-%Y%m%d-%H%M%S", time.localtime(at))
    for number in range(1, SAME_SECOND + 1):
        path = directory / f"{stem}{f'-{number}' if number > 1 else ''}.{kind}"
        try:
            # O_EXCL follows no symbolic link either.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        except FileExistsError:
            continue
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                file.write(text)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
    raise FileExistsError(f"{directory / stem}.{kind} and {SAME_SECOND - 1} more exist already")
