"""Applications that give or raise what they must not: a 500 or a cut connection, one entry in the error log
that says where, and a worker that goes on.
"""

from __future__ import annotations

import io
import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.worker.harness import Client
from tests.worker.wsgi_site import Closing, Served, Site, start
from wsgitop.scoreboard import layout as at

pytestmark = pytest.mark.process


class OwnBaseException(BaseException):
    """Neither Exception nor one of the interpreter's own."""


SITE = Site()
RAISED: dict[str, BaseException] = {
    "exception": RuntimeError("boom"),
    "system_exit": SystemExit(3),
    "keyboard_interrupt": KeyboardInterrupt(),
    "generator_exit": GeneratorExit(),
    "stop_iteration": StopIteration(),
    "recursion_error": RecursionError("too deep"),
    "memory_error": MemoryError(),
    "os_error": OSError(28, "No space left on device"),
    "broken_pipe": BrokenPipeError(32, "Broken pipe"),
    "base_exception": OwnBaseException("own"),
    "unicode": UnicodeEncodeError("ascii", "\udcff", 0, 1, "surrogates"),
}
"""By the name that the path gives."""

PLACES = ("call", "start", "next", "middle", "close", "write", "wrapped")
CUT = ("middle", "write", "wrapped")
"""Where an exception comes behind the head, so that no 500 can be sent."""


class _Raising:
    """A file-like object that fails while it is read."""

    def __init__(self, error: BaseException) -> None:
        self._blocks = [b"some"]
        self._error = error

    def read(self, size: int) -> bytes:
        if self._blocks:
            return self._blocks.pop()
        raise self._error

    def close(self) -> None:
        SITE.notes.put("closed")


