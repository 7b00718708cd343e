"""What clients get from a real worker."""

from __future__ import annotations

import re
import select
import socket
import time
from pathlib import Path

import pytest

from tests.worker import apps
from tests.worker.harness import wait_until, worker
from wsgitop.scoreboard import layout as at

pytestmark = [pytest.mark.process, pytest.mark.every_python]


@pytest.mark.parametrize("threads", [1, 4])
def test_keep_alive_head_post_and_chunked_under_the_validator(threads: int) -> None:
    with worker(apps.echo, threads=threads) as w, w.connect() as client:
        client.get("/a?b=c")
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"GET /a?b=c ")
        assert answer.headers["server"] == "wsgitop"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
        client.get("/h", method="HEAD")
        assert client.answer(head_only=True).status == 200
        client.send(b"POST /p HTTP/1.1\r\nHost: t\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhel")
        client.send(b"lo")
        assert client.answer().body == b"POST /p? hello"
        client.send(
            b"POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert client.answer().body == b"POST /c? abcde"
        wait_until(lambda: w.total(at.REQUESTS) == 4)
        assert w.total(at.STATUS_1XX + 1) == 4
        assert w.word(at.ACCEPTED) == 1


def test_pipelined_requests_are_answered_in_order() -> None:
    with worker(apps.plain_echo) as w, w.connect() as client:
        client.send(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(300))
            + b"BAD\r\n\r\nGET / HTTP/1.1\r\n"
        )
        assert [client.answer().body for _ in range(300)] == [b"GET /%d? " % n for n in range(300)]
        assert client.answer().status == 400
        assert client.ended()
        assert w.word(at.REJECTED) == 1


def test_connection_close_and_http_1_0() -> None:
    with worker(apps.plain_echo) as w:
        with w.connect() as client:
            client.get("/", Connection="close")
            answer = client.answer()
            assert answer.headers["connection"] == "close" and client.ended()
        with w.connect() as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert client.answer().headers["connection"] == "close" and client.ended()
        with w.connect() as client:
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
            assert client.answer().headers["connection"] == "keep-alive"
            assert client.answer().status == 200
        with w.connect() as client:  # a client that has closed its side still gets its answer
            client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            client.sock.shutdown(socket.SHUT_WR)
            assert client.answer().status == 200 and client.ended()


def test_stream_of_unknown_length_is_chunked_on_1_1_and_closed_on_1_0() -> None:
    with worker(apps.validated_stream) as w, w.connect() as client:
        client.get()
        answer = client.answer()
        assert answer.headers["transfer-encoding"] == "chunked" and answer.body == b"one two three"
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.answer().body == b"one two three"


def test_write_callable() -> None:
    with worker(apps.writer) as w:
        assert w.get().body == b"written and returned"


def test_100_continue() -> None:
    with worker(apps.plain_echo) as w, w.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.answer().status == 100
        client.send(b"hi")
        assert client.answer().body == b"POST /? hi"
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
        assert client.answer().body == b"POST /? hi"


def test_large_body_goes_to_a_file_in_the_directory_asked_for(tmp_path: Path) -> None:
    with worker(apps.input_kind, body_buffer=1000, worker_tmp_dir=str(tmp_path)) as w, w.connect() as client:
        for size, kind in ((1000, "memory"), (1001, "file"), (300_000, "file")):
            client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size + b"\x01" * size)
            assert client.answer().body.decode() == f"{kind} {size} {size} {size}"
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            client.send(b"64\r\n" + b"\x01" * 100 + b"\r\n")
        client.send(b"0\r\n\r\n")
        assert client.answer().body.decode() == "file 5000 5000 5000"
        assert list(tmp_path.iterdir()) == []


def test_limits_of_the_settings() -> None:
    with worker(apps.plain_echo, limit_request_body=10, limit_request_line=50, limit_request_fields=3) as w:
        assert w.get("/" + "a" * 60).status == 414
        assert w.get("/", A="1", B="2", C="3").status == 431
        with w.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\n")
            assert client.answer().status == 413


def test_refusal_reaches_a_client_that_is_still_sending() -> None:
    with worker(apps.plain_echo, limit_request_body=10) as w, w.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 600000\r\n\r\n" + b"x" * 600_000)
        assert client.answer().status == 413
        assert client.ended()


