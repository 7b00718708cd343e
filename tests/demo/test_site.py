"""The demo's views, called as a server calls them, under wsgiref's validator."""

from __future__ import annotations

import io
import re
from wsgiref.types import WSGIApplication, WSGIEnvironment
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from wsgitop.demo import load, site


def _call(path: str, *, query: str = "", body: bytes = b"") -> tuple[str, dict[str, str], bytes]:
    environ: WSGIEnvironment = {"PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    if body:
        environ |= {
            "REQUEST_METHOD": "POST",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
    answer: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> object:
        answer.append((status, dict(headers)))
        return lambda data: None

    application: WSGIApplication = validator(site.application)
    result = application(environ, start_response)  # type: ignore[arg-type]
    try:
        text = b"".join(result)
    finally:
        result.close()  # type: ignore[attr-defined]
    return (*answer[-1], text)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize(
    "path", [view.example.partition("?")[0] for view in site.VIEWS if view.prefix != "/checkout"]
)
def test_every_view_answers(path: str) -> None:
    status, headers, body = _call(path, query="q=tea")
    assert status == "200 OK"
    assert body
    assert headers.get("Content-Length", str(len(body))) == str(len(body))


def test_the_index_links_to_every_view() -> None:
    _, headers, body = _call("/")
    assert headers["Content-Type"].startswith("text/html")
    assert re.findall(r'href="([^"]+)"', body.decode()) == [view.example for view in site.VIEWS]


def test_streaming_has_no_length() -> None:
    assert "Content-Length" not in _call("/export")[1]


def test_a_posted_body_is_read() -> None:
    assert b"2000 bytes" in _call("/cart", body=bytes(2000))[2]


def test_the_failing_view_fails() -> None:
    with pytest.raises(site.OutOfStock):
        _call("/checkout")


@pytest.mark.parametrize("path", ["/favicon.ico", "/productsx", "/Report", "//", "/products/../x?y"])
def test_other_paths(path: str) -> None:
    assert _call(path)[0] in ("404 Not Found", "200 OK")
    assert _call("/productsx")[0] == "404 Not Found"


def test_the_gallery_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "GALLERY_LIMIT_BYTES", 3 * site.PICTURE_BYTES)
    monkeypatch.setattr(site, "_gallery", [])
    counts = [_call("/gallery")[2].split()[0] for _ in range(7)]
    assert counts == [b"1", b"2", b"3", b"1", b"2", b"3", b"1"]


def test_every_wish_is_a_view_of_the_site_or_a_deliberate_miss() -> None:
    for wish in load.WISHES:
        path = wish.path.format(number=1, word="tea").partition("?")[0]
        function = site._view(path)
        assert (function is site.not_found) == (wish.path == "/favicon.ico"), path


def test_the_pace_has_bursts() -> None:
    paces = [load.pace(second / 10) for second in range(400)]
    assert set(paces) == {load.REQUESTS_PER_S, load.REQUESTS_PER_S * load.BURST_FACTOR}
    assert paces[0] == load.REQUESTS_PER_S
