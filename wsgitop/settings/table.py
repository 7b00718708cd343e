"""The settings, each declared once.

A field of :class:`Settings` gives a setting's name, type, bounds and default; its :func:`option` gives the
flags, the section and the help. The command line, the file loader, the environment and the settings reference
all derive from :data:`TABLE`.
Names and spellings are gunicorn's wherever gunicorn has the setting.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec


def option(
    *flags: str,
    help: str,  # noqa: A002 - the word that every command line library uses
    section: str,
    metavar: str = "",
    ge: float | None = None,
    le: float | None = None,
) -> msgspec.Meta:
    """How a setting looks from outside. Flags as on the command line, ``help`` one or two sentences."""
    return msgspec.Meta(
        ge=ge, le=le, description=help, extra={"flags": flags, "section": section, "metavar": metavar}
    )


SERVER = "Server"
WORKERS = "Workers"
LOGGING = "Logging"
CONTROL = "Control"
LIMITS = "Limits"
PROCESS = "Process"
PROXY = "Proxy"
DEVELOPMENT = "Development"

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
ReloadEngine = Literal["auto", "poll", "inotify", "watchfiles"]
HeaderMap = Literal["drop", "refuse", "dangerous"]
Text = tuple[str, ...]

DEFAULT_ACCESS_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

DEFAULT_SECURE_HEADERS = {
    "X-FORWARDED-PROTOCOL": "ssl",
    "X-FORWARDED-PROTO": "https",
    "X-FORWARDED-SSL": "on",
}


# A table: three lines a setting, where the formatter would make it ten.
# fmt: off
class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set, resolved. Durations are seconds, sizes bytes."""

    wsgi_app: Annotated[str, option(
        help="The application as MODULE:CALLABLE, for example mysite.wsgi:application.", section=SERVER,
        metavar="APP",
    )] = ""
    bind: Annotated[Text, option(
        "-b", "--bind", section=SERVER, metavar="ADDRESS",
        help="Where to listen: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N; 0:8000 means every address. "
        "Can be repeated.",
    )] = ("127.0.0.1:8000",)
    backlog: Annotated[int, option(
        "--backlog", section=SERVER, metavar="N", ge=1, le=65535,
        help="Connections that may wait to be accepted.",
    )] = 2048
    reuse_port: Annotated[
        bool, option("--reuse-port", section=SERVER, help="Set SO_REUSEPORT on the listeners.")
    ] = False

    workers: Annotated[int | Literal["auto"], option(
        "-w", "--workers", section=WORKERS, metavar="N|auto",
        help="Worker processes; auto: one for each core that this process may use (cgroup limits count).",
    )] = 1
    threads: Annotated[int, option(
        "--threads", section=WORKERS, metavar="N", ge=1, le=256,
        help="Threads of each worker. 1 keeps the application single-threaded, in the main thread.",
    )] = 1
    worker_class: Annotated[str, option(
        "-k", "--worker-class", section=WORKERS, metavar="NAME",
        help="Accepted for gunicorn's sync and gthread: one engine serves both.",
    )] = "sync"
    worker_connections: Annotated[int, option(
        "--worker-connections", section=WORKERS, metavar="N", ge=1,
        help="Client connections that a worker holds at most.",
    )] = 10000
    timeout: Annotated[float, option(
        "-t", "--timeout", section=WORKERS, metavar="SECONDS", ge=0,
        help="Longest time inside one call of the application; 0: no limit. "
        "The request is then cut and its worker replaced.",
    )] = 30.0
    graceful_timeout: Annotated[float, option(
        "--graceful-timeout", section=WORKERS, metavar="SECONDS", ge=0,
        help="How long a retiring worker may take to finish its requests.",
    )] = 30.0
    keepalive: Annotated[float, option(
        "--keep-alive", section=WORKERS, metavar="SECONDS", ge=0,
        help="How long an idle connection is kept.",
    )] = 2.0
    boot_timeout: Annotated[float, option(
        "--boot-timeout", section=WORKERS, metavar="SECONDS", ge=1,
        help="How long loading the application may take.",
    )] = 60.0
    preload_app: Annotated[bool, option(
        "--preload", section=WORKERS,
        help="Load the application once per generation, before workers are forked: they share its memory "
        "and start at once.",
    )] = False
    reload_surge: Annotated[int, option(
        "--reload-surge", section=WORKERS, metavar="N", ge=1, le=64,
        help="Workers that a reload may run beyond --workers.",
    )] = 1

    max_requests: Annotated[int, option(
        "--max-requests", section=WORKERS, metavar="N", ge=0,
        help="Replace a worker that has served so many requests, its successor first; 0: never.",
    )] = 0
    max_requests_jitter: Annotated[int, option(
        "--max-requests-jitter", section=WORKERS, metavar="N", ge=0,
        help="Up to so many requests more, drawn anew for each worker, so that not all are replaced at once.",
    )] = 0
    max_lifetime: Annotated[float, option(
        "--max-lifetime", section=WORKERS, metavar="SECONDS", ge=0,
        help="Replace a worker that has served for so long, its successor first; 0: never.",
    )] = 0.0
    max_lifetime_jitter: Annotated[float, option(
        "--max-lifetime-jitter", section=WORKERS, metavar="SECONDS", ge=0,
        help="Up to so much longer, drawn anew for each worker.",
    )] = 0.0
    max_rss: Annotated[int, option(
        "--max-rss", section=WORKERS, metavar="BYTES", ge=0,
        help="Replace a worker whose resident memory exceeds this, its successor first (400M); 0: never.",
    )] = 0

    config: Annotated[str, option(
        "-c", "--config", section=PROCESS, metavar="FILE",
        help="Python file with settings; otherwise the first of ./wsgitop.conf.py, ./gunicorn.conf.py, "
        "[tool.wsgitop] in ./pyproject.toml.",
    )] = ""
    chdir: Annotated[str, option(
        "--chdir", section=PROCESS, metavar="DIR",
        help="Directory to load the application from. A symbolic link is followed anew at each reload.",
    )] = ""
    pythonpath: Annotated[str, option(
        "--pythonpath", section=PROCESS, metavar="DIRS",
        help="Directories to put in front of sys.path, separated by commas; the last one comes first.",
    )] = ""
    raw_env: Annotated[Text, option(
        "-e", "--env", section=PROCESS, metavar="NAME=VALUE",
        help="Environment variable for the application. Can be repeated.",
    )] = ()
    pidfile: Annotated[str, option(
        "-p", "--pid", section=PROCESS, metavar="FILE",
        help="File to write the master's pid to.",
    )] = ""
    proc_name: Annotated[str, option(
        "-n", "--name", section=PROCESS, metavar="NAME",
        help="Name in process titles and on the screen instead of the application's.",
    )] = ""
    daemon: Annotated[bool, option(
        "-D", "--daemon", section=PROCESS,
        help="Go into the background once workers serve; a start that fails ends with its own status. "
        "Give --error-logfile, too, or the log goes nowhere.",
    )] = False
    user: Annotated[str, option(
        "-u", "--user", section=PROCESS, metavar="USER",
        help="User that loads and runs the application, by name or id; only root can change it. "
        "The master keeps what it was started with.",
    )] = ""
    group: Annotated[str, option(
        "-g", "--group", section=PROCESS, metavar="GROUP",
        help="Group of the workers, by name or id; otherwise that of --user.",
    )] = ""
    initgroups: Annotated[bool, option(
        "--initgroups", section=PROCESS,
        help="Give the workers all groups that their user is a member of; otherwise they have one.",
    )] = False
    umask: Annotated[int, option(
        "-m", "--umask", section=PROCESS, metavar="MODE", ge=0, le=0o777,
        help="File mode mask for unix sockets and, unless it is 0, for the workers, as 0 or octal 0o022.",
    )] = 0
    worker_tmp_dir: Annotated[str, option(
        "--worker-tmp-dir", section=PROCESS, metavar="DIR",
        help="Where large request bodies are kept meanwhile; otherwise the system's.",
    )] = ""

    accesslog: Annotated[str, option(
        "--access-logfile", section=LOGGING, metavar="FILE",
        help="Access log; - is standard output, empty (the default) is none.",
    )] = ""
    access_log_format: Annotated[str, option(
        "--access-logformat", section=LOGGING, metavar="FORMAT",
        help="Format of the access log, with gunicorn's atoms; the word json: one JSON object per line.",
    )] = DEFAULT_ACCESS_FORMAT
    errorlog: Annotated[str, option(
        "--error-logfile", "--log-file", section=LOGGING, metavar="FILE",
        help="Error log; - is standard error.",
    )] = "-"
    loglevel: Annotated[LogLevel, option(
        "--log-level", section=LOGGING, metavar="LEVEL",
        help="Least severity that is logged.",
    )] = "info"
    capture_output: Annotated[bool, option(
        "--capture-output", section=LOGGING,
        help="What the application prints on standard output goes to the error log, too; what it writes to "
        "standard error does anyway.",
    )] = False
    enable_stdio_inheritance: Annotated[bool, option(
        "-R", "--enable-stdio-inheritance", section=LOGGING,
        help="What the application prints is written at once, as with PYTHONUNBUFFERED, and not in blocks.",
    )] = False
    logconfig: Annotated[str, option(
        "--log-config", section=LOGGING, metavar="FILE",
        help="Configuration of Python's logging for the application's processes, an INI file as for "
        "logging.config.fileConfig. Loggers gunicorn.error, gunicorn.access or wsgitop.error, "
        "wsgitop.access in it take this server's lines.",
    )] = ""
    logconfig_json: Annotated[str, option(
        "--log-config-json", section=LOGGING, metavar="FILE",
        help="The same as a JSON file for logging.config.dictConfig; stronger than --log-config.",
    )] = ""
    logconfig_dict: Annotated[dict[str, Any], option(
        section=LOGGING,
        help="The same as a dictionary, in a config file; stronger than both.",
    )] = msgspec.field(default_factory=dict)
    syslog: Annotated[bool, option(
        "--log-syslog", section=LOGGING,
        help="Send the lines of error log and access log to syslog, too.",
    )] = False
    syslog_addr: Annotated[str, option(
        "--log-syslog-to", section=LOGGING, metavar="ADDRESS",
        help="Where syslog listens: udp://HOST:PORT, tcp://HOST:PORT or unix://PATH, the last with #dgram or "
        "#stream behind it if only one will do.",
    )] = "udp://localhost:514"
    syslog_prefix: Annotated[str, option(
        "--log-syslog-prefix", section=LOGGING, metavar="NAME",
        help="Lines are tagged gunicorn.NAME.error and gunicorn.NAME.access; otherwise with --name or the "
        "application's.",
    )] = ""
    syslog_facility: Annotated[str, option(
        "--log-syslog-facility", section=LOGGING, metavar="NAME",
        help="Syslog's facility, such as daemon or local3.",
    )] = "user"
    disable_redirect_access_to_syslog: Annotated[bool, option(
        "--disable-redirect-access-to-syslog", section=LOGGING,
        help="Send no lines of the access log to syslog.",
    )] = False
    statsd_host: Annotated[str, option(
        "--statsd-host", section=LOGGING, metavar="ADDRESS",
        help="Send figures to statsd at HOST:PORT or unix://PATH, once a second.",
    )] = ""
    statsd_prefix: Annotated[str, option(
        "--statsd-prefix", section=LOGGING, metavar="PREFIX",
        help="In front of each name that goes to statsd; a dot is put behind it.",
    )] = ""
    dogstatsd_tags: Annotated[str, option(
        "--dogstatsd-tags", section=LOGGING, metavar="TAGS",
        help="Tags for each figure, as NAME:VALUE,NAME:VALUE, for a statsd of Datadog's kind.",
    )] = ""
    enable_backlog_metric: Annotated[bool, option(
        "--enable-backlog-metric", section=LOGGING,
        help="Send the number of connections that wait to be accepted to statsd, too.",
    )] = False

    state_dir: Annotated[str, option(
        "--state-dir", section=PROCESS, metavar="DIR",
        help="Where the death ledger (wsgitop ctl deaths) is kept over restarts; otherwise in "
        "$STATE_DIRECTORY (systemd), in wsgitop below $XDG_STATE_HOME or ~/.local/state, for root in "
        "/var/lib/wsgitop.",
    )] = ""

    health_bind: Annotated[str, option(
        "--health-bind", section=CONTROL, metavar="ADDRESS",
        help="Where the master answers health checks at all times: /healthy, and /ready when a worker is.",
    )] = ""
    health_path: Annotated[str, option(
        "--health-path", section=CONTROL, metavar="PATH",
        help="A path, for example /-/health, that workers answer with 200 without asking the application.",
    )] = ""
    metrics: Annotated[str, option(
        "--metrics", section=CONTROL, metavar="ADDRESS",
        help="Where the master answers GET /metrics with figures for Prometheus, for example 127.0.0.1:9100; "
        "it may be the address of --health-bind.",
    )] = ""
    show_query: Annotated[bool, option(
        "--show-query", section=CONTROL,
        help="Show requests with their queries on screens, in ctl and in the ledger; otherwise without, "
        "as a query may hold secrets. The access log has them either way.",
    )] = False
    control_socket: Annotated[str, option(
        "--control-socket", section=CONTROL, metavar="PATH",
        help="Path of the control socket; otherwise one in a private directory of this user, "
        "found by attach and ctl.",
    )] = ""
    no_control_socket: Annotated[bool, option(
        "--no-control-socket", section=CONTROL,
        help="Open no control socket.",
    )] = False
    control_allow: Annotated[Text, option(
        "--control-allow", section=CONTROL, metavar="USER|@GROUP[:viewer]",
        help="Let another user of this machine, or a group's members, connect through a second socket and do "
        "everything, or with :viewer only look. Can be repeated.",
    )] = ()
    control_allow_socket: Annotated[str, option(
        "--control-allow-socket", section=CONTROL, metavar="PATH",
        help="Path of the socket for the users of --control-allow; otherwise /run/wsgitop/NAME-PID.sock for "
        "root, /tmp/wsgitop-shared-UID/NAME-PID.sock for others.",
    )] = ""

    limit_request_line: Annotated[int, option(
        "--limit-request-line", section=LIMITS, metavar="BYTES", ge=0, le=8190,
        help="Longest request line; 0: 8190.",
    )] = 4094
    limit_request_fields: Annotated[int, option(
        "--limit-request-fields", section=LIMITS, metavar="N", ge=1, le=32768,
        help="Header fields of a request at most.",
    )] = 100
    limit_request_field_size: Annotated[int, option(
        "--limit-request-field_size", section=LIMITS, metavar="BYTES", ge=0, le=65536,
        help="Longest header field; 0: 8190.",
    )] = 8190
    limit_request_body: Annotated[int, option(
        "--limit-request-body", section=LIMITS, metavar="BYTES", ge=0,
        help="Largest request body; 0: no limit.",
    )] = 1024 * 1024 * 1024
    body_buffer: Annotated[int, option(
        "--body-buffer", section=LIMITS, metavar="BYTES", ge=0,
        help="Bytes of a request body kept in memory; a larger one waits in a temporary file.",
    )] = 1024 * 1024
    response_buffer: Annotated[int, option(
        "--response-buffer", section=LIMITS, metavar="BYTES", ge=0,
        help="Bytes of a response that may wait for a slow reader before the application waits too.",
    )] = 1024 * 1024
    header_timeout: Annotated[float, option(
        "--header-timeout", section=LIMITS, metavar="SECONDS", ge=1,
        help="How long a client may take to send a request's head, and to make progress with a body.",
    )] = 10.0

    forwarded_allow_ips: Annotated[str, option(
        "--forwarded-allow-ips", section=PROXY, metavar="IPS",
        help="Addresses and networks of proxies whose X-Forwarded-Proto is believed, separated by commas; "
        "* for any. "
        "Unix sockets are always trusted.",
    )] = "127.0.0.1,::1"
    secure_scheme_headers: Annotated[dict[str, str], option(
        section=PROXY,
        help="Headers of trusted proxies that mean the client used https, with the value that says so. "
        "A request whose headers contradict each other is refused.",
    )] = msgspec.field(default_factory=lambda: dict(DEFAULT_SECURE_HEADERS))
    forwarder_headers: Annotated[str, option(
        "--forwarder-headers", section=PROXY, metavar="NAMES",
        help="Headers with an underscore in their names that trusted proxies may set, separated by commas; "
        "SCRIPT_NAME says where the application is mounted.",
    )] = "SCRIPT_NAME,PATH_INFO"
    header_map: Annotated[HeaderMap, option(
        "--header-map", section=PROXY, metavar="WHAT",
        help="What to do with other headers that have an underscore in their names: drop them, refuse the "
        "request, or mix them up with those that have a hyphen there (dangerous).",
    )] = "drop"

    reload: Annotated[bool, option(
        "--reload", section=DEVELOPMENT,
        help="Load the code again when a file of it changes; all workers at once. Not for production.",
    )] = False
    reload_engine: Annotated[ReloadEngine, option(
        "--reload-engine", section=DEVELOPMENT, metavar="NAME",
        help="How --reload learns of a change: inotify, watchfiles (needs wsgitop[reload]), poll (a look "
        "every second); auto: inotify where the system has it, else poll.",
    )] = "auto"
    reload_extra_files: Annotated[Text, option(
        "--reload-extra-file", section=DEVELOPMENT, metavar="FILE",
        help="Further file for --reload to watch, such as a template. Can be repeated.",
    )] = ()


