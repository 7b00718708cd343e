"""The limit of open files follows the connections."""

from __future__ import annotations

import resource
from unittest import mock

import pytest

from wsgitop.master.descriptors import raise_limit

ENDLESS = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "connections", "raised", "noted"),
    [
        ((ENDLESS, ENDLESS), 10_000, None, False),
        ((20_000, 20_000), 10_000, None, False),
        ((1024, ENDLESS), 10_000, 10_256, False),
        ((1024, 500_000), 10_000, 10_256, False),
        ((1024, 4096), 10_000, 4096, True),
        ((1024, 1024), 10_000, None, True),
        ((1024, 4096), 100, None, False),
    ],
)
def test_limits(limits: tuple[int, int], connections: int, raised: int | None, noted: bool) -> None:
    with (
        mock.patch.object(resource, "getrlimit", return_value=limits),
        mock.patch.object(resource, "setrlimit") as setrlimit,
    ):
        note = raise_limit(connections)
    assert bool(note) is noted
    if raised is None:
        setrlimit.assert_not_called()
    else:
        setrlimit.assert_called_once_with(resource.RLIMIT_NOFILE, (raised, limits[1]))
