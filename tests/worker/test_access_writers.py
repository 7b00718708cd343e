"""The access log where it goes elsewhere than to a file: to the master's pipe, or to the user's handlers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.exchange import Exchange
from wsgitop.logs.error_log import LOGGER
from wsgitop.settings.table import DEFAULT_ACCESS_FORMAT
from wsgitop.worker.access_log import AccessLog
from wsgitop.worker.access_writers import ATOMS, LoggerLog, PipedLog
from wsgitop.worker.log_line import compile_line

AGENT = '100% "of" {it}'


class Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    for logger in (LOGGER, logging.getLogger("tests.access")):
        logger.addHandler(keeper)
        logger.setLevel(logging.INFO)
    yield keeper
    for logger in (LOGGER, logging.getLogger("tests.access")):
        logger.removeHandler(keeper)


def log(text: str, exchange: Exchange) -> None:
    LoggerLog(logging.getLogger("tests.access"), text).write(*exchange.arguments)


@pytest.mark.parametrize("text", [DEFAULT_ACCESS_FORMAT, "json", "100%% %(a)s", "%(D)d %(T)s"])
def test_the_message_is_the_line(keeper: Keeper, text: str) -> None:
    exchange = Exchange("/a%20b?q=%s", fields={"HTTP_USER_AGENT": AGENT})
    log(text, exchange)
    (record,) = keeper.records
    assert record.name == "tests.access" and record.levelno == logging.INFO
    line = record.getMessage()
    if text == "json":
        assert json.loads(line)["user_agent"] == AGENT
    else:
        assert (
            line.partition(" [")[0]
            == compile_line(text)(*exchange.arguments).decode()[:-1].partition(" [")[0]
        )


def test_formatters_find_gunicorns_atoms(keeper: Keeper) -> None:
    log("%(h)s", Exchange(fields={"HTTP_X_ID": "7"}, headers=[("X-Out", "1")], environ={"wsgi.x": "e"}))
    (record,) = keeper.records
    args: Any = record.args
    assert set(args) == set(ATOMS)
    assert args["h"] == "192.0.2.1" and args["s"] == "201" and args["U"] == "/a%20b"
    assert args["D"] == 1234567 and args["T"] == 1 and args["B"] == 1234
    assert args["{x-id}i"] == "7" and args["{X-Out}o"] == "1" and args["{wsgi.x}e"] == "e"
    assert args["nonsense"] == "-" and args["{x}z"] == "-"
    assert {name: args[name] for name in args}["m"] == "GET"


def test_a_logger_that_is_switched_off_costs_no_line(keeper: Keeper) -> None:
    logging.getLogger("tests.access").setLevel(logging.ERROR)
    log("%(h)s", Exchange())
    assert keeper.records == []


def test_a_filter_that_fails_costs_its_line_and_is_named_once(keeper: Keeper) -> None:
    logger = logging.getLogger("tests.access")

    def broken(record: logging.LogRecord) -> bool:
        raise RuntimeError("no")

    logger.addFilter(broken)
    try:
        writer = LoggerLog(logger, "%(h)s")
        writer.write(*Exchange().arguments)
        writer.write(*Exchange().arguments)
    finally:
        logger.removeFilter(broken)
    (record,) = keeper.records
    assert (
        record.getMessage()
        == "Logger tests.access fails: RuntimeError('no'); lines of the access log are lost"
    )


def test_reopening_does_not_touch_the_pipe(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader, writer = os.pipe()
    both = PipedLog(
        AccessLog(os.open(tmp_path / "1", os.O_WRONLY | os.O_CREAT | os.O_APPEND), "%(U)s"),
        AccessLog(writer, "[7] %(U)s"),
    )
    both.write(*Exchange("/1").arguments)
    both.reopen(os.open(tmp_path / "2", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    both.write(*Exchange("/2").arguments)
    assert (tmp_path / "1").read_text() == "/1\n" and (tmp_path / "2").read_text() == "/2\n"
    both.close()
    assert os.read(reader, 100) == b"[7] /1\n[7] /2\n"
    os.close(reader)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_a_file_the_pipe_alone_is_written_to() -> None:
    reader, writer = os.pipe()
    alone = PipedLog(None, AccessLog(writer, "%(U)s"))
    alone.reopen(os.open(os.devnull, os.O_WRONLY))
    alone.write(*Exchange("/1").arguments)
    assert os.read(reader, 100) == b"/1\n"
    alone.close()
    assert os.read(reader, 100) == b""
    os.close(reader)
