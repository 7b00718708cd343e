"""What a peer may say about itself and its client, beside what gunicorn makes of the same bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from wsgitop.http.faults import Fault, RequestFault
from wsgitop.http.head import HeadParser, Limits
from wsgitop.http.request import RequestParser
from wsgitop.settings.load import Layer, resolve
from wsgitop.wsgi.body import RequestBody
from wsgitop.wsgi.environ import EnvironTemplate
from wsgitop.wsgi.proxies import TrustedProxies

REFUSED = {"refused": 400}
LOST = {"refused": 500}
HTTP = {"wsgi.url_scheme": "http"}
HTTPS = {"wsgi.url_scheme": "https"}


class Case(NamedTuple):
    """Header lines of a request for ``target`` from ``peer``, what environ has then (a key that it has not is
    None), and what gunicorn makes of it if that is something else.
    """

    lines: str
    expected: dict[str, Any]
    target: str = "/app/x%20y?q"
    peer: str = "127.0.0.1"
    settings: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    gunicorn: dict[str, Any] | None = None
    script_name: str = ""


SECRET = {"forwarder_headers": "REMOTE_USER,SCRIPT_NAME"}
MOUNTED = {"SCRIPT_NAME": "/app", "PATH_INFO": "/x y", "RAW_URI": "/app/x%20y?q", "QUERY_STRING": "q"}
NOT_MOUNTED = {"SCRIPT_NAME": "", "PATH_INFO": "/app/x y", "HTTP_SCRIPT_NAME": None}
CASES = {
    # -- the scheme
    "nothing said": Case("X: y", HTTP),
    "https": Case("X-Forwarded-Proto: https", HTTPS),
    "in another case": Case("X-Forwarded-Proto: HTTPS", HTTPS, gunicorn=HTTP),
    "http": Case("X-Forwarded-Proto: http", HTTP),
    "something else": Case("X-Forwarded-Proto: httpss", HTTP),
    "empty": Case("X-Forwarded-Proto:", HTTP),
    "all agree": Case("X-Forwarded-Proto: https\nX-Forwarded-Ssl: on\nX-Forwarded-Protocol: ssl", HTTPS),
    "all agree on no": Case("X-Forwarded-Proto: http\nX-Forwarded-Ssl: off", HTTP),
    "a contradiction": Case("X-Forwarded-Proto: https\nX-Forwarded-Ssl: off", REFUSED),
    "the contrary one": Case("X-Forwarded-Ssl: on\nX-Forwarded-Proto: http", REFUSED),
    "said twice": Case("X-Forwarded-Proto: https\nX-Forwarded-Proto: https", HTTPS),
    # HTTP knows no difference between two fields of a name and a list in one.
    "a list": Case("X-Forwarded-Proto: https, https", HTTPS, gunicorn=HTTP),
    "a mixed list": Case("X-Forwarded-Proto: https, http", HTTP),
    "two fields": Case("X-Forwarded-Proto: https\nX-Forwarded-Proto: http", HTTP, gunicorn=REFUSED),
    "an untrusted peer": Case("X-Forwarded-Proto: https", HTTP, peer="192.0.2.1"),
    "a contradiction of an untrusted peer": Case(
        "X-Forwarded-Proto: https\nX-Forwarded-Ssl: off", HTTP, peer="192.0.2.1"
    ),
    "a network": Case(
        "X-Forwarded-Proto: https", HTTPS, peer="10.7.0.1", settings={"forwarded_allow_ips": "10.0.0.0/8"}
    ),
    "outside of it": Case(
        "X-Forwarded-Proto: https", HTTP, peer="11.0.0.1", settings={"forwarded_allow_ips": "10.0.0.0/8"}
    ),
    "IPv6": Case("X-Forwarded-Proto: https", HTTPS, peer="::1"),
    "IPv4 in IPv6": Case("X-Forwarded-Proto: https", HTTPS, peer="::ffff:127.0.0.1", gunicorn=HTTP),
    "another IPv4 in IPv6": Case("X-Forwarded-Proto: https", HTTP, peer="::ffff:127.0.0.2"),
    "anybody": Case("X-Forwarded-Proto: https", HTTPS, peer="8.8.8.8", settings={"forwarded_allow_ips": "*"}),
    "nobody": Case("X-Forwarded-Proto: https", HTTP, settings={"forwarded_allow_ips": ""}),
    "a unix socket": Case(
        "X-Forwarded-Proto: https", HTTPS, peer="", settings={"forwarded_allow_ips": ""}
    ),
    "a header of one's own": Case(
        "X-Forwarded-Proto: https\nX-Tls: y", HTTPS, settings={"secure_scheme_headers": {"X-TLS": "y"}}
    ),
    "no header at all": Case("X-Forwarded-Proto: https", HTTP, settings={"secure_scheme_headers": {}}),
    "with an underscore": Case("X_Forwarded_Proto: https", HTTP | {"HTTP_X_FORWARDED_PROTO": None}),
    "with an underscore, dangerously": Case(
        "X_Forwarded_Proto: https", HTTP | {"HTTP_X_FORWARDED_PROTO": "https"},
        settings={"header_map": "dangerous"},
    ),
    "the client's address": Case(
        "X-Forwarded-For: 203.0.113.9\nForwarded: for=203.0.113.9;proto=https",
        HTTP | {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.9"},
    ),

    # -- where the application is mounted
    "mounted": Case("SCRIPT_NAME: /app", MOUNTED | {"HTTP_SCRIPT_NAME": "/app"}),
    "mounted, in small letters": Case("script_name: /app", MOUNTED),
    "mounted by an untrusted peer": Case("SCRIPT_NAME: /app", NOT_MOUNTED, peer="192.0.2.1"),
    "mounted by an untrusted peer, dangerously": Case(
        "SCRIPT_NAME: /app", NOT_MOUNTED | {"HTTP_SCRIPT_NAME": "/app"}, peer="192.0.2.1",
        settings={"header_map": "dangerous"}, gunicorn=MOUNTED,
    ),
    "with a hyphen": Case("Script-Name: /app", NOT_MOUNTED | {"HTTP_SCRIPT_NAME": "/app"}),
    "with a hyphen, too": Case("Script-Name: /x\nSCRIPT_NAME: /app\nScript-Name: /y", MOUNTED),
    "exactly there": Case("SCRIPT_NAME: /app", {"SCRIPT_NAME": "/app", "PATH_INFO": ""}, target="/app?q"),
    "with a slash": Case(
        "SCRIPT_NAME: /app/", MOUNTED, gunicorn={"SCRIPT_NAME": "/app/", "PATH_INFO": "x y"}
    ),
    "at the root": Case("SCRIPT_NAME: /", NOT_MOUNTED | {"HTTP_SCRIPT_NAME": "/"}, gunicorn={
        "SCRIPT_NAME": "/", "PATH_INFO": "app/x y",
    }),
    "elsewhere": Case("SCRIPT_NAME: /other", LOST),
    "at a beginning that is no segment": Case(
        "SCRIPT_NAME: /ap", LOST, gunicorn={"SCRIPT_NAME": "/ap", "PATH_INFO": "p/x y"}
    ),
    "percent-encoded": Case(
        "SCRIPT_NAME: /caf%C3%A9", {"SCRIPT_NAME": "/caf\xc3\xa9", "PATH_INFO": "/x"},
        target="/caf%c3%a9/x", gunicorn=LOST,
    ),
    "twice": Case("SCRIPT_NAME: /app\nSCRIPT_NAME: /other", REFUSED, gunicorn=LOST),
    "by the environment": Case("X: y", MOUNTED | {"HTTP_SCRIPT_NAME": None}, script_name="/app"),
    "by the environment, for anybody": Case("X: y", MOUNTED, script_name="/app", peer="192.0.2.1"),
    "by both": Case("SCRIPT_NAME: /app", MOUNTED, script_name="/other"),
    "by the environment, elsewhere": Case("X: y", LOST, script_name="/other"),
    "a path in a header is no path": Case(
        "PATH_INFO: /elsewhere", {"PATH_INFO": "/app/x y", "HTTP_PATH_INFO": "/elsewhere"}
    ),

    # -- other names with an underscore
    "a user": Case("REMOTE_USER: alice", {"HTTP_REMOTE_USER": "alice"}, settings=SECRET),
    "a user of an untrusted peer": Case(
        "REMOTE_USER: alice", {"HTTP_REMOTE_USER": None}, settings=SECRET, peer="192.0.2.1"
    ),
    "a user beside the client's": Case(
        "Remote-User: root\nREMOTE_USER: alice\nRemote-User: root", {"HTTP_REMOTE_USER": "alice"},
        settings=SECRET, gunicorn={"HTTP_REMOTE_USER": "root,alice,root"},
    ),
    "two users": Case(
        "REMOTE_USER: root\nREMOTE_USER: alice", REFUSED, settings=SECRET,
        gunicorn={"HTTP_REMOTE_USER": "root,alice"},
    ),
    "the same user twice": Case(
        "REMOTE_USER: alice\nREMOTE_USER: alice", {"HTTP_REMOTE_USER": "alice"}, settings=SECRET,
        gunicorn={"HTTP_REMOTE_USER": "alice,alice"},
    ),
    "any name": Case("a_b: c", {"HTTP_A_B": "c"}, settings={"forwarder_headers": "*"}),
    "dropped": Case("a_b: c\nA-B: d", {"HTTP_A_B": "d"}),
    "refused": Case("a_b: c", REFUSED, settings={"header_map": "refuse"}),
    "refused, but for the proxy's": Case(
        "SCRIPT_NAME: /app", MOUNTED, settings={"header_map": "refuse"}
    ),
    "refused, with the proxy's of another": Case(
        "SCRIPT_NAME: /app", REFUSED, settings={"header_map": "refuse"}, peer="192.0.2.1"
    ),
    "mixed up": Case("A-B: c\na_b: d", {"HTTP_A_B": "c,d"}, settings={"header_map": "dangerous"}),
    "mixed up with what frames a body": Case(
        "Transfer_Encoding: chunked\nContent_Length: 7\nContent_Type: t/p",
        {
            "HTTP_TRANSFER_ENCODING": "chunked", "HTTP_CONTENT_LENGTH": "7", "HTTP_CONTENT_TYPE": "t/p",
            "CONTENT_LENGTH": None, "CONTENT_TYPE": None,
        },
        settings={"header_map": "dangerous"},
    ),
}  # fmt: skip


def ours(case: Case) -> dict[str, Any]:
    """The environ that an application would get, or how it is refused."""
    settings = resolve([Layer("gunicorn.conf.py", case.settings)]).settings
    parser = RequestParser(HeadParser(Limits()), lambda: RequestBody(1024, ""))
    template = EnvironTemplate(
        ("127.0.0.1", "8000") if case.peer else ("/run/s", ""),
        (case.peer, "1234" if case.peer else ""),
        multithread=False,
        proxies=TrustedProxies(settings, case.script_name),
    )
    environ: dict[str, Any] = {}
    for _ in range(3):  # parser and template remember what they have seen
        before = environ
        parser.feed(f"GET {case.target} HTTP/1.1\nHost: h\n{case.lines}\n\n".replace("\n", "\r\n").encode())
        request = parser.next()
        assert request is not None and not isinstance(request, Fault)
        try:
            environ = template.make(request)
        except RequestFault as error:
            environ = {"refused": error.fault.status}
        assert not before or before.items() <= (environ | {"wsgi.input": before.get("wsgi.input")}).items()
    return environ


def theirs(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    from gunicorn.config import Config
    from gunicorn.http import wsgi
    from gunicorn.http.errors import ParseException
    from gunicorn.http.parser import RequestParser as TheirParser

    monkeypatch.setenv("SCRIPT_NAME", case.script_name)
    config = Config()
    for name, value in case.settings.items():
        config.set(name, value)
    data = f"GET {case.target} HTTP/1.1\nHost: h\n{case.lines}\n\n".replace("\n", "\r\n").encode()
    peer = (case.peer, 1234) if case.peer else ""
    try:
        request = next(TheirParser(config, iter([data]), peer))
        return wsgi.create(request, None, peer, ("127.0.0.1", 8000), config)[1]  # type: ignore[no-any-return]
    except ParseException as error:
        return {"refused": 500 if type(error).__name__ == "ConfigurationProblem" else 400}


def check(expected: dict[str, Any], environ: dict[str, Any]) -> None:
    assert {key: environ.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", CASES)
def test_what_a_peer_says(name: str) -> None:
    case = CASES[name]
    environ = ours(case)
    check(case.expected, environ)
    if "refused" not in environ:
        assert environ["REMOTE_ADDR"] == case.peer


@pytest.mark.foreign
@pytest.mark.parametrize("name", CASES)
def test_gunicorn_makes_the_same_of_it_or_what_the_case_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    case = CASES[name]
    check(case.expected if case.gunicorn is None else case.gunicorn, theirs(case, monkeypatch))


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("Host: site", "http", ("site", "80")),
        ("Host: site", "https", ("site", "443")),
        ("Host: site:8080", "https", ("site", "8080")),
        ("Host: [::1]", "http", ("[::1]", "80")),
        ("Host: [::1]:81", "http", ("[::1]", "81")),
        ("Host: site:", "http", ("site", "80")),
    ],
)
def test_a_unix_socket_has_the_name_that_the_client_uses(
    host: str, scheme: str, expected: tuple[str, str]
) -> None:
    parser = RequestParser(HeadParser(Limits()), lambda: RequestBody(1024, ""))
    proxies = TrustedProxies(resolve([]).settings)
    template = EnvironTemplate(("/run/s", ""), ("", ""), multithread=False, proxies=proxies)
    parser.feed(f"GET / HTTP/1.1\r\n{host}\r\nX-Forwarded-Proto: {scheme}\r\n\r\n".encode())
    environ = template.make(parser.next())  # type: ignore[arg-type]
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == expected
    parser.feed(b"GET / HTTP/1.0\r\n\r\n")
    environ = template.make(parser.next())  # type: ignore[arg-type]
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")


def test_a_refused_request_gives_its_body_back() -> None:
    bodies: list[RequestBody] = []

    def open_body() -> RequestBody:
        bodies.append(RequestBody(10, ""))
        return bodies[-1]

    parser = RequestParser(HeadParser(Limits()), open_body)
    proxies = TrustedProxies(resolve([Layer("c.py", {"header_map": "refuse"})]).settings)
    template = EnvironTemplate(("h", "1"), ("h", "2"), multithread=False, proxies=proxies)
    parser.feed(b"POST / HTTP/1.1\r\nHost: h\r\na_b: c\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)
    with pytest.raises(RequestFault):
        template.make(parser.next())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="closed"):
        bodies[0].open()
