"""The way from a command to the interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wsgitop.client import AsyncClient
from wsgitop.control.messages import Hello
from wsgitop.snapshot import printable

LABEL_LIMIT = 100


def show(
    target: str,
    *,
    owns_server: bool,
    log_path: str = "",
    mouse: bool = True,
    theme: str = "",
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
        theme=theme,
    )
    return result.choice


def show_remote(target: str, *, remote_command: str, mouse: bool = True, theme: str = "") -> None:
    """Show the server that an ``ssh://`` or ``exec:`` target reaches, until the user leaves.

    The first connection is made before the screen is taken, because ssh may have to ask for a password, and
    the interface goes on with it. Later ones ask nothing. Raises whatever connecting raises, TerminalError,
    InterfaceFault.
    """
    from wsgitop.tui.app import run_interface

    first = _Ahead(target, remote_command=remote_command, interactive=True)
    sources = iter((first,))
    # One event loop for both: a connection lives in the one it was made in.
    with asyncio.Runner() as runner:
        try:
            runner.run(first.connect_ahead())
            run_interface(
                lambda: next(sources, None) or AsyncClient(target, remote_command=remote_command),
                target_label=printable(target, LABEL_LIMIT),
                owns_server=False,
                mouse=mouse,
                theme=theme,
                loop=runner.get_loop(),
            )
        finally:
            runner.run(first.close())


class _Ahead(AsyncClient):
    """A client whose first connect() finds the connection that is there already."""

    _hello: Hello | None = None

    async def connect_ahead(self) -> None:
        self._hello = await super().connect()

    async def connect(self) -> Hello:
        hello, self._hello = self._hello, None
        return hello if hello is not None else await super().connect()
