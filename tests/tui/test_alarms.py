"""When an alarm is raised, and when not."""

from __future__ import annotations

import msgspec
import pytest

from tests.tui.fake import EPOCH, snapshot, worker
from wsgitop.snapshot import GenerationSnapshot, ReloadSnapshot, Second, Snapshot, Totals
from wsgitop.tui.alarms import KINDS, alarms, memory_share
from wsgitop.tui.widgets.header import Header

GIB = 1 << 30
CALM = snapshot(these=(worker(1), worker(2)))


def seconds(number: int = 20, **changes: object) -> list[Second]:
    """The last seconds; a list or tuple in ``changes`` gives each of the newest its own figure."""
    found = []
    for index in range(number):
        fields: dict[str, object] = {"rps": 100.0, "threads": 8, "threads_busy": 2, "queue": 0}
        for name, value in changes.items():
            if isinstance(value, list):
                at = index - (number - len(value))
                if at >= 0:
                    fields[name] = value[at]
            else:
                fields[name] = value
        found.append(Second(at=EPOCH - number + 1 + index, **fields))  # type: ignore[arg-type]  # a table
    return found


def changed(what: str, **changes: object) -> Snapshot:
    """The calm picture with other fields of its master or totals."""
    part = msgspec.structs.replace(getattr(CALM, what), **changes)
    return msgspec.structs.replace(CALM, **{what: part})


FULL = msgspec.structs.replace(CALM, totals=Totals(threads=8, threads_busy=8))
STALE = msgspec.structs.replace(
    CALM, generations=(GenerationSnapshot(number=7, state="ready", stale="file changed: shop/views.py"),)
)


