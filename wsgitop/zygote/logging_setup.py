"""What a zygote does about output and logging before the application is imported; its workers inherit it."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from wsgitop.logs import logging_config
from wsgitop.settings.table import Settings
from wsgitop.zygote.config_file import plain


def direct_output(settings: Settings) -> None:
    """Let standard output be what the settings want. To be done again in each worker, whose standard error is
    its own.
    """
    if settings.capture_output:
        os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        if settings.enable_stdio_inheritance:
            sys.stdout.reconfigure(write_through=True)
        elif settings.capture_output:
            # To a pipe Python writes in blocks: lines would come in when the worker ends.
            sys.stdout.reconfigure(line_buffering=True)
    if settings.enable_stdio_inheritance:
        os.environ["PYTHONUNBUFFERED"] = "1"  # for the Pythons that the application starts


def configure(settings: Settings, original: Mapping[str, Any] | None) -> logging.Logger | None:
    """Apply logconfig_dict, logconfig_json or logconfig; the logger for the access log's lines, if any.

    ``original`` is the dictionary as the config file has it: it may hold classes and other objects that the
    master, which resolves settings, has seen the names of only. Raises ConfigError.
    """
    dictionary: Mapping[str, Any] = settings.logconfig_dict
    if original is not None and plain(original) == dictionary:
        dictionary = original
    before = threading.enumerate()
    access_logger = logging_config.apply(
        dictionary=dictionary,
        json_path=settings.logconfig_json,
        ini_path=settings.logconfig,
        level=settings.loglevel,
    )
    threads = [thread.name for thread in threading.enumerate() if thread not in before]
    if threads:
        # A queue's listener, for example: lines would go into the queue and nowhere else.
        names = ", ".join(threads)
        text = f"The log configuration starts threads, which do not exist in the workers: {names}\n"
        os.write(2, text.encode("utf-8", "backslashreplace"))
    return access_logger
