"""Whose processes are the server's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsgitop.master.processes import descends

GRANDCHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"


@pytest.mark.process
def test_children_and_grandchildren_are_and_others_are_not() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GRANDCHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        (grandchild,) = [
            int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _parent(int(entry.name)) == child.pid
        ]
        assert descends(child.pid) and descends(grandchild)
        child.stdin.close()
    assert not descends(1) and not descends(os.getppid())
    assert descends(child.pid), "it has ended: nobody can be mistaken for it"


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
