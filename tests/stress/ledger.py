"""What the application has recorded, held against what the clients know."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.stress.script import Ask, Fate

_CODES: Final[dict[Fate, int]] = {"answered": 1, "may be called": 2, "must not be called": 3}
_MOST: Final = 20


@dataclass(slots=True)
class Record:
    """The sums of the record by letter, and what is wrong with it."""

    sums: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Ledger:
    """The fates of ``requests`` requests, by number; a byte each, since there may be a million."""

    def __init__(self, requests: int) -> None:
        self._fates = bytearray(requests + 1)

    def put(self, ask: Ask) -> None:
        """A request has come to its end."""
        self._fates[ask.number] = _CODES[ask.fate]

    def compare(self, directory: Path, *, stopped: bool = False) -> Record:
        """Read the record that the application's processes have left. ``stopped``: the server ended before
        the clients, so that some have not been sent.
        """
        count = len(self._fates)
        tallies = {letter: bytearray(count) for letter in "CIEXHRT"}
        record = Record()
        for path in directory.iterdir():
            for line in path.read_bytes().splitlines():
                letter = chr(line[0])
                record.sums[letter] += 1
                tallies[letter][int(line[1:])] += 1
        calls, begun, ended, hung = (tallies[letter] for letter in "CIEH")
        for number in range(1, count):
            fate = self._fates[number]
            fault = ""
            if calls[number] > 1:
                fault = f"called {calls[number]} times"
            elif fate == 1 and not calls[number]:
                fault = "answered, but never called"
            elif fate == 3 and calls[number]:
                fault = "called, but never sent completely"
            elif fate == 0 and (calls[number] or not stopped):
                fault = "the client has lost sight of it"
            elif begun[number] != ended[number] and not hung[number]:
                fault = f"close() called {ended[number]} times for {begun[number]} iterable"
            elif tallies["T"][number]:
                fault = "served on more than one thread"
            if fault and len(record.faults) < _MOST:
                record.faults.append(f"request {number}: {fault}")
        return record
