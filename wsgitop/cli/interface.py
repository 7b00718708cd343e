"""The way from a command to the interface."""

from __future__ import annotations

from wsgitop.client import AsyncClient


def show(target: str, *, owns_server: bool, log_path: str = "", mouse: bool = True) -> str:
    """Show the server at ``target`` until the user leaves: "stop", "leave" or "quit".

    Raises TerminalError.
    """
    from wsgitop.tui.app import run_interface

    result = run_interface(
        lambda: AsyncClient(target),
        target_label=target,
        owns_server=owns_server,
        log_path=log_path,
        mouse=mouse,
    )
    return result.choice
