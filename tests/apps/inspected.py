"""Requests to look into: one that waits, one that keeps the interpreter to itself."""

import ctypes
import time
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

_C = ctypes.PyDLL(None)  # its functions are called with the GIL held


def wait_for(seconds: float) -> None:
    time.sleep(seconds)


def hold(seconds: float) -> None:
    """So that no other thread has a turn."""
    _C.usleep(int(seconds * 1e6))


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    seconds = float(environ["QUERY_STRING"] or 0)
    match environ["PATH_INFO"]:
        case "/wait":
            wait_for(seconds)
        case "/hold":
            hold(seconds)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
