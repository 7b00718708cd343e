"""gunicorn's settings that are not settings here: what each one does when somebody brings it along.

Every name that gunicorn 27 knows is either in settings.table.TABLE with the same meaning, or a row of
:data:`FOREIGN`: ignored with a note, where nothing is lost but the effect; or refused with the reason, where
going on would leave the site open, broken or somewhere else than its owner believes. A value that asks for
nothing (gunicorn's default) is passed over in silence. Hooks are no settings: a Python config file has them.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from wsgitop.errors import ConfigError
from wsgitop.settings.hooks import HOOKS as RUN
from wsgitop.settings.hooks import NOT_RUN

Takes = Literal["value", "list", "switch", "off", "optional", "hook"]
"""What the flag takes: a value, a value and repeatable, nothing, nothing and it turns off, an optional
value, no flag."""


class Foreign(NamedTuple):
    """One of gunicorn's settings. ``reason`` completes "NAME: …"; ``harmless`` values ask for nothing."""

    name: str
    flags: tuple[str, ...]
    takes: Takes
    refused: bool
    reason: str
    remedy: str = ""
    harmless: tuple[Any, ...] = ()


ALIASES = {"control_socket_disable": "no_control_socket"}
"""Settings that exist here under another name."""

HOOKS = (*RUN, *NOT_RUN)
"""All of gunicorn's hooks."""

_TLS = "TLS is not served by this version"
_TLS_REMEDY = "Let a proxy such as nginx end TLS in front of wsgitop; bind to a unix socket or to loopback."
_HTTP2 = "has no effect: only HTTP/1.1 is served"
_ASGI = "has no effect: only WSGI applications are served"
_DIRTY = "has no effect: there are no dirty workers here"
_STRICT = "has no effect: such requests are always rejected"


def _ignored(name: str, flags: str, takes: Takes, reason: str, *harmless: Any) -> Foreign:
    return Foreign(name, tuple(flags.split()), takes, False, reason, "", harmless)


def _refused(name: str, flags: str, takes: Takes, reason: str, remedy: str, *harmless: Any) -> Foreign:
    return Foreign(name, tuple(flags.split()), takes, True, reason, remedy, harmless)


