"""gunicorn's server hooks, each declared once: its name and what it is called with.

Where and when each one runs is said by :mod:`wsgitop.zygote.hooks` and :mod:`wsgitop.worker.hooks`.
"""

from __future__ import annotations

from typing import Final

HOOKS: Final[dict[str, tuple[str, ...]]] = {
    "on_starting": ("server",),
    "on_reload": ("server",),
    "when_ready": ("server",),
    "pre_fork": ("server", "worker"),
    "post_fork": ("server", "worker"),
    "post_worker_init": ("worker",),
    "worker_int": ("worker",),
    "worker_abort": ("worker",),
    "pre_exec": ("server",),
    "pre_request": ("worker", "req"),
    "post_request": ("worker", "req", "environ", "resp"),
    "child_exit": ("server", "worker"),
    "worker_exit": ("server", "worker"),
    "nworkers_changed": ("server", "new_value", "old_value"),
    "on_exit": ("server",),
}
"""Hooks that are run, in gunicorn's order, with their parameters."""

FEWEST: Final[dict[str, int]] = {"post_request": 2}
"""Hooks that may take fewer parameters: those from the right are left out."""

NOT_RUN: Final = (
    "ssl_context", "on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit",
)  # fmt: skip
"""Hooks for what is not there: TLS, dirty workers."""

BY_ZYGOTE: Final = frozenset(
    ("on_reload", "when_ready", "pre_exec", "child_exit", "nworkers_changed", "on_exit")
)
"""Hooks that a zygote runs when the master says so. It runs on_starting and pre_fork by itself."""