@pytest.mark.parametrize(
    ("picture", "past", "texts"),
    [
        (CALM, seconds(), []),
        (changed("master", state="degraded"), [], ["DEGRADED"]),
        (snapshot(these=(worker(1, "stuck"), worker(2, "stuck"), worker(3))), [], ["2 STUCK"]),
        (snapshot(these=(worker(1),), failed=True), [], ["RELOAD FAILED gen 8, 7 serves"]),
        (snapshot(these=(worker(1), worker(2, "retiring"))), [], ["MIXED gen 6+7"]),
        (snapshot(state="reloading", these=(worker(1), worker(2, "retiring"))), [], ["RELOADING 7→8"]),
        (
            changed("master", state="reloading", reload=ReloadSnapshot(
                from_generation=7, to_generation=8, stage="replacing", ready=3, workers=8, old=5,
                elapsed_s=1.0,
            )),
            [],
            ["RELOADING 7→8 3/8"],
        ),
        (changed("master", state="booting"), [], ["BOOTING"]),
        (changed("master", state="stopping"), [], ["STOPPING"]),
        # errors: a share of the last ten seconds, and not of one request
        (CALM, seconds(errors_per_s=[5.0] * 10), ["ERRORS 5%"]),
        (CALM, seconds(errors_per_s=[4.0] * 10), []),
        (CALM, seconds(errors_per_s=[50.0, *[0.0] * 9]), ["ERRORS 5%"]),
        (CALM, seconds(errors_per_s=[50.0, *[0.0] * 10]), []),
        (CALM, seconds(rps=0.1, errors_per_s=[1.0]), []),
        (CALM, seconds(rps=0.0, errors_per_s=0.0), []),
        (CALM, seconds(rps=1.0, errors_per_s=2.0), ["ERRORS 100%"]),
        # memory: what cannot be had back
        (changed("master", memory_limit_bytes=GIB, memory_room_bytes=GIB // 20), [], ["MEMORY 95%"]),
        (changed("master", memory_limit_bytes=GIB, memory_room_bytes=0), [], ["MEMORY 100%"]),
        (changed("master", memory_limit_bytes=GIB, memory_room_bytes=GIB // 2, memory_used_bytes=GIB), [],
         []),
        (changed("master", memory_limit_bytes=GIB, memory_used_bytes=GIB), [], ["MEMORY 100%"]),
        (changed("master", memory_limit_bytes=GIB), [], []),
        (changed("master", memory_used_bytes=GIB), [], []),
        # threads: all of them, for five seconds and now
        (FULL, seconds(threads_busy=8), ["SHORT OF WORKERS 8/8 busy"]),
        (FULL, seconds(threads_busy=[7, 8, 8, 8, 8, 8]),
         ["SHORT OF WORKERS 8/8 busy"]),
        (FULL, seconds(threads_busy=[8, 7, 8, 8, 8]), []),
        (changed("totals", threads=8, threads_busy=7), seconds(threads_busy=8), []),
        (FULL, seconds(4, threads_busy=8), []),
        (changed("totals", threads=0, threads_busy=0), seconds(threads=0, threads_busy=0), []),
        # queue: growing, not a single peak
        (CALM, seconds(queue=[0, 0, 1, 2, 3, 4, 5, 6, 7]), ["QUEUE 7 growing"]),
        (CALM, seconds(queue=[9, 9, 9, 9, 9, 9, 9, 9, 9]), []),
        (CALM, seconds(queue=[0, 0, 0, 0, 0, 0, 0, 90, 0]), []),
        (CALM, seconds(queue=[0, 0, 0, 0, 0, 0, 1, 2, 2]), []),
        (CALM, seconds(queue=None), []),
        # code
        (STALE, [], ["STALE CODE"]),
        (msgspec.structs.replace(STALE, generations=(
            GenerationSnapshot(number=6, state="retiring", stale="file changed: x.py"),
            GenerationSnapshot(number=7, state="ready"),
        )), [], []),
        (msgspec.structs.replace(STALE, master=msgspec.structs.replace(STALE.master, state="reloading")), [],
         ["RELOADING"]),
    ],
)  # fmt: skip
def test_when_an_alarm_is_raised(picture: Snapshot, past: list[Second], texts: list[str]) -> None:
    assert [alarm.text for alarm in alarms(picture, past)] == texts


def test_the_worst_comes_first_in_the_order_of_the_table() -> None:
    picture = snapshot(state="degraded", failed=True)
    found = alarms(picture, seconds(errors_per_s=10.0, queue=[0, 0, 0, 1, 2, 3, 4, 5, 6]))
    assert [alarm.kind for alarm in found] == [
        "degraded",
        "stuck",
        "errors",
        "reload failed",
        "queue",
        "mixed",
    ]
    order = list(KINDS)
    assert sorted(order, key=lambda name: ("error", "warning", "info").index(KINDS[name].severity)) == order


def test_each_kind_explains_itself_and_its_text_has_its_word() -> None:
    for kind in KINDS.values():
        assert kind.help and kind.word
    for alarm in alarms(snapshot(state="degraded", failed=True)):
        assert all(word in alarm.text for word in KINDS[alarm.kind].word.split())


def test_nothing_is_known_before_the_first_picture() -> None:
    assert alarms(None) == ()
    assert memory_share(CALM) is None


def test_old_seconds_say_nothing() -> None:
    """After a pause of the connection the last seconds known are old."""
    past = [
        msgspec.structs.replace(second, at=second.at - 60)
        for second in seconds(threads_busy=8, errors_per_s=50.0)
    ]
    assert alarms(FULL, past) == ()


def test_alarms_that_do_not_fit_are_counted() -> None:
    from wsgitop.tui.model import View
    from wsgitop.tui.theme import Look

    found = alarms(snapshot(state="degraded", failed=True), seconds(errors_per_s=10.0))
    view = View(snapshot=CALM, alarms=found)
    for width, shown in [(60, "+3"), (80, "+2"), (140, "MIXED gen 6+7")]:
        text = Header("x", wall=lambda: EPOCH).draw(view, Look(), width, 1)[0].text
        assert len(text) == width and shown in text, text
        assert text.rstrip().endswith("08:53:20")
