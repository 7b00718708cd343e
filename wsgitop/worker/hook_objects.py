"""What hooks are given: small objects with the names that gunicorn's have.

They live in the zygote, and from the fork on in the worker as its own copies, so what a hook stores on
``server`` or ``worker`` is there for the next hook of that process, as with gunicorn. They are made only
where a config file has hooks.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

from wsgitop.http.head import Request
from wsgitop.logs.error_log import LOGGER
from wsgitop.settings.addresses import Address, parse_address
from wsgitop.settings.compat import ALIASES, FOREIGN
from wsgitop.settings.hidden import shown_app
from wsgitop.settings.hooks import HOOKS
from wsgitop.settings.table import Settings
from wsgitop.settings.workers import count_workers
from wsgitop.worker.access_log import AccessWriter
from wsgitop.worker.seat import Seat
from wsgitop.wsgi.response import Response
from wsgitop.wsgi.types import WSGIApplication, WSGIEnvironment

_PLAIN_FIELDS: Final = ("CONTENT_TYPE", "CONTENT_LENGTH")
"""Keys of an environ that are header fields, beside those that begin with HTTP_."""


def address_of(address: Address) -> tuple[str, int] | str | int:
    """As gunicorn has it: (host, port), a path, or a descriptor."""
    match address.kind:
        case "unix":
            return address.path
        case "fd":
            return address.fd
        case _:
            return address.host, address.port


class HookConfig:
    """``cfg``: settings as attributes, by gunicorn's names. Hooks are among them, and what gunicorn has and
    wsgitop has not, as the config file says or as gunicorn does by default.
    """

    def __init__(
        self, settings: Settings, file_values: Mapping[str, Any], hooks: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._settings = settings
        self._file_values = file_values
        self._hooks = hooks

    @property
    def address(self) -> list[tuple[str, int] | str | int]:
        """The addresses that are bound."""
        return [address_of(parse_address(text)) for text in self._settings.bind]

    @property
    def workers(self) -> int:
        """A number, if it was set to "auto" too."""
        return count_workers(self._settings.workers)

    @property
    def env(self) -> dict[str, str]:
        """``raw_env`` as a mapping."""
        return {name: value for name, _, value in (pair.partition("=") for pair in self._settings.raw_env)}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by copy and pickle before there is anything
            raise AttributeError(name)
        own = ALIASES.get(name, name)
        if own in Settings.__struct_fields__:
            return getattr(self._settings, own)
        if name in self._hooks:
            return self._hooks[name]
        if name in FOREIGN:
            harmless = FOREIGN[name].harmless
            return self._file_values.get(name, harmless[0] if harmless else None)
        raise AttributeError(f"there is no setting {name!r}")

    def __repr__(self) -> str:
        return f"<Config of {shown_app(self._settings.wsgi_app)}>"


class HookLog(logging.LoggerAdapter[logging.Logger]):
    """``log``: the error log, as a logger; and ``access`` for a line in the access log, in a worker."""

    def __init__(self, cfg: HookConfig) -> None:
        super().__init__(LOGGER, {})
        self.cfg = cfg
        self.error_log = LOGGER
        self._access_log: AccessWriter | None = None

    def serve(self, access_log: AccessWriter | None) -> None:
        """From now on this is a worker's, with that access log."""
        self._access_log = access_log

    def access(
        self,
        resp: HookResponse,
        req: HookRequest,
        environ: Mapping[str, Any],
        request_time: timedelta | tuple[int, int],
    ) -> None:
        """One more line about this request; nothing where no access log is written."""
        if self._access_log is None:
            return
        if not isinstance(request_time, timedelta):
            request_time = timedelta(seconds=request_time[0], microseconds=request_time[1])
        elapsed_ns = request_time // timedelta(microseconds=1) * 1000
        self._access_log.write(req.request, resp.response, environ, req.client, elapsed_ns)


class HookListener:
    """An element of ``LISTENERS``: the socket, its text as in gunicorn's log."""

    def __init__(self, address: Address, sock: socket.socket) -> None:
        self.sock = sock
        self.cfg_addr = address_of(address)
        self._text = f"unix:{address.path}" if address.kind == "unix" else f"http://{address}"

    def fileno(self) -> int:
        """Its descriptor."""
        return self.sock.fileno()

    def getsockname(self) -> Any:
        """Where it is bound."""
        return self.sock.getsockname()

    def __str__(self) -> str:
        return self._text


class HookServer:
    """``server``: the master as hooks see it, though they do not run in it. ``WORKERS`` is what was known
    when the hook was called, or when the worker was forked.
    """

    def __init__(self, pid: int, cfg: HookConfig, listeners: list[HookListener]) -> None:
        self.pid = pid
        self.cfg = cfg
        self.log = HookLog(cfg)
        self.address = cfg.address
        self.LISTENERS = listeners
        self.num_workers = cfg.workers
        self.WORKERS: dict[int, HookWorker] = {}

    @property
    def proc_name(self) -> str:
        """The name in process titles."""
        settings = self.cfg
        return str(settings.proc_name or settings.wsgi_app.partition(":")[0])

    @property
    def timeout(self) -> float:
        """The setting."""
        return float(self.cfg.timeout)


