"""``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling") and the range of a file that
it stands for.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
from typing import Any, NamedTuple

BLOCK_BYTES = 64 * 1024


class FileRange(NamedTuple):
    """``size`` bytes of an open regular file from ``offset`` on."""

    fd: int
    offset: int
    size: int


class FileWrapper:
    """Iterates over a file-like object in blocks; if it is a regular file, the server sends it without
    reading it.
    """

    def __init__(self, filelike: Any, block_size: int = BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.block_size)
        if data:
            return data
        raise StopIteration

    def range(self) -> FileRange | None:
        """From the file's position to its end; None if it is no regular file, so that it must be read."""
        try:
            fd = self.filelike.fileno()
            status = os.fstat(fd)
            offset = self.filelike.tell()
            self.filelike.flush()  # what was written to it before may be in its buffer still
        except (AttributeError, OSError, ValueError):
            return None
        # A text file has positions of another kind, and wrappers such as GzipFile give the descriptor of what
        # they wrap.
        if (
            not stat.S_ISREG(status.st_mode)
            or not status.st_size  # those of /proc say so, whatever is in them
            or not isinstance(offset, int)
            or not _reads_raw_bytes(self.filelike)
        ):
            return None
        return FileRange(fd, offset, max(0, status.st_size - offset))


def _reads_raw_bytes(filelike: Any) -> bool:
    inner = filelike.file if isinstance(filelike, tempfile._TemporaryFileWrapper) else filelike
    return type(inner) in (io.BufferedReader, io.BufferedRandom, io.FileIO)