_ROWS = (
    # What would leave the server somewhere else, open, or answering wrongly if it were passed over.
    _refused("keyfile", "--keyfile", "value", _TLS, _TLS_REMEDY),
    _refused("certfile", "--certfile", "value", _TLS, _TLS_REMEDY),
    _refused("ca_certs", "--ca-certs", "value", _TLS, _TLS_REMEDY),
    _refused("cert_reqs", "--cert-reqs", "value", _TLS, _TLS_REMEDY, 0, "0"),
    _refused("proxy_protocol", "--proxy-protocol", "optional",
             "the PROXY protocol is not read by this version",
             "Let the proxy speak plain HTTP with X-Forwarded-For.", False, "off", "false"),
    _refused("protocol", "--protocol", "value", "only HTTP is served",
             "Let the proxy speak HTTP (proxy_pass in nginx).", "http"),
    _refused("paste", "--paste --paster", "value", "Paste Deploy files are not read",
             "Name the application as MODULE:CALLABLE."),
    _refused("raw_paste_global_conf", "--paste-global", "list", "Paste Deploy files are not read",
             "Name the application as MODULE:CALLABLE."),
    _refused("dirty_apps", "--dirty-app", "list", "there are no dirty workers here",
             "Run that code in a task queue."),

    # What can be done without.
    _ignored("spew", "--spew", "switch", "has no effect: there is no line tracing"),
    _ignored("check_config", "", "switch", "has no effect in a file; use `wsgitop check APP`"),
    _ignored("print_config", "", "switch", "has no effect in a file; use `wsgitop serve --print-config APP`"),
    _ignored("control_socket_mode", "--control-socket-mode", "value",
             "has no effect: the control socket is for its owner only (0600)", 0o600, "0o600", "0600", "600",
             "384"),
    _ignored("root_path", "--root-path", "value",
             "has no effect: it is for ASGI applications; what mounts a WSGI application is SCRIPT_NAME, set "
             "by the proxy or with --env"),
    _ignored("sendfile", "--no-sendfile", "off", "has no effect", True),
    _ignored("tmp_upload_dir", "", "value", "has no effect; worker_tmp_dir says where large bodies wait"),
    _ignored("default_proc_name", "", "value", "has no effect; use proc_name", "gunicorn"),
    _ignored("logger_class", "--logger-class", "value",
             "has no effect: a logger class is code for gunicorn's insides; logconfig_dict says which "
             "handlers lines go to, and statsd_host sends figures without one", "gunicorn.glogging.Logger",
             "gunicorn.instrument.statsd.Statsd"),
    _ignored("proxy_allow_ips", "--proxy-allow-from", "value",
             "has no effect: the PROXY protocol is not read by this version", "127.0.0.1,::1",
             ["127.0.0.1", "::1"]),
    _ignored("uwsgi_allow_ips", "--uwsgi-allow-from", "value", "has no effect: only HTTP is served",
             "127.0.0.1,::1", ["127.0.0.1", "::1"]),
    _ignored("permit_obsolete_folding", "--permit-obsolete-folding", "switch", _STRICT),
    _ignored("strip_header_spaces", "--strip-header-spaces", "switch", _STRICT),
    _ignored("permit_unconventional_http_method", "--permit-unconventional-http-method", "switch", _STRICT),
    _ignored("permit_unconventional_http_version", "--permit-unconventional-http-version", "switch", _STRICT),
    _ignored("casefold_http_method", "--casefold-http-method", "switch",
             "has no effect: methods are taken as they are sent"),
    _ignored("http_parser", "--http-parser", "value", "has no effect: there is one parser", "auto"),
    _ignored("http_protocols", "--http-protocols", "value", _HTTP2, "h1"),
    _ignored("http2_cleartext", "--http2-cleartext", "value", _HTTP2, "off"),
    _ignored("http2_max_concurrent_streams", "--http2-max-concurrent-streams", "value", _HTTP2, 100, "100"),
    _ignored("http2_initial_window_size", "--http2-initial-window-size", "value", _HTTP2, 65535, "65535"),
    _ignored("http2_max_frame_size", "--http2-max-frame-size", "value", _HTTP2, 16384, "16384"),
    _ignored("http2_max_header_list_size", "--http2-max-header-list-size", "value", _HTTP2, 65536, "65536"),
    _ignored("ssl_version", "--ssl-version", "value", _TLS, 2, "2"),
    _ignored("ciphers", "--ciphers", "value", _TLS),
    _ignored("suppress_ragged_eofs", "--suppress-ragged-eofs", "switch", _TLS, True),
    _ignored("do_handshake_on_connect", "--do-handshake-on-connect", "switch", _TLS),
    _ignored("asgi_loop", "--asgi-loop", "value", _ASGI, "auto"),
    _ignored("asgi_lifespan", "--asgi-lifespan", "value", _ASGI, "auto"),
    _ignored("asgi_disconnect_grace_period", "--asgi-disconnect-grace-period", "value", _ASGI, 3, "3"),
    _ignored("websocket_max_message_size", "--websocket-max-message-size", "value", _ASGI, 16777216,
             "16777216"),
    _ignored("dirty_workers", "--dirty-workers", "value", _DIRTY, 0, "0"),
    _ignored("dirty_timeout", "--dirty-timeout", "value", _DIRTY, 300, "300"),
    _ignored("dirty_threads", "--dirty-threads", "value", _DIRTY, 1, "1"),
    _ignored("dirty_graceful_timeout", "--dirty-graceful-timeout", "value", _DIRTY, 30, "30"),
    *(_ignored(hook, "", "hook", "hooks are taken from a Python config file only") for hook in RUN),
    *(_ignored(hook, "", "hook", "this hook is not run by this version") for hook in NOT_RUN),
)  # fmt: skip

FOREIGN: dict[str, Foreign] = {row.name: row for row in _ROWS}
"""Every such setting by name."""


def judge(row: Foreign, value: object, origin: str) -> str:
    """The note to log for this value, '' if it asks for nothing. Raises ConfigError for what is refused."""
    if _asks_for_nothing(row, value):
        return ""
    if row.refused:
        raise ConfigError(f"{row.name}: {row.reason} (from {origin})", row.remedy)
    return f"{row.name}: {row.reason} (from {origin})"


def _asks_for_nothing(row: Foreign, value: object) -> bool:
    # `0 == False`, so a sendfile=False is passed over: it turns off what is not there to be turned off.
    return value is None or value is False or value in ("", [], {}) or value in row.harmless


_SYNC_CLASSES = frozenset({
    "sync", "gunicorn.workers.sync.SyncWorker", "gthread", "gunicorn.workers.gthread.ThreadWorker",
})  # fmt: skip
_ASYNC_WORDS = ("gevent", "eventlet", "tornado")
_ASGI_WORDS = ("asgi", "uvicorn", "daphne", "hypercorn", "aiohttp")


def check_worker_class(name: str, origin: str) -> str:
    """'' for sync and gthread: one engine serves both. Raises ConfigError for every other worker class."""
    if name in _SYNC_CLASSES:
        return ""
    cause = f"worker_class: {name!r} is not served here: "
    kind = name.lower()
    if any(word in kind for word in _ASGI_WORDS):
        raise ConfigError(
            f"{cause}wsgitop serves WSGI applications only (from {origin})",
            "Serve an ASGI application with uvicorn.",
        )
    if any(word in kind for word in _ASYNC_WORDS):
        raise ConfigError(
            f"{cause}there is one engine, and it uses threads (from {origin})",
            "Use --threads N for requests at the same time; an application patched by gevent needs gunicorn.",
        )
    raise ConfigError(f"{cause}there is one engine (from {origin})", "Leave it out, or give sync or gthread.")
