"""The smallest application: the same few bytes for everything, checked against PEP 3333."""

from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

BODY = b"Hello, world!\n"


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """The application without the validator around it, for benchmarks."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]


application = validator(plain)
