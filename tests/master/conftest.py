"""Fixtures for the tests of the master."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.master.world import Make, World


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes simulated worlds, which end with the test. Arguments as for :class:`World`."""
    worlds: list[World] = []

    def build(wanted: int = 2, **settings: object) -> World:
        worlds.append(World(wanted, **settings))
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()
