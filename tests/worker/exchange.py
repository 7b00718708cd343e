"""What the access log is given, without a worker."""

from __future__ import annotations

from typing import Any

from wsgitop.http.head import Request, RequestLine
from wsgitop.http.response import DateLine
from wsgitop.worker.access_log import AccessLog
from wsgitop.wsgi.response import Response


class Exchange:
    """A request and its response; ``arguments`` are those of :meth:`AccessLog.write`."""

    def __init__(
        self,
        target: str = "/a%20b?q=1",
        *,
        path: str = "",
        fields: dict[str, str] | None = None,
        headers: list[tuple[str, str]] | None = None,
        environ: dict[str, object] | None = None,
        client: str = "192.0.2.1",
    ) -> None:
        path_of_target, _, query = target.partition("?")
        line = RequestLine("GET", target, path or path_of_target, query, "", 1)
        self.request = Request(line, fields or {}, 77)
        self.response = Response(None, False, 1, True, DateLine())  # type: ignore[arg-type]
        self.response.status, self.response.status_text = 201, "201 Created"
        self.response.body_bytes, self.response.sent_bytes = 1234, 1500
        self.response.headers = headers or []
        self.environ = environ or {}
        self.client = client
        self.elapsed_ns = 1_234_567_890

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.request, self.response, self.environ, self.client, self.elapsed_ns


def write(log: AccessLog, *targets: str, agent: str = "a") -> None:
    """A line for each target."""
    for target in targets:
        log.write(*Exchange(target, fields={"HTTP_USER_AGENT": agent}).arguments)


def write_numbers(log: AccessLog, count: int, start: int = 0) -> None:
    """Lines for /0, /1 and so on."""
    write(log, *(f"/{number}" for number in range(start, start + count)))
