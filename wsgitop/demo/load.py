"""The demo's visitors: a modest, varied load, about 60 requests a second with a burst now and then.

Runs as a process of its own: it takes no time from the interface. It ends when its standard input does: the
demo holds the other end, which the kernel closes in any case.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import wsgitop; del sys.path[0]; "
    "from wsgitop.demo.load import main; main()"
)
COMMAND = (sys.executable, "-P", "-c", _BOOTSTRAP, str(Path(__file__).parents[2]))
"""Not ``-m``: it would put the working directory first in sys.path, where a ``random.py`` of somebody's would
shadow the standard library. The package is the one that runs here, wherever it is."""
VISITORS = 14
REQUESTS_PER_S = 60.0
BURST_EVERY_S = 20.0
BURST_S = 4.0
BURST_FACTOR = 3.0
KEEP_CONNECTION = 0.8
"""Probability that a visitor uses its connection again."""


class Wish(NamedTuple):
    """What a visitor may ask for, and how often (relative to the others)."""

    weight: float
    method: str
    path: str
    body_bytes: int = 0


WISHES = (
    Wish(60, "GET", "/products/{number}"),
    Wish(6, "GET", "/"),
    Wish(16, "GET", "/search?q={word}"),
    Wish(8, "POST", "/cart", 2000),
    Wish(2.5, "GET", "/report"),
    Wish(3, "GET", "/export"),
    Wish(3, "GET", "/gallery"),
    Wish(0.8, "GET", "/checkout"),
    Wish(0.7, "GET", "/favicon.ico"),
)
WORDS = ("tea", "kettle", "cups & saucers", "earl grey", "scones", "marmalade")


def pace(at_s: float) -> float:
    """Requests a second wanted ``at_s`` seconds after the start."""
    in_burst = at_s % BURST_EVERY_S > BURST_EVERY_S - BURST_S
    return REQUESTS_PER_S * (BURST_FACTOR if in_burst else 1.0)


def visit(port: int, stop: threading.Event) -> None:
    """One visitor: asks, waits, asks again, until ``stop``. A server that is away is asked again later."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while not stop.wait(random.expovariate(pace(time.monotonic() - started) / VISITORS)):
        wish = random.choices(WISHES, [w.weight for w in WISHES])[0]
        word = random.choice(WORDS).replace(" ", "+").replace("&", "%26")
        path = wish.path.format(number=random.randrange(1, 500), word=word)
        try:
            connection.request(wish.method, path, body=bytes(wish.body_bytes) if wish.body_bytes else None)
            connection.getresponse().read()
            if random.random() > KEEP_CONNECTION:
                connection.close()
        except (OSError, http.client.HTTPException):
            connection.close()
            stop.wait(0.5)
    connection.close()


@contextlib.contextmanager
def visitors(port: int) -> Iterator[None]:
    """Visitors of the site on ``port``, in a process of their own, while the context is open."""
    process = subprocess.Popen(
        [*COMMAND, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:  # a visitor waits for a slow view
            process.kill()
            process.wait()


def main() -> None:
    """Run the visitors until standard input ends."""
    stop = threading.Event()
    for _ in range(VISITORS):
        # Daemons: a visitor inside a slow request must not keep the process.
        threading.Thread(target=visit, args=(int(sys.argv[1]), stop), daemon=True).start()
    sys.stdin.buffer.read()
    stop.set()


if __name__ == "__main__":
    main()