class HookApp:
    """``worker.app``: ``callable`` is the application, None before it is loaded."""

    def __init__(self, cfg: HookConfig) -> None:
        self.cfg = cfg
        self.callable: WSGIApplication | None = None

    def wsgi(self) -> WSGIApplication | None:
        """The application."""
        return self.callable


class HookWorker:
    """``worker``: ``age`` grows with each worker of the server; ``nr`` counts the requests it has begun.

    A hook that sets ``alive`` to False makes the worker finish and go; the master replaces it.
    """

    def __init__(self, age: int, server: HookServer) -> None:
        self.age = age
        self.pid: int | str = "[booting]"  # gunicorn's word for it, in pre_fork
        self.ppid = server.pid
        self.cfg = server.cfg
        self.log = server.log
        self.sockets = server.LISTENERS
        self.timeout = server.timeout
        self.app = HookApp(server.cfg)
        self.booted = False
        self.aborted = False
        self._alive = True
        self._leave: Callable[[], None] | None = None
        self._seats: tuple[Seat, ...] = ()
        self._requests = 0

    @property
    def wsgi(self) -> WSGIApplication | None:
        """The application, once it is loaded."""
        return self.app.callable

    @property
    def nr(self) -> int:
        """In the worker itself counted now; in child_exit its last number; else 0."""
        return sum(seat.serial for seat in self._seats) if self._seats else self._requests

    @property
    def alive(self) -> bool:
        """It is not on its way out."""
        return self._alive

    @alive.setter
    def alive(self, value: bool) -> None:
        was, self._alive = self._alive, bool(value)
        if was and not value and self._leave is not None:
            self._leave()

    def serve(self, seats: tuple[Seat, ...], leave: Callable[[], None]) -> None:
        """It is this process and will serve; ``leave`` makes it retire, from any thread."""
        self._seats = seats
        self._leave = leave

    def goes(self) -> None:
        """It is on its way out, and nobody need be told."""
        self._alive = False

    def died(self, requests: int) -> None:
        """It is no more, and had answered so many requests."""
        self._alive = False
        self._requests = requests

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"


class HookRequest:
    """``req``. What pre_request stores on it is there in post_request, and what it changes in ``headers`` is
    what the application sees.
    """

    def __init__(self, request: Request, environ: WSGIEnvironment) -> None:
        line = request.line
        self.request = request
        self.method = line.method
        self.uri = line.target
        path = line.target.partition("?")[0]
        if line.authority:  # http://host/path
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.path = path
        self.query = line.query
        self.fragment = ""
        self.version = (1, line.minor)
        self.scheme: str = environ["wsgi.url_scheme"]
        self.client: str = environ["REMOTE_ADDR"]
        port = environ["REMOTE_PORT"]
        self.remote_addr: tuple[str, int] | str = (self.client, int(port)) if port else self.client
        self.peer_addr = self.remote_addr

    @cached_property
    def headers(self) -> list[tuple[str, str]]:
        """Names in upper case and values; a repeated field once, joined by commas."""
        return list(self._original)

    @cached_property
    def _original(self) -> tuple[tuple[str, str], ...]:
        return tuple(
            (key.removeprefix("HTTP_").replace("_", "-"), value) for key, value in self.request.fields.items()
        )

    def apply(self, environ: WSGIEnvironment) -> None:
        """Carry over to ``environ`` what a hook has changed in the headers. Nonsense in there raises."""
        if "headers" not in self.__dict__:
            return
        # Not all of them: of the others some have been left out of environ for good reasons.
        for name, value in self._original:
            if (name, value) not in self.headers:
                environ.pop(environ_key(name), None)
        for name, value in self.headers:
            if (name, value) not in self._original:
                key = environ_key(name)
                environ[key] = f"{environ[key]},{value}" if key in environ else str(value)


def environ_key(name: str) -> str:
    """The key of a header field in an environ."""
    key = name.upper().replace("-", "_")
    return key if key in _PLAIN_FIELDS else f"HTTP_{key}"


class HookResponse:
    """``resp``: what was answered, as far as it was. ``sent`` counts the body's bytes, without framing."""

    def __init__(self, response: Response) -> None:
        self.response = response

    @property
    def status(self) -> str:
        """Code and words, '' if nothing was answered."""
        return self.response.status_text

    @property
    def status_code(self) -> int:
        """The code, 0 if nothing was answered."""
        return self.response.status

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The application's."""
        return list(self.response.headers)

    @property
    def headers_sent(self) -> bool:
        """The head went out."""
        return self.response.head_sent

    @property
    def sent(self) -> int:
        """Bytes of the body that went out."""
        return self.response.body_bytes


def no_hook(*_: object) -> None:
    """What a hook is that nobody has defined."""


def make_config(
    settings: Settings, file_values: Mapping[str, Any], hooks: Mapping[str, Callable[..., Any]]
) -> HookConfig:
    """The ``cfg`` of a generation."""
    return HookConfig(settings, file_values, {name: hooks.get(name, no_hook) for name in HOOKS})
