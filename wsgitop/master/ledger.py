"""The death ledger: how each worker and zygote has ended, the newest KEPT of them. Pure but for ``keep``.

Text of the application's (its output, stacks, paths) is made harmless and cut here, whether it comes from a
process or out of a file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from wsgitop.snapshot import Death, InFlight, printable, printable_lines

KEPT = 200
LINES_KEPT = 20
LINE_LIMIT = 400
STACK_LIMIT = 8000
TEXT_LIMIT = 400
SERVING_LIMIT = 16
MEMORY_LIMIT = 128
ACTOR_LIMIT = 100


class Ledger:
    """``keep`` is called with each new entry."""

    def __init__(self, entries: Iterable[Death] = (), keep: Callable[[Death], None] | None = None) -> None:
        self._entries: deque[Death] = deque(entries, maxlen=KEPT)
        self._sequence = self._entries[-1].sequence if self._entries else 0
        self._keep = keep

    def add(self, death: Death) -> Death:
        """File a death; it gets its number here."""
        self._sequence += 1
        filed = msgspec.structs.replace(clean(death), sequence=self._sequence)
        self._entries.append(filed)
        if self._keep is not None:
            self._keep(filed)
        return filed

    def after(self, sequence: int, limit: int) -> tuple[Death, ...]:
        """The newest ``limit`` with a number above ``sequence``, oldest first."""
        found = [death for death in self._entries if death.sequence > sequence]
        return tuple(found[-limit:]) if limit > 0 else ()


def clean(death: Death) -> Death:
    """The same, with text that cannot steer a terminal and everything within its limit."""
    stack = printable_lines(death.stack).strip("\n")
    if len(stack) > STACK_LIMIT:
        # Both ends matter: Python tells last where it was, faulthandler first.
        half = STACK_LIMIT // 2 - 2
        stack = f"{stack[:half]}\n…\n{stack[-half:]}"
    return msgspec.structs.replace(
        death,
        text=_line(death.text, TEXT_LIMIT),
        next_step=_line(death.next_step, TEXT_LIMIT),
        actor=_line(death.actor, ACTOR_LIMIT),
        signal=_line(death.signal, 20),
        stack=stack,
        lines=tuple(_line(line, LINE_LIMIT) for line in death.lines[-LINES_KEPT:]),
        serving=tuple(_clean_request(request) for request in death.serving[:SERVING_LIMIT]),
        memory=death.memory[-MEMORY_LIMIT:],
    )


def _clean_request(request: InFlight) -> InFlight:
    return msgspec.structs.replace(
        request,
        method=_line(request.method, 40),
        path=_line(request.path, 200),
        client=_line(request.client, 100),
    )


def _line(text: str, limit: int) -> str:
    return printable(" ".join(part.strip() for part in text.split("\n")) if "\n" in text else text, limit)
