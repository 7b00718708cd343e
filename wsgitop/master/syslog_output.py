"""The master's side of syslog: which server, which tags, and the pipe by which workers hand in their access
lines.
"""

from __future__ import annotations

import contextlib
import socket

from wsgitop.errors import ConfigError
from wsgitop.logs.line_pipe import LinePipe
from wsgitop.logs.sink import Sink
from wsgitop.logs.syslog import Syslog
from wsgitop.master.events import LOGGER
from wsgitop.settings.hidden import shown_app
from wsgitop.settings.log_targets import FACILITIES, parse_syslog_address
from wsgitop.settings.table import Settings

_KINDS = {"dgram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM}


def open_syslog(settings: Settings, sink: Sink, stack: contextlib.ExitStack) -> int:
    """Start what the settings ask for; ``stack`` ends it.

    Returns the descriptor that workers are to write access lines to, -1 for none. Raises ConfigError.
    """
    if not settings.syslog:
        return -1
    target = parse_syslog_address(settings.syslog_addr)
    name = settings.syslog_prefix or settings.proc_name or shown_app(settings.wsgi_app)
    tag = "".join("." if char == ":" else char for char in name if char.isprintable() and char != " ")
    syslog = Syslog(
        target.path or (target.host, target.port),
        [_KINDS[kind] for kind in target.kinds],
        facility=FACILITIES[settings.syslog_facility.lower()],
        error_tag=f"gunicorn.{tag}.error",
        access_tag=f"gunicorn.{tag}.access",
        say=LOGGER.log,
    )
    syslog.start()
    stack.callback(syslog.close)
    sink.copies.append(syslog.write_error)
    if settings.disable_redirect_access_to_syslog:
        return -1
    try:
        pipe = LinePipe(syslog.write_access)
    except OSError as error:
        raise ConfigError(
            f"no pipe for the access log: {error.strerror}", "Raise the limit (ulimit -n)."
        ) from None
    pipe.start()
    stack.callback(pipe.close)
    return pipe.write_fd
