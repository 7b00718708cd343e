"""What is typed behind ``/``: words that must all occur, whatever their case; a leading ``!`` inverts."""

from __future__ import annotations

from typing import NamedTuple, Self


class Filter(NamedTuple):
    """``words`` in lower case; without any, everything passes."""

    words: tuple[str, ...] = ()
    inverted: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """As it was typed."""
        text = text.strip().casefold()
        return cls(tuple(text.removeprefix("!").split()), text.startswith("!"))

    def passes(self, text: str) -> bool:
        """Whether something that is described by ``text`` is shown."""
        if not self.words:
            return True
        text = text.casefold()
        return all(word in text for word in self.words) is not self.inverted
