"""The configuration over the life of a server: resolved at start, and again with what the config file says at
each reload.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from wsgitop.errors import ConfigError
from wsgitop.settings.load import Layer, Resolved, read_toml, resolve, resolve_with_file
from wsgitop.settings.table import LogLevel, Settings
from wsgitop.settings.workers import count_workers

MODULE_PREFIX = "python:"


class Configuration:
    """The settings in force. ``directory`` is where the server was started, its symbolic links unresolved."""

    def __init__(self, resolved: Resolved, layers: Sequence[Layer], directory: str) -> None:
        self.settings = resolved.settings
        self.sources = resolved.sources
        self.workers = count_workers(resolved.settings.workers)
        self.directory = directory
        self._layers = tuple(layers)
        self._first = resolved.settings
        self._candidates: deque[tuple[Settings, dict[str, str]]] = deque(maxlen=8)
        self._ordered_level = ("", "", "")

    def order_level(self, level: LogLevel, source: str) -> None:
        """Another level of the log by order: it outlives reloads that do not change the setting itself.
        ``source`` says by what order.
        """
        said = self._ordered_level[1] or self.settings.loglevel
        self._ordered_level = (level, said, source)
        self.settings, self.sources = self._with_ordered_level(
            msgspec.structs.replace(self.settings, loglevel=said), self.sources
        )

    def _with_ordered_level(
        self, settings: Settings, sources: dict[str, str]
    ) -> tuple[Settings, dict[str, str]]:
        level, said, source = self._ordered_level
        if not level:
            return settings, sources
        if settings.loglevel != said:  # the setting has changed since
            self._ordered_level = ("", "", "")
            return settings, sources
        return msgspec.structs.replace(settings, loglevel=level), sources | {"loglevel": source}

    @property
    def python_file(self) -> str:
        """The Python config file that the zygote is to load; '' for none."""
        config = self.settings.config
        return "" if config.endswith(".toml") else config

    def app_directory(self, settings: Settings | None = None) -> str:
        """The directory that the application is loaded from, absolute, its symbolic links unresolved."""
        return str(Path(self.directory, (settings or self.settings).chdir))

    def resolve_again(self, path: str, values_json: str) -> tuple[Settings, tuple[str, ...]]:
        """Settings with the config file as it reads now, and remarks. Raises ConfigError.

        What the master opens once for its life stays as it was; a change of it is remarked upon. The outcome
        comes into force by :meth:`accept`, once the code has loaded with it.
        """
        if path:
            resolved = resolve_with_file(self._layers, json.loads(values_json), path)
        elif self.settings.config.endswith(".toml"):
            resolved = resolve_with_file(
                self._layers, read_toml(Path(self.settings.config)), self.settings.config
            )
        else:
            resolved = resolve(self._layers)
        settings, sources = self._with_ordered_level(resolved.settings, resolved.sources)
        if not settings.wsgi_app:
            raise ConfigError(
                "wsgi_app: no application is named any more",
                "Name it on the command line or in the config file.",
            )
        notes = [
            f"{name} has changed: it takes effect when the server is restarted"
            for name in _OPENED_AT_START
            if getattr(settings, name) != getattr(self._first, name)
        ]
        self._candidates.append((settings, sources))
        return settings, tuple(notes)

    def accept(self, settings: Settings) -> None:
        """These settings are in force: the next reload starts from them."""
        self.settings = settings
        self.sources = next((s for known, s in self._candidates if known == settings), self.sources)
        self.workers = count_workers(settings.workers)


_OPENED_AT_START = (
    "reuse_port", "pidfile", "control_socket",
    "no_control_socket", "control_allow", "control_allow_socket", "daemon", "state_dir",
    "syslog", "syslog_addr", "syslog_prefix", "syslog_facility",
    "disable_redirect_access_to_syslog", "statsd_host", "statsd_prefix", "dogstatsd_tags",
    "enable_backlog_metric", "health_bind", "metrics",
)  # fmt: skip
