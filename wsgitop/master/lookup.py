"""The addresses of host names, looked up beside the master's loop: a name service may not answer for long.

Who runs this: the loop asks, and hears. A thread for each question waits for the system's resolver, which
nothing interrupts: a daemon, because the process waits for the threads of an executor before it can end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence

from wsgitop.errors import BindError
from wsgitop.master.listeners import Found, resolve
from wsgitop.settings.addresses import Address

LIMIT_S = 5.0

Outcome = Found | BindError


def look_up(
    loop: asyncio.AbstractEventLoop, addresses: Sequence[Address], then: Callable[[Outcome], None]
) -> None:
    """Find out what each address leads to, within LIMIT_S; ``then`` is called once, in the loop."""
    over = False

    def finish(outcome: Outcome) -> None:
        nonlocal over
        if not over:
            over = True
            timer.cancel()
            then(outcome)

    def run() -> None:
        outcome: Outcome
        try:
            outcome = {address: resolve(address) for address in addresses}
        except BindError as error:
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended meanwhile
            loop.call_soon_threadsafe(finish, outcome)

    names = ", ".join(map(str, addresses))
    late = BindError(
        f"cannot listen on {names}: the name was not resolved within {LIMIT_S:g} s",
        "Check this machine's name service, or give the address as a number.",
    )
    timer = loop.call_later(LIMIT_S, finish, late)
    try:
        threading.Thread(target=run, name="wsgitop-lookup", daemon=True).start()
    except RuntimeError as error:
        loop.call_soon(finish, BindError(f"cannot listen on {names}: {error}", "Reload again."))
