"""The pid file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from wsgitop.errors import PidfileError
from wsgitop.master.pidfile import Pidfile


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_written_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    pidfile = Pidfile(str(path))
    pidfile.create()
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == [path], "nothing temporary stays"
    pidfile.remove()
    assert list(tmp_path.iterdir()) == []
    pidfile.remove()


@pytest.mark.parametrize(
    "found", ["", "\n", "nonsense", "0", "-1", "99999999999999999999", "1 2", "\x00\xff", "own", "ended"]
)
def test_stale_is_replaced(tmp_path: Path, found: str) -> None:
    path = tmp_path / "site.pid"
    text = {"own": str(os.getpid()), "ended": str(ended_process())}.get(found, found)
    path.write_bytes(text.encode("latin-1"))
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_of_a_living_process_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    path.write_text(f"{os.getppid()}\n")
    pidfile = Pidfile(str(path))
    with pytest.raises(PidfileError, match=f"belongs to process {os.getppid()}"):
        pidfile.create()
    pidfile.remove()
    assert path.read_text() == f"{os.getppid()}\n"


def test_taken_over_by_another_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    pidfile = Pidfile(str(path))
    pidfile.create()
    path.write_text("1\n")
    pidfile.remove()
    assert path.exists()


@pytest.mark.parametrize("where", ["missing/site.pid", "directory"])
def test_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(PidfileError) as caught:
        Pidfile(str(tmp_path / where)).create()
    assert "cannot be written" in str(caught.value) and "--pid" in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["directory"]


def test_a_number_that_another_program_has_by_now_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    path.write_text(f"{os.getppid()}\n")
    an_hour_before = psutil.Process(os.getppid()).create_time() - 3600
    os.utime(path, (an_hour_before, an_hour_before))
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_server_is_respected_though_the_clock_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.pid"
    path.write_text(f"{os.getppid()}\n")
    os.utime(path, (0, 0))
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _process: ["wsgitop: master [site] gen 3"])
    with pytest.raises(PidfileError, match="which runs"):
        Pidfile(str(path)).create()


def test_a_zombie_does_not_hold_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        path = tmp_path / "site.pid"
        path.write_text(f"{process.pid}\n")
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    path = tmp_path / "site.pid"
    path.symlink_to(target)
    # The name of the temporary file can be guessed by whoever may write there.
    (tmp_path / f".site.pid.{os.getpid()}").symlink_to(target)
    Pidfile(str(path)).create()
    assert target.read_text() == "precious"
    assert not path.is_symlink() and path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(tmp_path.iterdir()) == [path, target]


def test_of_two_that_start_at_once_one_gets_it(tmp_path: Path) -> None:
    code = (
        "import sys; from wsgitop.errors import PidfileError; from wsgitop.master.pidfile import Pidfile\n"
        "print('there', flush=True); input()\n"
        "try: Pidfile(sys.argv[1]).create(); print('mine', flush=True)\n"
        "except PidfileError: print('refused', flush=True)\n"
        "input()"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "site.pid")]
    processes = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "there\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.stdout.readline().strip() for process in processes if process.stdout]
        assert sorted(answers) == ["mine", "refused", "refused", "refused"]
    finally:
        for process in processes:
            process.communicate("end\n", timeout=10)


def test_a_successors_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    path.write_text("1\n")
    pidfile = Pidfile(f"{path}.2")
    pidfile.create()
    assert path.read_text() == "1\n"
    pidfile.succeed(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove()
    assert list(tmp_path.iterdir()) == []
