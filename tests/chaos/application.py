"""The application under chaos: answers by number, and notes each call, so that it outlives its process.

The server runs a copy of this module beside a ``release.py`` that comes and goes; it imports nothing of the
tests. The record is one file for each process, named by its pid, with the request's number for each call.
"""

import os
import time
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from release import VERSION

_directory = os.environ.get("CHAOS_RECORD", "")
_record_fd = -1


def _open_record() -> None:
    """A worker that was forked from a process with the application loaded needs a file of its own."""
    global _record_fd  # noqa: PLW0603 - one record per process
    path = Path(_directory, str(os.getpid())) if _directory else Path(os.devnull)
    _record_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


_open_record()
os.register_at_fork(after_in_child=_open_record)
_WORKER = ("X-Worker", str(os.getpid()))


def _name_worker() -> None:
    global _WORKER  # noqa: PLW0603 - the pid of this process
    _WORKER = ("X-Worker", str(os.getpid()))


os.register_at_fork(after_in_child=_name_worker)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Sends back what is posted; sleeps for as many milliseconds as the query says."""
    number = environ.get("HTTP_X_REQUEST_ID", "")
    if number:
        os.write(_record_fd, f"{number}\n".encode())
    if environ["QUERY_STRING"]:
        time.sleep(int(environ["QUERY_STRING"]) / 1000)
    body = b"chaos\n"
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    headers = [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", number),
        ("X-Version", str(VERSION)),
        _WORKER,
    ]
    start_response("200 OK", headers)
    return [body]
