"""PEP 3333 from a real worker, under wsgiref's validator wherever it allows what is tested."""

from __future__ import annotations

import contextvars
import json
import re
import select
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

import pytest

from tests.worker.harness import Client
from tests.worker.wsgi_site import Closing, Served, Site, start
from wsgitop.scoreboard import layout as at

pytestmark = [pytest.mark.process, pytest.mark.every_python]

SITE = Site()
LARGE = [bytes([65 + n]) * 50_000 for n in range(20)]


class Iterator_:
    """An iterator without close()."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks = iter(blocks)

    def __iter__(self) -> Iterator_:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)


class Sized(Iterator_):
    """It has a length, too, which says nothing about bytes."""

    def __len__(self) -> int:
        return 1


class Items:
    """The iteration protocol of old."""

    def __getitem__(self, index: int) -> bytes:
        return [b"one ", b"two"][index]


class ClosingList(list[bytes]):
    def close(self) -> None:
        SITE.notes.put("closed")


def _generator() -> Iterator[bytes]:
    try:
        yield b"one "
        yield b""
        yield b"two"
    finally:
        SITE.notes.put("closed")


RESULTS: dict[str, tuple[Any, bytes, bool, str]] = {
    "list": (lambda: [b"one two"], b"one two", False, "length"),
    "empty_list": (list, b"", False, "length"),
    "parts": (lambda: [b"one ", b"", b"two"], b"one two", False, "length"),
    "large_list": (lambda: LARGE, b"".join(LARGE), False, "length"),
    "tuple": (lambda: (b"one ", b"two"), b"one two", False, "length"),
    "closing_list": (lambda: ClosingList([b"one ", b"two"]), b"one two", True, "chunked"),
    "generator": (_generator, b"one two", True, "chunked"),
    "iterator": (lambda: Iterator_(b"one ", b"two"), b"one two", False, "chunked"),
    "closing": (lambda: Closing(SITE.notes, [b"one ", b"two"]), b"one two", True, "chunked"),
    "empty_iterator": (lambda: Closing(SITE.notes, []), b"", True, "length"),
    "sized": (lambda: Sized(b"one ", b"two"), b"one two", False, "chunked"),
    "items": (Items, b"one two", False, "chunked"),
    "map": (lambda: map(bytes, [b"one ", b"two"]), b"one two", False, "chunked"),
    "large_iterator": (lambda: Closing(SITE.notes, LARGE), b"".join(LARGE), True, "chunked"),
}
"""What is returned, the body that it makes, whether it is closed, and how HTTP/1.1 is told its end."""


def _plain(name: str) -> Any:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start(start_response)
        return RESULTS[name][0]()  # type: ignore[no-any-return]

    return app


def _wrote(blocks: Any, *before: bytes) -> Any:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start(start_response)
        for block in before:
            write(block)
        return blocks()  # type: ignore[no-any-return]

    return app


WRITTEN: dict[str, tuple[Any, bytes, bool]] = {
    "write_only": (_wrote(list, b"one ", b"two"), b"one two", False),
    "write_list": (_wrote(lambda: [b"two"], b"one "), b"one two", False),
    "write_iterator": (_wrote(lambda: Closing(SITE.notes, [b"two"]), b"one "), b"one two", True),
    "write_empty": (_wrote(lambda: [b"two"], b"", b"one "), b"one two", False),
    "write_large": (_wrote(lambda: Closing(SITE.notes, LARGE), *LARGE), b"".join(LARGE * 2), True),
}

for _name in RESULTS:
    SITE.apps[_name] = validator(_plain(_name))
    SITE.apps[f"unchecked_{_name}"] = _plain(_name)
for _name, (_app, _, _) in WRITTEN.items():
    SITE.apps[_name] = validator(_app)
    SITE.apps[f"unchecked_{_name}"] = _app


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with SITE.worker(threads=2, body_buffer=1000) as served:
        yield served
        # The validator says so on standard error when an iterator was not closed.
        assert "without being closed" not in served.harness.log()


@pytest.mark.parametrize("prefix", ["", "unchecked_"], ids=["validator", "plain"])
def test_what_applications_return(served: Served, prefix: str) -> None:
    with served.connect() as client:
        for name, (_, body, closes, framing) in RESULTS.items():
            answer = served.ask(f"/{prefix}{name}", client=client)
            assert (answer.status, answer.body) == (200, body), name
            # The validator's own iterator hides that it is a list.
            chunked = framing == "chunked" or (not prefix and body != b"")
            assert ("content-length" in answer.headers) == (not chunked), name
            assert ("transfer-encoding" in answer.headers) == chunked, name
            assert served.site.notes.take() == ["closed"] * closes, name
            served.ask(f"/{prefix}{name}", client=client, method="HEAD")
            assert served.site.notes.take() == ["closed"] * closes, name
        client.send(b"GET /%sgenerator HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % prefix.encode())
        answer = client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"one two", "close")
        served.wait_done()
        served.site.notes.take()
    assert not served.complaints()


@pytest.mark.parametrize("prefix", ["", "unchecked_"], ids=["validator", "plain"])
def test_the_write_callable(served: Served, prefix: str) -> None:
    with served.connect() as client:
        for name, (_, body, closes) in WRITTEN.items():
            answer = served.ask(f"/{prefix}{name}", client=client)
            assert (answer.status, answer.body) == (200, body), name
            assert answer.headers["transfer-encoding"] == "chunked"
            assert served.site.notes.take() == ["closed"] * closes, name
            served.ask(f"/{prefix}{name}", client=client, method="HEAD")
            served.site.notes.take()
    assert not served.complaints()


@SITE.app
def bodiless(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """/bodiless/STATUS/KIND: a body all the same."""
    _, _, status, kind = environ["PATH_INFO"].split("/")
    start_response(f"{status} Some", [("X", kind)])
    blocks = [b"body", b"more"]
    return blocks if kind == "list" else Closing(SITE.notes, blocks)


@pytest.mark.parametrize("kind", ["list", "iterator"])
def test_statuses_that_have_no_body(served: Served, kind: str) -> None:
    with served.connect() as client:
        for status in (204, 304):
            answer = served.ask(f"/bodiless/{status}/{kind}", client=client)
            assert (answer.status, answer.headers["x"]) == (status, kind)
            assert not {"content-length", "transfer-encoding"} & answer.headers.keys()
            assert served.site.notes.take() == ["closed"] * (kind == "iterator")
    with served.connect() as client:
        # Nothing can come behind it: to the client it is no final response.
        client.get(f"/bodiless/199/{kind}")
        assert client._until(b"\r\n\r\n").startswith(b"HTTP/1.1 199 Some\r\n")
        assert client.rest() == b""
        served.wait_done()
    served.site.notes.take()
    assert not served.complaints()


# -- threads -------------------------------------------------------------------------------------------

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")
LOCAL = threading.local()


@SITE.app
def threads(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Notes where each step runs, and what its context variable and thread-local data are there."""
    number = environ["PATH_INFO"].rpartition("/")[2]
    VARIABLE.set(number)
    LOCAL.number = number

    def step(name: str) -> None:
        SITE.notes.put(f"{number} {name} {threading.get_ident()} {VARIABLE.get()} {LOCAL.number}")

    class Steps:
        def __init__(self) -> None:
            self.left = 4

        def __iter__(self) -> Steps:
            step("iter")
            return self

        def __next__(self) -> bytes:
            step("next")
            if not self.left:
                raise StopIteration
            self.left -= 1
            select.select([], [], [], 0.004)  # so long that the lead is handed over
            return b"x" * 20_000

        def close(self) -> None:
            step("close")

    step("call")
    write = start(start_response)
    write(b"y")
    step("written")
    return Steps()


