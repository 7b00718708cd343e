"""Queries are shown where --show-query says so, and nowhere else."""

from __future__ import annotations

import pytest

from tests.worker import apps
from tests.worker.harness import worker
from wsgitop.channel import messages as m
from wsgitop.worker.slow_requests import LONG_NS, SlowRequests, shown_path

TARGET = "/slow?secret=1"


@pytest.mark.parametrize(("show", "path"), [(False, "/slow"), (True, TARGET)])
def test_in_a_worker(show: bool, path: str) -> None:
    entered, leave = apps.Gate(), apps.Gate()
    with worker(apps.gated(entered, leave), show_query=show) as w, w.connect() as client:
        client.get(TARGET)
        entered.pass_through()
        assert w.text() == (b"GET", path.encode(), b"127.0.0.1")
        w.channel.send(m.TakeStacks(1, 0))
        stacks = w.message(m.Stacks)
        assert stacks.threads[0].serves is not None and stacks.threads[0].serves.path == path
        w.channel.send(m.CancelRequest(2, 0, w.thread_word(0, 3)))
        cancelled = w.message(m.RequestCancelled)
        assert cancelled.path == path
        leave.open()


@pytest.mark.parametrize(("show", "path"), [(False, "/slow"), (True, TARGET)])
def test_of_what_took_long(show: bool, path: str) -> None:
    from types import SimpleNamespace

    slow = SlowRequests(show_query=show)
    slow.note(SimpleNamespace(method="GET", target=TARGET), b"", 200, LONG_NS)  # type: ignore[arg-type]
    assert slow.take()[0].path == path


def test_a_target_without_query() -> None:
    assert shown_path("/a", False) == shown_path("/a", True) == "/a"
    assert shown_path("*", False) == "*"
