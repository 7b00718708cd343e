"""A crowd that means no good at the control socket of a real server: requests go on, the owner is answered,
and the master has little to do."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.support.flood import Crowd, FloodProcess
from tests.support.users import ALICE, BOB, as_root

SECONDS = 4.0
MOST_PERCENT = 20.0
"""Of a core, for the master; less than 10 where nobody else wants the machine (tests/chaos/reloads.py)."""
ANSWER_S = 2.0


def survive(server: object, crowds: list[Crowd]) -> dict[str, int]:
    """Ask for the status and for pages for a while; the tally of the crowds."""
    from tests.support.server import Server

    assert isinstance(server, Server)
    master = psutil.Process(server.pid)
    with FloodProcess(*crowds) as flood:
        before_s = sum(master.cpu_times()[:2])
        begun_s = time.monotonic()
        asked = 0
        while time.monotonic() < begun_s + SECONDS:
            asked_s = time.monotonic()
            with server.client() as client:  # a new connection each time: there is room
                assert client.status().master.state == "serving"
            assert time.monotonic() < asked_s + ANSWER_S, f"answer {asked} came late"
            assert server.get()[0] == 200
            asked += 1
        percent = 100 * (sum(master.cpu_times()[:2]) - before_s) / (time.monotonic() - begun_s)
    assert percent < MOST_PERCENT, f"{flood.tally}"
    assert asked > 5
    return flood.tally


@pytest.mark.process
@pytest.mark.slow
def test_a_crowd_of_the_owners_own(start_server: StartServer) -> None:
    server = start_server("hello:application", "--workers", "2")
    control = server.status()["master"]["control"]
    tally = survive(server, [Crowd(control, kind, 50) for kind in ("stalled", "flooding", "half")])
    assert tally["answers"] > 50, tally
    with server.client() as client:
        assert client.scale(change=1).workers == 3, "an order is carried out afterwards"


@as_root
@pytest.mark.process
@pytest.mark.slow
def test_a_crowd_of_other_users(start_server: StartServer, open_dir: Path) -> None:
    path = str(open_dir / "shared" / "s.sock")
    allowed = ("--control-allow", str(ALICE), "--control-allow", f"{BOB}:viewer")
    server = start_server("hello:application", *allowed, "--control-allow-socket", path)
    assert server.status()["master"]["control_shared"] == path
    carl = BOB + 1  # who is not allowed
    crowds = [Crowd(path, kind, 50, uid) for kind in ("stalled", "flooding", "half") for uid in (ALICE, BOB)]
    tally = survive(server, [*crowds, Crowd(path, "flooding", 20, carl), Crowd(path, "connecting", 20, carl)])
    assert tally["answers"] > 50, tally
    assert tally["cut off"] > 50, tally
