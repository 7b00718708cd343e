"""Prints, logs and fails as asked."""

from __future__ import annotations

import logging
import os
import sys
import time
from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """/print writes to both streams, /orphan when the master is gone, /log logs, /fail raises; every other
    path answers ``ok``.
    """
    match environ["PATH_INFO"]:
        case "/print":
            print("on standard output")
            print("on standard error", file=sys.stderr)
        case "/orphan":
            master = os.getppid()
            while os.getppid() == master:
                time.sleep(0.01)
            time.sleep(0.1)
            print("on standard output", flush=True)
            print("on standard error", file=sys.stderr, flush=True)
        case "/log":
            logging.getLogger("site").warning("from the site")
        case "/fail":
            raise RuntimeError("asked to fail")
    status = "404 Not Found" if environ["PATH_INFO"] == "/missing" else "200 OK"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
