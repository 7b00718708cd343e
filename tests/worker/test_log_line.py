"""Lines of the access log: atoms, gunicorn's own lines beside ours, JSON, and text that would forge."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.exchange import Exchange
from wsgitop.errors import ConfigError
from wsgitop.settings.table import DEFAULT_ACCESS_FORMAT
from wsgitop.worker.log_line import JSON_FIELDS, compile_line, quoted

FIELDS = {
    "HTTP_REFERER": "http://r/",
    "HTTP_USER_AGENT": "curl/8",
    "HTTP_AUTHORIZATION": "Basic " + base64.b64encode(b"alice:secret").decode(),
    "CONTENT_TYPE": "t/p",
}
PLAIN = Exchange(
    fields=FIELDS, headers=[("X-Out", "1"), ("x-out", "2")], environ={"my.Key": "e", "NUMBER": 3}, path="/a_b"
)
TEXT = st.text(st.characters(max_codepoint=255), max_size=40)
QUOTED = r'"((?:[^"\\]|\\.)*)"'
COMBINED = re.compile(
    r"(\S+) - (\S+) (\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]) "
    rf"{QUOTED} (\d+) (\d+) {QUOTED} {QUOTED}\n"
)


_compiled = functools.cache(compile_line)


def line(text: str, exchange: Exchange = PLAIN, limit_bytes: int = 0) -> str:
    return _compiled(text, limit_bytes)(*exchange.arguments).decode("ascii")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(h)s %(l)s %(u)s", "192.0.2.1 - alice"),
        ('"%(r)s" %(s)s %(b)s %(B)s', '"GET /a%20b?q=1 HTTP/1.1" 201 1234 1234'),
        ("%(m)s %(U)s %(q)s %(H)s", "GET /a_b q=1 HTTP/1.1"),
        ("%(f)s %(a)s", "http://r/ curl/8"),
        ("%(T)s %(D)s %(M)s %(L)s", "1 1234567 1234 1.234567"),
        ("%(p)s 100%%", f"<{os.getpid()}> 100%"),
        ("%({content-type}i)s %({X-None}i)s %({x-out}o)s %({none}o)s", "t/p - 2 -"),
        ("%({MY.key}e)s %({number}e)s %({none}e)s", "e 3 -"),
        ("%(D)09d|%(D)x|%(B).1f|%(T)5s|%(s)-5s|%(l)3s|%(p).3s", "001234567|12d687|1234.0|    1|201  |  -|<" +
         str(os.getpid())[:2]),
        ("%(m)5s|%(m)-5s|%(m).2s|%(m)5.2s|%(m)r|%(f)a", "  GET|GET  |GE|   GE|'GET'|'http://r/'"),
        ("", ""),
        ("{} %% {x} \\ é → \"", "{} % {x} \\ é → \""),
    ],
)  # fmt: skip
def test_atoms(text: str, expected: str) -> None:
    assert compile_line(text)(*PLAIN.arguments).decode() == expected + "\n"


def test_time_is_local_and_rendered_anew_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_700_000_000.75
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        monkeypatch.setattr(time, "time", lambda: now_s)
        compiled, as_json = compile_line("%(t)s"), compile_line("json")
        for second, expected in ((0, "03:58:20"), (0, "03:58:20"), (1, "03:58:21"), (-1, "03:58:19")):
            now_s = 1_700_000_000.75 + second
            assert compiled(*PLAIN.arguments).decode() == f"[15/Nov/2023:{expected} +0545]\n"
            shown = datetime.fromisoformat(json.loads(as_json(*PLAIN.arguments))["time"])
            assert shown == datetime.fromtimestamp(now_s, UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["%(z)s", "100%", "%(h)d", "%(h)", "%(h)99999s"])
def test_formats_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="access_log_format"):
        compile_line(text)


def test_no_request_has_some_of_what_a_line_shows() -> None:
    bare = Exchange("/", client="", fields={"HTTP_REFERER": "", "HTTP_AUTHORIZATION": "Basic OnB3"})
    text = "%(h)s|%(u)s|%(f)s|%(a)s|%(q)s|%({x}i)s"
    assert line(text, bare) == "-|-||-||-\n"
    for credentials in ("Basic !", "Basic", "Bearer YTpi", "Basic YQ", ""):
        assert line("%(u)s", Exchange(fields={"HTTP_AUTHORIZATION": credentials})) == "-\n"


# -- gunicorn's own lines ------------------------------------------------------------------------------------


@pytest.mark.foreign
@pytest.mark.parametrize(
    "text",
    [
        DEFAULT_ACCESS_FORMAT.replace("%(t)s", ""),
        "%(h)s %(l)s %(u)s %(r)s %(s)s %(m)s %(U)s %(q)s %(H)s %(b)s %(B)s %(f)s %(a)s %(p)s %({Referer}i)s",
        "%(T)s %(M)s %(D)s %(L)s %(D)012d %(T)x %(M)-9s|",
        "%({REFERER}i)s %({content-type}i)s %({none}i)s %({X-OUT}o)s %({my.key}e)s %({NUMBER}e)s %({no}e)s",
        "%(h)20s|%(a).3s|%(r)r|%(a)-20s|%(u)10.2s",
    ],
)
@pytest.mark.parametrize("body_bytes", [0, 1234])
def test_gunicorn_writes_the_same(text: str, body_bytes: int) -> None:
    config = pytest.importorskip("gunicorn.config", reason="gunicorn is not installed")
    from gunicorn.glogging import Logger

    exchange = PLAIN
    exchange.response.body_bytes = body_bytes
    request, response = exchange.request, exchange.response
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.target,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "REMOTE_ADDR": exchange.client,
        **request.fields,
        **exchange.environ,
    }
    theirs = SimpleNamespace(status=response.status_text, sent=body_bytes, headers=response.headers)
    headers = [(key.removeprefix("HTTP_").replace("_", "-"), value) for key, value in request.fields.items()]
    logger = Logger(config.Config())
    atoms = logger.atoms(
        theirs, SimpleNamespace(headers=headers), environ, timedelta(microseconds=exchange.elapsed_ns // 1000)
    )
    try:
        assert line(text) == text % logger.atoms_wrapper_class(atoms) + "\n"
    finally:
        exchange.response.body_bytes = 1234


# -- JSON ----------------------------------------------------------------------------------------------------


def test_json_line() -> None:
    fields = FIELDS | {"HTTP_HOST": "site", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}
    shown = json.loads(line("json", Exchange(fields=fields, path="/a b")))
    assert tuple(shown) == JSON_FIELDS
    moment = datetime.fromisoformat(shown.pop("time"))
    assert abs(moment.timestamp() - time.time()) < 5
    assert shown == {
        "client": "192.0.2.1",
        "user": "alice",
        "method": "GET",
        "path": "/a%20b",
        "query": "q=1",
        "protocol": "HTTP/1.1",
        "host": "site",
        "status": 201,
        "received_bytes": 77,
        "sent_bytes": 1500,
        "body_bytes": 1234,
        "elapsed_s": 1.234567,
        "referer": "http://r/",
        "user_agent": "curl/8",
        "forwarded_for": "203.0.113.9",
        "pid": os.getpid(),
    }
    bare = json.loads(line("json", Exchange("/", client="")))
    assert {bare[name] for name in ("client", "user", "query", "host", "referer", "user_agent")} == {""}


# -- text that would forge -----------------------------------------------------------------------------------


def _unescaped(text: str) -> str:
    return re.sub(
        r"\\(x([0-9a-f]{2})|.)", lambda match: chr(int(match[2], 16)) if match[2] else match[1], text
    )


def _hostile(target: str, referer: str, agent: str, user: str) -> Exchange:
    credentials = base64.b64encode(user.encode("latin-1") + b":p").decode()
    fields = {
        "HTTP_REFERER": referer,
        "HTTP_USER_AGENT": agent,
        "HTTP_X_FORWARDED_FOR": agent,
        "HTTP_AUTHORIZATION": f"Basic {credentials}",
    }
    headers = [("X-Out", agent), ("Other", referer)]
    return Exchange(target, fields=fields, headers=headers, environ={"V": referer})


@given(TEXT, TEXT, TEXT, TEXT)
def test_nothing_from_outside_ends_a_line_or_a_field(
    target: str, referer: str, agent: str, user: str
) -> None:
    exchange = _hostile(target, referer, agent, user)
    shown = line(DEFAULT_ACCESS_FORMAT, exchange)
    assert shown[:-1].isprintable()
    parsed = COMBINED.fullmatch(shown)
    assert parsed is not None, shown
    assert _unescaped(parsed[4]) == f"GET {target} HTTP/1.1"
    assert (_unescaped(parsed[7]), _unescaped(parsed[8])) == (referer, agent)
    assert _unescaped(parsed[2]) == (user.partition(":")[0] or "-")


@given(TEXT, TEXT, TEXT, TEXT)
def test_nothing_from_outside_ends_a_json_object(target: str, referer: str, agent: str, user: str) -> None:
    exchange = _hostile(target, referer, agent, user)
    shown = line("json", exchange)
    assert shown[:-1].isprintable()
    fields = json.loads(shown)
    assert (fields["path"], fields["query"]) == (target.partition("?")[0], target.partition("?")[2])
    assert (fields["referer"], fields["user_agent"], fields["forwarded_for"]) == (referer, agent, agent)
    assert fields["user"] == user.partition(":")[0]
    own = '{"r":"%(r)s","u":"%(u)s","a":"%(a)s","i":"%({referer}i)s","o":"%({x-out}o)s","v":"%({v}e)s"}'
    assert json.loads(line(own, exchange)) == {
        "r": f"GET {target} HTTP/1.1", "u": user.partition(":")[0] or "-", "a": agent, "i": referer,
        "o": agent, "v": referer,
    }  # fmt: skip


@given(TEXT, st.sampled_from(["s", "r", "a", ".3s", "12.7s", "-30s"]))
def test_conversions_do_not_undo_the_escapes(agent: str, conversion: str) -> None:
    shown = line(f'"%(a){conversion}" "%(m)s"', _hostile("/", "", agent, "u"))
    assert shown[:-1].isprintable()
    assert re.fullmatch(rf'{QUOTED} "GET"\n', shown), shown


@given(TEXT, TEXT)
def test_a_field_between_spaces_has_none(path: str, query: str) -> None:
    exchange = Exchange(f"/?{query}", path="/" + path)
    shown = line("%(U)s %(q)s %(H)s\t%(U)s\t", exchange)
    fields, whole, _ = shown.split("\t")
    assert fields.count(" ") == 2
    assert _unescaped(fields.partition(" ")[0]) == _unescaped(whole) == "/" + path


@given(st.text(st.characters(max_codepoint=255)))
def test_quoted(text: str) -> None:
    assert _unescaped(quoted(text)) == text


@given(TEXT, TEXT)
def test_a_line_for_a_pipe_is_shortened_and_still_whole(target: str, agent: str) -> None:
    exchange = _hostile(target * 200, agent * 300, agent * 300, "u" * 4000)
    shown = line(DEFAULT_ACCESS_FORMAT, exchange, 4096)
    assert len(shown) <= 4096
    assert COMBINED.fullmatch(shown)
    shown = line("json", exchange, 4096)
    assert len(shown) <= 4096
    assert tuple(json.loads(shown)) == JSON_FIELDS
    assert "u..." in shown


@pytest.mark.parametrize(
    "headers",
    [[(1, 2)], [5], 7, [("X-Out", 3)], [("X-Out", "é\n\ud800")]],
    ids=["pair", "number", "none", "value", "text"],
)
def test_headers_and_variables_may_be_anything(headers: object) -> None:
    exchange = Exchange(environ={"v": object(), "W": "€\ud800\x1b"})
    exchange.response.headers = headers  # type: ignore[assignment]
    shown = line("%({x-out}o)s %({v}e)s %({w}e)s", exchange)
    assert shown.isascii()
    assert shown.endswith(" - \\\\u20ac\\\\ud800\\x1b\n")