# fmt: on

Kind = Literal[
    "text", "list", "integer", "number", "switch", "map", "workers", "mode", "size", "identity", "object"
]
_SPECIAL: dict[str, Kind] = {
    "workers": "workers",
    "umask": "mode",
    "max_rss": "size",
    "user": "identity",
    "group": "identity",
    "logconfig_dict": "object",
}
_KINDS: dict[Any, Kind] = {
    str: "text",
    Literal: "text",
    tuple: "list",
    dict: "map",
    bool: "switch",
    int: "integer",
    float: "number",
}


class Setting(NamedTuple):
    """One row of the table. ``kind`` is how a text value is read."""

    name: str
    flags: tuple[str, ...]
    section: str
    metavar: str
    help: str
    kind: Kind
    default: Any
    choices: tuple[str, ...]


def _kind(name: str, annotation: Any) -> Kind:
    if name in _SPECIAL:
        return _SPECIAL[name]
    return _KINDS[get_origin(annotation) or annotation]


def _rows() -> dict[str, Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    rows: dict[str, Setting] = {}
    for field in msgspec.structs.fields(Settings):
        annotation, meta = get_args(hints[field.name])
        extra = meta.extra
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        default = field.default
        if default is msgspec.NODEFAULT:
            assert field.default_factory is not msgspec.NODEFAULT, "every setting has a default"
            default = field.default_factory()
        rows[field.name] = Setting(
            field.name, extra["flags"], extra["section"], extra["metavar"], meta.description,
            _kind(field.name, annotation), default, choices,
        )  # fmt: skip
    return rows


TABLE: dict[str, Setting] = _rows()
"""Every setting by name, in the order of declaration."""
