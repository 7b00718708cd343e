"""The environ of a request (PEP 3333): what is the same for a connection is built once and copied."""

from __future__ import annotations

import io
import ipaddress
import sys
from collections.abc import Iterable, Mapping
from typing import Final

from wsgitop.http.head import Request
from wsgitop.http.response import SERVER
from wsgitop.wsgi.body import RequestBody
from wsgitop.wsgi.files import FileWrapper
from wsgitop.wsgi.types import WSGIEnvironment

PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")


class TrustedProxies:
    """Which peers may say that the client used https (settings ``forwarded_allow_ips``,
    ``secure_scheme_headers``).
    """

    def __init__(self, allowed: str, secure_headers: Mapping[str, str]) -> None:
        entries = [entry.strip() for entry in allowed.split(",") if entry.strip()]
        self._any = "*" in entries
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in entries if entry != "*"]
        self._headers = tuple(
            ("HTTP_" + name.upper().replace("-", "_"), value) for name, value in secure_headers.items()
        )
        self._keys = frozenset(key for key, _ in self._headers)

    def trusts(self, host: str) -> bool:
        """``host`` is a peer's address, '' for a unix socket, which only this machine can reach."""
        if self._any or not host:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def says_https(self, fields: Mapping[str, str]) -> bool:
        """The headers of a trusted peer say https. If they contradict each other, the safe answer is no."""
        if self._keys.isdisjoint(fields):
            return False
        said = [fields[key].lower() == value.lower() for key, value in self._headers if key in fields]
        return bool(said) and all(said)


class EnvironTemplate:
    """Makes the environs of one connection.

    ``server`` is the local (host, port), ``peer`` the client's; both are strings, empty for unix sockets.
    """

    __slots__ = ("_base", "_fields", "_merged", "_proxies")

    def __init__(
        self, server: tuple[str, str], peer: tuple[str, str], *, multithread: bool, proxies: TrustedProxies
    ) -> None:
        self._proxies = proxies if proxies.trusts(peer[0]) else None
        self._base: WSGIEnvironment = {
            "REQUEST_METHOD": "",
            "SCRIPT_NAME": "",
            "PATH_INFO": "",
            "QUERY_STRING": "",
            "RAW_URI": "",
            "SERVER_NAME": server[0],
            "SERVER_PORT": server[1],
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": SERVER,
            "REMOTE_ADDR": peer[0],
            "REMOTE_PORT": peer[1],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": None,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
        }
        self._fields: Mapping[str, str] | None = None
        self._merged: WSGIEnvironment | None = None

    def make(self, request: Request) -> WSGIEnvironment:
        """The environ of one request."""
        fields = request.fields
        if fields is not self._fields:
            environ = self._merge(fields)
            self._fields = fields
            self._merged = None
        elif self._merged is None:
            # The parser gives the same object for the same lines, so they will probably come again.
            self._merged = self._merge(fields)
            environ = self._merged.copy()
        else:
            environ = self._merged.copy()
        line = request.line
        environ["REQUEST_METHOD"] = line.method
        environ["RAW_URI"] = line.target
        environ["PATH_INFO"] = line.path
        environ["QUERY_STRING"] = line.query
        if not line.minor:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        body = request.body
        if body is None:
            environ["wsgi.input"] = io.BytesIO()
        else:
            assert isinstance(body, RequestBody)
            environ["wsgi.input"] = body.open()
            if request.chunked:
                # The body was decoded, so its length is known, and frameworks that read by it need it (RFC
                # 9112 section 7.1.3).
                environ["CONTENT_LENGTH"] = str(body.size_bytes)
                del environ["HTTP_TRANSFER_ENCODING"]
        return environ

    def _merge(self, fields: Mapping[str, str]) -> WSGIEnvironment:
        environ = self._base.copy()
        environ.update(fields)
        proxies = self._proxies
        if proxies is not None and proxies.says_https(fields):
            environ["wsgi.url_scheme"] = "https"
        return environ


def header_of(fields: Mapping[str, str], name: str) -> str | None:
    """A request header by its name as written in HTTP, of the fields of a request."""
    key = name.upper().replace("-", "_")
    return fields.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key)


def header_among(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """A response header by its name."""
    lower = name.lower()
    return next((value for key, value in headers if key.lower() == lower), None)
