"""Fixtures for tests of the control socket."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(runtime_dir: Path) -> Path:
    """Where a control socket may be."""
    return runtime_dir / "c.sock"
