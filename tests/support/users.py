"""Being another user for a moment, for tests that run as root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
ALICE, BOB = 12345, 12346
"""Ids that no machine has given to anybody."""


@contextlib.contextmanager
def effective(uid: int, *groups: int) -> Iterator[None]:
    """What is opened meanwhile is opened by user ``uid`` in ``groups``; the kernel tells a server so."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(groups[0] if groups else uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)
