"""A real nginx, configured by the example that the package has."""

from __future__ import annotations

import http.client
import shutil
import subprocess
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.waiting import eventually

EXAMPLE = Path(str(files("wsgitop"))) / "examples" / "nginx" / "mysite.conf"
PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
"""Not on the PATH of everybody."""

# One process, which keeps its user, and nothing outside of its directory.
_MAIN = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {sites}
}}
"""


def site_text(name: str, port: int, upstream: str, *changes: tuple[str, str]) -> str:
    """The example as a site of its own: on loopback, with another upstream, and with further changes, each of
    which must find something to change.
    """
    text = EXAMPLE.read_text()
    for old, new in (
        ("upstream mysite", f"upstream {name}"),
        ("http://mysite", f"http://{name}"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("server unix:/run/mysite/http.sock", f"server {upstream}"),
        *changes,
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


class Site(NamedTuple):
    """One of nginx's sites, as a client sees it."""

    port: int

    def connection(self, *, timeout_s: float = 10.0) -> http.client.HTTPConnection:
        """A connection to nginx."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def ask(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request on a connection of its own: status, headers and body. A body in pieces goes out
        chunked.
        """
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()


class Nginx:
    """nginx with these sites, the text of their blocks; ``site`` is one of them, to see when it is there."""

    def __init__(self, directory: Path, sites: str, site: Site) -> None:
        assert PROGRAM is not None
        self._log = directory / "error.log"
        self._site = site
        main = directory / "nginx.conf"
        main.write_text(_MAIN.format(directory=directory, sites=sites))
        with (directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(main), "-p", str(directory), "-e", str(self._log)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> Self:
        eventually(self._listens, what="nginx")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"nginx ended with status {self._process.returncode}:\n{self.log()}")
        connection = self._site.connection()
        try:
            connection.connect()
        finally:
            connection.close()
        return True

    def log(self) -> str:
        """Its error log so far."""
        return self._log.read_text(errors="replace")