def test_one_thread_does_all_of_a_request() -> None:
    with SITE.worker(threads=4, response_buffer=10_000) as served:
        clients = [served.connect() for _ in range(12)]
        for number, client in enumerate(clients):
            client.get(f"/threads/{number}")
        for client in clients:
            assert len(client.answer().body) == 80_001
        served.wait_done(len(clients))
        assert served.harness.word(at.HANDOVERS) > 0
        steps: dict[str, list[list[str]]] = {}
        for line in served.site.notes.take():
            number_, *rest = line.split()
            steps.setdefault(number_, []).append(rest)
        idents = set()
        for number_, lines in steps.items():
            assert [line[0] for line in lines] == ["call", "written", "iter", *["next"] * 5, "close"]
            assert {tuple(line[2:]) for line in lines} == {(number_, number_)}
            (ident,) = {line[1] for line in lines}
            idents.add(ident)
        assert len(steps) == 12 and len(idents) > 1
        for client in clients:
            client.sock.close()


# -- wsgi.input ----------------------------------------------------------------------------------------

TEXT = b"first line\nsecond\n\n" + b"long " * 300 + b"\nlast, without an end"
"""It does not fit into the worker's --body-buffer, its first three lines do."""
LINES = TEXT.splitlines(keepends=True)


def _parts(source: Any, size: int) -> list[bytes]:
    return list(iter(lambda: source.read(size), b""))


