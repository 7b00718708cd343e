"""The death ledger: how each worker and zygote has ended, the newest KEPT of them. Pure but for ``keep``.

When it is full, ends that were wanted give way first: a day of deploys must not push out the one crash.

Text of the application's (its output, stacks, paths) is made harmless and cut here, whether it comes from a
process or out of a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from wsgitop.snapshot import Death, DeathCause, InFlight, printable, printable_lines

KEPT = 200
WANTED_KEPT = 100
"""Ends that were wanted, once there is no room for all."""
WANTED: frozenset[DeathCause] = frozenset({"retired", "recycled", "scaled down", "replaced", "stopped"})
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
        self._entries: list[Death] = list(entries)
        self._sequence = self._entries[-1].sequence if self._entries else 0
        self._keep = keep
        self.ends: Counter[tuple[str, DeathCause]] = Counter()
        """How many there were since the start of this master, by process and cause."""

    def add(self, death: Death) -> Death:
        """File a death; it gets its number here."""
        self._sequence += 1
        filed = msgspec.structs.replace(clean(death), sequence=self._sequence)
        self._entries.append(filed)
        self.ends[filed.process, filed.cause] += 1
        thin(self._entries)
        if self._keep is not None:
            self._keep(filed)
        return filed

    def after(self, sequence: int, limit: int) -> tuple[Death, ...]:
        """The newest ``limit`` with a number above ``sequence``, oldest first."""
        found = [death for death in self._entries if death.sequence > sequence]
        return tuple(found[-limit:]) if limit > 0 else ()


def thin(entries: list[Death]) -> None:
    """Let the oldest go until there are KEPT, those that were wanted first while there are many of them."""
    wanted = [death for death in entries if death.cause in WANTED]
    surplus = len(entries) - KEPT
    if surplus > 0:
        going = {id(death) for death in wanted[: min(surplus, max(0, len(wanted) - WANTED_KEPT))]}
        entries[:] = [death for death in entries if id(death) not in going]
        del entries[: max(0, len(entries) - KEPT)]


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
