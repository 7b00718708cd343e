"""The one that hangs, and the one that crashes."""

import os
import signal
from collections.abc import Iterable
from wsgiref.types import StartResponse

from shop.orders import sold_in


def monthly_report(month: str, start_response: StartResponse) -> Iterable[bytes]:
    """Waits for the database."""
    rows = sold_in(month)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{len(rows)} orders\n".encode()]


def thumbnail(name: str, start_response: StartResponse) -> Iterable[bytes]:
    """As a faulty library in C would do it."""
    os.kill(os.getpid(), signal.SIGSEGV)
    start_response("200 OK", [("Content-Type", "image/png")])
    return [name.encode()]
