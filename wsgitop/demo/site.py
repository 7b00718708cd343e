"""The demo site: a small shop, without dependencies, whose views differ as those of real sites do.

Fast, slow, failing, streaming and memory-hungry views: every column of the screen has something to show.
"""

from __future__ import annotations

import hashlib
import html
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs

from wsgitop.wsgi.types import StartResponse, WSGIEnvironment

GALLERY_LIMIT_BYTES = 48 * 1024 * 1024
PICTURE_BYTES = 512 * 1024


class Answer(NamedTuple):
    """What a view returns: a body in one or more pieces."""

    body: Iterable[bytes]
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


class OutOfStock(Exception):
    """The demo's own fault, raised on purpose."""


_gallery: list[bytes] = []


def index(environ: WSGIEnvironment) -> Answer:
    """The page that explains the site."""
    rows = "".join(ROW.format(*map(html.escape, (view.example, view.example, view.about))) for view in VIEWS)
    page = PAGE.replace("{rows}", rows).replace("{pid}", str(os.getpid()))
    return Answer([page.encode()], "text/html; charset=utf-8")


def product(environ: WSGIEnvironment) -> Answer:
    """Waits a moment, as for a cache, and renders."""
    time.sleep(random.uniform(0.002, 0.025))
    number = environ["PATH_INFO"].rpartition("/")[2]
    digest = hashlib.sha256(number.encode()).hexdigest()
    return Answer([f"Product {number}, article {digest[:12]}\n".encode()])


def search(environ: WSGIEnvironment) -> Answer:
    """Some waiting, as for a database."""
    query = parse_qs(environ.get("QUERY_STRING", "")).get("q", [""])[0]
    time.sleep(random.uniform(0.02, 0.15))
    return Answer([f"{random.randrange(40)} results for {query!r}\n".encode()])


def cart(environ: WSGIEnvironment) -> Answer:
    """Reads what is posted."""
    size = len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    time.sleep(random.uniform(0.002, 0.02))
    return Answer([f"Cart updated with {size} bytes\n".encode()])


def report(environ: WSGIEnvironment) -> Answer:
    """Slow, half of it by waiting and half by computing."""
    time.sleep(random.uniform(0.3, 1.2))
    end = time.thread_time() + 0.05
    rounds = 0
    while time.thread_time() < end:
        hashlib.sha256(b"report" * 200).digest()
        rounds += 1
    return Answer([f"Report of {rounds} rows\n".encode()])


def export(environ: WSGIEnvironment) -> Answer:
    """Streams lines of which nobody knows the number beforehand."""

    def rows() -> Iterator[bytes]:
        for number in range(random.randrange(10, 40)):
            time.sleep(0.01)
            yield f"{number};{random.random():.6f}\n".encode()

    return Answer(rows(), "text/csv; charset=utf-8")


def gallery(environ: WSGIEnvironment) -> Answer:
    """Keeps a picture for each call, and drops them all when they are too many: memory goes up and down."""
    if len(_gallery) * PICTURE_BYTES >= GALLERY_LIMIT_BYTES:
        _gallery.clear()
    _gallery.append(random.randbytes(PICTURE_BYTES))
    return Answer([f"{len(_gallery)} pictures in memory\n".encode()])


def checkout(environ: WSGIEnvironment) -> Answer:
    """Fails, which ends in the error log and in a plain 500."""
    raise OutOfStock("the last one was sold a minute ago")


def not_found(environ: WSGIEnvironment) -> Answer:
    """For every other path."""
    return Answer([b"There is nothing here. The index is at /\n"], status=HTTPStatus.NOT_FOUND)


class View(NamedTuple):
    """One line of the site's table. ``prefix`` must be followed by a slash or the end of the path."""

    prefix: str
    function: Callable[[WSGIEnvironment], Answer]
    example: str
    about: str


VIEWS = (
    View("/products", product, "/products/17", "fast: 2 to 25 ms"),
    View("/search", search, "/search?q=tea", "waits 20 to 150 ms, as for a database"),
    View("/cart", cart, "/cart", "takes a POST"),
    View("/report", report, "/report", "slow: up to 1.2 s, partly busy"),
    View("/export", export, "/export", "streams"),
    View("/gallery", gallery, "/gallery", "keeps memory, then lets go"),
    View("/checkout", checkout, "/checkout", "fails: 500 and a traceback in the log"),
)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application (PEP 3333)."""
    path = environ["PATH_INFO"]
    answer = _view(path)(environ)
    headers = [("Content-Type", answer.content_type)]
    if isinstance(answer.body, list):
        headers.append(("Content-Length", str(sum(map(len, answer.body)))))
    start_response(f"{answer.status.value} {answer.status.phrase}", headers)
    return answer.body


def _view(path: str) -> Callable[[WSGIEnvironment], Answer]:
    if path in ("", "/"):
        return index
    for view in VIEWS:
        if path == view.prefix or path.startswith(view.prefix + "/"):
            return view.function
    return not_found


ROW = '<tr><td><a href="{}">{}</a><td>{}'
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>wsgitop demo</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid #8884; padding: .4rem .8rem .4rem 0 }
code, td:first-child { font-family: ui-monospace, monospace } :root { color-scheme: light dark }
</style>
<h1>wsgitop demo</h1>
<p>A small shop, served by worker process <code>{pid}</code>. Load this page again and see who answers;
press <kbd>+</kbd> or <kbd>H</kbd> in the terminal and see that nothing breaks.</p>
<table>{rows}</table>
</html>
"""