def test_environ() -> None:
    with worker(apps.headers, threads=2) as w, w.connect() as client:
        client.send(
            b"GET /a%20b?q=%20 HTTP/1.1\r\nHost: site:81\r\nX-Y: 1\r\nx-y: 2\r\nX_Y: 3\r\n"
            b"Cookie: a\r\nCookie: b\r\nContent-Type: t/p\r\n\r\n"
        )
        got = dict(line.partition("=")[::2] for line in client.answer().body.decode().split("\n"))
        port = repr(str(w.address[1]))
        expected = {
            "PATH_INFO": "'/a b'", "QUERY_STRING": "'q=%20'",
            "RAW_URI": "'/a%20b?q=%20'", "HTTP_HOST": "'site:81'",
            "HTTP_X_Y": "'1,2'", "HTTP_COOKIE": "'a; b'", "CONTENT_TYPE": "'t/p'",
            "REMOTE_ADDR": "'127.0.0.1'",
            "SERVER_NAME": "'127.0.0.1'", "SERVER_PORT": port,
            "SERVER_PROTOCOL": "'HTTP/1.1'", "SCRIPT_NAME": "''",
            "wsgi.url_scheme": "'http'", "wsgi.multithread": "True",
            "wsgi.multiprocess": "True", "wsgi.input_terminated": "True",
        }  # fmt: skip
        assert {key: got.get(key) for key in expected} == expected
        assert "HTTP_CONTENT_TYPE" not in got and "CONTENT_LENGTH" not in got
        client.get("/", X_Forwarded_Proto="https")
        assert b"wsgi.url_scheme='https'" in client.answer().body
        client.send(b"GET http://other/x HTTP/1.1\r\nHost: site\r\n\r\n")
        body = client.answer().body
        assert b"HTTP_HOST='other'" in body and b"PATH_INFO='/x'" in body
    with worker(apps.headers, forwarded_allow_ips="10.0.0.0/8") as w:
        assert b"wsgi.url_scheme='http'" in w.get("/", X_Forwarded_Proto="https").body


def test_unix_socket(runtime_dir: Path) -> None:
    with worker(apps.headers, unix=str(runtime_dir / "s"), access_log=True) as w:
        body = w.get("/u", X_Forwarded_Proto="https").body
        assert b"REMOTE_ADDR=''" in body and b"wsgi.url_scheme='https'" in body
        wait_until(lambda: w.access_log().startswith("- - - ["))


def test_file_wrapper(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 40_000  # 10 MB, far more than a socket takes at once
    path.write_bytes(content)
    with worker(apps.files(path, apps.Gate())) as w, w.connect() as client:
        for target, expected in (("/all", content), ("/part", content[10:]), ("/length", content[:100])):
            client.get(target)
            answer = client.answer()
            assert answer.headers["content-length"] == str(len(expected)) and answer.body == expected
        client.get("/all", method="HEAD")
        assert client.answer(head_only=True).headers["content-length"] == str(len(content))
        client.get("/memory")
        assert client.answer().body == content


def test_slow_reader_holds_no_other_client_up() -> None:
    """One block beyond what the socket takes: flushed by the loop, with one thread too."""

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        body = b"y" * 8_000_000 if environ["PATH_INFO"] == "/big" else b"small"
        return apps.text(start_response, body)

    with worker(app, response_buffer=1000) as w, w.connect() as slow:
        slow.get("/big")
        slow._until(b"\r\n\r\n")
        assert w.get("/").body == b"small"
        assert len(slow._exactly(8_000_000)) == 8_000_000
        slow.get("/")
        assert slow.answer().body == b"small"


def test_stream_to_a_slow_reader_waits_without_the_lead() -> None:
    closed = apps.Gate()
    with worker(apps.endless(closed), threads=2, response_buffer=100_000) as w, w.connect() as slow:
        slow.get("/")
        wait_until(lambda: any(w.thread_word(n, at.THREAD_STATE) == at.THREAD_WRITING for n in range(2)))
        for _ in range(20):
            assert w.get("/fast").body == b"fast"
        assert len(slow._exactly(5_000_000)) == 5_000_000
        slow.sock.close()
        closed.pass_through()  # close() is called when the client leaves


@pytest.mark.parametrize("threads", [1, 2])
def test_generator_is_closed_when_the_client_leaves(threads: int) -> None:
    closed = apps.Gate()
    with worker(apps.endless(closed), threads=threads) as w:
        with w.connect() as client:
            client.get("/")
            client._exactly(100_000)
        closed.pass_through()
        assert w.get("/fast").body == b"fast"
        assert w.total(at.ERRORS) == 0


FAILURES = [
    ("/before", 500, "RuntimeError: boom before the head"),
    ("/exit", 500, "SystemExit: 3"),
    ("/interrupt", 500, "KeyboardInterrupt"),
    ("/nothing", 500, "did not call start_response"),
    ("/twice", 500, "start_response was called twice"),
    ("/text", 500, "TypeError"),
    ("/newline", 500, "Value of header X"),
    ("/name", 500, "'X Y' is not a token"),
    ("/status", 500, "Status 'OK'"),
    ("/replaced", 503, ""),
    ("/empty", 204, ""),
    ("/unchanged", 304, ""),
    ("/fine", 200, ""),
]


def test_what_applications_do_wrong() -> None:
    with worker(apps.failing) as w:
        for path, status, logged in FAILURES:
            answer = w.get(path)
            assert answer.status == status, path
            if status == 500:
                assert b"boom" not in answer.body and answer.headers["connection"] == "close"
                assert (
                    f"Error handling request GET {path} in worker 1 (pid {w.pid}) of tests.app:application"
                    in w.log()
                )
                assert logged in w.log(), path
        with w.connect() as client:
            client.get("/empty")
            assert "content-length" not in client.answer().headers
            client.get("/unchanged")
            assert client.answer().headers["etag"] == '"x"'
            client.get("/long")
            assert client.answer().body == b"much"
            client.get("/longer")
            assert client.answer().body == b"much"
            client.get("/close")
            assert client.answer().body == b"ok" and client.ended()
        with w.connect() as client:
            client.get("/short")
            with pytest.raises(EOFError):
                client.answer()
        with w.connect() as client:
            client.get("/after")
            with pytest.raises(EOFError):
                client.answer()
        assert "boom after the head" in w.log()
        assert "more than its Content-Length" in w.log() and "gave 5 bytes" in w.log()
        # Nine answers 500 of the table, one 503, and the response that broke off.
        assert w.total(at.ERRORS) == 11


def test_scoreboard_shows_the_request_without_its_query() -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave)) as w, w.connect() as client:
        client.get("/slow?secret=1")
        entered.pass_through()
        assert w.text() == (b"GET", b"/slow", b"127.0.0.1")
        assert w.thread_word(0, at.THREAD_STATE) == at.THREAD_BUSY
        assert w.thread_word(0, at.STARTED_NS) > 0 and w.thread_word(0, at.REQUESTS) == 0
        leave.open()
        client.answer()
        wait_until(lambda: w.thread_word(0, at.THREAD_STATE) == at.THREAD_IDLE)
        assert w.thread_word(0, at.REQUESTS) == 1 and w.thread_word(0, at.STARTED_NS) == 0
        assert sum(w.board.thread(0, 0)[at.HISTOGRAM : at.HISTOGRAM + at.BUCKETS]) == 1
        assert w.word(at.PID) == w.pid and w.word(at.THREADS) == 1 and w.word(at.READY_NS) > 0


