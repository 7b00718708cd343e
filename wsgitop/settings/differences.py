"""What gunicorn 27 has: the names of its settings, and how those differ that are settings here as well."""

from __future__ import annotations

GUNICORN = frozenset({
    "access_log_format", "accesslog", "asgi_disconnect_grace_period", "asgi_lifespan", "asgi_loop",
    "backlog", "bind", "ca_certs", "capture_output", "casefold_http_method", "cert_reqs", "certfile",
    "chdir", "check_config", "child_exit", "ciphers", "config", "control_socket",
    "control_socket_disable", "control_socket_mode", "daemon", "default_proc_name", "dirty_apps",
    "dirty_graceful_timeout", "dirty_post_fork", "dirty_threads", "dirty_timeout",
    "dirty_worker_exit", "dirty_worker_init", "dirty_workers", "disable_redirect_access_to_syslog",
    "do_handshake_on_connect", "dogstatsd_tags", "enable_backlog_metric", "enable_stdio_inheritance",
    "errorlog", "forwarded_allow_ips", "forwarder_headers", "graceful_timeout", "group", "header_map",
    "http2_cleartext", "http2_initial_window_size", "http2_max_concurrent_streams",
    "http2_max_frame_size", "http2_max_header_list_size", "http_parser", "http_protocols",
    "initgroups", "keepalive", "keyfile", "limit_request_field_size", "limit_request_fields",
    "limit_request_line", "logconfig", "logconfig_dict", "logconfig_json", "logger_class", "loglevel",
    "max_requests", "max_requests_jitter", "nworkers_changed", "on_dirty_starting", "on_exit",
    "on_reload", "on_starting", "paste", "permit_obsolete_folding",
    "permit_unconventional_http_method", "permit_unconventional_http_version", "pidfile", "post_fork",
    "post_request", "post_worker_init", "pre_exec", "pre_fork", "pre_request", "preload_app",
    "print_config", "proc_name", "protocol", "proxy_allow_ips", "proxy_protocol", "pythonpath",
    "raw_env", "raw_paste_global_conf", "reload", "reload_engine", "reload_extra_files", "reuse_port",
    "root_path", "secure_scheme_headers", "sendfile", "spew", "ssl_context", "ssl_version",
    "statsd_host", "statsd_prefix", "strip_header_spaces", "suppress_ragged_eofs", "syslog",
    "syslog_addr", "syslog_facility", "syslog_prefix", "threads", "timeout", "tmp_upload_dir",
    "umask", "user", "uwsgi_allow_ips", "websocket_max_message_size", "when_ready", "worker_abort",
    "worker_class", "worker_connections", "worker_exit", "worker_int", "worker_tmp_dir", "workers",
    "wsgi_app",
})  # fmt: skip
"""Every name in gunicorn's settings list."""

DIFFERENCES = {
    "workers": "a number only",
    "worker_class": "chooses one of several engines",
    "worker_connections": "the default is 1000, and the synchronous worker has no use for it",
    "timeout": "how long a worker may be silent; with threads that does not end a request",
    "preload_app": "HUP does not load the code again",
    "config": "`./gunicorn.conf.py` by default",
    "worker_tmp_dir": "where heartbeat files are; there are none here",
    "access_log_format": "unknown atoms are shown as `-`, and there is no `json`",
    "control_socket": "for its own program, which speaks another language; by default in `~/.gunicorn`",
    "capture_output": "standard error is redirected by this, too, and without --error-logfile nothing is",
    "enable_stdio_inheritance": "keeps standard output and error of a daemon, and leaves buffering as it is",
    "logconfig": "the master's lines go through it, too",
    "logconfig_json": "the master's lines go through it, too; a file that is not there is passed over",
    "logconfig_dict": "the master's lines go through it, too, and a section in it takes the place of the "
    "whole section that gunicorn has beforehand",
    "syslog_addr": "messages end with a zero byte, over TCP as well, where it is a newline here",
    "statsd_host": "a few datagrams for each request, and each status is counted by itself, as "
    "`gunicorn.request.status.404`. Here only its class is known, `gunicorn.request.status.4xx`, and "
    "durations are sent as one sample for each step of a histogram (relative error up to 6 %), with the rate "
    "1/n if it stands for n requests",
    "enable_backlog_metric": "a histogram (`|h`), here a gauge (`|g`)",
}
"""What is otherwise there, for settings of the same name."""
