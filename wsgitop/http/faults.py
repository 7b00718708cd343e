"""What the front door answers to a request that it does not let through."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A request that gets an error answer. ``status`` is the HTTP status, ``reason`` one line for the log and
    the body; ``head_only``: as far as is known it is a HEAD, and the answer has no body (RFC 9110 section
    9.3.2).

    The connection ends behind the answer: after a fault in the framing nobody can tell where the next request
    begins.
    """

    status: int
    reason: str
    head_only: bool = False


class RequestFault(Exception):
    """Raised within the parser where a fault is found; :meth:`RequestParser.next` turns it into its value."""

    def __init__(self, status: int, reason: str) -> None:
        self.fault = Fault(status, reason)
        super().__init__(f"{status}: {reason}")
