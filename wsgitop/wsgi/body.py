"""The body of a request: in memory up to a limit, then in a temporary file. It is complete before the
application runs.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from typing import BinaryIO


class RequestBody:
    """Collects a body, then gives it to the application. ``memory_bytes`` is how much stays in memory;
    ``directory`` is where the file goes ('' for the system's choice). Writing raises OSError when the disk is
    full.
    """

    __slots__ = ("_directory", "_file", "_memory_bytes", "size_bytes")

    def __init__(self, memory_bytes: int, directory: str) -> None:
        self.size_bytes = 0
        self._memory_bytes = memory_bytes
        self._directory = directory
        self._file: BinaryIO = io.BytesIO()

    def write(self, data: bytes | memoryview, /) -> object:
        """Append; moves what it has to a file when it gets too much for memory. If that fails, it is closed:
        the room that it took is needed.
        """
        try:
            return self._write(data)
        except OSError:
            self.close()
            raise

    def _write(self, data: bytes | memoryview) -> object:
        file = self._file
        self.size_bytes += len(data)
        if self.size_bytes > self._memory_bytes and isinstance(file, io.BytesIO):
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - it lives as long as the request
                prefix="wsgitop-body-", dir=self._directory or None
            )
            self._file.write(file.getbuffer())
            file = self._file
        return file.write(data)

    @property
    def spooled(self) -> bool:
        """It is in a file."""
        return not isinstance(self._file, io.BytesIO)

    def open(self) -> BinaryIO:
        """The whole body, to be read from its beginning. What is not in the file yet may find no room, as in
        :meth:`write`.
        """
        try:
            self._file.seek(0)
        except OSError:
            self.close()
            raise
        return self._file

    def close(self) -> None:
        """Give memory and file back; what the application still holds on to, when it lets go."""
        with contextlib.suppress(BufferError, OSError):
            self._file.close()
