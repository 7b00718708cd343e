"""An application that ends its worker on request, in ways of its own."""

import ctypes
import os
import sys
import time
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path != "/":
        print("asked for", path, file=sys.stderr, flush=True)
    match path:
        case "/exit":
            os._exit(7)
        case "/crash":
            ctypes.string_at(0)
        case "/hang":
            time.sleep(30)
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]
