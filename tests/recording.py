"""``python -m tests.recording``: screenshots/demo.cast, half a minute of ``wsgitop demo`` for a terminal.

``asciinema play screenshots/demo.cast`` shows it. Made of text alone, in version 2 of the format.
Source: https://docs.asciinema.org/manual/asciicast/v2/
"""

from __future__ import annotations

import codecs
import json
import os
import select
import time
from pathlib import Path

import pexpect

from tests.screenshots import HOME, copies
from tests.support.server import PROGRAM

PATH = Path(__file__).parent.parent / "screenshots" / "demo.cast"
COLUMNS, LINES = 100, 28
BEGIN_S = 8.0
"""Left out: until there are visitors, and rates."""
KEYS = (
    (12.0, "j"), (12.6, "j"), (14.0, "\r"), (19.0, "\x1b"), (20.0, "r"), (23.0, "\x1b"), (25.0, "+"),
    (29.0, "g"), (31.0, "H"), (33.0, "y"), (39.0, "\x1b"), (42.0, "q"), (44.0, "s"),
)  # fmt: skip
"""When, in seconds after the start, and what is typed: all about a worker, requests, one worker more, a
reload, the end."""
LONGEST_S = 60.0


def main() -> None:
    """Run the demo, type, and write down what comes."""
    with copies() as environment:
        child = pexpect.spawn(
            PROGRAM[0],
            [*PROGRAM[1:], "demo"],
            env={
                **environment,
                "XDG_RUNTIME_DIR": str(HOME),
                "TMPDIR": str(HOME),
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "LANG": "C.UTF-8",
            },
            cwd=str(HOME),
            dimensions=(LINES, COLUMNS),
        )
        events = record(child)
        child.close(force=True)
    header = {
        "version": 2,
        "width": COLUMNS,
        "height": LINES,
        "title": "wsgitop demo",
        "env": {"TERM": "xterm-256color"},
    }
    lines = [header, *([round(max(0.0, at - BEGIN_S), 3), "o", text] for at, text in events)]
    PATH.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(PATH, f"{PATH.stat().st_size / 1000:.0f} KB")


def record(child: pexpect.spawn) -> list[tuple[float, str]]:
    """What the program writes until it ends, and when, while the keys are pressed."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    keys = list(KEYS)
    events: list[tuple[float, str]] = []
    began = time.monotonic()
    while (at := time.monotonic() - began) < LONGEST_S:
        while keys and keys[0][0] <= at:
            child.send(keys.pop(0)[1])
        if select.select([child.child_fd], [], [], 0.02)[0]:
            try:
                data = os.read(child.child_fd, 65536)
            except OSError:  # what Linux answers when the program has ended
                break
            events.append((at, decoder.decode(data)))
    return events


if __name__ == "__main__":
    main()
