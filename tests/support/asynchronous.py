"""Coroutines as tests."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

AsyncTest = Callable[..., Awaitable[None]]
LIMIT_S = 20


def asynchronous(test: AsyncTest) -> Callable[..., None]:
    """Run a coroutine as a test; it fails if it takes longer than LIMIT_S seconds."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*args, **kwargs)

        asyncio.run(limited())

    return run
