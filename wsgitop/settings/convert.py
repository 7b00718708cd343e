"""One value for one setting: from what a layer holds (text, or plain data of a file) to the type the
setting has.

Pure: no files, no environment. Every refusal is a ConfigError that names the setting, the value, where it
came from and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, get_args, get_type_hints

import msgspec

from wsgitop.errors import ConfigError
from wsgitop.settings.addresses import parse_address
from wsgitop.settings.allowed import parse_all
from wsgitop.settings.hidden import shown_app
from wsgitop.settings.log_format import check_format
from wsgitop.settings.log_targets import check_facility, check_tags, parse_statsd_host, parse_syslog_address
from wsgitop.settings.table import Setting, Settings

TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})
_DECIMAL = re.compile(r"[+-]?[0-9]+")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_OLD_OCTAL = re.compile(r"0[0-7]+")
_APP = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:.+)?")


def _bounds() -> dict[str, tuple[float | None, float | None]]:
    hints = get_type_hints(Settings, include_extras=True)
    metas = {name: get_args(hints[name])[1] for name in Settings.__struct_fields__}
    return {name: (meta.ge, meta.le) for name, meta in metas.items()}


BOUNDS = _bounds()
"""Least and greatest value of each setting, as the table declares them."""


def allowed(setting: Setting) -> str:
    """What the setting takes, in words that fit behind "is not"."""
    if setting.choices:
        return f"one of {', '.join(setting.choices)}"
    words = _ALLOWED[setting.kind]
    return words + _range(*BOUNDS[setting.name]) if setting.kind in ("integer", "number") else words


_ALLOWED = {
    "workers": 'a whole number of at least 1 or "auto"',
    "integer": "a whole number",
    "number": "a number",
    "mode": "a file mode such as 0o022",
    "size": "a number of bytes such as 400M",
    "switch": "true or false",
    "list": "a text or a list of texts",
    "map": "a table of names and texts",
    "object": "a table",
    "text": "a text",
    "identity": "a name or an id",
}


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is not None:
        return f" of at least {low:g}"
    return "" if high is None else f" of at most {high:g}"


class _Unfit(Exception):
    """The value is not what the setting takes."""


def convert(setting: Setting, raw: object, origin: str) -> Any:
    """The value of ``setting`` that ``raw`` means.

    ``origin`` is what an error says it came from. Raises ConfigError.
    """
    try:
        value = _READERS[setting.kind](raw)
        low, high = BOUNDS[setting.name]
        if isinstance(value, int | float) and (
            (low is not None and value < low) or (high is not None and value > high)
        ):
            raise _Unfit
        if setting.choices and setting.kind == "text":
            value = value.lower()
            if value not in setting.choices:
                raise _Unfit
    except _Unfit:
        raise ConfigError(
            f"{setting.name}: {_shown(raw)} is not {allowed(setting)} (from {origin})"
        ) from None
    check = _CHECKS.get(setting.name)
    if check is not None:
        try:
            check(value)
        except ConfigError as error:
            raise ConfigError(f"{error.cause} (from {origin})", error.remedy) from None
    return value


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else text[:79] + "…"


def _read_text(raw: object) -> str:
    if not isinstance(raw, str) or "\0" in raw:
        raise _Unfit
    return raw


def _read_list(raw: object) -> tuple[str, ...]:
    # A single text is split at commas, as gunicorn does; the command line hands over lists, whose texts stay
    # whole.
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    if not isinstance(raw, list | tuple):
        raise _Unfit
    return tuple(_read_text(item) for item in raw)


def _read_integer(raw: object) -> int:
    if isinstance(raw, bool):
        raise _Unfit
    if isinstance(raw, int):
        return raw
    if isinstance(raw, str) and len(raw) <= 20 and _DECIMAL.fullmatch(raw.strip()):
        return int(raw)
    raise _Unfit


def _read_number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise _Unfit
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        raise _Unfit from None
    if not math.isfinite(value):
        raise _Unfit
    return value


def _read_mode(raw: object) -> int:
    if isinstance(raw, str) and len(raw) <= 20:
        # 022 means octal to everybody who sets a umask; int(…, 0) would refuse it.
        text = f"0o{raw[1:]}" if _OLD_OCTAL.fullmatch(raw) else raw
        try:
            return int(text, 0)
        except ValueError:
            raise _Unfit from None
    return _read_integer(raw)


def _read_identity(raw: object) -> str:
    """Of a user or a group: a config file may have the number as such."""
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return str(raw)
    if isinstance(raw, str) and not raw.strip().startswith("-"):
        return _read_text(raw).strip()
    raise _Unfit


def _read_size(raw: object) -> int:
    if isinstance(raw, str):
        match = _SIZE.fullmatch(raw.strip())
        if match is None:
            raise _Unfit
        return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
    return _read_integer(raw)


def _read_switch(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in TRUE_WORDS | FALSE_WORDS:
        return raw.strip().lower() in TRUE_WORDS
    raise _Unfit


def _read_workers(raw: object) -> int | str:
    if isinstance(raw, str) and raw.strip().lower() == "auto":
        return "auto"
    value = _read_integer(raw)
    if value < 1:
        raise _Unfit
    return value


def _read_map(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise _Unfit
    return {_read_text(name): _read_text(value) for name, value in raw.items()}


def _read_object(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict) or not all(isinstance(name, str) for name in raw):
        raise _Unfit
    return raw


_READERS: dict[str, Callable[[object], Any]] = {
    "text": _read_text,
    "list": _read_list,
    "integer": _read_integer,
    "number": _read_number,
    "switch": _read_switch,
    "map": _read_map,
    "object": _read_object,
    "workers": _read_workers,
    "mode": _read_mode,
    "identity": _read_identity,
    "size": _read_size,
}


def _check_bind(addresses: tuple[str, ...]) -> None:
    if not addresses:
        raise ConfigError("bind: no address is given", "Give HOST:PORT, [IPV6]:PORT or unix:PATH.")
    for address in addresses:
        parse_address(address)


def _check_env(pairs: tuple[str, ...]) -> None:
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"raw_env: {_shown(pair)} is not NAME=VALUE")


def _check_app(app: str) -> None:
    if app and not _APP.fullmatch(app):
        raise ConfigError(
            f"wsgi_app: {_shown(shown_app(app))} is not MODULE:CALLABLE",
            "Write it as Python imports it: mysite.wsgi:application.",
        )


def _check_address(name: str) -> Callable[[str], None]:
    def check(address: str) -> None:
        try:
            if address:
                parse_address(address)
        except ConfigError as error:
            raise ConfigError(f"{name}{error.cause.removeprefix('bind')}", error.remedy) from None

    return check


def _check_health_path(path: str) -> None:
    if path and not (path.startswith("/") and path.isascii() and path.isprintable() and " " not in path):
        raise ConfigError(f"health_path: {_shown(path)} is no path", "Write it as /-/health.")


def _check_proxies(text: str) -> None:
    for entry in text.split(","):
        try:
            if entry.strip() not in ("", "*"):
                ip_network(entry.strip())
        except ValueError as error:
            raise ConfigError(
                f"forwarded_allow_ips: {error}", "Give addresses and networks, as 192.0.2.7,10.0.0.0/8, or *."
            ) from None


_CHECKS: dict[str, Callable[[Any], object]] = {
    "access_log_format": check_format,
    "bind": _check_bind,
    "control_allow": parse_all,
    "dogstatsd_tags": check_tags,
    "forwarded_allow_ips": _check_proxies,
    "health_bind": _check_address("health_bind"),
    "health_path": _check_health_path,
    "metrics": _check_address("metrics"),
    "raw_env": _check_env,
    "statsd_host": parse_statsd_host,
    "syslog_addr": parse_syslog_address,
    "syslog_facility": check_facility,
    "wsgi_app": _check_app,
}


def as_settings(values: dict[str, Any]) -> Settings:
    """Converted values as one immutable struct; what is absent has its default."""
    return msgspec.convert(values, Settings)
