"""Reading wrk's report, and the client that stands in for wrk."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader, BytesIO

import pytest

from tests.benchmarks.clients import (
    CannotMeasure,
    Load,
    Request,
    ask,
    measure,
    parse_wrk,
    read_answer,
    wrk_script,
)

REPORT = """\
Running 4s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.30ms    5.43ms  80.11ms   98.61%
    Req/Sec    54.33k     8.03k   64.32k    75.00%
  Latency Distribution
     50%  560.00us
     75%  640.00us
     90%    1.25ms
     99%    1.20s
  216404 requests in 4.01s, 30.13MB read
"""
ERRORS = """\
  Socket errors: connect 1, read 20, write 300, timeout 4000
  Non-2xx or 3xx responses: 50000
Requests/sec:  53967.32
"""


class _Site(ThreadingHTTPServer):
    """Counts what it was asked for."""

    daemon_threads = True
    asked: Counter[str]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other's acknowledgement
    server: _Site

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        self.send_response(500 if self.path == "/bad" else 200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"yes")

    def do_POST(self) -> None:
        got = len(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked[f"{self.path} {got}"] += 1
        self.send_response(204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Site]:
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no wrk
    with _Site(("127.0.0.1", 0), _Handler) as server:
        server.asked = Counter()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_units_and_errors_of_wrk_are_read() -> None:
    figures = parse_wrk(REPORT)
    assert (figures.requests, figures.failed, figures.duration_s) == (216_404, 0, 4.01)
    assert (figures.p50_ms, figures.p99_ms) == (0.56, 1200)
    # An answer of status 500 is no request served.
    figures = parse_wrk(REPORT + ERRORS)
    assert (figures.requests, figures.failed) == (166_404, 54_321)


def test_what_is_no_report_says_so() -> None:
    with pytest.raises(CannotMeasure, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:8000 Connection refused")


def test_wrk_is_told_the_whole_load() -> None:
    assert wrk_script(Load(Request("/"))) == 'wrk.method = "GET"\n'
    upload = wrk_script(Load(Request("/u", 1000), close=True))
    assert 'wrk.method = "POST"' in upload and 'string.rep("x", 1000)' in upload and '"close"' in upload
    mixed = wrk_script(Load(Request("/"), Request("/other"), 100))
    assert "count % 100 == 0 then return other" in mixed and 'wrk.format("GET", "/other")' in mixed


def test_threads_ask_for_the_other_path_at_every_nth_request(site: _Site) -> None:
    load = Load(Request("/"), Request("/other"), every=3, connections=4)
    figures = measure(site.server_port, load, 0.03)
    asked = site.asked
    assert figures.requests == asked.total() >= 4 and figures.failed == 0
    assert asked["/other"] == asked.total() // 3
    assert 0 < figures.p50_ms <= figures.p99_ms < 1000


def test_threads_count_error_pages_as_failures(site: _Site) -> None:
    figures = measure(site.server_port, Load(Request("/bad"), connections=1), 0.02)
    assert figures.requests == 0 and figures.failed == site.asked["/bad"] > 0
    assert figures.p99_ms == 0


def test_threads_send_bodies(site: _Site) -> None:
    figures = measure(site.server_port, Load(Request("/up", 70_000), connections=1), 0.02)
    assert figures.requests == site.asked["/up 70000"] > 0 and figures.failed == 0


def test_one_question(site: _Site) -> None:
    assert ask(site.server_port, Request("/")) == (200, b"yes")
    assert ask(site.server_port, Request("/bad")) == (500, b"yes")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", (200, False, b"ab")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: Close\r\n\r\nab", (200, True, b"ab")),
        (b"HTTP/1.0 404 No\r\nContent-Length: 0\r\n\r\n", (404, True, b"")),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", (200, False, b"")),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", (200, True, b"to the end")),
        (b"", (0, True, b"")),
    ],
)
def test_whether_an_answer_ends_its_connection(answer: bytes, expected: tuple[int, bool, bytes]) -> None:
    assert read_answer(BufferedReader(BytesIO(answer))) == expected
