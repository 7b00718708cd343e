"""A typed client of the control socket, for asyncio and for plain code.

The command line and the interface use it.

    async with AsyncClient("shop.wsgi") as client:
        async for news in client.subscribe(1.0): ...

    with Client("4242") as client:
        print(client.reload().text)

One connection carries calls and a subscription at the same time. What the server sends is bounded and checked
against the schema: a hostile one can end the connection, no more.
"""

from __future__ import annotations

from wsgitop.client.asynchronous import AsyncClient
from wsgitop.client.blocking import Client
from wsgitop.client.finding import find, running

__all__ = ["AsyncClient", "Client", "find", "running"]