READERS: dict[str, Any] = {
    "read": lambda source: [source.read(1 << 20)],
    "read_parts": lambda source: _parts(source, 7),
    "read_more": lambda source: [source.read(5), source.read(1 << 20), source.read(5)],
    "readline": lambda source: list(iter(source.readline, b"")),
    "readline_sized": lambda source: list(iter(lambda: source.readline(100), b"")),
    "readlines": lambda source: source.readlines(),
    "readlines_hint": lambda source: [*source.readlines(3), *source.readlines()],
    "iteration": list,
    "line_then_rest": lambda source: [source.readline(), *source, source.read(9)],
}
UNCHECKED_READERS: dict[str, Any] = {
    "read_all": lambda source: [source.read()],
    "read_minus_one": lambda source: [source.read(-1)],
    "read_none": lambda source: [source.read(0), source.read(), source.read()],
}
"""The validator wants read() to have a size."""


def _reads(reader: Any) -> Any:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parts = reader(environ["wsgi.input"])
        start(start_response)
        length = environ.get("CONTENT_LENGTH")
        return [json.dumps([length, [part.decode() for part in parts]]).encode()]

    return app


for _name, _reader in READERS.items():
    SITE.apps[f"input_{_name}"] = validator(_reads(_reader))
for _name, _reader in UNCHECKED_READERS.items():
    SITE.apps[f"input_{_name}"] = _reads(_reader)


def _post(client: Client, name: str, body: bytes, chunked: bool) -> list[str]:
    head = f"POST /input_{name} HTTP/1.1\r\nHost: t\r\n"
    if chunked:
        chunks = b"".join(
            b"%x\r\n%b\r\n" % (len(body[n : n + 9]), body[n : n + 9]) for n in range(0, len(body), 9)
        )
        client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n")
    else:
        client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = client.answer()
    assert answer.status == 200, name
    length, parts = json.loads(answer.body)
    assert length == str(len(body))
    return list(parts)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("body", [b"", LINES[0] + LINES[1], TEXT], ids=["empty", "in memory", "in a file"])
def test_the_body_can_be_read_in_every_way(served: Served, body: bytes, chunked: bool) -> None:
    lines = [line.decode() for line in body.splitlines(keepends=True)]
    with served.connect() as client:
        for name in (*READERS, *UNCHECKED_READERS):
            parts = _post(client, name, body, chunked)
            assert "".join(parts) == body.decode(), name
            if name in ("readline", "readlines", "readlines_hint", "iteration"):
                assert parts == lines, name
        served.wait_done(len(READERS) + len(UNCHECKED_READERS))
    assert not served.complaints()


def test_a_request_without_a_body_has_an_empty_input(served: Served) -> None:
    with served.connect() as client:
        for name in (*READERS, *UNCHECKED_READERS):
            length, parts = json.loads(served.ask(f"/input_{name}", client=client).body)
            assert length is None and "".join(parts) == "", name


@SITE.app
def noted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    SITE.notes.put(environ["PATH_INFO"])
    start(start_response)
    return [environ["wsgi.input"].read()]


