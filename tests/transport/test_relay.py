"""``wsgitop relay`` as a process, in front of sockets that behave and that do not."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control.fake_backend import ServerThread
from tests.support.server import PROGRAM, command, environment
from tests.support.waiting import eventually

pytestmark = pytest.mark.process

MEGABYTE = 1024 * 1024


class Relay:
    """A relay to a listening socket, whose other end is ``far``."""

    def __init__(self, directory: Path) -> None:
        path = directory / "c.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(10)
        self.process = subprocess.Popen(
            [*PROGRAM, "relay", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(directory),
            bufsize=0,
        )
        self.far, _ = self._listener.accept()
        self.far.settimeout(10)

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def read(self, amount: int) -> bytes:
        assert self.process.stdout is not None
        data = b""
        while len(data) < amount and (block := self.process.stdout.read(amount - len(data))):
            data += block
        return data

    def hear(self, amount: int) -> bytes:
        data = b""
        while len(data) < amount and (block := self.far.recv(amount - len(data))):
            data += block
        return data

    def end(self) -> tuple[int, str]:
        """Its exit status and what it said."""
        status = self.process.wait(10)
        assert self.process.stderr is not None
        return status, self.process.stderr.read().decode()

    def clean_up(self) -> None:
        self.process.kill()
        self.process.wait(5)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.far.close()
        self._listener.close()


@pytest.fixture
def relay(runtime_dir: Path) -> Iterator[Relay]:
    relay = Relay(runtime_dir)
    yield relay
    relay.clean_up()


def test_big_frames_pass_unchanged_in_both_directions_at_once(relay: Relay) -> None:
    block = bytes(range(256)) * (MEGABYTE // 256)
    heard: list[bytes] = []
    threads = [
        threading.Thread(target=relay.write, args=(block,)),
        threading.Thread(target=relay.far.sendall, args=(block,)),
        threading.Thread(target=lambda: heard.append(relay.hear(MEGABYTE))),
    ]
    for thread in threads:
        thread.start()
    assert relay.read(MEGABYTE) == block
    for thread in threads:
        thread.join(10)
    assert heard == [block]


def test_the_end_of_the_input_is_passed_on_and_the_answer_still_comes(relay: Relay) -> None:
    relay.write(b"question\n")
    assert relay.process.stdin is not None
    relay.process.stdin.close()
    assert relay.hear(100) == b"question\n"  # and then the end
    relay.far.sendall(b"answer\n")
    assert relay.read(7) == b"answer\n"
    relay.far.close()
    assert relay.end() == (0, "")


def test_the_end_of_the_server_is_the_end(relay: Relay) -> None:
    """Also while the input stays open."""
    relay.far.sendall(b"last words\n")
    relay.far.close()
    assert relay.read(100) == b"last words\n"
    assert relay.end() == (0, "")


def test_when_nobody_reads_any_more_it_ends(relay: Relay) -> None:
    """Also while the server says nothing: a stopped one would keep it for ever."""
    assert relay.process.stdout is not None
    relay.process.stdout.close()
    assert relay.end() == (0, "")
    assert relay.hear(1) == b""


@pytest.mark.parametrize("direction", ["answers", "calls"])
def test_a_slow_reader_slows_down_the_writer(relay: Relay, direction: str) -> None:
    """Little more than what the kernel's buffers hold is taken from the writer."""
    taken = 0

    def push(write: Callable[[bytes], object]) -> None:
        nonlocal taken
        try:
            for _ in range(64):
                write(b"x" * MEGABYTE)
                taken += 1
        except OSError:
            pass

    write = relay.far.sendall if direction == "answers" else relay.write
    thread = threading.Thread(target=push, args=(write,), daemon=True)
    thread.start()
    eventually(lambda: _sleeps(relay.process.pid), what="a relay that waits")
    thread.join(0.3)
    assert thread.is_alive()
    assert taken <= 2
    held = Path(f"/proc/{relay.process.pid}/statm").read_text().split()[1]
    assert int(held) * 4096 < 80 * MEGABYTE
    relay.clean_up()
    thread.join(10)
    assert not thread.is_alive()


def _sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_it_finds_the_only_server_and_prints_nothing_else(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    with ServerThread():
        for words in ((), ("shop",)):
            result = subprocess.run(
                [*PROGRAM, "relay", *words],
                input=b'{"jsonrpc":"2.0","id":1,"method":"hello"}\n',
                capture_output=True,
                env=environment(runtime_dir),
                timeout=20,
                check=True,
            )
            assert json.loads(result.stdout)["result"]["app"] == "shop.wsgi:application"
            assert result.stderr == b""
        with ServerThread(name="second"):
            result2 = command("relay", runtime_dir=runtime_dir)
            assert (result2.returncode, result2.stdout) == (3, "")
            assert "2 servers are running" in result2.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 3, "no server of yours is running"),
        (("shop",), 3, "no running server is called 'shop'"),
        (("/nowhere/c.sock",), 3, "there is no control socket"),
        (("ssh://web",), 2, "only a server of this machine"),
        (("exec:true",), 2, "only a server of this machine"),
        (("",), 2, "the target is empty"),
    ],
)
def test_faults(words: tuple[str, ...], status: int, said: str, runtime_dir: Path) -> None:
    result = command("relay", *words, runtime_dir=runtime_dir)
    assert (result.returncode, result.stdout) == (status, "")
    assert said in result.stderr