@SITE.app
def raises(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """/raises/PLACE/NAME."""
    _, _, place, name = environ["PATH_INFO"].split("/")
    error = RAISED[name]
    if place == "call":
        raise error
    write = start(start_response)
    match place:
        case "start":
            raise error
        case "next":
            return Closing(SITE.notes, _raise_at(error, 0))
        case "middle":
            return Closing(SITE.notes, _raise_at(error, 2))
        case "close":
            return Closing(SITE.notes, [b"all"], raises=error)
        case "write":
            write(b"some")
            raise error
    return environ["wsgi.file_wrapper"](_Raising(error), 4)  # type: ignore[no-any-return]


class _raise_at:
    def __init__(self, error: BaseException, blocks: int) -> None:
        self._error = error
        self._left = blocks

    def __iter__(self) -> _raise_at:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise self._error
        self._left -= 1
        return b"some"


class Str(str):
    """What frameworks mark as safe: a str all the same."""


class NotBytes:
    def __len__(self) -> int:
        return 1


class Endless:
    """Gives the same block again and again."""

    def __init__(self, block: Any) -> None:
        self._block = block

    def __iter__(self) -> Iterator[Any]:
        return repeat(self._block)


class WithClose(list[bytes]):
    def __init__(self, blocks: list[bytes], close: Any) -> None:
        super().__init__(blocks)
        self.close = close


def _returned(value: object) -> Any:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start(start_response)
        return value

    return app


def _headed(headers: object, status: object = "200 OK") -> Any:
    def app(environ: WSGIEnvironment, start_response: Any) -> Any:
        start_response(status, headers)
        return [b"body"]

    return app


def _twice(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start(start_response)
    start(start_response)
    return [b"body"]


def _writes(value: object) -> Any:
    def app(environ: WSGIEnvironment, start_response: Any) -> Any:
        start(start_response)(value)  # type: ignore[arg-type]
        return []

    return app


def _recursive(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return _recursive(environ, start_response)


def _closed_twice(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """By the application, and by the server when it has found that out."""
    start(start_response)
    file = io.BytesIO(b"body")
    file.close()
    return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]


NONSENSE: dict[str, tuple[Any, str]] = {
    "none": (_returned(None), "TypeError"),
    "number": (_returned(5), "TypeError"),
    "text": (_returned("text"), "gave a str where bytes belong"),
    "bytes": (_returned(b"body"), "gave a int where bytes belong"),
    "list_of_text": (_returned(["text"]), "gave a str where bytes belong"),
    "list_of_texts": (_returned(["a", "b"]), "TypeError"),
    "list_of_none": (_returned([None]), "gave a NoneType where bytes belong"),
    "list_of_numbers": (_returned([1, 2]), "TypeError"),
    "list_of_array": (_returned([array("I", [1, 2])]), "gave a array where bytes belong"),
    "list_of_lists": (_returned([[b"a"]]), "gave a list where bytes belong"),
    "tuple_of_text": (_returned(("text",)), "gave a str where bytes belong"),
    "iterator_of_text": (_returned(Endless("text")), "gave a str where bytes belong"),
    "iterator_of_none": (_returned(Endless(None)), "gave a NoneType where bytes belong"),
    "iterator_of_sized": (_returned(Endless(NotBytes())), "gave a NotBytes where bytes belong"),
    "text_written": (_writes("text"), "gave a str where bytes belong"),
    "none_written": (_writes(None), "gave a NoneType where bytes belong"),
    "no_start": (lambda environ, start_response: [b"body"], "did not call start_response"),
    "no_start_empty": (lambda environ, start_response: [], "did not call start_response"),
    "no_start_iterator": (lambda environ, start_response: Endless(b"a"), "did not call start_response"),
    "twice": (_twice, "start_response was called twice"),
    "recursion": (_recursive, "RecursionError"),
    "few_arguments": (lambda environ: [b""], "TypeError"),
    "status_bytes": (_headed([], b"200 OK"), "is not a str"),
    "status_number": (_headed([], 200), "is not a str"),
    "status_none": (_headed([], None), "is not a str"),
    "status_list": (_headed([], ["200 OK"]), "TypeError"),
    "status_short": (_headed([], "20 OK"), "is not a code and a reason"),
    "status_600": (_headed([], "600 No"), "is not a code and a reason"),
    "status_split": (_headed([], "200 OK\r\nX: y"), "is not a code and a reason"),
    "status_euro": (_headed([], "200 \u20ac"), "is not a code and a reason"),
    "headers_none": (_headed(None), "TypeError"),
    "headers_text": (_headed("abc"), "ValueError"),
    "headers_dict": (_headed({"Content-Type": "text/plain"}), "ValueError"),
    "header_triple": (_headed([("A", "b", "c")]), "ValueError"),
    "header_none": (_headed([None]), "TypeError"),
    "name_bytes": (_headed([(b"A", "b")]), "is not a str"),
    "name_none": (_headed([(None, "b")]), "is not a str"),
    "name_empty": (_headed([("", "b")]), "is not a token"),
    "name_space": (_headed([("A B", "b")]), "is not a token"),
    "name_colon": (_headed([("A:", "b")]), "is not a token"),
    "name_split": (_headed([("A\r\nB", "b")]), "is not a token"),
    "name_latin": (_headed([("\xe9", "b")]), "is not a token"),
    "value_bytes": (_headed([("A", b"b")]), "is not a str"),
    "value_none": (_headed([("A", None)]), "is not a str"),
    "value_number": (_headed([("A", 5)]), "is not a str"),
    "value_cr": (_headed([("A", "b\rc")]), "Value of header A"),
    "value_lf": (_headed([("A", "b\nc")]), "Value of header A"),
    "value_split": (_headed([("A", "b\r\nContent-Length: 0\r\n\r\n")]), "Value of header A"),
    "value_nul": (_headed([("A", "b\0c")]), "Value of header A"),
    "value_del": (_headed([("A", "b\x7fc")]), "Value of header A"),
    "value_euro": (_headed([("A", "\u20ac")]), "Value of header A"),
    "value_surrogate": (_headed([("A", "\udcff")]), "Value of header A"),
    "value_str_split": (_headed([("A", Str("b\r\nc"))]), "Value of header A"),
    "length_text": (_headed([("Content-Length", "four")]), "Content-Length"),
    "length_negative": (_headed([("Content-Length", "-4")]), "Content-Length"),
    "length_plus": (_headed([("Content-Length", "+4")]), "Content-Length"),
    "length_space": (_headed([("Content-Length", "4 4")]), "Content-Length"),
    "length_empty": (_headed([("Content-Length", "")]), "Content-Length"),
    "length_huge": (_headed([("Content-Length", "9" * 5000)]), "ValueError"),
    "length_twice": (_headed([("Content-Length", "4"), ("content-length", "5")]), "Content-Length"),
    "close_no_callable": (_returned(WithClose([b"a"], 5)), "not callable"),
    "wrapper_of_none": (lambda e, s: (start(s), e["wsgi.file_wrapper"](None))[1], "AttributeError"),
    "wrapper_of_closed": (_closed_twice, "ValueError"),
    "wrapper_of_text": (lambda e, s: (start(s), e["wsgi.file_wrapper"](io.StringIO("a")))[1], "where bytes"),
}


for _name, (_app, _) in NONSENSE.items():
    SITE.apps[_name] = _app


HEADERS: list[Any] = [
    (("Content-Type", "text/plain"), ("A", Str("b"))),
    [["Content-Type", "text/plain"], ["A", "b"]],
    {"A": "b"}.items(),
]
"""More than PEP 3333 asks for, and what some frameworks give."""


@SITE.app
def odd(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
    start_response(Str("200 OK"), HEADERS[int(environ["PATH_INFO"].rpartition("/")[2])])
    return [b"body"]


@pytest.fixture(scope="module", params=[1, 3], ids=["1 thread", "3 threads"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with SITE.worker(threads=request.param) as served:
        yield served


def one_entry(served: Served, target: str, *texts: str) -> None:
    entries = served.complaints()
    assert len(entries) == 1, [entry.text for entry in entries]
    text = entries[0].text
    for wanted in (f"GET {target}", f"worker 1 (pid {served.harness.pid})", *texts):
        assert wanted in text, (wanted, text)


def cut(client: Client) -> None:
    """The connection ends within an answer."""
    with pytest.raises((EOFError, ConnectionResetError)):
        client.answer()


@pytest.mark.every_python
@pytest.mark.parametrize("place", PLACES)
def test_whatever_an_application_raises_costs_its_request_only(served: Served, place: str) -> None:
    for name, error in RAISED.items():
        target = f"/raises/{place}/{name}"
        # Within an iterator it is no error but the end.
        ends = name == "stop_iteration" and place in ("next", "middle", "wrapped")
        with served.connect() as client:
            client.get(target)
            if place in CUT and not ends:
                assert client._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
                rest = client.rest()
                assert rest.startswith(b"4\r\nsome\r\n") and not rest.endswith(b"0\r\n\r\n")
            elif place == "close" or ends:
                assert client.answer().status == 200  # it is complete
            else:
                answer = client.answer()
                assert answer.status == 500 and answer.headers["connection"] == "close"
                assert b"boom" not in answer.body
                assert client.ended()
        served.wait_done()
        if not ends:
            one_entry(served, target, type(error).__name__)
        assert served.site.notes.take() == ["closed"] * (place in ("next", "middle", "close", "wrapped"))


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_answered_500_and_logged_once(served: Served, name: str) -> None:
    answer = served.ask(f"/{name}")
    if name != "close_no_callable":  # whose answer was complete
        assert answer.status == 500 and answer.headers["connection"] == "close"
        assert answer.body == b"500 Internal Server Error\nThe application failed.\n"
    one_entry(served, f"/{name}", NONSENSE[name][1])


def test_str_subclasses_tuples_and_lists_of_headers_are_taken(served: Served) -> None:
    """PEP 3333 asks for less, frameworks give more."""
    for number in range(len(HEADERS)):
        answer = served.ask(f"/odd/{number}")
        assert answer.status == 200 and answer.headers["a"] == "b"
    assert not served.complaints()


def _sized(give: Any) -> Any:
    """Promises ten bytes and gives what ``give`` makes of write()."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        return give(start(start_response, ("Content-Length", "10")))

    return app


def _written(*blocks: bytes) -> Any:
    def give(write: Any) -> list[bytes]:
        for block in blocks:
            write(block)
        return []

    return give


def _stubborn(write: Any) -> list[bytes]:
    """Writes on, whatever it is told."""
    for _ in range(20):
        try:
            write(b"four")
        except ValueError:
            SITE.notes.put("told")
    return [b"more"]


SIZES: dict[str, tuple[Any, bytes, str]] = {
    "long": (_sized(lambda write: [b"0123456789ab"]), b"0123456789", "more than its Content-Length of 10"),
    "long_parts": (_sized(lambda write: [b"01234567", b"89ab"]), b"0123456789", "more than its"),
    "long_iterator": (_sized(lambda write: Endless(b"0123")), b"0123012301", "more than its"),
    "long_written": (_sized(_written(b"01234567", b"89ab", b"cdef")), b"0123456789", "more than its"),
    "long_mixed": (_sized(lambda write: write(b"01234567") or [b"89ab"]), b"0123456789", "more than its"),
    "long_stubborn": (_sized(_stubborn), b"fourfourfo", "more than its"),
    "short": (_sized(lambda write: [b"01234"]), b"01234", "gave 5 bytes where its Content-Length says 10"),
    "short_parts": (_sized(lambda write: (b"012", b"34")), b"01234", "gave 5 bytes"),
    "short_iterator": (_sized(lambda write: iter([b"01234"])), b"01234", "gave 5 bytes"),
    "short_empty": (_sized(lambda write: []), b"", "gave 0 bytes"),
    "short_nothing": (_sized(lambda write: iter(())), b"", "gave 0 bytes"),
    "short_written": (_sized(_written(b"0", b"1234")), b"01234", "gave 5 bytes"),
    "short_mixed": (_sized(lambda write: write(b"01") or iter([b"234"])), b"01234", "gave 5 bytes"),
}
"""What ten bytes are promised for, what arrives and what the log says."""
for _name, (_app, _, _) in SIZES.items():
    SITE.apps[_name] = _app


@pytest.mark.parametrize("name", SIZES)
def test_content_length_is_kept_honest(served: Served, name: str) -> None:
    _, body, text = SIZES[name]
    with served.connect() as client:
        for _ in range(2 if name.startswith("long") else 1):  # the connection goes on
            client.get(f"/{name}")
            head = client._until(b"\r\n\r\n")
            assert b"Content-Length: 10\r\n" in head + b"\r\n"
            if name.startswith("long"):
                assert client._exactly(10) == body
            else:
                assert client.rest() == body
            served.wait_done()
            one_entry(served, f"/{name}", text)
            # Ten bytes are two writes and a half.
            assert served.site.notes.take() == ["told"] * (18 if name == "long_stubborn" else 0)


def test_a_head_request_needs_no_body(served: Served) -> None:
    """To HEAD an application may give nothing, whatever length it says."""
    with served.connect() as client:
        for name in SIZES:
            if "written" not in name and "stubborn" not in name:
                answer = served.ask(f"/{name}", client=client, method="HEAD")
                assert answer.headers["content-length"] == "10"
    assert not served.complaints()


@SITE.app
def replaces(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
    """/replaces/before and /after the head is out; /none: an empty exc_info, /keyword: given by name."""
    write = start(start_response, ("X", "first"))
    how = environ["PATH_INFO"].rpartition("/")[2]
    try:
        raise KeyError("original")
    except KeyError:
        information = sys.exc_info()
    if how == "after":
        write(b"out")
    if how == "none":
        information = (None, None, None)
    arguments = "503 Service Unavailable", [("X", "second"), ("Content-Length", "2")]
    if how == "keyword":  # against PEP 3333, and done
        start_response(*arguments, exc_info=information)
    else:
        start_response(*arguments, information)
    return [b"no"]


def test_exc_info_replaces_what_has_not_gone_out_and_is_raised_when_it_has(served: Served) -> None:
    for how in ("before", "none", "keyword"):
        answer = served.ask(f"/replaces/{how}")
        assert (answer.status, answer.headers["x"], answer.body) == (503, "second", b"no")
        assert not served.complaints()
    with served.connect() as client:
        client.get("/replaces/after")
        assert client._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
        assert client.rest() == b"3\r\nout\r\n"
    served.wait_done()
    one_entry(served, "/replaces/after", "KeyError: 'original'")


def test_the_worker_has_lived_through_all_of_it(served: Served) -> None:
    assert served.harness.status is None
    for _ in range(3):
        assert served.ask("/odd/0").status == 200
    assert served.harness.word(at.PID) == served.harness.pid
    assert "Booting" not in "".join(entry.text for entry in served.log())
