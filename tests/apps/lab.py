"""What the end-to-end tests ask of a site: echo, slow, failing and streaming answers, and who answered.

Every answer carries the request's ``X-Request-Id`` back, so that a client notices another one's answer.
"""

import os
import time
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator


def _lab(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    query = parse_qs(environ.get("QUERY_STRING", ""))
    headers = [("Content-Type", "text/plain"), ("X-Worker", str(os.getpid()))]
    if identity := environ.get("HTTP_X_REQUEST_ID"):
        headers.append(("X-Request-Id", identity))
    match environ["PATH_INFO"]:
        case "/echo":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        case "/slow":
            time.sleep(float(query["s"][0]))
            body = b"slow\n"
        case "/fail":
            raise RuntimeError("the lab was asked to fail")
        case "/stream":
            start_response("200 OK", headers)
            return _chunks(int(query["n"][0]))
        case _:
            body = b"lab\n"
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


def _chunks(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"chunk %d\n" % number


application = validator(_lab)
