"""A Flask application: forms, sessions, uploads, streaming, slow and failing views."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.every_python]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for all: no test here changes it."""
    with Server("flaskapp:app", "--workers", "2", "--threads", "4") as server:
        yield server.wait_until_serving()


@pytest.fixture
def connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    connection = server.connection()
    yield connection
    connection.close()


def test_form_and_session(connection: http.client.HTTPConnection) -> None:
    form = urlencode({"name": "Zoë <&>"})
    connection.request("POST", "/name", form, {"Content-Type": "application/x-www-form-urlencoded"})
    response = connection.getresponse()
    response.read()
    assert (response.status, response.headers["Location"]) == (302, "/")
    cookie = response.headers["Set-Cookie"].partition(";")[0]

    connection.request("GET", "/", headers={"Cookie": cookie})
    assert connection.getresponse().read().decode() == "<p>Hello, Zoë &lt;&amp;&gt;</p>"


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_upload(connection: http.client.HTTPConnection, size: int) -> None:
    # 3 MB is more than --body-buffer: that body waits in a file.
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    body = head + bytes(size) + b"\r\n--edge--\r\n"
    connection.request("POST", "/upload", body, {"Content-Type": "multipart/form-data; boundary=edge"})
    response = connection.getresponse()
    assert response.status == 200
    assert f'"bytes":{size},' in response.read().decode()


def test_upload_in_chunks(connection: http.client.HTTPConnection) -> None:
    pieces = [
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n',
        *[b"x" * 1000] * 100,
        b"\r\n--edge--\r\n",
    ]
    kind = {"Content-Type": "multipart/form-data; boundary=edge"}
    connection.request("POST", "/upload", iter(pieces), kind, encode_chunked=True)
    assert b'"bytes":100000,' in connection.getresponse().read()


def test_streaming_keeps_the_connection(connection: http.client.HTTPConnection) -> None:
    for lines in (0, 1, 500):
        connection.request("GET", f"/stream/{lines}")
        response = connection.getresponse()
        # Nothing at all is known to have the length 0.
        assert response.headers["Transfer-Encoding"] == ("chunked" if lines else None)
        assert response.read().decode() == "".join(f"line {n}\n" for n in range(lines))
        assert not response.will_close


def test_head_has_no_body(connection: http.client.HTTPConnection) -> None:
    for _ in range(2):  # a body that slipped through would be taken for the second answer
        connection.request("HEAD", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 0


def test_a_failing_view_is_a_500_and_a_traceback_in_the_log(server: Server) -> None:
    status, body = server.get("/fail")
    assert status == 500
    assert b"Traceback" not in body
    eventually(
        lambda: "RuntimeError: the site was asked to fail" in server.log(), what="the traceback in the log"
    )


def test_slow_views_do_not_hold_up_fast_ones(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(server.get, "/slow/0.8") for _ in range(4)]
        fast = [server.get("/") for _ in range(20)]
        assert not any(future.done() for future in slow), "the fast ones waited for the slow ones"
        assert {status for status, _ in fast} == {200}
        assert {future.result()[0] for future in slow} == {200}


def test_each_client_gets_its_own_answer(server: Server) -> None:
    def visit(client: int) -> list[str]:
        connection: http.client.HTTPConnection = server.connection()
        wrong = []
        for number in range(25):
            identity = f"{client}-{number}"
            connection.request("GET", f"/stream/{number}", headers={"X-Request-Id": identity})
            response = connection.getresponse()
            if response.headers["X-Request-Id"] != identity or response.read().count(b"\n") != number:
                wrong.append(identity)
        connection.close()
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert [wrong for answers in pool.map(visit, range(8)) for wrong in answers] == []
