"""Who a client is: the kernel's word, and what is found out for people."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.support.users import ALICE, BOB, as_root, effective
from wsgitop.control import peers
from wsgitop.control.peers import Known, Lookups, Peer, actor, find_out, peer_of, ssh_origin

SSH = {"SSH_CONNECTION": "198.51.100.7 51234 203.0.113.1 22"}


def test_the_kernel_says_who_has_connected() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


@as_root
def test_groups_are_those_of_the_moment_of_connecting() -> None:
    with effective(ALICE, BOB, 7, 8):
        ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), ALICE, frozenset({BOB, 7, 8}))


@as_root
def test_more_groups_than_are_looked_at() -> None:
    with effective(ALICE, *range(1000, 1000 + peers.MOST_GROUPS + 1)):
        ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours).groups == {1000}
    with effective(ALICE, *range(1000, 1000 + peers.MOST_GROUPS)):
        ours, theirs = socket.socketpair()
    with ours, theirs:
        assert len(peer_of(ours).groups) == peers.MOST_GROUPS


@pytest.mark.parametrize(
    ("peer", "known", "text"),
    [
        (Peer(4242, 7), Known("alice", "198.51.100.7"), "alice (pid 4242, ssh from 198.51.100.7)"),
        (Peer(4242, 7), Known("alice"), "alice (pid 4242)"),
        (Peer(0, 7), Known("alice"), "alice"),
        (Peer(4242, 7), Known(), "uid 7 (pid 4242)"),
    ],
)
def test_a_peer_in_words(peer: Peer, known: Known, text: str) -> None:
    assert actor(peer, known) == text


# -- where an ssh session came from --------------------------------------------------------------------------

CHILD = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def process(environ: Mapping[str, str], *wrapped_in: str) -> Iterator[int]:
    """A process with an environment; below another one, if it is wrapped."""
    keep = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "HOME") if name in os.environ}
    with subprocess.Popen(
        [*wrapped_in, sys.executable, "-c", CHILD],
        env=keep | environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.stdin.close()


@pytest.mark.parametrize(
    ("value", "origin"),
    [
        ("198.51.100.7 51234 203.0.113.1 22", "198.51.100.7"),
        ("2001:db8::7 51234 2001:db8::1 22", "2001:db8::7"),
        ("fe80::1%eth0 1 2 3", "fe80::1%eth0"),
        ("", ""),
        ("UNKNOWN 1 2 3", ""),
        ("\x1b[2J\u202e evil", ""),
        ("fe80::1%\x1b[2J 1", "fe80::1%\\x1b[2J"),
        ("9" * 40_000, ""),
    ],
)
def test_the_origin_of_an_ssh_session(value: str, origin: str) -> None:
    with process({"SSH_CONNECTION": value}) as pid:
        assert ssh_origin(pid, os.geteuid()) == origin


def test_a_process_without_a_session_has_no_origin() -> None:
    with process({"NOT_SSH_CONNECTION": "198.51.100.7 1 2 3"}) as pid:
        assert ssh_origin(pid, os.geteuid()) in ("", ssh_origin(os.getpid(), os.geteuid()))


def test_the_environment_is_read_so_far_and_no_further() -> None:
    padding = {f"PADDING_{number}": "x" * 30_000 for number in range(4)}
    with process(padding | {"ZZZ": "1"} | SSH) as pid:
        assert ssh_origin(pid, os.geteuid()) == ""


def test_the_parent_of_a_command_is_asked_too() -> None:
    # env(1) would become the command; a shell that has to do something after it stays its parent.
    script = 'env -u SSH_CONNECTION "$@"; :'
    with process(SSH, "/bin/sh", "-c", script, "sh") as shell:
        (child,) = map(int, subprocess.check_output(["pgrep", "-P", str(shell)]).split())
        assert ssh_origin(child, os.geteuid()) == "198.51.100.7"


def test_the_process_of_another_user_is_not_asked() -> None:
    with process(SSH) as pid:
        assert ssh_origin(pid, os.geteuid() + 1) == ""


def test_a_process_that_is_gone_has_no_origin() -> None:
    with process(SSH) as pid:
        pass
    assert ssh_origin(pid, os.geteuid()) == ""
    assert find_out(Peer(pid, os.geteuid())) == Known(pwd.getpwuid(os.geteuid()).pw_name)
    assert find_out(Peer(0, ALICE)) == Known()


# -- off the loop --------------------------------------------------------------------------------------------


def test_a_look_up_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PATIENCE_S", 0.05)
    monkeypatch.setattr(peers, "LINGER_S", 0.01)
    hang = threading.Event()
    before = threading.active_count()

    def look(peer: Peer) -> Known:
        if peer.uid == 666:
            assert hang.wait(20)
        return Known(f"user {peer.uid}")

    async def main() -> None:
        lookups = Lookups(look)
        told: asyncio.Queue[Known] = asyncio.Queue()
        async with asyncio.timeout(10):
            lookups.ask(Peer(1, 666), told.put_nowait)
            assert await told.get() == Known(), "it is unknown in the end"
            for uid in range(5):
                lookups.ask(Peer(1, uid), told.put_nowait)
            assert [await told.get() for _ in range(5)] == [Known(f"user {uid}") for uid in range(5)]
            for _ in range(100):
                lookups.ask(Peer(1, 666), told.put_nowait)
            assert {await told.get() for _ in range(100)} == {Known()}
            assert threading.active_count() <= before + peers.MOST_THREADS
            hang.set()
            while lookups._threads:
                await asyncio.sleep(0.005)
            lookups.ask(Peer(1, 3), told.put_nowait)
            assert await told.get() == Known("user 3"), "a thread is started again"

    asyncio.run(main())


def test_without_threads_nobody_is_known_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PATIENCE_S", 60)
    monkeypatch.setattr(peers, "LINGER_S", 0.01)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        lookups = Lookups(lambda peer: Known("alice"))
        told: asyncio.Queue[Known] = asyncio.Queue()
        async with asyncio.timeout(10):
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                for _ in range(peers.MOST_WAITING + 2):
                    lookups.ask(Peer(1, 1), told.put_nowait)
                    assert await told.get() == Known()
            lookups.ask(Peer(1, 1), told.put_nowait)
            assert await told.get() == Known("alice"), "threads can be had again"
            while lookups._threads:
                await asyncio.sleep(0.005)

    asyncio.run(main())
