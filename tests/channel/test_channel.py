"""The channel: whole messages, descriptors beside them, and what a broken or hostile peer sends."""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.channel import messages as m
from wsgitop.channel.channel import MAX_DESCRIPTORS, Channel, ChannelClosed, ChannelFull, pair
from wsgitop.errors import ProtocolError

Ends = tuple[Channel[m.FromZygote], socket.socket]


def descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:
            continue  # the listing's own
    return found


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The master's end, non-blocking, and the other one raw. Nothing more than before is open afterwards."""
    before = descriptors()
    ours, theirs = pair()
    channel: Channel[m.FromZygote] = Channel(ours, m.FromZygote, blocking=False)
    yield channel, theirs
    channel.close()
    theirs.close()
    assert descriptors() == before


def raw(sock: socket.socket, data: bytes, fds: list[int] | None = None) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)


@pytest.mark.parametrize(
    "message",
    [
        m.ZygoteHello(m.PROTOCOL, "1.2", 77),
        m.ConfigLoaded("/etc/site.py", '{"workers": 3}', ("a note",)),
        m.ZygoteReady(True, ("Thread-1",)),
        m.ZygoteFailed("app", "é", "T" * m.TEXT_LIMIT, True),
        m.Forked(1, 2),
        m.ForkFailed(1, "no memory"),
    ],
)
def test_messages_arrive_as_they_were(ends: Ends, message: m.Message) -> None:
    channel, theirs = ends
    Channel(theirs, m.ToZygote, blocking=False).send(message)
    assert channel.receive() == (message, [])
    assert channel.receive() is None


@pytest.mark.parametrize(
    "message",
    [
        m.Stacks(
            7,
            (
                m.ThreadCalls(
                    "MainThread", (m.Call("/a.py", 1, "f", "g()", True),), 0, m.Served(1, "GET", "/", "", 2)
                ),
                m.ThreadCalls("pool", ()),
            ),
            3,
        ),
        m.RequestCancelled(1, "disconnected", True, True, "GET", "/cart", 99),
        m.SlowestFinished((m.Finished(1, "GET", "/", "", 200, (1 << 63) - 1),)),
    ],
)
def test_what_workers_say_arrives_as_it_was(message: m.Message) -> None:
    ours, theirs = pair()
    with ours, theirs:
        Channel(theirs, m.ToWorker, blocking=False).send(message)
        master: Channel[m.FromWorker] = Channel(ours, m.FromWorker, blocking=False)
        assert master.receive() == (message, [])


@pytest.mark.parametrize(
    "message",
    [
        m.Stacks(-1, ()),
        m.RequestCancelled(1, "done"),  # type: ignore[arg-type]
        m.SlowestFinished((m.Finished(0, "GET", "/", "", 200, -5),)),
        m.Stacks(1, (m.ThreadCalls("a", (), -3),)),
    ],
)
def test_what_a_hostile_worker_says_is_refused(message: m.Message) -> None:
    ours, theirs = pair()
    with ours, theirs:
        Channel(theirs, m.ToWorker, blocking=False).send(message)
        master: Channel[m.FromWorker] = Channel(ours, m.FromWorker, blocking=False)
        with pytest.raises(ProtocolError):
            master.receive()


def test_order_is_kept(ends: Ends) -> None:
    channel, theirs = ends
    other: Channel[m.ToZygote] = Channel(theirs, m.ToZygote, blocking=False)
    for number in range(50):
        other.send(m.Forked(number, 99))
    assert [channel.receive() for _ in range(50)] == [(m.Forked(number, 99), []) for number in range(50)]


def test_descriptors_travel(ends: Ends) -> None:
    channel, theirs = ends
    reader, writer = os.pipe()
    Channel(theirs, m.ToZygote, blocking=False).send(m.Forked(1, 2), [reader, writer])
    os.close(reader)
    os.close(writer)
    received = channel.receive()
    assert received is not None
    reader, writer = received[1]
    assert not os.get_inheritable(reader)
    os.write(writer, b"through")
    assert os.read(reader, 99) == b"through"
    os.close(reader)
    os.close(writer)


