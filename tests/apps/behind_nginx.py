"""What stands behind nginx in the tests: the lab, bodies of any size, and for the rest the Django project.

Started in this directory with ``--pythonpath rmadmin``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

from lab import application as lab
from rmadmin.wsgi import application as django

BLOCK = bytes(range(256)) * 256


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """By path; under /mounted/ the proxy says SCRIPT_NAME."""
    match environ["PATH_INFO"]:
        case "/echo":
            return lab(environ, start_response)
        case "/environ":
            shown = {key: value for key, value in environ.items() if isinstance(value, str)}
            body = json.dumps(shown).encode()
        case "/digest":
            body = json.dumps(_digest(environ)).encode()
        case "/blocks":
            start_response("200 OK", [("Content-Type", "application/octet-stream")])
            return _blocks(int(environ["QUERY_STRING"]))
        case "/whole":
            body = BLOCK * int(environ["QUERY_STRING"])
        case _:
            return django(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _digest(environ: WSGIEnvironment) -> dict[str, object]:
    digest = hashlib.sha256()
    size = 0
    while block := environ["wsgi.input"].read(65536):
        digest.update(block)
        size += len(block)
    return {"sha256": digest.hexdigest(), "size": size, "CONTENT_LENGTH": environ.get("CONTENT_LENGTH")}


def _blocks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield BLOCK
