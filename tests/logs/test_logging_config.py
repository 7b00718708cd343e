"""The user's configuration of logging: which one counts, where lines go then, what is wrong with it."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.config
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgitop.errors import ConfigError
from wsgitop.logs import error_log, logging_config
from wsgitop.logs.error_log import LOGGER

NAMES = ("gunicorn.error", "gunicorn.access", "wsgitop.error", "wsgitop.access")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The configuration is the interpreter's; put it back."""
    loggers = [logging.root, *(logging.getLogger(name) for name in NAMES)]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    disabled = {
        name: logger.disabled
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    error_log.configure("info")
    yield
    for logger, handlers, level, propagate in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    for name, was in disabled.items():
        logging.getLogger(name).disabled = was


def apply(dictionary: dict[str, Any] | None = None, json_path: str = "", ini_path: str = "") -> Any:
    return logging_config.apply(
        dictionary=dictionary or {}, json_path=json_path, ini_path=ini_path, level="info"
    )


def to_file(path: Path, *names: str, **more: Any) -> dict[str, Any]:
    """A configuration that sends these loggers to a file."""
    handler = {"class": "logging.FileHandler", "filename": str(path), "formatter": "short"}
    return {
        "version": 1,
        "formatters": {"short": {"format": "%(name)s %(levelname)s %(message)s"}},
        "handlers": {"file": handler},
        "loggers": {name: {"handlers": ["file"], "level": "DEBUG", "propagate": False} for name in names},
        **more,
    }


INI = """
[loggers]
keys=root, errors, access

[handlers]
keys=file

[formatters]
keys=short

[logger_root]
handlers=

[logger_errors]
qualname=gunicorn.error
handlers=file
level=DEBUG
propagate=0

[logger_access]
qualname=gunicorn.access
handlers=file
propagate=0

[handler_file]
class=FileHandler
formatter=short
args=(r"%(here)s/out.log",)

[formatter_short]
format=%(name)s %(levelname)s %(message)s
"""


def test_nothing_given_changes_nothing() -> None:
    before = list(LOGGER.handlers)
    assert apply() is None
    assert LOGGER.handlers == before


def test_lines_go_to_gunicorns_loggers_under_their_names(tmp_path: Path) -> None:
    access = apply(to_file(tmp_path / "out", "gunicorn.error", "gunicorn.access"))
    LOGGER.info("one")
    LOGGER.debug("two: the level is the configuration's")
    access.info("three")
    assert (tmp_path / "out").read_text().splitlines() == [
        "gunicorn.error INFO one",
        "gunicorn.error DEBUG two: the level is the configuration's",
        "gunicorn.access INFO three",
    ]


def test_our_own_names_are_stronger(tmp_path: Path) -> None:
    access = apply(to_file(tmp_path / "out", *NAMES))
    LOGGER.info("one")
    assert access.name == "wsgitop.access"
    assert (tmp_path / "out").read_text() == "wsgitop.error INFO one\n"


def test_what_is_not_named_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    error_log.configure("info")
    assert apply(to_file(tmp_path / "out", "shop")) is None
    LOGGER.info("one")
    LOGGER.debug("two")
    assert errors.getvalue().count("\n") == 1
    assert errors.getvalue().endswith("[INFO] one\n")


def test_loggers_without_handlers_hand_up_to_the_root(tmp_path: Path) -> None:
    config = to_file(tmp_path / "out", root={"handlers": ["file"], "level": "WARNING"})
    config["loggers"] = {"gunicorn.error": {"propagate": True}, "gunicorn.access": {"propagate": True}}
    access = apply(config)
    LOGGER.info("the level is --log-level's, the root's is for its own")
    access.info("three")
    assert (tmp_path / "out").read_text().count("\n") == 2


@pytest.mark.parametrize("of", ["gunicorn", "wsgitop"])
def test_a_logger_that_says_nothing_and_hands_nothing_up_loses_no_errors(
    monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    error_log.configure("info")
    config = {"loggers": {f"{of}.error": {"handlers": []}, f"{of}.access": {"handlers": []}}}
    assert apply(config) is None
    LOGGER.error("one")
    assert errors.getvalue().endswith("one\n")


def test_the_dictionary_is_stronger_than_json_and_json_than_ini(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.json").write_text(json.dumps(to_file(tmp_path / "json", "gunicorn.error")))
    Path("log.ini").write_text(INI)
    apply(to_file(tmp_path / "dictionary", "gunicorn.error"), "log.json", "log.ini")
    LOGGER.info("one")
    apply({}, "log.json", "log.ini")
    LOGGER.info("two")
    assert apply({}, "", "log.ini").name == "gunicorn.access"
    LOGGER.info("three")
    assert (tmp_path / "dictionary").read_text() == "gunicorn.error INFO one\n"
    assert (tmp_path / "json").read_text() == "gunicorn.error INFO two\n"
    assert (tmp_path / "out.log").read_text() == "gunicorn.error INFO three\n"


def test_an_ini_file_in_a_directory_with_a_percent_sign(tmp_path: Path) -> None:
    place = tmp_path / "100%(x)s"
    place.mkdir()
    (place / "log.ini").write_text(INI)
    apply(ini_path=str(place / "log.ini"))
    LOGGER.info("three")
    assert (place / "out.log").read_text() == "gunicorn.error INFO three\n"


def test_what_gunicorn_has_beforehand_can_be_referred_to(capsys: pytest.CaptureFixture[str]) -> None:
    apply(
        {
            "loggers": {"gunicorn.error": {"handlers": ["console"]}},
            "handlers": {"n": {"class": "logging.NullHandler"}},
        }
    )
    LOGGER.warning("one")
    assert capsys.readouterr().out.endswith("[WARNING] one\n")


def test_objects_are_taken_as_they_are(tmp_path: Path) -> None:
    class Loud(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return record.getMessage().upper()

    config = to_file(tmp_path / "out", "gunicorn.error")
    config["formatters"]["short"] = {"()": Loud}
    apply(config)
    LOGGER.info("one")
    assert (tmp_path / "out").read_text() == "ONE\n"


def test_an_application_that_configures_logging_does_not_silence_the_server(tmp_path: Path) -> None:
    """Django's LOGGING disables whatever it does not name, unless it says otherwise."""
    access = apply(to_file(tmp_path / "out", "gunicorn.error", "gunicorn.access"))
    logging.config.dictConfig({"version": 1, "loggers": {"site": {}}})
    logging_config.revive()
    LOGGER.error("one")
    access.info("two")
    assert (tmp_path / "out").read_text() == "gunicorn.error ERROR one\ngunicorn.access INFO two\n"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"version": 2}, "logconfig_dict: Unsupported version: 2"),
        (
            {"handlers": {"x": {"class": "no.such.Handler"}}},
            "configure handler 'x': .*no.such.Handler",
        ),
        (
            {"handlers": {"x": {"class": "logging.FileHandler", "filename": "/nowhere/x"}}},
            "'x': .*/nowhere/x",
        ),
        ({"loggers": {"gunicorn.error": {"handlers": ["missing"]}}}, "logger 'gunicorn.error'.*missing"),
        ({"loggers": {"gunicorn.error": {"level": "LOUD"}}}, "LOUD"),
        ({"loggers": 5}, "logconfig_dict: "),
        ({"handlers": [1]}, "logconfig_dict: "),
        ({"formatters": {"x": {"()": "sys.exit"}}}, "SystemExit"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        apply(copy.deepcopy(config))
    assert refusal.value.remedy
    assert "\n" not in refusal.value.cause


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.json", None, "none.json cannot be read: No such file"),
        ("bad.json", "{", "bad.json is not JSON"),
        ("list.json", "[]", "holds no object"),
        ("none.ini", None, "none.ini is no file"),
        ("bad.ini", "x", "bad.ini: .*no section headers"),
        ("empty.ini", "", "empty.ini: "),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    path = str(tmp_path / name)
    with pytest.raises(ConfigError, match=words) as refusal:
        apply({}, path if name.endswith("json") else "", path)
    assert refusal.value.remedy


def test_files_are_opened_again_and_never_emptied(tmp_path: Path) -> None:
    path = tmp_path / "out"
    config = to_file(path, "gunicorn.error")
    config["handlers"]["file"]["mode"] = "w"
    apply(config)
    LOGGER.info("one")
    path.rename(tmp_path / "out.1")
    LOGGER.info("two")
    logging_config.reopen_files()
    LOGGER.info("three")
    logging_config.reopen_files()
    LOGGER.info("four")
    assert (tmp_path / "out.1").read_text() == "gunicorn.error INFO one\ngunicorn.error INFO two\n"
    assert path.read_text() == "gunicorn.error INFO three\ngunicorn.error INFO four\n"


def test_a_file_that_cannot_be_opened_again_stays_open(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    apply(to_file(place / "out", "gunicorn.error"))
    place.rename(tmp_path / "moved")
    logging_config.reopen_files()
    LOGGER.info("one")
    lines = (tmp_path / "moved" / "out").read_text().splitlines()
    assert lines[0].startswith("gunicorn.error ERROR The old log file stays open: ")
    assert lines[1:] == ["gunicorn.error INFO one"]
