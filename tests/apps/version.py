"""Answers the version that ``release.py`` named when this process imported it; echoes a posted body."""

import os
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

from release import VERSION


def _version(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    body = f"version {VERSION}\n".encode()
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    headers = [("Content-Type", "text/plain"), ("X-Worker", str(os.getpid())), ("X-Version", str(VERSION))]
    if identity := environ.get("HTTP_X_REQUEST_ID"):
        headers.append(("X-Request-Id", identity))
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


application = validator(_version)
