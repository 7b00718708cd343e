"""What a change of scale will cost."""

from __future__ import annotations

import pytest

from wsgitop.master.forecast import MIB, Memory, forecast


def worker(rss: int | None, pss: int | None = None) -> Memory:
    return None if pss is None else pss * MIB, None if rss is None else rss * MIB


@pytest.mark.parametrize(
    ("change", "workers", "limit", "room", "text", "fits"),
    [
        (1, [], 100, 50, "", True),
        (1, [worker(None)], None, None, "", True),
        (0, [worker(60)], 100, 50, "", True),
        (1, [worker(60), worker(80)], None, None, "expected memory +70 MiB (RSS, so rather less)", True),
        (2, [worker(60, 20), worker(80, 40)], None, None, "expected memory +60 MiB (PSS)", True),
        (-1, [worker(60, 20)], None, None, "expected memory -20 MiB (PSS)", True),
        (
            3, [worker(60, 20)], 512, 52,
            "expected memory +60 MiB (PSS); 52 of 512 MiB are free in the control group", False,
        ),
        (
            1, [worker(60, 20)], 512, 0,
            "expected memory +20 MiB (PSS); 0 of 512 MiB are free in the control group", False,
        ),
    ],
)  # fmt: skip
def test_forecast(  # noqa: PLR0917 - the columns of the table above
    change: int, workers: list[Memory], limit: int | None, room: int | None, text: str, fits: bool
) -> None:
    bounds = [None if figure is None else figure * MIB for figure in (limit, room)]
    assert forecast(change, workers, *bounds) == (text, fits)
