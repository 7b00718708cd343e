"""A real nginx in front, configured as the package's example says, with the Django project behind it.

One server, which listens on a port and on a unix socket, and one nginx with a site for each way to reach it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib import admin

from tests.support.django_site import Browser
from tests.support.load import Load
from tests.support.nginx import PROGRAM, Nginx, Site, site_text
from tests.support.server import Server, free_port
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.process,
    pytest.mark.foreign,
    pytest.mark.skipif(PROGRAM is None, reason="needs nginx"),
]

STATIC = Path(admin.__file__).parent / "static"
CSS = "/static/admin/css/base.css"
MEGABYTE = 16  # blocks of the application
BODY = bytes(range(256)) * 4096 * 3


class Behind(NamedTuple):
    """What stands where. ``unix`` is the example itself; ``tcp`` goes to the port; ``https`` says that its
    client used it; ``streaming`` passes on what comes as it comes; ``mounted`` serves below /mounted.
    """

    server: Server
    nginx: Nginx
    unix: Site
    tcp: Site
    https: Site
    streaming: Site
    mounted: Site


@pytest.fixture(scope="module")
def behind(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    database = tmp_path_factory.mktemp("site") / "db.sqlite3"
    shutil.copy(migrated_database, database)
    directory = tmp_path_factory.mktemp("nginx")
    tcp, unix = f"127.0.0.1:{free_port()}", f"unix:{directory}/s"
    sites = {name: Site(free_port()) for name in Behind._fields[2:]}
    with Server(
        "behind_nginx:application", "--pythonpath", "rmadmin", "--workers", "2", "--threads", "2",
        "--keep-alive", "75", env={"RMADMIN_DATABASE": str(database)}, bind=[tcp, unix],
    ) as server:  # fmt: skip
        server.wait_until_serving()
        static = ("/srv/mysite/static/", f"{STATIC}/")
        no_static = ("location /static/", "location /elsewhere/")
        line = "proxy_http_version 1.1;"
        streaming = (line, f"{line} proxy_request_buffering off; proxy_buffering off;")
        mounted = (line, f"{line} proxy_set_header SCRIPT_NAME /mounted;")
        texts = [
            site_text("unix", sites["unix"].port, unix, static),
            site_text("tcp", sites["tcp"].port, tcp, no_static),
            site_text("https", sites["https"].port, unix, no_static, ("$scheme", "https")),
            site_text("streaming", sites["streaming"].port, tcp, no_static, streaming),
            site_text("mounted", sites["mounted"].port, tcp, no_static, mounted),
        ]
        with Nginx(directory, "\n".join(texts), sites["unix"]) as nginx:
            yield Behind(server, nginx, **sites)
        assert "Traceback" not in server.log()
        assert not [line for line in nginx.log().splitlines() if "[warn]" not in line], nginx.log()


@pytest.fixture(params=["unix", "tcp"])
def site(behind: Behind, request: pytest.FixtureRequest) -> Site:
    return getattr(behind, request.param)  # type: ignore[no-any-return]


def environ(site: Site, path: str = "/environ", **headers: str) -> dict[str, Any]:
    status, _, body = site.ask("GET", path, **headers)
    assert status == 200, body
    return json.loads(body)  # type: ignore[no-any-return]


# -- what the application is told ----------------------------------------------------------------------------


def test_the_application_knows_what_the_client_asked_nginx(behind: Behind) -> None:
    seen = environ(behind.unix, "/environ?a=%20b")
    host, port = "127.0.0.1", str(behind.unix.port)
    assert seen["HTTP_HOST"] == f"{host}:{port}"
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == (host, port)
    assert (seen["wsgi.url_scheme"], seen["QUERY_STRING"], seen["REMOTE_ADDR"]) == ("http", "a=%20b", "")
    assert seen["HTTP_X_FORWARDED_FOR"] == host
    assert environ(behind.https)["wsgi.url_scheme"] == "https"
    seen = environ(behind.tcp, X_Forwarded_For="203.0.113.9")
    assert (seen["REMOTE_ADDR"], seen["HTTP_X_FORWARDED_FOR"]) == (host, f"203.0.113.9, {host}")


def test_a_client_cannot_say_https_nor_where_the_site_is(behind: Behind, site: Site) -> None:
    lies = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Ssl": "on",
        "X-Forwarded-Protocol": "ssl",
        "SCRIPT_NAME": "/x",
    }
    connection = site.connection()
    connection.request("GET", "/environ", headers=lies)
    seen = json.loads(connection.getresponse().read())
    connection.close()
    assert seen["wsgi.url_scheme"] == "http"
    assert seen["SCRIPT_NAME"] == ""


def test_a_site_below_a_path(behind: Behind) -> None:
    seen = environ(behind.mounted, "/mounted/environ")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/mounted", "/environ")
    status, headers, _ = behind.mounted.ask("GET", "/mounted/admin/")
    assert (status, headers["Location"]) == (302, "/mounted/admin/login/?next=/mounted/admin/")
    assert behind.mounted.ask("GET", "/environ")[0] == 500


# -- a person with a browser ---------------------------------------------------------------------------------


def test_log_in_over_https(behind: Behind) -> None:
    """Django wants to know where a form came from if it came over https: so it believes that."""
    origin = f"https://127.0.0.1:{behind.https.port}"
    for sent_from in ("http://evil.example", ""):
        stranger = Browser(behind.https, sent_from)
        page = stranger.submit("/admin/login/", username="x", password="y")[1]
        assert "CSRF verification failed" in page
        stranger.close()
    browser = Browser(behind.https, origin)
    browser.log_in()
    page = browser.submit("/admin/auth/group/add/", name="behind https")[1]
    assert "was added successfully" in page
    browser.close()


def test_static_files_by_nginx_and_by_django(site: Site) -> None:
    content = (STATIC / "admin/css/base.css").read_bytes()
    status, headers, body = site.ask("GET", CSS)
    assert (status, body) == (200, content)
    status, headers, body = site.ask("HEAD", CSS)
    assert (status, headers["Content-Length"], body) == (200, str(len(content)), b"")
    modified = headers["Last-Modified"]
    connection = site.connection()
    for _ in range(2):  # on one connection: no body follows
        connection.request("GET", CSS, headers={"If-Modified-Since": modified})
        response = connection.getresponse()
        assert (response.status, response.read()) == (304, b"")
    connection.close()


# -- bodies --------------------------------------------------------------------------------------------------


def pieces() -> Iterator[bytes]:
    for start in range(0, len(BODY), 100_000):
        yield BODY[start : start + 100_000]


@pytest.mark.parametrize("name", ["unix", "tcp", "streaming"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload(behind: Behind, name: str, chunked: bool) -> None:
    site: Site = getattr(behind, name)
    for _ in range(2):
        status, _, body = site.ask("POST", "/digest", pieces() if chunked else BODY)
        assert status == 200, body
        assert json.loads(body) == {
            "sha256": hashlib.sha256(BODY).hexdigest(), "size": len(BODY), "CONTENT_LENGTH": str(len(BODY)),
        }  # fmt: skip


@pytest.mark.parametrize("path", ["/whole", "/blocks"])
def test_a_download_by_slow_clients_holds_up_nobody(behind: Behind, path: str) -> None:
    """More of them than there are threads."""
    megabytes = 6
    clients = []
    for _ in range(6):
        sock = socket.create_connection(("127.0.0.1", behind.streaming.port))
        sock.settimeout(10)
        sock.sendall(f"GET {path}?{megabytes * MEGABYTE} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert sock.recv(1) == b"H"
        clients.append(sock)
    if path == "/whole":
        # What is complete needs no thread: others are served while nobody reads.
        for _ in range(4):
            assert behind.streaming.ask("GET", "/environ")[0] == 200

    def read(sock: socket.socket) -> str:
        digest = hashlib.sha256()
        with sock, sock.makefile("rb") as file:
            while file.readline().strip():
                continue
            while block := file.read1(65536):
                digest.update(block)
        return digest.hexdigest()

    expected = hashlib.sha256(bytes(range(256)) * 256 * megabytes * MEGABYTE).hexdigest()
    with ThreadPoolExecutor(len(clients)) as pool:
        assert list(pool.map(read, clients)) == [expected] * len(clients)


def test_clients_that_leave(behind: Behind) -> None:
    """Within an upload and within a download; nothing is said about it, and nothing stays occupied."""
    half = (
        f"POST /digest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
        + BODY[:300_000]
    )
    whole = f"GET /blocks?{8 * MEGABYTE} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    for request, answer in ((half, b""), (whole, b"H")):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", behind.streaming.port)) as sock:
                sock.sendall(request)
                assert not answer or sock.recv(1) == answer
    eventually(
        lambda: not sum(len(w["in_flight"]) for w in behind.server.workers()), what="nothing in flight"
    )
    for _ in range(8):
        assert behind.streaming.ask("GET", "/environ")[0] == 200


# -- connections and reloads ---------------------------------------------------------------------------------


def test_connections_to_the_server_are_used_again(behind: Behind) -> None:
    """REMOTE_PORT is nginx's end of the connection."""
    assert len({environ(behind.tcp)["REMOTE_PORT"] for _ in range(20)}) <= 2
    connection = behind.tcp.connection()
    seen = set()
    for number in range(20):
        connection.request("POST" if number % 2 else "GET", "/environ", b"body" if number % 2 else None)
        seen.add(json.loads(connection.getresponse().read())["REMOTE_PORT"])
    connection.close()
    assert len(seen) <= 2
    before = sum(worker["connections"] for worker in behind.server.workers())
    for _ in range(20):
        environ(behind.unix)
    assert sum(worker["connections"] for worker in behind.server.workers()) <= before + 1


def test_no_request_is_lost_while_the_code_is_loaded_again(behind: Behind) -> None:
    """Nor when nginx has not kept a body, so that it cannot try again."""
    with (
        Load(behind.unix.connection, path="/echo", threads_per_kind=1) as load,
        Load(behind.streaming.connection, path="/echo", threads_per_kind=1) as streaming,
    ):
        load.run_on(20)
        streaming.run_on(20)
        before = {worker["pid"] for worker in behind.server.workers()}
        behind.server.signal(signal.SIGHUP)
        eventually(
            lambda: len(pids := {w["pid"] for w in behind.server.workers()}) == 2 and not pids & before,
            what="only new workers",
        )
        load.run_on(20)
        streaming.run_on(20)
    load.check()
    streaming.check()
