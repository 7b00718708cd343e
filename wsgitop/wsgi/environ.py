"""The environ of a request (PEP 3333): what is the same for a connection is built once and copied."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Final

from wsgitop.http.faults import RequestFault
from wsgitop.http.head import Request
from wsgitop.http.response import SERVER
from wsgitop.wsgi.body import RequestBody
from wsgitop.wsgi.files import FileWrapper
from wsgitop.wsgi.proxies import TrustedProxies, path_below, server_of
from wsgitop.wsgi.types import WSGIEnvironment

REMEMBERED_BYTES: Final = 4096


class EnvironTemplate:
    """Makes the environs of one connection.

    ``server`` is the local (host, port), ``peer`` the client's; both are strings, ports and the client's host
    empty for unix sockets.
    """

    __slots__ = ("_base", "_fields", "_local", "_merged", "_rules")

    def __init__(
        self, server: tuple[str, str], peer: tuple[str, str], *, multithread: bool, proxies: TrustedProxies
    ) -> None:
        self._rules = proxies.rules_for(peer[0])
        self._local = not server[1]
        self._base: WSGIEnvironment = {
            # What the request line says comes with each request.
            "SCRIPT_NAME": self._rules.script_name,
            "SERVER_NAME": server[0],
            "SERVER_PORT": server[1],
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
        """The environ of one request. Raises RequestFault for what a peer may not say, and OSError."""
        try:
            return self._make(request)
        except RequestFault:
            if request.body is not None:
                request.body.close()
            raise

    def _make(self, request: Request) -> WSGIEnvironment:
        fields = request.fields
        if fields is not self._fields:
            environ = self._merge(request)
            # An idle connection must not hold on to a large head; the parser remembers small ones only.
            self._fields = fields if request.received_bytes <= REMEMBERED_BYTES else None
            self._merged = None
        elif self._merged is None:
            # The parser gives the same object for the same lines, so they will probably come again.
            self._merged = self._merge(request)
            environ = self._merged.copy()
        else:
            environ = self._merged.copy()
        line = request.line
        environ.update(line.environ)
        script_name = environ["SCRIPT_NAME"]
        if script_name:
            environ["PATH_INFO"] = path_below(script_name, line.path)
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

    def _merge(self, request: Request) -> WSGIEnvironment:
        environ = self._base.copy()
        environ.update(request.fields)
        self._rules.apply(request, environ)
        if self._local:
            name, port = server_of(request.fields.get("HTTP_HOST"), environ["wsgi.url_scheme"])
            environ["SERVER_NAME"], environ["SERVER_PORT"] = name, port
        return environ
