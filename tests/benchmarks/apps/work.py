"""The application of most benchmarks: does what the path asks for, the same for every server.

``/`` 14 bytes · ``/sleep20`` and ``/sleep50`` wait so many milliseconds · ``/spin`` runs ``BENCH_SPIN``
rounds of pure Python · ``/megabyte`` answers 1,000,000 bytes · ``/upload`` reads the body and answers how
long it was.
"""

import os
import time
from collections.abc import Callable
from wsgiref.types import StartResponse, WSGIEnvironment

HELLO = b"Hello, world!\n"
MEGABYTE = b"x" * 1_000_000
PIECE_BYTES = 65_536
SPIN_ROUNDS = int(os.environ.get("BENCH_SPIN", "1"))


def spin(rounds: int) -> int:
    """Keep the interpreter busy. The benchmark measures once how long that takes."""
    total = 0
    for number in range(rounds):
        total = (total * 31 + number) & 0xFFFF
    return total


def _sleep20(environ: WSGIEnvironment) -> bytes:
    time.sleep(0.020)
    return HELLO


def _sleep50(environ: WSGIEnvironment) -> bytes:
    time.sleep(0.050)
    return HELLO


def _spin(environ: WSGIEnvironment) -> bytes:
    spin(SPIN_ROUNDS)
    return HELLO


def _upload(environ: WSGIEnvironment) -> bytes:
    left = int(environ["CONTENT_LENGTH"])
    body, got = environ["wsgi.input"], 0
    while got < left and (piece := body.read(min(PIECE_BYTES, left - got))):
        got += len(piece)
    return b"%d\n" % got


VIEWS: dict[str, Callable[[WSGIEnvironment], bytes]] = {
    "/": lambda environ: HELLO,
    "/sleep20": _sleep20,
    "/sleep50": _sleep50,
    "/spin": _spin,
    "/megabyte": lambda environ: MEGABYTE,
    "/upload": _upload,
}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer what the view says, with two headers."""
    body = VIEWS[environ["PATH_INFO"]](environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