def test_access_log() -> None:
    with worker(apps.plain_echo, access_log=True) as w:
        w.get('/p"\\?q=1', Referer="http://r/", User_Agent='a"b\tc')
        wait_until(lambda: w.access_log().endswith("\n"))
        line = w.access_log()
        assert re.fullmatch(
            r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
            r'"GET /p\\"\\\\\?q=1 HTTP/1\.1" 200 \d+ '
            r'"http://r/" "a\\"b\\x09c"\n',
            line,
        ), line


def test_header_deadline_and_keep_alive() -> None:
    with worker(apps.plain_echo, header_timeout=1, keepalive=0.2) as w:
        with w.connect() as silent, w.connect() as slow, w.connect() as body, w.connect() as idle:
            slow.send(b"GET / HTTP/1.1\r\n")
            body.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nh")
            idle.get()
            idle.answer()
            assert idle.ended()
            assert slow.answer().status == 408
            assert body.answer().status == 408
            assert silent.ended()
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)


def test_connection_limit_is_kept() -> None:
    with worker(apps.plain_echo, worker_connections=2, keepalive=0.3) as w:
        clients = [w.connect() for _ in range(4)]
        for client in clients:
            client.get()
        assert [client.answer().status for client in clients] == [200] * 4
        for client in clients:
            client.sock.close()


def test_a_full_worker_accepts_as_soon_as_a_connection_has_ended() -> None:
    with worker(apps.plain_echo, worker_connections=1) as w:
        begin_s = time.monotonic()
        clients = [w.connect() for _ in range(20)]
        for client in clients:
            client.get("/", Connection="close")
        for client in clients:
            assert client.answer().status == 200
            client.sock.close()
        assert time.monotonic() - begin_s < 2.5  # with a pause of 0.25 s behind each it would be twice that


def test_idle_worker_causes_no_wake_ups() -> None:
    with worker(apps.plain_echo, threads=4) as w:
        w.get("/", Connection="close")
        wait_until(lambda: w.word(at.CONNECTIONS) == 0)
        # It comes to rest, and then nothing of it runs for half a second.
        wait_until(lambda: _switches(w.pid) == _switches_after(w.pid, 0.5))


def _switches(pid: int) -> int:
    statuses = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(
        int(line.split()[1]) for text in statuses for line in text.splitlines() if "ctxt_switches" in line
    )


def _switches_after(pid: int, seconds: float) -> int:
    select.select([], [], [], seconds)
    return _switches(pid)


def test_a_refused_client_does_not_harm_others() -> None:
    with worker(apps.plain_echo, limit_request_body=10) as w:
        for head in (b"Content-Length: 100000", b"Proxy-Connection: close", b"Content-Length: 9\r\nHost: b"):
            with w.connect() as client:
                client.send(b"POST / HTTP/1.1\r\nHost: t\r\n" + head + b"\r\n\r\n")
                client.answer()
            assert w.get("/after").status == 200
