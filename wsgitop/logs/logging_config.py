"""The user's configuration of Python's logging: logconfig_dict, logconfig_json, logconfig, in this order of
strength, as in gunicorn.

Runs in a zygote (and in `wsgitop check`), never in the master, since a configuration may name the user's own
classes; workers inherit what it has set up by the fork. It is applied before the application is imported, so
that what the application configures by itself, Django's LOGGING say, has the last word.

The lines of zygote and workers go to logger ``wsgitop.error``. If the configuration names that logger, its
handlers take them; else if it names ``gunicorn.error``, they are handed on to it, under that name; else they
go to the error log as without a configuration. Likewise for the access log's lines. What the master itself
has to say is in the error log always.
"""

from __future__ import annotations

import configparser
import contextlib
import copy
import json
import logging
import logging.config
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsgitop.errors import ConfigError
from wsgitop.logs import error_log

OWN_ERROR = "wsgitop.error"
OWN_ACCESS = "wsgitop.access"
GUNICORN_ERROR = "gunicorn.error"
GUNICORN_ACCESS = "gunicorn.access"
_NAMES = (OWN_ERROR, OWN_ACCESS, GUNICORN_ERROR, GUNICORN_ACCESS)

_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
}
_HANDLERS = {
    "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
    "error_console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
}
_FORMATTERS = {
    "generic": {
        "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
        "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
    }
}
"""What gunicorn has beforehand, and configurations rely on: they name the handler ``console``."""


class _HandOn(logging.Handler):
    """Hands records on to another logger, under its name."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one record, if that logger lets it pass."""
        if self._target.isEnabledFor(record.levelno):
            handed = copy.copy(record)
            handed.name = self._target.name
            self._target.handle(handed)


def apply(
    *, dictionary: Mapping[str, Any], json_path: str, ini_path: str, level: str
) -> logging.Logger | None:
    """Apply the strongest configuration that is given; paths are relative to the working directory. ``level``
    is what the server's loggers have before it.

    Returns the logger for the access log's lines, None if the configuration names none. Raises ConfigError.
    """
    if not (dictionary or json_path or ini_path):
        return None
    for name, before in ((GUNICORN_ERROR, level.upper()), (GUNICORN_ACCESS, "INFO"), (OWN_ACCESS, "INFO")):
        logger = logging.getLogger(name)
        logger.setLevel(before)
        logger.propagate = False
    if dictionary:
        named = _apply_dictionary("logconfig_dict", dict(dictionary))
    elif json_path:
        named = _apply_dictionary(f"logconfig_json: {json_path}", _read_json(json_path))
    else:
        named = _apply_ini(ini_path)
    revive()
    errors = logging.getLogger(GUNICORN_ERROR)
    if OWN_ERROR not in named and GUNICORN_ERROR in named and errors.hasHandlers():
        error_log.LOGGER.handlers[:] = [_HandOn(errors)]
        error_log.LOGGER.setLevel(errors.getEffectiveLevel())
    if not error_log.LOGGER.hasHandlers():
        error_log.configure(level)  # errors are not what anybody wants to lose
    for name in (OWN_ACCESS, GUNICORN_ACCESS):
        if name in named and logging.getLogger(name).hasHandlers():
            return logging.getLogger(name)
    return None


def set_level(level: str) -> None:
    """Write no more and no less than this to the error log; ``level`` as in the setting ``loglevel``."""
    for name in (OWN_ERROR, GUNICORN_ERROR):  # the latter where a log configuration wants it under that name
        logging.getLogger(name).setLevel(level.upper())


def revive() -> None:
    """Enable the server's own loggers again: an application that configures logging by itself disables all
    that it does not name, unless it says otherwise.
    """
    for name in _NAMES:
        logging.getLogger(name).disabled = False


def _read_json(path: str) -> dict[str, Any]:
    try:
        config = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"logconfig_json: {path} cannot be read: {error.strerror}", "Check the path given."
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"logconfig_json: {path} is not JSON: {error}", "Mend the file.") from None
    if not isinstance(config, dict):
        raise ConfigError(
            f"logconfig_json: {path} holds no object", "Write it as for logging.config.dictConfig."
        )
    return config


def _apply_dictionary(what: str, given: dict[str, Any]) -> set[str]:
    with _blaming(what):
        config = {**_DEFAULTS, **given}
        if not given.get("incremental"):
            # In gunicorn a section that is given takes the place of its own whole one, so who gives a handler
            # has to give `console`, too. To keep it beside that takes nothing away.
            config["handlers"] = {**_HANDLERS, **given.get("handlers", {})}
            config["formatters"] = {**_FORMATTERS, **given.get("formatters", {})}
        logging.config.dictConfig(config)
        return set(given.get("loggers", {}))


def _apply_ini(path: str) -> set[str]:
    what = f"logconfig: {path}"
    file = Path(path).absolute()
    if not file.is_file():
        raise ConfigError(f"{what} is no file", "Check the path given.")
    # Values of an INI file are interpolated, these too.
    places = {"__file__": str(file).replace("%", "%%"), "here": str(file.parent).replace("%", "%%")}
    with _blaming(what):
        logging.config.fileConfig(file, defaults=places, disable_existing_loggers=False)
        parser = configparser.RawConfigParser()
        parser.read(file)
        keys = [key.strip() for key in parser["loggers"]["keys"].split(",")]
        return {parser[f"logger_{key}"].get("qualname", "") for key in keys}


@contextlib.contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Whatever goes wrong is the configuration's, and said in one line. It may import the user's code, which
    may raise anything.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a class that it names may raise anything, SystemExit included
        words = [_said(error)]
        cause = error.__cause__ or error.__context__
        while cause is not None and len(words) < 4:
            words.append(_said(cause))
            cause = cause.__cause__ or cause.__context__
        text = ": ".join(dict.fromkeys(" ".join(word.split()) for word in words))
        raise ConfigError(f"{what}: {text}", "See logging.config in Python's documentation.") from None


def _said(error: BaseException) -> str:
    text = str(error)
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def reopen_files() -> None:
    """Open again the files that handlers of the logging module write to, behind log rotation.

    A file that cannot be opened stays as it is, and that is logged.
    """
    for handler in _handlers():
        if not isinstance(handler, logging.FileHandler) or handler.stream is None:
            continue
        try:
            # Never with mode w: others write to the same file, and there may have been no rotation.
            fresh = open(  # noqa: PTH123, SIM115 - it is the handler's from here on
                handler.baseFilename, "a", encoding=handler.encoding, errors=handler.errors
            )
        except OSError as error:
            error_log.LOGGER.error(
                "The old log file stays open: %s cannot be opened: %s", handler.baseFilename, error.strerror
            )
            continue
        old = handler.setStream(fresh)
        if old is not None:
            old.close()


def _handlers() -> list[logging.Handler]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return list(
        {
            handler: None
            for logger in loggers
            if isinstance(logger, logging.Logger)
            for handler in logger.handlers
        }
    )
