"""Questions to workers whose answers come as messages: each has a number, and somebody who waits for it.

Who runs this: the loop of the master. An answer counts only from the worker that was asked.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from wsgitop.channel import messages as m

Answer = m.Stacks | m.RequestCancelled


class WorkerGone(Exception):
    """The worker has ended, or its channel has: it will not answer."""


class NotRead(Exception):
    """The question did not go out: the worker does not read, or its channel has just ended."""


class Inquiries:
    """Those that are under way, by worker and number."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, dict[int, asyncio.Future[Answer]]] = {}

    async def ask(self, worker: int, send: Callable[[int], bool], deadline_s: float) -> Answer:
        """Have ``send`` ask worker ``worker``, under the number that it is given; the answer. Raises
        WorkerGone, NotRead, TimeoutError.
        """
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = self._open.setdefault(worker, {})
        waiting[number] = future
        try:
            if not send(number):
                raise NotRead
            async with asyncio.timeout(deadline_s):
                return await future
        finally:
            waiting.pop(number, None)
            if not waiting and self._open.get(worker) is waiting:
                del self._open[worker]

    def answered(self, worker: int, answer: Answer) -> bool:
        """A worker has answered; whether somebody still waits for it."""
        future = self._open.get(worker, {}).get(answer.inquiry)
        if future is None or future.done():
            return False
        future.set_result(answer)
        return True

    def gone(self, worker: int) -> None:
        """A worker has ended."""
        for future in self._open.pop(worker, {}).values():
            if not future.done():
                future.set_exception(WorkerGone())
