"""The way from a command to the interface."""

from __future__ import annotations

from collections.abc import Callable

from wsgitop.client import AsyncClient


def show(
    target: str,
    *,
    owns_server: bool,
    log_path: str = "",
    mouse: bool = True,
    whereabouts: Callable[[], str] | None = None,
    server_ended: Callable[[], bool] = lambda: False,
) -> str:
    """Show the server at ``target`` until the user leaves: "stop", "leave" or "quit".

    ``whereabouts`` is asked before each connection for the target as it is by then.
    ``server_ended`` tells whether the server that is owned has ended. Raises TerminalError,
    InterfaceFault.
    """
    from wsgitop.tui.app import run_interface

    result = run_interface(
        lambda: AsyncClient(whereabouts() if whereabouts is not None else target),
        target_label=target,
        owns_server=owns_server,
        log_path=log_path,
        server_ended=server_ended,
        mouse=mouse,
    )
    return result.choice
