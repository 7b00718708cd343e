"""Questions to workers: their answers, deadlines, deaths."""

from __future__ import annotations

import asyncio
import gc

import pytest

from wsgitop.channel import messages as m
from wsgitop.master.inquiries import Inquiries, NotRead, WorkerGone


async def asked(
    inquiries: Inquiries, worker: int = 1, deadline_s: float = 5.0
) -> tuple[asyncio.Task[object], int]:
    """A question under way, and its number."""
    numbers: list[int] = []

    async def ask() -> object:
        return await inquiries.ask(worker, lambda number: not numbers.append(number), deadline_s)

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    return task, numbers[0]


def test_each_gets_its_own_answer() -> None:
    async def main() -> None:
        inquiries = Inquiries()
        first, number = await asked(inquiries)
        second, other = await asked(inquiries)
        assert number != other
        inquiries.answered(1, m.RequestCancelled(other, "raised"))
        inquiries.answered(1, m.RequestCancelled(number, "finished"))
        inquiries.answered(1, m.RequestCancelled(number, "raised"))  # once is enough
        assert await second == m.RequestCancelled(other, "raised")
        assert await first == m.RequestCancelled(number, "finished")
        assert not inquiries._open

    asyncio.run(main())


def test_nobody_else_answers() -> None:
    async def main() -> None:
        inquiries = Inquiries()
        task, number = await asked(inquiries)
        inquiries.answered(2, m.RequestCancelled(number, "finished"))
        inquiries.answered(1, m.RequestCancelled(number + 1, "finished"))
        await asyncio.sleep(0)
        assert not task.done()
        inquiries.answered(1, m.RequestCancelled(number, "finished"))
        await task

    asyncio.run(main())


def test_who_dies_answers_so() -> None:
    async def main() -> None:
        inquiries = Inquiries()
        (first, _), (second, _), (other, number) = (
            await asked(inquiries), await asked(inquiries), await asked(inquiries, 2)
        )  # fmt: skip
        inquiries.gone(1)
        for task in (first, second):
            with pytest.raises(WorkerGone):
                await task
        inquiries.gone(1)
        inquiries.answered(2, m.Stacks(number, ()))
        assert await other == m.Stacks(number, ())

    asyncio.run(main())


def test_a_deadline() -> None:
    async def main() -> None:
        inquiries = Inquiries()
        task, number = await asked(inquiries, deadline_s=0.01)
        with pytest.raises(TimeoutError):
            await task
        inquiries.answered(1, m.RequestCancelled(number, "finished"))  # too late: nobody waits
        assert not inquiries._open

    asyncio.run(main())


def test_who_does_not_read_is_not_waited_for() -> None:
    async def main() -> None:
        with pytest.raises(NotRead):
            await Inquiries().ask(1, lambda _number: False, 60.0)

    asyncio.run(main())
    gc.collect()  # a future whose exception nobody has looked at would say so
