"""The log level of a zygote, which the workers that it forks inherit."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from wsgitop.channel import messages as m
from wsgitop.channel.channel import Channel, pair
from wsgitop.logs import logging_config
from wsgitop.logs.error_log import LOGGER
from wsgitop.zygote.process import Zygote


@pytest.fixture(autouse=True)
def level_as_before() -> Iterator[None]:
    loggers = (LOGGER, logging.getLogger(logging_config.GUNICORN_ERROR))
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def test_it_is_what_the_master_says_last() -> None:
    ours, theirs = pair()
    with ours, theirs:
        master: Channel[m.FromZygote] = Channel(ours, m.FromZygote, blocking=True)
        zygote = Zygote(Channel(theirs, m.ToZygote, blocking=True))
        for level in ("debug", "error"):
            master.send(m.SetLogLevel(level))
        master.send(m.EndZygote())
        with pytest.raises(SystemExit) as end:
            zygote.serve()
        assert end.value.code == 0
    assert LOGGER.level == logging.ERROR
    # Where a log configuration sends errors under gunicorn's name.
    assert logging.getLogger(logging_config.GUNICORN_ERROR).level == logging.ERROR