def test_end_of_file(ends: Ends) -> None:
    channel, theirs = ends
    Channel(theirs, m.ToZygote, blocking=False).send(m.Forked(1, 2))
    theirs.close()
    assert channel.receive() == (m.Forked(1, 2), []), "what was sent before the end still arrives"
    with pytest.raises(ChannelClosed):
        channel.receive()
    with pytest.raises(ChannelClosed):
        channel.send(m.EndZygote())


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\xc1",
        b"not msgpack at all",
        msgspec.msgpack.encode({"type": "NoSuchMessage"}),
        msgspec.msgpack.encode({"type": "Forked", "worker": "seven", "pid": 2}),
        msgspec.msgpack.encode({"type": "Forked", "worker": 1, "pid": 0}),
        msgspec.msgpack.encode({"type": "Forked"}),
        msgspec.msgpack.encode(m.Forked(1, 2))[:-1],
        msgspec.msgpack.encode(m.Forked(1, 2)) + b"\x00",
        msgspec.msgpack.encode(m.EndZygote()),  # a message of the other direction
        b"\x81" * 100_000,
    ],
    ids=lambda data: data[:12].hex(),
)
def test_nonsense_is_refused_and_its_descriptors_are_closed(ends: Ends, data: bytes) -> None:
    channel, theirs = ends
    with Path(os.devnull).open("rb") as null:
        raw(theirs, data, [null.fileno(), null.fileno()])
    with pytest.raises(ProtocolError):
        channel.receive()
    assert channel.receive() is None, "the next message is a new one"


@given(st.binary(min_size=1, max_size=200))
def test_random_bytes_give_a_message_or_a_protocol_error(data: bytes) -> None:
    ours, theirs = pair()
    with ours, theirs:
        channel: Channel[m.FromWorker] = Channel(ours, m.FromWorker, blocking=False)
        raw(theirs, data)
        with contextlib.suppress(ProtocolError):
            assert channel.receive() is not None


def test_message_that_is_too_long_is_cut_and_refused(ends: Ends) -> None:
    channel, theirs = ends
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with Path(os.devnull).open("rb") as null:
        raw(theirs, b"x" * (m.MESSAGE_LIMIT_BYTES + 100), [null.fileno()])
    with pytest.raises(ProtocolError, match="cut"):
        channel.receive()


def test_more_descriptors_than_there_is_room_for(ends: Ends) -> None:
    channel, theirs = ends
    with Path(os.devnull).open("rb") as null:
        raw(theirs, b"x", [null.fileno()] * (MAX_DESCRIPTORS + 1))
    with pytest.raises(ProtocolError):
        channel.receive()


def test_descriptors_that_find_no_room_in_the_process(ends: Ends) -> None:
    channel, theirs = ends
    data = msgspec.msgpack.encode(m.Forked(1, 2))
    with Path(os.devnull).open("rb") as null:
        raw(theirs, data, [null.fileno()] * 20)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = {int(entry.split()[0]) for entry in descriptors()}
        fourth_free = list(itertools.islice((n for n in itertools.count() if n not in used), 4))[-1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (fourth_free + 1, hard))
        try:
            with pytest.raises(ProtocolError, match="cut"):
                channel.receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_own_message_that_is_too_long_is_not_sent(ends: Ends) -> None:
    channel, _ = ends
    with pytest.raises(ProtocolError, match="Prepare"):
        channel.send(m.Prepare(1, "x" * m.MESSAGE_LIMIT_BYTES, "/", 1, 1, False, ()))


def test_largest_clipped_texts_fit(ends: Ends) -> None:
    channel, theirs = ends
    text = m.clip("é" * 10_000_000)
    assert len(text) < m.TEXT_LIMIT + 100 and text.startswith("é") and text.endswith("é")
    Channel(theirs, m.ToZygote, blocking=False).send(m.ZygoteFailed("app", "", text))
    assert channel.receive() == (m.ZygoteFailed("app", "", text), [])


def test_peer_that_does_not_read(ends: Ends) -> None:
    channel, theirs = ends
    sent = 0
    with Path(os.devnull).open("rb") as null, pytest.raises(ChannelFull):
        for sent in range(100_000):  # noqa: B007 - counted
            channel.send(m.Fork(1, 1, 1), [null.fileno(), null.fileno()])
    assert sent > 32, "as many as the plan asks for at once must fit"
    theirs.setblocking(False)
    other: Channel[m.ToZygote] = Channel(theirs, m.ToZygote, blocking=False)
    received = other.receive()
    assert received is not None
    for fd in received[1]:
        os.close(fd)
    channel.send(m.EndZygote())