@pytest.mark.parametrize("size", [10, 5000], ids=["in memory", "in a file"])
def test_the_body_is_complete_before_the_application_is_called(served: Served, size: int) -> None:
    with served.connect() as slow:
        slow.send(b"POST /noted/slow HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(3):
            slow.send(b"b" * (size // 3))
            served.ask("/noted/other")
        assert served.site.notes.take() == ["/noted/other"] * 3
        slow.send(b"b" * (size - size // 3 * 3))
        assert slow.answer().body == b"b" * size
        served.wait_done()
        assert served.site.notes.take() == ["/noted/slow"]


@SITE.app
def closes_input(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["wsgi.input"].close()
    start(start_response)
    return [b"closed"]


def test_an_application_may_close_its_input(served: Served) -> None:
    with served.connect() as client:
        for size in (0, 10, 5000):
            client.send(
                b"POST /closes_input HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size + b"b" * size
            )
            assert client.answer().body == b"closed"
        served.wait_done(3)
    assert not served.complaints()


# -- environ -------------------------------------------------------------------------------------------


@SITE.app
def shown(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The environ as JSON: text as it is, other types by their names."""
    assert type(environ) is dict
    for key, value in environ.items():
        assert type(key) is str
        assert key.startswith("wsgi.") or type(value) is str, key
        if type(value) is str:
            value.encode("latin-1")
    start(start_response)
    values = {key: value if isinstance(value, str | bool) else repr(value) for key, value in environ.items()}
    environ.clear()  # it is the application's to change
    return [json.dumps(values).encode()]


SITE.default = shown  # type: ignore[method-assign]


def environ_of(client: Client, line: str, *fields: str) -> dict[str, Any]:
    client.send(("\r\n".join([line, *fields]) + "\r\n\r\n").encode("latin-1"))
    answer = client.answer()
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


TARGETS = [
    ("GET /shown HTTP/1.1", "/shown", "", "/shown"),
    ("GET /shown? HTTP/1.1", "/shown", "", "/shown?"),
    ("GET /shown/a%20b/%C3%A9?q=%C3%A9&r HTTP/1.1", "/shown/a b/\xc3\xa9", "q=%C3%A9&r", None),
    ("GET /shown/%FF%80%0A HTTP/1.1", "/shown/\xff\x80\n", "", None),
    ("GET /shown/%2F%3F%25 HTTP/1.1", "/shown//?%", "", None),
    ("GET /shown/%zz%4 HTTP/1.1", "/shown/%zz%4", "", None),
    ("GET //shown HTTP/1.1", "//shown", "", None),
    ("GET /shown/../x?a?b HTTP/1.1", "/shown/../x", "a?b", None),
    ("GET http://other:81/shown/%41?q HTTP/1.1", "/shown/A", "q", "http://other:81/shown/%41?q"),
    ("GET http://other HTTP/1.1", "/", "", "http://other"),
    ("OPTIONS http://other HTTP/1.1", "*", "", "http://other"),
    ("OPTIONS * HTTP/1.1", "*", "", "*"),
    ("PROPFIND /shown HTTP/1.1", "/shown", "", None),
]


@pytest.mark.parametrize(("line", "path", "query", "raw"), TARGETS)
def test_the_target_in_environ(served: Served, line: str, path: str, query: str, raw: str | None) -> None:
    method, target, protocol = line.split(" ")
    with served.connect() as client:
        for _ in range(2):  # what is remembered of the first must not show in the second
            environ = environ_of(client, line, "Host: site")
            assert environ["PATH_INFO"] == path
            assert environ["QUERY_STRING"] == query
            assert environ["RAW_URI"] == (raw or target)
            assert environ["REQUEST_METHOD"] == method
            assert environ["SERVER_PROTOCOL"] == protocol
            assert environ["HTTP_HOST"] == (
                re.sub("http://([^/]*).*", r"\1", target) if "//o" in target else "site"
            )
            environ_of(client, "GET /shown/between?x=y HTTP/1.1", "Host: site")
        served.wait_done(4)


REQUIRED = {
    "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT",
    "SERVER_PROTOCOL", "SERVER_SOFTWARE", "REMOTE_ADDR", "REMOTE_PORT", "RAW_URI", "wsgi.version",
    "wsgi.url_scheme", "wsgi.input", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess",
    "wsgi.run_once", "wsgi.file_wrapper", "wsgi.input_terminated",
}  # fmt: skip


def test_the_keys_of_environ(served: Served) -> None:
    with served.connect() as client:
        environ = environ_of(client, "GET /shown HTTP/1.1", "Host: site", "X-Latin: \xe9\xff", "X-Empty:")
        assert environ.keys() - {"HTTP_HOST", "HTTP_X_LATIN", "HTTP_X_EMPTY"} == REQUIRED
        assert environ["HTTP_X_LATIN"] == "\xe9\xff" and environ["HTTP_X_EMPTY"] == ""
        assert environ["SERVER_PORT"] == str(served.harness.address[1])
        assert environ["REMOTE_PORT"] == str(client.sock.getsockname()[1])
        assert environ["wsgi.version"] == "(1, 0)" and environ["wsgi.input_terminated"] is True
        environ = environ_of(
            client, "POST /shown HTTP/1.1", "Host: site", "Content-Type: a/b", "Content-Length: 0"
        )
        assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("a/b", "0")
        assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_X_LATIN"} & environ.keys()
        environ = environ_of(client, "GET /shown HTTP/1.0", "Connection: keep-alive")
        assert environ["SERVER_PROTOCOL"] == "HTTP/1.0" and "HTTP_HOST" not in environ
        served.wait_done(3)


def _complains(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    errors = environ["wsgi.errors"]
    errors.write("two lines\n")
    errors.writelines(["of ", "complaint\n"])
    errors.flush()
    start(start_response)
    return [b"complained"]


SITE.apps["complains"] = validator(_complains)


def test_what_is_written_to_wsgi_errors_is_in_the_log(served: Served) -> None:
    assert served.ask("/complains").body == b"complained"
    assert "two lines\nof complaint\n" in served.harness.log()
