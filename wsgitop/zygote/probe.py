"""``python -m wsgitop.zygote.probe FILE DIR``: read a Python config file in a process of its own.

Prints one JSON object on standard output: ``{"path", "values", "notes"}``, or ``{"error", "traceback"}`` with
status 1. What the file itself prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
import traceback

import msgspec

from wsgitop.errors import ConfigError
from wsgitop.zygote.config_file import load


def main() -> int:
    """Run the probe; the exit status."""
    path, chdir = sys.argv[1:3]
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    status = 0
    try:
        os.chdir(chdir)
        config = load(path, chdir)
        answer: dict[str, object] = {"path": path, "values": config.values, "notes": config.notes}
    except ConfigError as error:
        answer, status = {"error": error.cause, "remedy": error.remedy, "traceback": ""}, 1
    except BaseException as error:  # noqa: BLE001 - a config file may raise anything, SystemExit included
        cause = "".join(traceback.format_exception_only(error)).strip()
        answer = {"error": f"config file {path} failed: {cause}", "traceback": traceback.format_exc()}
        status = 1
    os.write(answer_fd, msgspec.json.encode(answer) + b"\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
